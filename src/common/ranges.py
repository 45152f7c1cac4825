"""Ranges of numbers, for flags, YAML keys and overrides; nan is in none of them, infinity neither."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """The finite numbers from `low` to `high`; without `low` itself (`above`) or `high` itself (`below`)."""

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False
    also: float | None = None  # a number outside that has a meaning of its own

    def __contains__(self, value: float) -> bool:
        over = value > self.low if self.above else value >= self.low
        under = value < self.high if self.below or self.high == math.inf else value <= self.high
        return (over and under) or value == self.also

    def __str__(self) -> str:
        start = f"above {self.low}" if self.above else f"at least {self.low}"
        words = f"{start} and {'below' if self.below else 'at most'} {self.high}" if self.high < math.inf else start
        if self.high < math.inf and not (self.above or self.below):
            words = f"between {self.low} and {self.high}"
        return words if self.also is None else f"{self.also} or {words}"


COUNT = Range(1)
POSITIVE = Range(0, above=True)
UNSIGNED = Range(0)
SHARE = Range(0, 1, above=True)
BELOW_ONE = Range(0, 1, below=True)
SEED = Range(0, 2**32 - 1)  # numpy's
