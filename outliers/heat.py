"""Latency by hour: each group's p50 and p95 in every hour of a window, for the heat strip.

Flow: `latency_count` rows -> `latency_by_hour` -> the latency page, GET /v1/latency/hours. Milliseconds.

A cell follows the rules of `outliers.tails`: a failed call counts as slower than any, and a quantile is shown
only where a two-sided 95 % interval exists (6 calls for a p50, 72 for a p95).
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from ingest.tables import LatencyCount, Slice, columns
from outliers.errors import UnknownGrouping
from outliers.tails import HOUR_MS, MEASURES, group_namer, quantile_of, slices_of

_slice, _count = columns(Slice), columns(LatencyCount)

#: Cells of one group at most: a quarter by the day, three weeks by the hour.
CELLS_MAX = 24 * 22


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
        step_hours: hours of a cell: 1, and of long windows 24.
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
) -> Heat:
    """Return each group's latencies by hour; by day (UTC) where the window has more than 22 days.

    Args:
        group_by: as for `outliers.tails.tails`, without "hour".

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
    at = _count.c.hour // step
    rows = connection.execute(
        select(
            _count.c.slice_id,
            at,
            _count.c.outcome,
            _count.c.bucket,
            func.sum(_count.c.n),
            func.sum(_count.c.weight),
        )
        .where(
            _count.c.slice_id.in_(select(_slice.c.id).where(_slice.c.project_id == project_id)),
            _count.c.measure == measure,
            _count.c.hour >= first,
            _count.c.hour < end,
        )
        .group_by(_count.c.slice_id, at, _count.c.outcome, _count.c.bucket)
    )
    names: dict[int, str] = {}
    counted: dict[tuple[str, int], dict[tuple[str, int], list[float]]] = defaultdict(dict)
    for slice_id, place, outcome, bucket, n, weight in rows:
        name = names.get(slice_id)
        if name is None:
            name = names[slice_id] = named(slice_id, 0)
        cells = counted[name, place]
        cell = cells.get((outcome, bucket))
        if cell is None:
            cells[outcome, bucket] = [n, weight]
        else:
            cell[0] += n
            cell[1] += weight
    by_group: dict[str, list[HeatCell]] = defaultdict(list)
    for (name, place), cells in sorted(counted.items()):
        by_group[name].append(_cell(place * step * HOUR_MS, cells))
    found = [HeatRow(name, sum(cell.n for cell in cells), tuple(cells)) for name, cells in by_group.items()]
    return Heat(step, tuple(sorted(found, key=lambda row: (-row.n, row.group))))


def _cell(since_ms: int, cells: dict[tuple[str, int], list[float]]) -> HeatCell:
    n: dict[str, Any] = defaultdict(int)
    for (outcome, _bucket), (count, _weight) in cells.items():
        n[outcome] += int(count)
    return HeatCell(
        since_ms=since_ms,
        n=sum(n.values()),
        n_failed=n["failed"],
        p50_ms=quantile_of(cells, 0.5).value_ms,
        p95_ms=quantile_of(cells, 0.95).value_ms,
    )
