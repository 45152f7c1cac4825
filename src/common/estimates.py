"""Means and pass rates with their uncertainty."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence


def mean_and_error(values: Sequence[float]) -> dict[str, float]:
    """Mean and standard error of independent values (one per record): sample standard deviation / sqrt(n).

    Samples of one record are not independent: average them first. The error of a single value is NaN.
    """
    n = len(values)
    mean = sum(values) / n
    variance = sum((value - mean) ** 2 for value in values) / (n - 1) if n > 1 else math.nan
    return {"mean": mean, "standard_error": math.sqrt(variance / n)}


def pass_at_k(n: int, c: int, k: int) -> float:
    """The probability that at least one of k samples is correct, given that c of n are.

    Unbiased: 1 - C(n - c, k) / C(n, k) (Chen et al. 2021, arXiv 2107.03374, eq. 1). Raises ValueError unless
    1 <= k <= n and 0 <= c <= n.
    """
    if not (1 <= k <= n and 0 <= c <= n):
        raise ValueError(f"pass@{k} of {n} samples with {c} correct is not defined")
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def bootstrap_interval(values: Sequence[float], *, repeats: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """The percentile bootstrap's 95 % interval of the mean of one number per problem, drawn `repeats` times.

    The same values and seed give the same interval.
    """
    import numpy as np

    numbers = np.asarray(values, dtype=float)
    generator = np.random.default_rng(seed)
    means = [numbers[generator.integers(len(numbers), size=len(numbers))].mean() for _ in range(repeats)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def cluster_interval(
    values: Sequence[float], clusters: Sequence[Hashable], *, repeats: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """As `bootstrap_interval`, for problems that are alike within a cluster: whole clusters are drawn.

    As many as there are, with replacement; the mean is over all of their problems.
    """
    import numpy as np

    numbers = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    of = [numbers[name] for name in clusters]
    sums, sizes = np.bincount(of, weights=values), np.bincount(of)
    drawn = np.random.default_rng(seed).integers(len(numbers), size=(repeats, len(numbers)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), [0.025, 0.975])
    return float(low), float(high)


def mean_and_interval(values: Sequence[float], clusters: Sequence[Hashable] | None = None) -> dict[str, float | None]:
    """Mean over problems with its bootstrap interval: {"mean", "low", "high"}; by cluster if they are given.

    low and high are None if there is a single cluster: every draw would be the same.
    """
    if clusters is not None and len(set(clusters)) < 2:
        return {"mean": sum(values) / len(values), "low": None, "high": None}
    low, high = bootstrap_interval(values) if clusters is None else cluster_interval(values, clusters)
    return {"mean": sum(values) / len(values), "low": low, "high": high}
