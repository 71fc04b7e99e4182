"""Conditions: planted troubles are found and named, a quiet week is left quiet."""

import random
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.store import OpenStore
from outliers.cohorts.axes import spoken_numbers
from outliers.cohorts.candidates import holds
from outliers.cohorts.describing import describe
from outliers.cohorts.discovery import always_so, discover, lift_interval
from outliers.cohorts.questions import about_bad, about_failures, about_slow, about_tail
from outliers.cohorts.trend import began_ms, trend
from outliers.conditions import Condition, number
from outliers.frame import WeekCalls
from outliers.weeks import Week, week_by_id
from tests.rows import HOUR_MS, frame_of, quiet_calls

UTC = ZoneInfo("UTC")
WEEK = week_by_id("2026-W46", UTC)
DAY_MS = 24 * HOUR_MS
Test = Callable[[dict[str, Any]], bool]


def planted(seed: int, test: Test, share: float, n: int = 3000) -> list[dict[str, Any]]:
    """Return a week in which a share of the calls under a condition fails, half of them only half surely."""
    source = random.Random(seed)
    calls = quiet_calls(source, WEEK.since_ms, n)
    for call in calls:
        if test(call) and source.random() < share:
            call["p_fail"] = source.uniform(0.35, 0.95)
    return calls


def is_new(call: dict[str, Any]) -> bool:
    return bool(
        WEEK.since_ms <= call["first_seen_at_ms"]
        and call["started_at_ms"] - call["first_seen_at_ms"] < DAY_MS
    )


