"""metrics.jsonl as series: the keys of trl (src/grpo.py) and of verl (src/dapo.py) under one name each, smoothed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# measure -> its key in trl's log, then in verl's. DAPO's reward is that of every completion sampled, as GRPO's is.
MEASURES = {
    "reward": ("reward", "reward/before_filter/score"),
    "response_length": ("completions/mean_length", "response_length/mean"),
    "zero_variance_share": ("frac_reward_zero_std", "groups/zero_variance_share"),
}


def ema(values: Sequence[float], weight: float) -> list[float]:
    """Exponential moving average with bias correction: the first value is itself."""
    out, total, norm = [], 0.0, 0.0
    for value in values:
        total = weight * total + (1 - weight) * value
        norm = weight * norm + (1 - weight)
        out.append(total / norm)
    return out


def points(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[list[int], list[float]]:
    """(steps, values) of the rows that have `key`."""
    found = [row for row in rows if row.get(key) is not None]
    return [row["step"] for row in found], [row[key] for row in found]


def series(rows: Sequence[Mapping[str, Any]], measure: str) -> tuple[list[int], list[float]]:
    """(steps, values) of one of MEASURES, whichever trainer wrote the log; empty where neither key was logged."""
    return next((found for key in MEASURES[measure] if (found := points(rows, key))[0]), ([], []))


def at_step(steps: Sequence[int], values: Sequence[float], step: int) -> float | None:
    """The last value logged at `step` or before it; None where there is none."""
    return next((value for at, value in zip(reversed(steps), reversed(values), strict=True) if at <= step), None)
