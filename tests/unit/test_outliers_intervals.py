"""The statistics every figure comes with, against scipy, brute force and simulation."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from outliers.intervals import (
    calls_needed,
    discoveries,
    g_statistic,
    hypergeometric_tail,
    order_statistic_ranks,
    ratio_interval,
    wilson,
)


def test_an_interval_needs_as_many_calls_as_the_design_says() -> None:
    needed = [calls_needed(q) for q in (0.5, 0.9, 0.95, 0.99, 0.999)]
    assert needed == [6, 36, 72, 368, 3688]
    for q, n in zip((0.5, 0.9, 0.95, 0.99, 0.999), needed, strict=True):
        assert order_statistic_ranks(n - 1, q) is None
        assert order_statistic_ranks(n, q) is not None


@given(st.integers(6, 30_000), st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999]))
@settings(max_examples=60, deadline=None)
def test_ranks_are_the_tightest_that_cover_both_sides(n: int, q: float) -> None:
    ranks = order_statistic_ranks(n, q)
    if ranks is None:
        assert n < calls_needed(q)
        return
    low, high = ranks
    binomial = stats.binom(n, q)
    assert binomial.cdf(low - 1) <= 0.025 + 1e-9 < binomial.cdf(low) + 2e-9
    assert binomial.sf(high - 1) <= 0.025 + 1e-9
    assert high == 1 or binomial.sf(high - 2) > 0.025 - 1e-9


@pytest.mark.parametrize(("q", "n"), [(0.5, 40), (0.95, 72), (0.95, 400), (0.99, 500)])
def test_the_interval_covers_the_true_quantile_in_at_least_95_percent(q: float, n: int) -> None:
    """Over 4,000 seeded samples; three standard errors of a simulation are .01."""
    source = np.random.default_rng(7)
    samples = np.sort(source.lognormal(6, 1, size=(4000, n)), axis=1)
    truth = stats.lognorm(s=1, scale=math.exp(6)).ppf(q)
    low, high = order_statistic_ranks(n, q) or (0, 0)
    covered = (samples[:, low - 1] <= truth) & (truth <= samples[:, high - 1])
    assert covered.mean() >= 0.95 - 0.01


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
@settings(max_examples=150, deadline=None)
def test_fishers_test_is_scipys(a: int, b: int, c: int, d: int) -> None:
    assume(a + b + c + d > 0)
    ours = hypergeometric_tail(a, a + b, a + c, a + b + c + d)
    theirs = stats.hypergeom.sf(a - 1, a + b + c + d, a + c, a + b)
    assert ours == pytest.approx(theirs, abs=1e-9)


@given(st.lists(st.floats(0, 1), max_size=30))
def test_discoveries_are_those_below_the_last_that_meets_its_line(p_values: list[float]) -> None:
    m = len(p_values)
    line = max((p for p in p_values if p <= 0.1 * sum(other <= p for other in p_values) / m), default=-1.0)
    stands = discoveries(p_values, 0.1)
    assert {p for p, stood in zip(p_values, stands, strict=True) if stood} == {
        p for p in p_values if p <= line
    }


@given(st.integers(0, 400), st.integers(1, 400))
def test_wilsons_interval_holds_the_share(bad: int, n: int) -> None:
    bad = min(bad, n)
    low, high = wilson(bad, n)
    assert 0 <= low <= bad / n + 1e-12
    assert bad / n - 1e-12 <= high <= 1
    reference = stats.binomtest(bad, n).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((reference.low, reference.high), abs=1e-9)


def test_g_is_the_log_likelihood_ratio_and_signed_by_the_direction() -> None:
    table = np.array([[30, 10], [20, 140]])
    g, *_ = stats.chi2_contingency(table, correction=False, lambda_="log-likelihood")
    worse = g_statistic(np.array([30.0]), np.array([40.0]), 50.0, 200)
    better = g_statistic(np.array([20.0]), np.array([160.0]), 50.0, 200)
    assert worse[0] == pytest.approx(g)
    assert better[0] == pytest.approx(-g)


def test_a_clean_rest_gives_a_wide_lift_and_not_an_infinite_one() -> None:
    low, high = ratio_interval(10, 20, 0, 500)
    assert 10 < low < high < math.inf
