"""Geometry of the charts: where a value lies, in per cent of the chart's width. Drawing is in the templates.

Charts are SVG without a viewBox: x in per cent and y in pixels, so that text keeps its size on a phone and
no style attribute is needed under the Content-Security-Policy.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dashboards.queries.cases import PointShown
from dashboards.queries.latencies import Latencies
from outliers.costs import DayCost

#: 1, 2 and 5 times a power of ten: the ticks a person reads on a log axis.
_MARKS = (1, 2, 5)


@dataclass(frozen=True)
class LogAxis:
    """A logarithmic axis from `low` to `high`, both greater than 0.

    Attributes:
        ticks: round values within the axis, ascending; powers of ten only where 1-2-5 would crowd.
    """

    low: float
    high: float
    ticks: tuple[float, ...]

    def x(self, value: float) -> float:
        """Return where `value` lies: 0 at the left end, 100 at the right; clamped."""
        clamped = min(max(value, self.low), self.high)
        return round(100 * math.log(clamped / self.low) / math.log(self.high / self.low), 3)


def log_axis(values: Iterable[float]) -> LogAxis:
    """Return the axis that holds all positive values, with a little room at both ends."""
    positive = [value for value in values if value > 0]
    low, high = (min(positive), max(positive)) if positive else (100.0, 1_000.0)
    low, high = low / 1.3, high * 1.3
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    marks = _MARKS if math.log10(high / low) < 2.2 else (1,)
    ticks = tuple(
        mark * 10.0**power
        for power in range(first, last + 1)
        for mark in marks
        if low <= mark * 10.0**power <= high
    )
    return LogAxis(low, high, ticks)


def tail_axis(latencies: Latencies) -> LogAxis:
    """Return the one axis that all strips of a latency chart share."""
    values = [group.slowest_ms for group in latencies.groups]
    for group in latencies.groups:
        for quantile in group.quantiles:
            values += [quantile.value_ms, quantile.low_ms, quantile.high_ms]
    return log_axis(value for value in values if value is not None)


@dataclass(frozen=True)
class Stretch:
    """One piece of a stacked bar: where it begins and how wide it is, in per cent."""

    name: str
    x: float
    width: float


def stacked(shares: Iterable[tuple[str, float]]) -> tuple[Stretch, ...]:
    """Lay shares side by side over the whole width; they need not sum to 1."""
    kept = [(name, value) for name, value in shares if value > 0]
    total = sum(value for _name, value in kept)
    stretches = []
    at = 0.0
    for name, value in kept:
        width = 100 * value / total
        stretches.append(Stretch(name, round(at, 3), round(width, 3)))
        at += width
    return tuple(stretches)


@dataclass(frozen=True)
class Bar:
    """One day or week of a trend.

    Attributes:
        point: what it shows.
        before: whether it is a week before, and not a day of the week itself.
        rate: bad / n; None without calls.
        x, width: where it lies, in per cent.
        height: 0..1 of the chart's height.
    """

    point: PointShown
    before: bool
    rate: float | None
    x: float
    width: float
    height: float


def trend(weeks_before: Sequence[PointShown], days: Sequence[PointShown]) -> tuple[Bar, ...]:
    """Lay the weeks before and the days of a week side by side, a gap between the two."""
    gap = 0.5 if weeks_before and days else 0.0
    width = 100 / max(1.0, len(weeks_before) + len(days) + gap)
    points = [*((point, True) for point in weeks_before), *((point, False) for point in days)]
    rates = [point.bad / point.n if point.n else None for point, _before in points]
    top = max([rate for rate in rates if rate is not None] + [0.02])
    return tuple(
        Bar(
            point,
            before,
            rate,
            x=round((place + (0 if before else gap)) * width, 3),
            width=round(width * 0.86, 3),
            height=round(rate / top, 3) if rate else 0.0,
        )
        for place, ((point, before), rate) in enumerate(zip(points, rates, strict=True))
    )


@dataclass(frozen=True)
class DayBar:
    """One day of a week's costs, and the same day of the week before.

    Attributes:
        x, before_x, width: where the two lie, in per cent; both are as wide.
        height, before_height: 0..1 of the chart's height; 0 where unknown.
    """

    day: DayCost
    x: float
    before_x: float
    width: float
    height: float
    before_height: float


def day_bars(days: Sequence[DayCost]) -> tuple[DayBar, ...]:
    """Lay a week's days side by side, each beside the same day of the week before."""
    top = max([usd for day in days for usd in (day.cost_usd, day.before_usd) if usd] or [1.0])
    width = 100 / max(1, len(days))
    return tuple(
        DayBar(
            day,
            x=round((place + 0.4) * width, 3),
            before_x=round(place * width, 3),
            width=round(width * 0.38, 3),
            height=round((day.cost_usd or 0.0) / top, 3),
            before_height=round((day.before_usd or 0.0) / top, 3),
        )
        for place, day in enumerate(days)
    )


def percent(value: float, of: float) -> float:
    """Return value / of in per cent, clamped to 0..100; 0 where `of` is 0."""
    return round(100 * min(max(value / of, 0.0), 1.0), 3) if of > 0 else 0.0
