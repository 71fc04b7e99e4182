"""What changed since last week: what moved is flagged, noise is not, the unknown stays unknown."""

import random
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from ingest.settings import Settings
from ingest.store import OpenStore
from outliers.changes import MEASURES, Change, changes_of, moved_most
from outliers.comparison import compare
from outliers.experience.refresh import refresh_experience
from outliers.weekly import compute_weeks
from outliers.weeks import week_before, week_by_id
from tests.rows import HOUR_MS, frame_of, put_calls, quiet_calls

UTC = ZoneInfo("UTC")
WEEK = week_by_id("2026-W46", UTC)
BEFORE = week_before(WEEK, UTC)


def weeks(seed: int, n: int = 2000, **now: Any) -> list[Change]:
    """Compare two quiet weeks; `now` changes every call of prompt draft in the second one."""
    source = random.Random(seed)
    before = quiet_calls(source, BEFORE.since_ms, n)
    after = quiet_calls(source, WEEK.since_ms, n)
    for call in after:
        if call["prompt"] == "draft":
            call |= {name: value(call) if callable(value) else value for name, value in now.items()}
    return compare(frame_of(after, WEEK), frame_of(before, BEFORE))


def moved(changes: list[Change]) -> set[tuple[str, str | None]]:
    return {(change.measure, change.value) for change in changes if change.moved}


def test_two_quiet_weeks_differ_by_noise_alone() -> None:
    """Their users are other people, one of whom makes a tenth of the calls: few pairs are flagged."""
    flagged = sum(bool(moved(weeks(seed))) for seed in range(20))
    assert flagged <= 3, "false discoveries are held at 10 %"


@pytest.mark.parametrize(
    ("measure", "now", "worse"),
    [
        ("latency_p95_ms", {"latency_ms": lambda call: call["latency_ms"] * 2}, True),
        ("latency_p95_ms", {"latency_ms": lambda call: call["latency_ms"] / 2}, False),
        ("cost_per_call_usd", {"cost_usd": lambda call: call["cost_usd"] * 3}, True),
        ("bad_rate", {"p_bad": lambda call: 0.9 if call["input_tokens"] % 4 == 0 else 0.1}, True),
        ("error_rate", {"outcome": "failed"}, True),
    ],
)
def test_what_moved_is_flagged_for_its_prompt(measure: str, now: dict[str, Any], worse: bool) -> None:
    changes = weeks(8, **now)
    assert (measure, "draft") in moved(changes)
    elsewhere = ("faq", "summary", "welcome", "faq@v6", "faq@v7")
    assert not {name for name, value in moved(changes) if value in elsewhere}
    [change] = [change for change in changes if (change.measure, change.value) == (measure, "draft")]
    assert change.worse is worse
    assert change.before.value is not None
    assert change.now.value is not None
    assert (change.now.value > change.before.value) == worse


@pytest.mark.parametrize("known", [False, True])
def test_weeks_that_always_differ_are_no_news(known: bool) -> None:
    """Every week has a mood of its own for each prompt: with earlier weeks that is known to be noise."""
    flagged = 0
    for seed in range(10):
        source = random.Random(100 + seed)
        frames = []
        for back in range(5):
            week = week_by_id(f"2026-W{46 - back}", UTC)
            calls = quiet_calls(source, week.since_ms, 1200)
            mood = {prompt: source.uniform(0.05, 0.35) for prompt in ("faq", "summary", "draft", "welcome")}
            for call in calls:
                call["p_bad"] = 0.9 if source.random() < mood[call["prompt"]] else 0.05
            frames.append(frame_of(calls, week))
        changes = compare(frames[0], frames[1], frames[2:] if known else ())
        flagged += any(measure == "bad_rate" for measure, _value in moved(changes))
    assert flagged <= 3 if known else flagged >= 8


def test_a_new_version_that_is_worse_is_told_once_and_with_its_calls() -> None:
    source = random.Random(3)
    before = quiet_calls(source, BEFORE.since_ms, 2000)
    after = quiet_calls(source, WEEK.since_ms, 2000)
    for call in after:
        if call["prompt_version"] == "v7":
            call["p_bad"] = 0.9 if source.random() < 0.5 else 0.1
    changes = compare(frame_of(after, WEEK), frame_of(before, BEFORE))
    assert ("bad_rate", "faq@v7") in moved(changes)
    [version] = [one for one in changes if (one.measure, one.value) == ("bad_rate", "faq@v7")]
    assert version.filters == {"prompt": "faq", "version": "v7"}
    few = moved_most(changes)
    assert few[0].measure == "bad_rate"
    assert 0 < len(few) <= 8
    told = [(one.measure, one.now.n) for one in few]
    assert len(told) == len(set(told)), "a prompt of one version is told once"


def test_one_users_bad_day_moves_nothing() -> None:
    """Sixty bad calls of one user are one person's day: a share's noise is between persons."""
    source = random.Random(9)
    before = frame_of(quiet_calls(source, BEFORE.since_ms, 2000), BEFORE)
    calls = quiet_calls(source, WEEK.since_ms, 2000)
    for call in calls[100:160]:
        call |= {"user_id": "unlucky", "p_bad": 0.95}
    assert ("bad_rate", None) not in moved(compare(frame_of(calls, WEEK), before))


