"""Weeks that nobody plans for: each runs through the real ranking and computation, and claims nothing."""

import math
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import func, select

from ingest.settings import Settings
from ingest.store import OpenStore
from ingest.tables import columns
from outliers.changes import changes_of
from outliers.cohorts.findings import findings_of
from outliers.process import run_once
from outliers.tables import Experience
from outliers.weeks import Week, last_ended, week_before, week_by_id
from tests.rows import HOUR_MS, put_calls, quiet_calls

ZONE = Settings(timezone="Europe/Berlin").zone
WEEK = last_ended(round(time.time() * 1000), ZONE)
BEFORE = week_before(WEEK, ZONE)
#: The week in which Berlin's clocks go back, an hour longer than others.
LONG = week_by_id("2025-W43", ZONE)
Calls = list[dict[str, Any]]


def in_berlin(settings: Settings) -> Settings:
    """Return the settings of a team whose weeks are cut in Berlin."""
    return settings.model_copy(update={"timezone": "Europe/Berlin"})


def two_weeks(n: int = 150, weeks: tuple[Week, ...] = (BEFORE, WEEK)) -> Calls:
    source = random.Random(1)
    return [call for week in weeks for call in quiet_calls(source, week.since_ms, n, users=max(20, n // 8))]


def each(calls: Calls, **fields: Any) -> Calls:
    return [{**call, **fields} for call in calls]


def this_week(calls: Calls, **fields: Any) -> Calls:
    return [{**call, **(fields if call["started_at_ms"] >= WEEK.since_ms else {})} for call in calls]


ODD: dict[str, Callable[[], Calls]] = {
    "one call with nothing known": lambda: [{"started_at_ms": WEEK.since_ms, "latency_ms": None}],
    "one user has everything": lambda: each(two_weeks(), user_id="all"),
    "no field is given": lambda: each(
        two_weeks(), user_id=None, model="", provider="", prompt="", prompt_version="", tags=None, tools=None
    ),
    "all calls failed this week": lambda: this_week(two_weeks(), outcome="failed", error_type="Timeout"),
    "all answers are bad this week": lambda: this_week(two_weeks(), p_fail=0.99, kind="rude"),
    "lengths are absurd": lambda: each(two_weeks(), input_tokens=2**31 - 1, output_tokens=0, cost_usd=0.0),
    "all started at one instant": lambda: this_week(two_weeks(), started_at_ms=WEEK.until_ms - 1),
}


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_week_is_computed_and_claims_no_cohort(store: OpenStore, settings: Settings, odd: str) -> None:
    settings = in_berlin(settings)
    calls = ODD[odd]()
    store.write(partial(put_calls, calls=calls))
    assert run_once(settings, store) == len(calls)
    with store.read() as connection:
        assert connection.execute(select(func.count()).select_from(columns(Experience))).scalar() == len(
            calls
        )
        for week in (BEFORE, WEEK, LONG):
            assert findings_of(connection, 1, week.id, "bad") == [], "what holds for all sets nothing apart"
            for change in changes_of(connection, 1, week):
                for side in (change.before, change.now):
                    told = [v for v in (side.value, side.low, side.high) if v is not None]
                    assert all(math.isfinite(value) for value in told)
                    assert side.n >= 0


def test_two_projects_share_nothing(store: OpenStore, settings: Settings) -> None:
    """The trouble of one project is no case, no change and no mean of the other."""
    settings = in_berlin(settings)
    calm = two_weeks()
    troubled = [
        {**call, "p_fail": 0.97, "kind": "rude"}
        if call["started_at_ms"] >= WEEK.since_ms and call["prompt"] == "faq"
        else call
        for call in two_weeks(900)
    ]
    store.write(partial(put_calls, calls=each(calm, environment="one")))
    seqs = store.write(partial(put_calls, calls=each(troubled, environment="two"), project_id=2))
    assert len(seqs) == len(troubled)
    run_once(settings, store)
    with store.read() as connection:
        assert findings_of(connection, 1, WEEK.id, "bad") == []
        found = findings_of(connection, 2, WEEK.id, "bad")
        assert found
        assert {part.value for part in found[0].condition.parts} == {"faq"}
        assert found[0].n <= sum(call["prompt"] == "faq" for call in troubled)


def test_hours_are_told_in_the_zone_of_the_team(store: OpenStore, settings: Settings) -> None:
    """An incident on the day the clocks go back: its hours are those on the wall."""
    settings = in_berlin(settings)
    calls = two_weeks(1400, weeks=(week_before(LONG, ZONE), LONG))
    since_ms, until_ms = LONG.until_ms - 12 * HOUR_MS, LONG.until_ms - 6 * HOUR_MS
    for call in calls:
        if since_ms <= call["started_at_ms"] < until_ms and call["prompt"] == "faq":
            call |= {"p_fail": 0.97, "kind": "empty"}
    store.write(partial(put_calls, calls=calls))
    run_once(settings, store)
    with store.read() as connection:
        found = findings_of(connection, 1, LONG.id, "bad")
    assert found
    assert "Sun 12:00 to 18:00" in found[0].condition.words(settings.zone)
