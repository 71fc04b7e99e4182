"""Sampling: which stratum, at which rate; and that a weighted mean is right whatever the late signals do."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from critic.queue.plan import skip_reason
from critic.spending.sampling import (
    FORCED,
    STRATA,
    WEIGHTS,
    Facts,
    Given,
    Rates,
    expected_calls,
    place_of,
    rates_for,
    stratum_of,
)


@pytest.mark.parametrize(
    ("facts", "stratum"),
    [
        (Facts("answered", p_fail=0.01), "usual"),
        (Facts("answered", p_fail=0.01, slice_calls=3), "new"),
        (Facts("answered", p_fail=0.2), "unsure"),
        (Facts("answered", p_fail=None), "unsure"),
        (Facts("answered", p_fail=0.9), "likely"),
        (Facts("aborted", p_fail=0.01), "unhappy"),
        (Facts("failed", p_fail=0.01), "error"),
        (Facts("answered", p_fail=0.9, latency_ms=900, tail_from_ms=800), "tail"),
        (Facts("answered", p_fail=0.01, latency_ms=900, tail_from_ms=None), "usual"),
        (Facts("answered", p_fail=0.01, signals=(Given("rephrase"),)), "unhappy"),
        (Facts("failed", signals=(Given("copy"), Given("thumbs_down"))), "thumbs_down"),
        (Facts("answered", p_fail=0.01, signals=(Given("rating", 1),)), "thumbs_down"),
        (Facts("answered", p_fail=0.01, signals=(Given("rating", 4),)), "usual"),
        (Facts("answered", p_fail=0.01, signals=(Given("rating", 2, 0, 10),)), "thumbs_down"),
        (Facts("answered", p_fail=0.01, signals=(Given("refund"),)), "thumbs_down"),
        (Facts("answered", p_fail=0.01, signals=(Given("sigh"),)), "unhappy"),
        (Facts("answered", p_fail=0.01, signals=(Given("unheard_of"),)), "usual"),
    ],
)
def test_a_call_is_in_the_first_stratum_that_fits(facts: Facts, stratum: str) -> None:
    assert stratum_of(facts, {"refund": -1.0, "sigh": -0.2}) == stratum


def test_places_are_fixed_even_and_independent_between_critics() -> None:
    places = [place_of("openai:m", 1, f"call-{i}") for i in range(4000)]
    assert places == [place_of("openai:m", 1, f"call-{i}") for i in range(4000)]
    assert sum(places) / 4000 == pytest.approx(0.5, abs=0.02)
    for tenth in range(10):
        share = sum(tenth / 10 <= place < (tenth + 1) / 10 for place in places) / 4000
        assert share == pytest.approx(0.1, abs=0.025)
    others = [place_of("anthropic:m", 1, f"call-{i}") for i in range(4000)]
    both = sum(a < 0.5 and b < 0.5 for a, b in zip(places, others, strict=True)) / 4000
    assert both == pytest.approx(0.25, abs=0.03)


_COUNTS = st.fixed_dictionaries({stratum: st.floats(0, 10_000) for stratum in STRATA})


@given(_COUNTS, st.floats(1e-6, 0.1), st.floats(-1, 20), st.floats(-1, 20))
def test_rates_spend_what_is_there_and_no_more(
    expected: dict[str, float], call_usd: float, uniform_usd: float, rest_usd: float
) -> None:
    rates = rates_for(expected, call_usd, uniform_usd, rest_usd)
    calls = sum(expected.values())
    assert all(0 < rates.inclusion(stratum) <= 1 for stratum in STRATA), "nobody is left without a chance"
    assert all(rates.inclusion(stratum) == 1 for stratum in FORCED)
    if not calls:
        return
    assert rates.uniform * calls * call_usd <= max(uniform_usd, 0.001 * calls * call_usd) * (1 + 1e-9) + 1e-9
    beyond = {s: (1 - rates.uniform) * expected[s] * rates.beyond.get(s, 0.0) for s in WEIGHTS}
    forced = (1 - rates.uniform) * sum(expected[s] for s in FORCED)
    spent = sum(beyond.values()) * call_usd
    assert spent <= max(0.0, rest_usd - forced * call_usd) * (1 + 1e-6) + 1e-9
    rest = (1 - rates.uniform) * sum(expected[s] for s in WEIGHTS)
    if forced * call_usd <= rest_usd and rest * call_usd <= rest_usd - forced * call_usd:
        assert all(rates.inclusion(s) == pytest.approx(1.0) for s in WEIGHTS), "what fits is all judged"
    order = [rates.beyond.get(s, 0.0) for s in ("usual", "new", "likely")]
    assert order == sorted(order)


def test_the_forecast_takes_the_larger_of_both_days_and_what_waits() -> None:
    quiet = expected_calls({}, {"usual": 2400}, waiting=0, day_share=0.5)
    assert sum(quiet.values()) == pytest.approx(1200)
    busy = expected_calls({"usual": 6000}, {"usual": 2400}, waiting=100, day_share=0.5)
    assert sum(busy.values()) == pytest.approx(6100)
    first = expected_calls({}, {}, waiting=100, day_share=0.0)
    assert sum(first.values()) == pytest.approx(101)


def simulate(*, final: bool, seed: int) -> tuple[float, float]:
    """Return the weighted mean of badness and the true one, over 4,000 calls.

    A tenth of the calls are bad; a bad one gets a thumbs-down in 40 % of cases, and always after it was
    sampled. `final` weights by the stratum that a call ends in, otherwise by the one it was first sampled in.
    """
    chance = random.Random(seed)
    rates = Rates(0.05, {"likely": 0.5, "usual": 0.1})
    weighted = weights = bad_calls = 0.0
    for i in range(4000):
        bad = chance.random() < 0.1
        looks_bad = chance.random() < (0.5 if bad else 0.05)
        first = "likely" if looks_bad else "usual"
        last = "thumbs_down" if chance.random() < (0.4 if bad else 0.01) else first
        place = place_of("openai:m", seed, f"call-{i}")
        inclusion = max(rates.inclusion(first), rates.inclusion(last))
        bad_calls += bad
        if place < inclusion:
            weight = 1.0 / (inclusion if final else rates.inclusion(first))
            weighted += weight * bad
            weights += weight
    return weighted / weights, bad_calls / 4000


def test_a_mean_weighted_by_the_final_stratum_is_right_and_by_the_first_is_not() -> None:
    """Weighted as first sampled, a thumbs-down that came late counts for the many that it is not."""
    runs = [simulate(final=True, seed=seed) for seed in range(40)]
    off = [estimate - true for estimate, true in runs]
    mean_off = sum(off) / len(off)
    spread = (sum((each - mean_off) ** 2 for each in off) / (len(off) - 1)) ** 0.5 / len(off) ** 0.5
    assert abs(mean_off) < 3 * spread, "within its own standard error of nothing"
    assert spread < 0.005
    wrong = [simulate(final=False, seed=seed) for seed in range(40)]
    mean_wrong = sum(estimate - true for estimate, true in wrong) / len(wrong)
    assert mean_wrong > 0.02, "else the test above proves nothing"


def test_what_is_left_out_says_why_and_a_budget_of_nothing_says_so() -> None:
    """With nothing to spend, "the budget is for 0.1 % of usual calls" would be the floor of a probability."""
    rates = rates_for({"usual": 100.0}, 0.01, 0.1, 0.4)
    assert skip_reason(rates.choice("usual", 0.99, None, 0.5)) == (
        "not sampled: the budget is for 50.0% of usual calls"
    )
    nothing = rates_for({"new": 100.0}, 0.01, 0.0, 0.0).choice("new", 0.99, None, 0.0)
    assert skip_reason(nothing) == (
        "not sampled: the daily budget is $0; set LOWLIGHT_CRITIC_BUDGET_USD, empty for no limit"
    )