def test_more_calls_are_told_from_a_bursty_days_swings() -> None:
    source = random.Random(2)
    before = frame_of(quiet_calls(source, BEFORE.since_ms, 2000), BEFORE)
    twice = frame_of(quiet_calls(source, WEEK.since_ms, 4000), WEEK)
    changes = compare(twice, before)
    [calls] = [change for change in changes if (change.measure, change.value) == ("calls", None)]
    assert (calls.moved, calls.worse) == (True, None)
    assert not [change for change in changes if change.measure == "cost_per_call_usd" and change.moved], (
        "more calls cost more together, and each as much as before"
    )

    even = quiet_calls(source, WEEK.since_ms, 2000)
    burst = [{**even[0], "started_at_ms": WEEK.since_ms + 30 * HOUR_MS} for _ in range(300)]
    burst_week = frame_of(sorted([*even, *burst], key=lambda call: call["started_at_ms"]), WEEK)
    assert ("calls", None) not in moved(compare(burst_week, before))


def test_one_users_dear_day_moves_no_cost() -> None:
    """The cost of a call is told apart between persons, and only where it is known."""
    source = random.Random(9)
    before = frame_of(quiet_calls(source, BEFORE.since_ms, 2000), BEFORE)
    calls = quiet_calls(source, WEEK.since_ms, 2000)
    for call in calls[100:160]:
        call |= {"user_id": "dear", "cost_usd": call["cost_usd"] * 20}
    for call in calls[200:500]:
        call["cost_usd"] = None
    changes = compare(frame_of(calls, WEEK), before)
    assert ("cost_per_call_usd", None) not in moved(changes)
    [cost] = [c for c in changes if (c.measure, c.value) == ("cost_per_call_usd", None)]
    known = [call["cost_usd"] for call in calls if call["cost_usd"] is not None]
    assert cost.now.n == len(known) == 1700
    assert cost.now.value == pytest.approx(sum(known) / len(known))


def test_the_unknown_stays_unknown() -> None:
    nothing = frame_of(quiet_calls(random.Random(1), WEEK.since_ms, 200), WEEK).within(WEEK, WEEK.since_ms)
    assert len(nothing) == 0
    source = random.Random(3)
    calls = [{**call, "cost_usd": None, "signals": ()} for call in quiet_calls(source, WEEK.since_ms, 200)]
    changes = compare(frame_of(calls, WEEK), nothing)
    assert {change.measure for change in changes} == set(MEASURES) - {"cost_per_call_usd", "thumbs_down_rate"}
    assert all(change.before.value is None and change.p_value is None for change in changes)
    assert not moved(changes)


def test_an_interval_holds_its_value_and_a_person_counts_once() -> None:
    changes = weeks(4)
    for change in changes:
        for estimate in (change.before, change.now):
            if estimate.value is not None:
                assert estimate.low is not None
                assert estimate.high is not None
                assert estimate.low <= estimate.value <= estimate.high
    source = np.random.default_rng(1)
    people = source.integers(0, 40, 2000)
    luck = source.random(40) < 0.2
    calls = [
        {"started_at_ms": WEEK.since_ms + i, "user_id": f"u{who}", "p_bad": float(luck[who])}
        for i, who in enumerate(people)
    ]
    frame = frame_of(calls, WEEK)
    [bad] = [change for change in compare(frame, frame) if change.measure == "bad_rate"]
    assert bad.now.low is not None
    assert bad.now.high is not None
    assert bad.now.high - bad.now.low > 0.15, "forty persons, not two thousand calls"


def test_a_running_week_is_compared_with_the_same_part_of_the_last(
    store: OpenStore, settings: Settings
) -> None:
    source = random.Random(6)
    last = quiet_calls(source, BEFORE.since_ms, 700)
    store.write(partial(put_calls, calls=last))
    store.write(partial(put_calls, calls=quiet_calls(source, WEEK.since_ms, 300, hours=72)))
    refresh_experience(store, settings)
    compute_weeks(store, settings, WEEK.since_ms + 72 * HOUR_MS)
    with store.read() as connection:
        changes = changes_of(connection, 1, WEEK)
        assert changes_of(connection, 2, WEEK) == []
    [calls] = [change for change in changes if (change.measure, change.value) == ("calls", None)]
    assert calls.now.value == 300
    assert calls.before.value == sum(call["started_at_ms"] < BEFORE.since_ms + 72 * HOUR_MS for call in last)
    assert not calls.moved


def test_a_call_counts_for_those_it_stands_for() -> None:
    """The SDK sends a tenth of the sessions, and every failure; a budget judges what looks bad ten times as
    often. Neither is worse than it was, and nobody may read so."""
    source = random.Random(5)
    kept = []
    for call in quiet_calls(source, WEEK.since_ms, 20_000):
        bad, failed = source.random() < 0.2, source.random() < 0.05
        call |= {"p_bad": 0.9 if bad else 0.1, "outcome": "failed" if failed else "answered"}
        call["sample_rate"] = 1.0 if failed else 0.1
        if source.random() >= call["sample_rate"]:
            continue
        inclusion = 1.0 if failed else 0.5 if bad else 0.05
        call["judged_for"] = 1 / inclusion if source.random() < inclusion else 0.0
        if not call["judged_for"]:
            call["p_bad"] = 0.1  # by the guard, who sees little
        kept.append(call)
    found = {change.measure: change.now for change in compare(frame_of(kept, WEEK), frame_of([], BEFORE))
             if change.by is None}  # fmt: skip
    assert found["calls"].n == len(kept)
    for measure, truth in (("error_rate", 0.05), ("bad_rate", 0.2), ("calls", 20_000)):
        estimate = found[measure]
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low <= truth <= estimate.high, measure
        assert estimate.high - estimate.low < truth, measure
    assert found["bad_rate"].n == sum(call["judged_for"] > 0 for call in kept)
    p95_ms = np.quantile([call["latency_ms"] for call in kept if call["outcome"] == "answered"], 0.95)
    assert found["latency_p95_ms"].value == pytest.approx(p95_ms, rel=0.05)
