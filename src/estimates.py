"""Estimates with their uncertainty. Plain Python on lists of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence


def mean_and_error(values: Sequence[float]) -> dict[str, float]:
    """Mean and standard error of independent values (one per record): sample standard deviation / sqrt(n).

    Samples of one record are not independent: average them first. The error of a single value is NaN.
    """
    n = len(values)
    mean = sum(values) / n
    variance = sum((value - mean) ** 2 for value in values) / (n - 1) if n > 1 else math.nan
    return {"mean": mean, "standard_error": math.sqrt(variance / n)}