@pytest.mark.parametrize(
    ("test", "share", "words"),
    [
        (
            lambda call: (call["prompt"], call["prompt_version"]) == ("faq", "v7"),
            0.4,
            "prompt version = faq@v7",
        ),
        (lambda call: call["tags"]["tenant"] == "t3", 0.7, "tag tenant = t3"),
        (lambda call: call["language"] == "de", 0.4, "input language = de"),
        (lambda call: call["input_tokens"] > 4800, 0.8, "input_tokens > "),
        (
            lambda call: 50 <= (call["started_at_ms"] - WEEK.since_ms) // HOUR_MS < 54,
            0.8,
            "a start on Wed 02:00 to",
        ),
        (is_new, 0.8, "user_age_days < 1"),
    ],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_planted_trouble_is_found_and_named(seed: int, test: Test, share: float, words: str) -> None:
    calls = frame_of(planted(seed, test, share), WEEK)
    found = discover(calls, about_bad(calls))
    assert len(found) == 1, [one.condition.words(UTC) for one in found]
    assert found[0].condition.words(UTC).startswith(words)


def test_a_threshold_is_near_the_planted_one() -> None:
    for seed in range(4):
        calls = frame_of(planted(seed, lambda call: call["input_tokens"] > 3000, 0.8), WEEK)
        [found] = discover(calls, about_bad(calls))
        assert isinstance(found.condition.value, float)
        assert 2500 <= found.condition.value <= 3500


def test_two_troubles_are_two_and_not_one_told_twice() -> None:
    """What the first explains is set aside before the second is looked for."""

    def either(call: dict[str, Any]) -> bool:
        return bool(call["tags"]["tenant"] == "t3" or call["language"] == "es")

    calls = frame_of(planted(3, either, 0.7), WEEK)
    found = {one.condition.words(UTC) for one in discover(calls, about_bad(calls))}
    assert found == {"input language = es", "tag tenant = t3"}


def test_quiet_weeks_stay_quiet() -> None:
    """Twenty weeks whose users differ and whose calls fail here and there: at most .1 finding a week."""
    false = 0
    for seed in range(20):
        calls = frame_of(quiet_calls(random.Random(1000 + seed), WEEK.since_ms, 2000), WEEK)
        false += len(discover(calls, about_bad(calls)))
    assert false <= 2


BEFORE = Week("before", WEEK.since_ms - 28 * DAY_MS, WEEK.since_ms)


def with_past(spoil: Callable[[dict[str, Any], random.Random], None], seed: int = 5) -> WeekCalls:
    """Return four weeks before; `spoil` changes each of their calls."""
    source = random.Random(seed)
    calls = quiet_calls(source, BEFORE.since_ms, 8000, hours=28 * 24)
    for call in calls:
        spoil(call, source)
    return frame_of(calls, BEFORE)


def test_what_was_always_so_is_no_incident() -> None:
    """German has always gone badly; this week one tenant does too, and a new version of the worst prompt."""

    def always(call: dict[str, Any], source: random.Random) -> None:
        if (call["language"] == "de" and source.random() < 0.5) or (
            call["prompt"] == "draft" and call["model"] == "large" and source.random() < 0.7
        ):
            call["p_fail"] = source.uniform(0.4, 0.95)

    source = random.Random(6)
    calls = planted(6, lambda call: call["tags"]["tenant"] == "t3", 0.8)
    for call in calls:
        always(call, source)
        call["prompt_version"] += "-new" if call["prompt"] == "draft" else ""
    week = frame_of(calls, WEEK)
    told = [one.condition.words(UTC) for one in discover(week, about_bad(week, with_past(always)))]
    assert told == ["tag tenant = t3"]
    about = about_bad(week, with_past(always))
    lasting = [one.condition.words(UTC) for one in always_so(week, about, discover(week, about))]
    assert "input language = de" in lasting
    assert "tag tenant = t3" not in lasting
    alone = {one.condition.words(UTC) for one in discover(week, about_bad(week))}
    assert "input language = de" in alone, "without the weeks before nothing says that it was always so"


def test_two_fields_together_are_named_together() -> None:
    """A tool fails for one tenant: neither field alone says it."""

    def both(call: dict[str, Any]) -> bool:
        return bool(call["tools"] == ["search"] and call["language"] == "es")

    week = frame_of(planted(7, both, 0.7), WEEK)
    past = with_past(lambda _call, _source: None)
    [found] = discover(week, about_bad(week, past))
    assert {part.words(UTC) for part in found.condition.parts} == {"tool = search", "input language = es"}
    assert (found.mask == holds(found.condition, week)).all()


def test_a_model_that_is_slow_for_hours_is_found_and_one_that_always_is_not() -> None:
    def took(call: dict[str, Any], source: random.Random) -> None:
        call["latency_ms"] = source.lognormvariate(6, 0.3) * (3 if call["model"] == "large" else 1)

    source = random.Random(9)
    calls = quiet_calls(source, WEEK.since_ms, 6000)
    for call in calls:
        took(call, source)
        hour = (call["started_at_ms"] - WEEK.since_ms) / HOUR_MS
        if call["model"] == "small" and 30 <= hour < 36:
            call["latency_ms"] *= 2.5
    week = frame_of(calls, WEEK)
    for past in (with_past(took), None):  # with no past, a change within the week still tells
        [found] = discover(week, about_slow(week, past))
        span = next(part for part in found.condition.parts if part.op == "within")
        assert span.words(UTC) == "a start on Tue 06:00 to 12:00"
        assert Condition("model", "=", "small") in found.condition.parts
        assert found.question.measure == "latency"


def test_a_few_calls_that_failed_in_one_way_are_found_among_many_bad_ones() -> None:
    """Some forty empty answers to one language on one evening, in a week in which one call in six is bad."""
    source = random.Random(10)
    calls = quiet_calls(source, WEEK.since_ms, 6000)
    for call in calls:
        hour = (call["started_at_ms"] - WEEK.since_ms) / HOUR_MS
        if source.random() < 0.15:
            call.update(p_fail=source.uniform(0.4, 0.95), kind=source.choice(("refusal", "off_topic")))
        if call["language"] == "es" and 90 <= hour < 96:
            call.update(p_fail=0.8, kind="empty")
    week = frame_of(calls, WEEK)
    about = about_bad(week)
    [found] = discover(week, about, *about_failures(week, about))
    assert {part.field for part in found.condition.parts} == {"input_language", "started_at"}
    assert found.question is about, "it is told with the figures of all bad calls"


def test_no_cohort_is_named_whose_own_interval_contains_chance() -> None:
    """A third of one language's calls fail in one way; among all bad calls, one in four, that may be luck."""
    source = random.Random(11)
    calls = quiet_calls(source, WEEK.since_ms, 3000)
    speakers = {call["user_id"] for call in calls}
    speakers = set(sorted(speakers)[: max(16, len(speakers) // 12)])
    for call in calls:
        call["language"] = "fr" if call["user_id"] in speakers else "en"
        if call["language"] == "en" and source.random() < 0.25:
            call.update(p_fail=source.uniform(0.8, 0.95), kind=source.choice(("refusal", "off_topic")))
        if call["language"] == "fr" and source.random() < 0.3:
            call.update(p_fail=0.9, kind="wrong_language")
    week = frame_of(calls, WEEK)
    about = about_bad(week)
    found = discover(week, about, *about_failures(week, about))
    [french] = [one for one in found if one.condition == Condition("input_language", "=", "fr")]
    low, _high = lift_interval(week, about, french.mask)
    assert low < 1, "by the figures of all bad calls it would read as luck"
    assert french.question.failed_as == "wrong_language"
    assert french.question.words == "the bad calls with wrong language"
    for one in found:
        low, high = lift_interval(week, one.question, one.mask)
        assert 1 < low < high


def test_a_finding_tells_since_when_and_how_it_was_before() -> None:
    """The tenant's trouble began on Thursday; the weeks before had none."""
    thursday_ms = WEEK.since_ms + 3 * DAY_MS

    def since_thursday(call: dict[str, Any]) -> bool:
        return bool(call["tags"]["tenant"] == "t3" and call["started_at_ms"] >= thursday_ms)

    week = frame_of(planted(8, since_thursday, 0.9, n=6000), WEEK)
    past = with_past(lambda _call, _source: None)
    [found] = discover(week, about_bad(week, past))
    told = trend(week, found, UTC)
    assert abs(began_ms(week, found, found.mask & (week.p_bad >= 0.5)) - thursday_ms) < DAY_MS
    assert len(told["days"]) == 7
    assert sum(point.n for point in told["days"]) == found.mask.sum()
    assert [point.since_ms for point in told["weeks_before"]] == [
        WEEK.since_ms - back * 7 * DAY_MS for back in (4, 3, 2, 1)
    ]
    assert told["n_before"] == sum(point.n for point in told["weeks_before"]) > 0
    assert told["rate_before"] < 0.15


def test_one_persons_bad_week_is_no_cohort() -> None:
    """A user with forty bad calls sends them all with a tag of their own; nobody else has it."""
    for seed in range(5):
        calls = quiet_calls(random.Random(seed), WEEK.since_ms, 2000)
        for call in calls[100:140]:
            call.update(user_id="unlucky", tags={"tenant": "alone"}, p_fail=0.95)
        frame = frame_of(calls, WEEK)
        assert discover(frame, about_bad(frame)) == []


def test_what_makes_calls_slow_is_said_of_the_slowest() -> None:
    source = random.Random(4)
    calls = quiet_calls(source, WEEK.since_ms, 3000)
    for call in calls:
        call["latency_ms"] = source.lognormvariate(6, 0.4) * (8 if call["input_tokens"] > 3000 else 1)
    frame = frame_of(calls, WEEK)
    question = about_tail(frame)
    assert question.words == "the slowest 5 %"
    assert question.y.sum() == 150
    [found] = discover(frame, question)
    assert found.condition.field == "input_tokens"
    assert found.condition.op == ">"


def test_latencies_alike_everywhere_say_nothing() -> None:
    source = random.Random(8)
    calls = [
        {**call, "latency_ms": source.lognormvariate(6, 1)}
        for call in quiet_calls(source, WEEK.since_ms, 3000)
    ]
    frame = frame_of(calls, WEEK)
    assert discover(frame, about_tail(frame)) == []


def test_a_week_with_few_calls_or_none_ranked_says_nothing() -> None:
    few = frame_of(quiet_calls(random.Random(1), WEEK.since_ms, 60), WEEK)
    assert discover(few, about_bad(few)) == discover(few, about_tail(few)) == []
    unranked = [{**call, "p_fail": None} for call in quiet_calls(random.Random(1), WEEK.since_ms, 500)]
    frame = frame_of(unranked, WEEK)
    assert np.isnan(frame.p_bad).all()
    assert discover(frame, about_bad(frame)) == []


@given(st.floats(1, 1e8), st.floats(1, 1e4))
def test_thresholds_are_numbers_a_person_would_say(low: float, times: float) -> None:
    numbers = spoken_numbers(low, low * times)
    assert all(low <= value <= low * times and value == int(value) for value in numbers)
    assert all(len(f"{value:.6e}".split("e")[0].rstrip("0").replace(".", "")) <= 2 for value in numbers)
    if times >= 2:
        assert len(numbers), "between a number and twice as much lies one with two digits"


@pytest.mark.parametrize(
    "condition",
    [
        Condition("prompt_version", "=", "faq@v7"),
        Condition("tag", "=", "t3", key="tenant"),
        Condition("tool", "=", "search"),
        Condition("input_tokens", ">", 1200.0),
        Condition("user_age_days", "<", 2.0),
        Condition("calls_before", "<", 3.0),
        Condition("started_at", "within", (WEEK.since_ms + DAY_MS, WEEK.since_ms + 2 * DAY_MS)),
        Condition.all_of([Condition("tag", "=", "free", key="plan"), Condition("tool", "=", "search")]),
    ],
)
def test_a_condition_kept_and_read_again_holds_for_the_same_calls(condition: Condition) -> None:
    calls = frame_of(quiet_calls(random.Random(2), WEEK.since_ms, 400), WEEK)
    mask = holds(condition, calls)
    assert 0 < mask.sum() < len(calls)
    again = Condition.from_json(condition.as_json())
    assert again == condition
    assert (holds(again, calls) == mask).all()


def test_conditions_read_as_people_speak() -> None:
    def said(*parts: Any) -> tuple[str, str]:
        return Condition(*parts).words(UTC), Condition(*parts).where(UTC)

    assert said("input_tokens", ">", 9800.0) == ("input_tokens > 9,800", "for inputs over 9,800 tokens")
    assert said("context_chars", "<", 20.0)[1] == "for sources under 20 characters"
    assert said("input_language", "=", "de")[1] == "for inputs in de"
    assert said("prompt_version", "=", "faq@v7") == ("prompt version = faq@v7", "for prompt faq@v7")
    assert said("model", "=", "")[1] == "for model none"
    assert said("tag", "=", "free", "plan")[1] == "where tag plan = free"
    assert said("tool", "=", "search")[1] == "with tool search"
    assert said("user_age_days", "<", 1.0)[1] == "for users on their first day"
    assert said("calls_before", "<", 3.0)[1] == "for a user's first 3 calls"
    hours = (WEEK.since_ms + 50 * HOUR_MS, WEEK.since_ms + 54 * HOUR_MS)
    assert said("started_at", "within", hours)[1] == "on Wed 02:00 to 06:00"
    assert said("started_at", "within", (hours[0], hours[1] + DAY_MS))[1] == "on Wed 02:00 to Thu 06:00"
    pair = Condition.all_of([Condition("tool", "=", "search"), Condition("started_at", "within", hours)])
    assert pair.words(UTC) == "tool = search and a start on Wed 02:00 to 06:00"
    assert pair.where(UTC) == "with tool search on Wed 02:00 to 06:00"
    assert [number(value) for value in (9800.0, 0.25, 2.0)] == ["9,800", "0.25", "2"]


def test_a_finding_counts_calls_for_those_they_stand_for(store: OpenStore) -> None:
    """A critic with a budget reads what looks bad ten times as often: its rates are those of all calls."""
    source = random.Random(11)
    calls = quiet_calls(source, WEEK.since_ms, 8000)
    truth: dict[bool, list[float]] = {True: [], False: []}
    for call in calls:
        bad = source.random() < (0.5 if call["prompt"] == "draft" else 0.1)
        inclusion = 1.0 if bad else 0.1
        call["judged_for"] = 1 / inclusion if source.random() < inclusion else 0.0
        call["p_bad"] = 0.9 if bad else 0.05
        truth[call["prompt"] == "draft"].append(call["p_bad"])
    frame = frame_of(calls, WEEK)
    [found] = [one for one in discover(frame, about_bad(frame)) if "draft" in one.condition.words(UTC)]
    finding = describe(store, frame, found, 1, UTC)
    inside, outside = (sum(truth[place]) / len(truth[place]) for place in (True, False))
    assert finding.rate_low < inside < finding.rate_high
    assert finding.rate_in == pytest.approx(inside, abs=0.05)
    assert finding.rate_out == pytest.approx(outside, abs=0.03)
    assert finding.lift_low < finding.lift < finding.lift_high
    assert finding.lift_low < inside / outside < finding.lift_high
