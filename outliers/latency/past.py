"""A latency against its own past: each hour's calls as ranks among those of the same hour of the week.

Flow: `latency_count` (the 28 days before a week, and the week) -> `read_counts` -> `against_past` ->
outliers.latency.spells. Latencies are buckets of ingest.latency, 32 to a doubling.

1. Each call is taken relative to the median of its own slice (prompt, version, model, environment ...), so
   that a batch of long jobs is no slow provider.
2. What its hour of the week usually adds is taken off: the median of the same hour of the weeks before, drawn
   towards that of the same hour of other days, and that towards none, by the number of calls behind them. An
   hour is never part of its own baseline, also while the past is gauged: each week is left out in turn. With
   less than three weeks each day is left out in turn, and only the hour of the day counts.
3. What remains becomes a rank among all the calls of that service in the past: heavy tails cannot matter.

A failed or aborted call says only that its answer would have taken longer; it is counted at its time where
that is beyond its slice's median, and says nothing where it is not.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
from sqlalchemy import Connection, func, select

from ingest.latency import BUCKETS_PER_DOUBLING, OVER, UNDER, ZERO
from ingest.tables import LatencyCount, Slice, columns
from outliers.frame import Floats, Ints, Mask
from outliers.latency.tails import HOUR_MS
from outliers.weeks import Week

_slice, _count = columns(Slice), columns(LatencyCount)

DAYS_BEFORE = 28
HOURS_OF_WEEK = 168
#: Calls, and hours with calls, of a service's past that ranks are taken among.
PAST_CALLS, PAST_HOURS = 200, 48
#: A slice has a median of its own from so many calls in so many different hours.
SLICE_CALLS, SLICE_HOURS = 20, 12
#: Calls by which an hour's usual excess is drawn towards that of wider groups.
PRIOR_CALLS = 20.0
#: Weeks with calls from which the same hour of the week is a baseline.
WEEKS_ENOUGH = 3
#: Relative latencies are cut at so many doublings.
CUT = 6 * BUCKETS_PER_DOUBLING


@dataclass(frozen=True)
class Counts:
    """Counted calls of a project, one row each; arrays of shape (n,).

    Attributes:
        unit: place in `units`.
        stratum: the slice.
        hour: hours since 1970 (UTC).
        bucket: of the latency.
        n: calls.
        done: whether they were answered.
        units: (provider, model); the model is "" where a provider as a whole is meant.
    """

    unit: Ints
    stratum: Ints
    hour: Ints
    bucket: Ints
    n: Ints
    done: Mask
    units: tuple[tuple[str, str], ...]

    def only(self, kept: Mask) -> "Counts":
        """Return some of the rows."""
        return Counts(
            unit=self.unit[kept],
            stratum=self.stratum[kept],
            hour=self.hour[kept],
            bucket=self.bucket[kept],
            n=self.n[kept],
            done=self.done[kept],
            units=self.units,
        )


class Clock:
    """The hours looked at: which hour of the week and of the day each is in a zone, its week and its day."""

    def __init__(self, first: int, end: int, start: int, zone: ZoneInfo) -> None:
        self.first, self.end, self.start = first, end, start
        local = [datetime.fromtimestamp(hour * 3600, UTC).astimezone(zone) for hour in range(first, end)]
        self.of_week = np.array([one.weekday() * 24 + one.hour for one in local], dtype=np.int64)
        #: the hour of the day, apart on weekends
        self.of_day = np.array([one.hour + 24 * (one.weekday() >= 5) for one in local], dtype=np.int64)
        self.week = (np.arange(first, end) - start) // HOURS_OF_WEEK
        self.day = np.array([one.toordinal() for one in local], dtype=np.int64)


@dataclass(frozen=True)
class Past:
    """One set of units compared with their past, by hour.

    Attributes:
        sums, calls: sum of (rank - 1/2), and calls, of each unit and hour from `Clock.first`; (units, hours).
        excess: each row's relative latency less what its hour usually adds, in buckets; shape (n,).
        known: whether a unit has past enough; shape (units,).
        weekly: whether the baseline is the same hour of the week.
    """

    sums: Floats
    calls: Floats
    excess: Floats
    known: Mask
    weekly: bool


def read_counts(connection: Connection, project_id: int, week: Week) -> Counts:
    """Read what was counted in a week and the 28 days before it: total latencies by slice and hour."""
    places: dict[tuple[str, str], int] = {}
    of_slice = {
        row.id: places.setdefault((row.provider, row.model), len(places))
        for row in connection.execute(
            select(_slice.c.id, _slice.c.provider, _slice.c.model).where(_slice.c.project_id == project_id)
        )
    }
    pieces = []
    for day in range(-DAYS_BEFORE, 7, 7):
        since = (week.since_ms + day * 24 * HOUR_MS) // HOUR_MS
        until = since + HOURS_OF_WEEK if day < 0 else -(-week.until_ms // HOUR_MS)
        rows = connection.execute(
            select(
                _count.c.slice_id,
                _count.c.hour,
                _count.c.bucket,
                func.sum(_count.c.n),
                _count.c.outcome == "answered",
            )
            .where(
                _count.c.slice_id.in_(select(_slice.c.id).where(_slice.c.project_id == project_id)),
                _count.c.measure == "total",
                _count.c.hour >= since,
                _count.c.hour < until,
            )
            .group_by(_count.c.slice_id, _count.c.hour, _count.c.bucket, _count.c.outcome == "answered")
        ).all()
        pieces.append(np.array([tuple(row) for row in rows], dtype=np.int64).reshape(-1, 5))
    table = np.concatenate(pieces)
    table = table[(table[:, 2] != OVER) & np.isin(table[:, 0], list(of_slice))]
    table[np.isin(table[:, 2], (ZERO, UNDER)), 2] = -10 * BUCKETS_PER_DOUBLING
    unit = np.array([of_slice[one] for one in table[:, 0].tolist()], dtype=np.int64)
    return Counts(unit, table[:, 0], table[:, 1], table[:, 2], table[:, 3], table[:, 4] == 1, tuple(places))


def against_past(counts: Counts, clock: Clock) -> tuple[Counts, Past] | None:
    """Return the rows that say something, and how each hour compares with the past; None without any."""
    level = _levels(counts, clock.start)
    kept = np.isfinite(level) & (counts.done | (counts.bucket >= np.nan_to_num(level)))
    if not kept.any():
        return None
    counts = counts.only(kept)
    return counts, _against_past(counts, np.clip(counts.bucket - level[kept], -CUT, CUT), clock)


def _levels(counts: Counts, start: int) -> Floats:
    """Return the median bucket of each row's slice before the week, else of all hours, else of its unit."""
    level = np.full(len(counts.n), np.nan)
    before = counts.done & (counts.hour < start)
    for rows, groups in (
        (before, counts.stratum),
        (counts.done, counts.stratum),
        (counts.done, -1 - counts.unit),
    ):
        codes = np.unique(groups, return_inverse=True)[1]
        size = int(codes.max()) + 1
        calls = np.bincount(codes[rows], weights=counts.n[rows], minlength=size)
        pairs = np.unique(codes[rows] * (1 << 32) + counts.hour[rows])
        hours = np.bincount((pairs >> 32).astype(np.int64), minlength=size)
        middle = medians(codes[rows], counts.bucket[rows].astype(np.float64), counts.n[rows], size)
        middle[(calls < SLICE_CALLS) | (hours < SLICE_HOURS)] = np.nan
        level = np.where(np.isnan(level), middle[codes], level)
    return level


