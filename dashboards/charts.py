"""Geometry of the charts: where a value lies, in per cent of the chart's width. Drawing is in the templates.

Charts are SVG without a viewBox: x in per cent and y in pixels, so that text keeps its size on a phone and
no style attribute is needed under the Content-Security-Policy.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from dashboards.queries.latencies import Latencies

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


def percent(value: float, of: float) -> float:
    """Return value / of in per cent, clamped to 0..100; 0 where `of` is 0."""
    return round(100 * min(max(value / of, 0.0), 1.0), 3) if of > 0 else 0.0
