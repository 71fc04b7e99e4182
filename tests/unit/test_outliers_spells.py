"""Provider spells: a doubled latency is found and named, an ordinary month is quiet."""

from functools import partial
from zoneinfo import ZoneInfo

import numpy as np

from ingest.store import OpenStore
from outliers.latency.past import read_counts
from outliers.latency.spells import find_spells, keep_spells, spells_of
from outliers.weeks import Week, week_by_id
from tests.rows import HOUR_MS, put_calls

ZONE = ZoneInfo("UTC")
WEEK = week_by_id("2026-W46", ZONE)
#: Tuesday 14:00 of that week, in hours from the first of the 28 days before it
TUESDAY_14 = 672 + 24 + 14


def a_month(seed: int = 0) -> list[dict]:
    """Five weeks of two services at one provider and one at another, busy and slower by day, with tails."""
    source = np.random.default_rng(seed)
    calls = []
    for hour in range(672 + 168):
        by_day = 1 + np.sin((hour % 24 - 8) / 24 * 2 * np.pi)
        for provider, model, usual_ms, rate in (
            ("openai", "gpt-x", 800, 8),
            ("openai", "gpt-y", 300, 12),
            ("groq", "own", 2_000, 5),
        ):
            for _ in range(source.poisson(rate * (0.2 + by_day))):
                latency_ms = usual_ms * source.lognormal(0, 0.5) * (1 + 0.3 * by_day)
                calls.append(
                    {
                        "started_at_ms": WEEK.since_ms
                        + (hour - 672) * HOUR_MS
                        + int(source.integers(HOUR_MS)),
                        "provider": provider,
                        "model": model,
                        "prompt": ("faq", "draft")[int(source.integers(2))],
                        "latency_ms": latency_ms * (20 if source.random() < 0.01 else 1),
                    }
                )
    return calls


def slowed(calls: list[dict], hours: tuple[int, int], times: float, **which: str) -> list[dict]:
    """Return the calls with those of some hours and fields slower by a factor."""
    since, until = (WEEK.since_ms + (hour - 672) * HOUR_MS for hour in hours)
    return [
        call | {"latency_ms": call["latency_ms"] * times}
        if since <= call["started_at_ms"] < until and which.items() <= call.items()
        else call
        for call in calls
    ]


def found_in(store: OpenStore, calls: list[dict], week: Week = WEEK) -> list:
    store.write(partial(put_calls, calls=calls))
    with store.read() as connection:
        return find_spells(read_counts(connection, 1, week), week, ZONE)


def test_a_service_twice_as_slow_for_two_hours_is_found_and_told_in_a_sentence(store: OpenStore) -> None:
    hours = (TUESDAY_14, TUESDAY_14 + 2)
    [spell] = found_in(store, slowed(a_month(), hours, 2.4, model="gpt-x"))
    assert (spell.provider, spell.model) == ("openai", "gpt-x")
    assert spell.since_ms == WEEK.since_ms + 38 * HOUR_MS
    assert spell.until_ms == WEEK.since_ms + 40 * HOUR_MS
    assert 1.9 < spell.times < 2.9
    assert spell.usual_p50_ms * spell.times == spell.p50_ms
    assert spell.sentence.startswith(
        f"openai gpt-x was {spell.times:.1f}x slower than its Tuesdays 14:00-16:00"
    )
    assert spell.sentence.endswith(f"n {spell.n})")
    store.write(partial(keep_spells, project_id=1, week_id=WEEK.id, spells=[spell]))
    store.write(partial(keep_spells, project_id=1, week_id=WEEK.id, spells=[spell]))
    with store.read() as connection:
        assert spells_of(connection, 1, WEEK.since_ms, WEEK.until_ms) == [spell]
        assert spells_of(connection, 1, spell.until_ms, WEEK.until_ms) == []
        assert spells_of(connection, 2, WEEK.since_ms, WEEK.until_ms) == []


def test_a_provider_whose_services_are_all_slow_is_told_once(store: OpenStore) -> None:
    hours = (TUESDAY_14, TUESDAY_14 + 3)
    [spell] = found_in(store, slowed(a_month(1), hours, 3, provider="openai"))
    assert (spell.provider, spell.model) == ("openai", "")


def test_an_ordinary_month_and_a_busy_afternoon_are_no_spell(store: OpenStore) -> None:
    """Also not where the slower of two prompts is asked for five times as often for two hours."""
    calls = slowed(a_month(2), (0, 999), 6, prompt="draft")
    since, until = (WEEK.since_ms + hour * HOUR_MS for hour in (38, 40))
    burst = [c for c in calls if since <= c["started_at_ms"] < until and c["prompt"] == "draft"]
    assert found_in(store, calls + burst * 4) == []


def test_without_a_past_nothing_is_said(store: OpenStore) -> None:
    day = [call for call in a_month(3) if 0 <= call["started_at_ms"] - WEEK.since_ms < 30 * HOUR_MS]
    assert found_in(store, slowed(day, (672 + 20, 672 + 22), 3)) == []


def test_in_its_first_week_a_service_is_compared_with_its_other_days(store: OpenStore) -> None:
    week = [call for call in a_month(4) if call["started_at_ms"] >= WEEK.since_ms]
    [spell] = found_in(store, slowed(week, (TUESDAY_14, TUESDAY_14 + 2), 3, model="gpt-y"))
    assert (spell.model, spell.since_ms) == ("gpt-y", WEEK.since_ms + 38 * HOUR_MS)
    assert "slower than on other days 14:00-16:00" in spell.sentence


def test_calls_that_failed_at_once_hide_no_slow_hours(store: OpenStore) -> None:
    """Half of the calls of a slow afternoon end in an error after 5 ms."""
    calls = slowed(a_month(5), (TUESDAY_14, TUESDAY_14 + 3), 2.5, model="gpt-x")
    since, until = (WEEK.since_ms + hour * HOUR_MS for hour in (38, 41))
    calls = [
        call | {"latency_ms": 5.0, "outcome": "failed"}
        if since <= call["started_at_ms"] < until and i % 2
        else call
        for i, call in enumerate(calls)
    ]
    assert ("openai", "gpt-x") in {(spell.provider, spell.model) for spell in found_in(store, calls)}
