"""Geometry of the latency page's charts: tail curves on two logarithmic axes, and the strip of hours.

Flow: queries.latencies, queries.slow_hours -> `curve_chart`, `hour_strip` -> tails.html.
Curves are points in a box of WIDTH by HEIGHT that is stretched to the page; everything else is in per cent.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from dashboards.drawing.charts import LogAxis, log_axis
from dashboards.queries.latencies import GroupTail, Latencies
from dashboards.queries.slow_hours import HourShown, HoursOf, SlowHours

#: Curves that can be told apart by colour and dash, and the box they are drawn in.
CURVES_MAX = 5
WIDTH, HEIGHT = 1_000, 240
#: A smaller share is not drawn: one call in so many.
SHARE_MIN = 1e-5
#: How many times as slow as usual an hour is, by class of colour: class 0 lies below the first, and so on.
TIMES = (0.8, 1.25, 1.6, 2.5, 4.0)
TIMES_WORDS = ("faster", "usual", "1.25×", "1.6×", "2.5×", "4× and more")


@dataclass(frozen=True)
class Curve:
    """One group's curve: `points` as SVG has them, `place` its colour and dash, 0 first."""

    group: str
    n: int
    place: int
    points: str


@dataclass(frozen=True)
class ShareTick:
    """A share on the vertical axis: in words, `y` in pixels, and the quantile that it is."""

    words: str
    y: float
    quantile: str


@dataclass(frozen=True)
class CurveChart:
    """The share of answered calls that take longer than a latency.

    Attributes:
        axis: of the latencies.
        shares: ticks of the vertical axis, from all calls down.
        curves: at most CURVES_MAX.
    """

    axis: LogAxis
    shares: tuple[ShareTick, ...]
    curves: tuple[Curve, ...]


def curve_chart(latencies: Latencies) -> CurveChart | None:
    """Lay out the first groups' curves; None where no group has one."""
    groups = [group for group in latencies.groups if len(group.curve) > 1][:CURVES_MAX]
    if not groups:
        return None
    axis = log_axis(point.value_ms for group in groups for point in group.curve)
    least = min([point.slower for group in groups for point in group.curve if point.slower > 0] or [0.01])
    decades = max(1, math.ceil(-math.log10(max(least, SHARE_MIN))))
    shares = tuple(
        ShareTick(f"{100 * 10.0**-decade:g} %", round(HEIGHT * decade / decades, 1), _quantile(decade))
        for decade in range(decades + 1)
    )
    curves = tuple(
        Curve(group.group, group.n, place, _points(group, axis, decades))
        for place, group in enumerate(groups)
    )
    return CurveChart(axis, shares, curves)


def _points(group: GroupTail, axis: LogAxis, decades: int) -> str:
    """A stair: at each latency the share of slower calls drops; between two there was no call."""
    drawn = ["0,0"]
    y = 0.0
    for point in group.curve:
        x = round(axis.x(point.value_ms) * WIDTH / 100, 1)
        drawn.append(f"{x},{y}")
        y = round(HEIGHT * min(1.0, -math.log10(max(point.slower, 1e-9)) / decades), 1)
        drawn.append(f"{x},{y}")
    return " ".join(drawn)


def _quantile(decade: int) -> str:
    return "" if decade == 0 else "p" + ("90", "99", "99.9", "99.99", "99.999")[min(decade, 5) - 1]


@dataclass(frozen=True)
class Run:
    """Hours beside one another of one class of colour: where they lie in per cent, and the slowest of them.

    Attributes:
        level: 0..5 by `TIMES`; -1 where too few calls were made to say.
    """

    x: float
    width: float
    level: int
    worst: HourShown


@dataclass(frozen=True)
class StripRow:
    """One group's hours as runs."""

    of: HoursOf
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class DayMark:
    """Where a day begins on the strip, in per cent; `named` where there is room for its name."""

    at: datetime
    x: float
    named: bool


@dataclass(frozen=True)
class HourStrip:
    """All groups' hours on one axis of time."""

    rows: tuple[StripRow, ...]
    days: tuple[DayMark, ...]


def hour_strip(found: SlowHours, zone: ZoneInfo) -> HourStrip | None:
    """Lay out the strip over the time that has calls; None without any."""
    times = [hour.at for row in found.rows for hour in row.hours]
    if not times:
        return None
    step = timedelta(hours=found.step_hours)
    first, end = min(times), max(times) + step
    whole = (end - first) / step
    rows = tuple(StripRow(row, tuple(_runs(row, first, step, whole))) for row in found.rows)
    return HourStrip(rows, tuple(_days(first, end, zone)))


def level(times: float | None) -> int:
    """Return the class of colour of an hour that is so many times as slow as usual."""
    return -1 if times is None else sum(times >= edge for edge in TIMES)


def _runs(row: HoursOf, first: datetime, step: timedelta, whole: float) -> Iterable[Run]:
    run: list[HourShown] = []
    for hour in (*row.hours, None):
        joins = (
            hour is not None
            and run
            and level(hour.times) == level(run[-1].times)
            and hour.at - run[-1].at == step
        )
        if run and not joins:
            yield Run(
                x=round(100 * ((run[0].at - first) / step) / whole, 3),
                width=round(100 * len(run) / whole, 3),
                level=level(run[0].times),
                worst=max(run, key=lambda one: one.times or 0.0),
            )
            run = []
        if hour is not None:
            run.append(hour)


def _days(first: datetime, end: datetime, zone: ZoneInfo) -> Iterable[DayMark]:
    local = first.astimezone(zone)
    at = local.replace(hour=0, minute=0, second=0, microsecond=0)
    days = max(1, (end - first).days)
    every = -(-days // 7)
    place = 0
    while at < end:
        if at >= first:
            yield DayMark(at, round(100 * ((at - first) / (end - first)), 3), place % every == 0)
            place += 1
        at = (at + timedelta(days=1)).replace(hour=0)


@dataclass(frozen=True)
class DayTable:
    """The strip as a table: one group's day, and its slowest hours in that day."""

    group: str
    at: datetime
    n: int
    n_failed: int
    worst: HourShown | None


def by_day(found: SlowHours, zone: ZoneInfo) -> tuple[DayTable, ...]:
    """Return each group's days, oldest first, with the slowest hour of each."""
    table = []
    for row in found.rows:
        days: dict[datetime, list[HourShown]] = {}
        for hour in row.hours:
            at = hour.at.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
            days.setdefault(at, []).append(hour)
        for at, hours in days.items():
            known = [hour for hour in hours if hour.times is not None]
            table.append(
                DayTable(
                    row.group,
                    at,
                    sum(hour.n for hour in hours),
                    sum(hour.n_failed for hour in hours),
                    max(known, key=lambda one: one.times or 0.0) if known else None,
                )
            )
    return tuple(table)
