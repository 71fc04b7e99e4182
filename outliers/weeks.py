"""ISO weeks, cut at Monday 00:00 of a time zone; a week with a clock change has 167 or 169 hours.

Flow: Settings.zone -> `week_of` a call's start -> `Experience.week`, findings, cases, pages. Instants are
milliseconds since 1970 (UTC).
"""

import re
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from outliers.errors import UnknownWeek

_WRITTEN = re.compile(r"(\d{4})-W(\d{2})")

#: Years that weeks are known for; the calendar itself ends at both sides of year 1 and 9999.
YEARS = range(1970, 2200)


@dataclass(frozen=True)
class Week:
    """One ISO week in one time zone.

    Attributes:
        id: "2026-W47"; the year is the ISO year, which differs from the calendar's around New Year.
        since_ms: Monday 00:00 in the zone, milliseconds since 1970 (UTC), included.
        until_ms: the next Monday 00:00, excluded.
    """

    id: str
    since_ms: int
    until_ms: int

    def holds(self, ms: int) -> bool:
        """Whether an instant lies in this week."""
        return self.since_ms <= ms < self.until_ms


def week_of(ms: int, zone: ZoneInfo) -> Week:
    """Return the week that holds an instant (milliseconds since 1970, UTC)."""
    year, number, _day = datetime.fromtimestamp(ms / 1000, zone).isocalendar()
    return _week(year, number, zone)


def week_by_id(week_id: str, zone: ZoneInfo) -> Week:
    """Return a week by its name.

    Raises:
        UnknownWeek: not written as "2026-W47", outside YEARS, or that year has no such week.
    """
    written = _WRITTEN.fullmatch(week_id)
    try:
        if written is None or int(written[1]) not in YEARS:
            raise ValueError
        return _week(int(written[1]), int(written[2]), zone)
    except ValueError:
        raise UnknownWeek(f"{week_id!r} is no ISO week; write one as 2026-W47.") from None


def last_ended(now_ms: int, zone: ZoneInfo) -> Week:
    """Return the newest week that is over: the one whose case is on the first screen."""
    return week_before(week_of(now_ms, zone), zone)


def week_before(week: Week, zone: ZoneInfo) -> Week:
    """Return the week that ends where this one begins."""
    return week_of(week.since_ms - 1, zone)


def week_after(week: Week, zone: ZoneInfo) -> Week:
    """Return the week that begins where this one ends."""
    return week_of(week.until_ms, zone)


def weeks_between(since_ms: int, until_ms: int, zone: ZoneInfo) -> list[Week]:
    """Return the weeks that a window [since, until) touches, oldest first."""
    weeks: list[Week] = []
    at = since_ms
    while at < until_ms:
        weeks.append(week_of(at, zone))
        at = weeks[-1].until_ms
    return weeks


def weeks_of(instants_ms: Iterable[int], zone: ZoneInfo) -> list[Week]:
    """Return the week of each instant, in the same order; a calendar look-up once a week, not once a call."""
    known: list[Week] = []
    starts: list[int] = []
    found: list[Week] = []
    for ms in instants_ms:
        at = bisect_right(starts, ms) - 1
        if at < 0 or not known[at].holds(ms):
            week = week_of(ms, zone)
            at = bisect_right(starts, week.since_ms)
            starts.insert(at, week.since_ms)
            known.insert(at, week)
        found.append(known[at])
    return found


def days_of(week: Week, zone: ZoneInfo) -> list[tuple[int, int]]:
    """Return the first instant of each of a week's seven days and that of the next, in its zone."""
    monday = datetime.fromtimestamp(week.since_ms / 1000, zone).date()
    starts = [_midnight_ms(monday + timedelta(day), zone) for day in range(1, 7)]
    return list(pairwise([week.since_ms, *starts, week.until_ms]))


def _week(year: int, number: int, zone: ZoneInfo) -> Week:
    monday = date.fromisocalendar(year, number, 1)
    return Week(
        f"{year:04d}-W{number:02d}", _midnight_ms(monday, zone), _midnight_ms(monday + timedelta(7), zone)
    )


def _midnight_ms(day: date, zone: ZoneInfo) -> int:
    """Return the instant a day begins in a zone; where a clock change skips midnight, the first that exists.

    Python maps a skipped wall time forward by the gap when read back with fold=0's offset, so the offset
    before the change names exactly the instant of the change.
    """
    return round(datetime.combine(day, time(), zone).astimezone(UTC).timestamp() * 1000)
