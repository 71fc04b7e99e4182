"""ISO weeks in a time zone: every instant lies in exactly one, clock changes and New Year included."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outliers.errors import UnknownWeek
from outliers.weeks import (
    last_ended,
    week_after,
    week_before,
    week_by_id,
    week_of,
    weeks_between,
    weeks_of,
)

UTC, BERLIN, NEW_YORK = ZoneInfo("UTC"), ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
HOUR_MS = 3_600_000

zones = st.sampled_from(
    [
        UTC,
        BERLIN,
        NEW_YORK,
        ZoneInfo("Asia/Kolkata"),
        ZoneInfo("Pacific/Apia"),  # skipped 2011-12-30 as a whole
        ZoneInfo("America/Sao_Paulo"),  # changed its clocks at midnight: some days begin at 01:00
    ]
)
instants = st.integers(0, 4_102_444_800_000)


@given(instants, zones)
def test_an_instant_lies_in_its_week_and_in_no_other(ms: int, zone: ZoneInfo) -> None:
    week = week_of(ms, zone)
    assert week.holds(ms)
    assert week_by_id(week.id, zone) == week
    before, after = week_before(week, zone), week_after(week, zone)
    assert (before.until_ms, after.since_ms) == (week.since_ms, week.until_ms)
    assert before.id < week.id < after.id
    assert datetime.fromtimestamp(ms / 1000, zone).strftime("%G-W%V") == week.id


@given(st.lists(instants, max_size=30), zones)
def test_many_instants_at_once_get_the_weeks_they_get_alone(many: list[int], zone: ZoneInfo) -> None:
    assert weeks_of(many, zone) == [week_of(ms, zone) for ms in many]


def test_a_week_with_a_clock_change_is_an_hour_shorter_or_longer() -> None:
    hours = [
        (week.until_ms - week.since_ms) // HOUR_MS
        for week in (week_by_id(name, BERLIN) for name in ("2026-W12", "2026-W13", "2026-W43", "2026-W44"))
    ]
    assert hours == [168, 167, 169, 168]


def test_the_year_of_a_week_is_the_iso_year() -> None:
    new_year = int(datetime(2027, 1, 1, tzinfo=UTC).timestamp() * 1000)
    assert week_of(new_year, UTC).id == "2026-W53"
    assert last_ended(new_year, UTC).id == "2026-W52"


def test_a_window_touches_each_of_its_weeks_once() -> None:
    first, last = week_by_id("2026-W43", BERLIN), week_by_id("2026-W45", BERLIN)
    names = [week.id for week in weeks_between(first.since_ms + 1, last.since_ms + 1, BERLIN)]
    assert names == ["2026-W43", "2026-W44", "2026-W45"]
    assert weeks_between(first.since_ms, first.since_ms, BERLIN) == []


@pytest.mark.parametrize("name", ["2026-47", "2025-W53", "2026-W00", "W47", "2026-W471", "0000-W01"])
def test_a_week_that_is_none_is_refused_with_an_example(name: str) -> None:
    with pytest.raises(UnknownWeek, match="2026-W47"):
        week_by_id(name, UTC)