def medians(codes: Ints, values: Floats, n: Ints, size: int) -> Floats:
    """Return the median of each group's values, each counted n times; NaN for an empty group."""
    found = np.full(size, np.nan)
    if not len(codes):
        return found
    order = np.lexsort((values, codes))
    codes, values, n = codes[order], values[order], n[order]
    passed = np.cumsum(n)
    first = np.searchsorted(codes, np.arange(size), side="left")
    last = np.searchsorted(codes, np.arange(size), side="right")
    filled = last > first
    before = np.concatenate([[0], passed])[first[filled]]
    half = before + (passed[last[filled] - 1] - before + 1) // 2
    found[filled] = values[np.searchsorted(passed, half, side="left")]
    return found


def _against_past(counts: Counts, relative: Floats, clock: Clock) -> Past:
    units, at = len(counts.units), counts.hour - clock.first
    weekly = len(np.unique(clock.week[at])) >= WEEKS_ENOUGH
    block = clock.week[at] if weekly else clock.day[at]
    past = counts.hour < clock.start
    of_day, of_week = counts.unit * 48 + clock.of_day[at], counts.unit * HOURS_OF_WEEK + clock.of_week[at]
    excess = relative.copy()
    for one in np.unique(block).tolist():
        own = block == one
        others = ~own & past if weekly else ~own
        day = _drawn(of_day[others], relative[others], counts.n[others], units * 48)
        usual = day[of_day]
        if weekly:
            rest = (relative - usual)[others]
            usual = usual + _drawn(of_week[others], rest, counts.n[others], units * HOURS_OF_WEEK)[of_week]
        excess[own] = (relative - usual)[own]
    shape = (units, clock.end - clock.first)
    sums, calls, known = np.zeros(shape), np.zeros(shape), np.zeros(units, dtype=np.bool_)
    for unit in range(units):
        mine = counts.unit == unit
        seen = mine & past if weekly else mine
        if counts.n[seen].sum() < PAST_CALLS or len(np.unique(counts.hour[seen])) < PAST_HOURS:
            continue
        known[unit] = True
        rank = _ranks(excess[seen], counts.n[seen], excess[mine])
        sums[unit] = np.bincount(at[mine], weights=counts.n[mine] * (rank - 0.5), minlength=shape[1])
        calls[unit] = np.bincount(at[mine], weights=counts.n[mine], minlength=shape[1])
    return Past(sums, calls, excess, known, weekly)


def _drawn(codes: Ints, values: Floats, n: Ints, size: int) -> Floats:
    """Return each group's median, drawn towards 0 by `PRIOR_CALLS` calls; 0 for an empty group."""
    calls = np.bincount(codes, weights=n, minlength=size)
    return np.asarray(np.nan_to_num(medians(codes, values, n, size)) * calls / (calls + PRIOR_CALLS))


def _ranks(past: Floats, n: Ints, values: Floats) -> Floats:
    """Return the share of the past's calls below each value, half of those equal to it counted; 0..1."""
    ordered, place = np.unique(past, return_inverse=True)
    passed = np.concatenate([[0.0], np.cumsum(np.bincount(place, weights=n))])
    low, high = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return np.asarray((passed[low] + passed[high]) / 2 / passed[-1])
