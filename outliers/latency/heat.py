"""Latency by hour: each group's p50 and p95 in every hour of a window, for the heat strip.

Flow: `latency_count` rows -> `latency_by_hour` -> the latency page, GET /v1/latency/hours. Milliseconds.

A cell follows the rules of `outliers.latency.tails`: a failed call counts as slower than any, and a quantile
is shown only where a two-sided 95 % interval exists (6 calls for a p50, 72 for a p95).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from sqlalchemy import BigInteger, Connection, cast, select

from ingest.latency import OVER, value_ms
from ingest.tables import LatencyCount, Slice, columns
from outliers.errors import UnknownGrouping
from outliers.frame import Floats, Ints
from outliers.intervals import calls_needed
from outliers.latency.quantiles import quantile_of
from outliers.latency.tails import (
    BUCKETS,
    FROM_ZERO,
    HOUR_MS,
    MEASURES,
    OUTCOMES,
    group_namer,
    packed,
    slices_of,
)

_slice, _count = columns(Slice), columns(LatencyCount)

#: Cells of one group at most: a quarter by the day, three weeks by the hour.
CELLS_MAX = 24 * 22
#: Hours of a cell that are tried where those of an hour have too few calls for a median.
STEPS = (1, 3, 6, 24)


@dataclass(frozen=True)
class HeatCell:
    """One hour (or day) of one group.

    Attributes:
        since_ms: its first instant.
        n: calls, of which n_failed.
        p50_ms, p95_ms: None where too few calls were made or too many of them failed.
    """

    since_ms: int
    n: int
    n_failed: int
    p50_ms: float | None
    p95_ms: float | None


@dataclass(frozen=True)
class HeatRow:
    """One group's cells, oldest first; an hour without calls has none."""

    group: str
    n: int
    cells: tuple[HeatCell, ...]


@dataclass(frozen=True)
class Heat:
    """Latency by hour.

    Attributes:
        step_hours: hours of a cell: 1, of long windows 24; more also where that was asked for and an hour
            has too few calls.
        rows: the group with most calls first.
    """

    step_hours: int
    rows: tuple[HeatRow, ...]


def latency_by_hour(
    connection: Connection,
    project_id: int,
    since_ms: int,
    until_ms: int,
    *,
    group_by: str = "service",
    measure: str = "total",
    coarsen: bool = False,
) -> Heat:
    """Return each group's latencies by hour; by day (UTC) where the window has more than 22 days.

    Args:
        group_by: as for `outliers.latency.tails.tails`, without "hour".
        coarsen: take the shortest of `STEPS` at which half of the calls lie in cells with a median.

    Raises:
        UnknownGrouping: no such field or measure, or an hour.
    """
    if measure not in MEASURES:
        raise UnknownGrouping(f"No measure {measure!r}; take one of {', '.join(MEASURES)}.")
    if "hour" in group_by.split(","):
        raise UnknownGrouping("Hours are the cells here; group by another field.")
    first, end = since_ms // HOUR_MS, -(-until_ms // HOUR_MS)
    step = 1 if end - first <= CELLS_MAX else 24
    named = group_namer(slices_of(connection, project_id), group_by)
    table = _counted(connection, project_id, measure, first, end)
    if not len(table):
        return Heat(step, ())
    groups = {slice_id: named(slice_id, 0) for slice_id in np.unique(table[:, 0]).astype(int).tolist()}
    names = sorted(set(groups.values()))
    place = {slice_id: names.index(name) for slice_id, name in groups.items()}
    group = np.array([place[slice_id] for slice_id in table[:, 0].astype(int).tolist()])
    for tried in [one for one in STEPS if one >= step] if coarsen else [step]:
        step = tried
        cells = list(_cells(group, table, step))
        if 2 * sum(cell.n for _at, cell in cells if cell.p50_ms) >= table[:, 4].sum():
            break
    by_group: dict[str, list[HeatCell]] = {name: [] for name in names}
    for name, cell in cells:
        by_group[names[name]].append(cell)
    found = [HeatRow(name, sum(cell.n for cell in cells), tuple(cells)) for name, cells in by_group.items()]
    return Heat(step, tuple(sorted(found, key=lambda row: (-row.n, row.group))))


