"""pass@k and intervals against values worked out by hand."""

from __future__ import annotations

import pytest

from common.estimates import mean_and_interval, pass_at_k


@pytest.mark.parametrize(
    ("n", "c", "k", "value"),
    [
        (5, 0, 1, 0.0),
        (5, 5, 5, 1.0),
        (10, 3, 1, 0.3),  # c / n
        (4, 2, 2, 1 - 1 / 6),  # the 6 pairs of 4 samples; 1 of them holds no right one
        (10, 1, 5, 0.5),  # C(9, 5) / C(10, 5) = 126 / 252
        (10, 6, 5, 1.0),  # 4 wrong ones cannot fill 5 places
        (10, 3, 5, 1 - 21 / 252),  # C(7, 5) = 21
        (5, 1, 5, 1.0),  # n = k: any right one will do
    ],
)
def test_pass_at_k(n, c, k, value):
    assert pass_at_k(n, c, k) == pytest.approx(value, abs=1e-15)


def test_pass_at_k_is_the_mean_over_all_draws():
    """Unbiased: 7 samples, 2 right; of the 35 triples, C(5, 3) = 10 hold no right one."""
    from itertools import combinations

    right = [True, True, False, False, False, False, False]
    draws = [any(draw) for draw in combinations(right, 3)]
    assert (len(draws), draws.count(False)) == (35, 10)
    assert pass_at_k(7, 2, 3) == pytest.approx(sum(draws) / len(draws))


@pytest.mark.parametrize(("n", "c", "k"), [(4, 1, 5), (4, 5, 1), (4, 1, 0), (0, 0, 1), (4, -1, 2)])
def test_what_is_not_defined(n, c, k):
    with pytest.raises(ValueError, match="is not defined"):
        pass_at_k(n, c, k)


def test_the_bootstrap():
    assert mean_and_interval([0.25] * 8) == {"mean": 0.25, "low": 0.25, "high": 0.25}
    values = [0.0] * 50 + [1.0] * 50
    found = mean_and_interval(values)
    # The mean of 100 draws is 0.5 with a standard error of sqrt(0.25 / 100) = 0.05: 0.5 -+ 1.96 x 0.05.
    assert found == {"mean": 0.5, "low": pytest.approx(0.402, abs=0.012), "high": pytest.approx(0.598, abs=0.012)}
    assert mean_and_interval(values) == found  # the same values, the same interval
    assert mean_and_interval(values, range(100)) == found  # a cluster per problem
    assert mean_and_interval([0.0, 1.0], ["a", "a"]) == {"mean": 0.5, "low": None, "high": None}  # one cluster
    assert mean_and_interval([0.0, 1.0], ["a", "b"]) == {"mean": 0.5, "low": 0.0, "high": 1.0}
