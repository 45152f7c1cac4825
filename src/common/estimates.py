"""Means and pass rates with their uncertainty."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence


def mean_and_error(values: Sequence[float]) -> dict[str, float]:
    """Mean and standard error (NaN for a single value) of independent values: average the samples of a record first."""
    n = len(values)
    mean = sum(values) / n
    variance = sum((value - mean) ** 2 for value in values) / (n - 1) if n > 1 else math.nan
    return {"mean": mean, "standard_error": math.sqrt(variance / n)}


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased probability that at least one of k samples is correct if c of n are (arXiv 2107.03374, eq. 1)."""
    if not (1 <= k <= n and 0 <= c <= n):
        raise ValueError(f"pass@{k} of {n} samples with {c} correct is not defined")
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def mean_and_interval(values: Sequence[float], clusters: Sequence[Hashable] | None = None) -> dict[str, float | None]:
    """Mean over problems with the 95 % interval of the percentile bootstrap: {"mean", "low", "high"}.

    Problems are alike within a cluster, so whole clusters are drawn, as many as there are, with replacement; without
    `clusters`, single problems. The same values give the same interval. low and high are None if there is a single
    cluster: every draw would be the same.
    """
    import numpy as np

    mean, names = sum(values) / len(values), range(len(values)) if clusters is None else clusters
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    if clusters is not None and len(numbers) == 1:
        return {"mean": mean, "low": None, "high": None}
    of = [numbers[name] for name in names]
    sums, sizes = np.bincount(of, weights=values), np.bincount(of)
    generator = np.random.default_rng(0)
    draws = (generator.integers(len(sums), size=len(sums)) for _ in range(10_000))
    low, high = np.quantile([sums[drawn].sum() / sizes[drawn].sum() for drawn in draws], [0.025, 0.975])
    return {"mean": mean, "low": float(low), "high": float(high)}