def _counted(connection: Connection, project_id: int, measure: str, first: int, end: int) -> Floats:
    """Return a window's counts, as `_cells` takes them.

    A fortnight of a busy project is 140,000 of them. What tells them apart comes as one number of each, and
    the driver's own tuples are taken: as SQLAlchemy's rows of six columns they took three times as long.
    """
    place = cast(_count.c.slice_id, BigInteger) * (end - first) + (_count.c.hour - first)
    result = connection.execute(
        select(packed(place), _count.c.n, _count.c.weight).where(
            _count.c.slice_id.in_(select(_slice.c.id).where(_slice.c.project_id == project_id)),
            _count.c.measure == measure,
            _count.c.hour >= first,
            _count.c.hour < end,
        )
    )
    rows = result.cursor.fetchall()
    result.close()
    # below 2**53, so that a float holds it whole
    told = np.fromiter(chain.from_iterable(rows), dtype=np.float64, count=3 * len(rows)).reshape(-1, 3)
    rest, bucket = np.divmod(told[:, 0].astype(np.int64), BUCKETS)
    rest, of_outcome = np.divmod(rest, len(OUTCOMES))
    slices, hours = np.divmod(rest, end - first)
    columns_of = (slices, hours + first, bucket - FROM_ZERO, of_outcome, told[:, 1], told[:, 2])
    return np.column_stack(columns_of).astype(np.float64)


def _cells(group: Ints, table: Floats, step: int) -> Iterator[tuple[int, HeatCell]]:
    """Yield (group, cell) in the order of groups and times.

    Args:
        table: columns slice, hour, bucket, outcome (0 answered, 1 failed, 2 aborted), n, weight.
    """
    at = table[:, 1].astype(np.int64) // step
    # a failed call counts as slower than any
    bucket = np.where(table[:, 3] == 1, np.inf, table[:, 2])
    order = np.lexsort((bucket, at, group))
    group, at, bucket, table = group[order], at[order], bucket[order], table[order]
    edges = np.nonzero(np.diff(group) | np.diff(at))[0] + 1
    for since, until in zip([0, *edges.tolist()], [*edges.tolist(), len(group)], strict=True):
        outcome, n, weight = table[since:until, 3], table[since:until, 4], table[since:until, 5]
        if (outcome == 2).any():
            p50_ms, p95_ms = _censored(table[since:until], 0.5), _censored(table[since:until], 0.95)
        else:
            p50_ms, p95_ms = (_quantile(bucket[since:until], n, weight, q) for q in (0.5, 0.95))
        yield (
            int(group[since]),
            HeatCell(
                since_ms=int(at[since]) * step * HOUR_MS,
                n=int(n.sum()),
                n_failed=int(n[outcome == 1].sum()),
                p50_ms=p50_ms,
                p95_ms=p95_ms,
            ),
        )


def _quantile(bucket: Floats, n: Floats, weight: Floats, q: float) -> float | None:
    """Return a quantile of counted calls, none of them aborted: what `quantile_of` answers, sooner."""
    passed = np.cumsum(weight)
    total = float(passed[-1])
    effective = min(int(n.sum()), int(total * total / float((weight * weight / n).sum()) + 1e-6))
    if effective < calls_needed(q):
        return None
    found = float(bucket[np.searchsorted(passed, (q - 1e-9) * total, side="left")])
    return value_ms(int(found)) if found < OVER else None


def _censored(rows: Floats, q: float) -> float | None:
    counted: dict[tuple[str, int], list[float]] = {}
    for bucket, outcome, n, weight in rows[:, 2:].tolist():
        cell = counted.setdefault((("answered", "failed", "aborted")[int(outcome)], int(bucket)), [0, 0.0])
        cell[0] += n
        cell[1] += weight
    return quantile_of(counted, q).value_ms
