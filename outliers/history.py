"""What latency a slice is used to: its p95 over the 28 days before a week, from the counted latencies.

Flow: `latency_count` -> `LatencyHistory` -> the latency part of an experience. Milliseconds.
"""

from collections.abc import Collection
from itertools import groupby

from sqlalchemy import Connection, func, select

from ingest.latency import value_ms
from ingest.tables import LatencyCount, columns
from outliers.intervals import calls_needed
from outliers.tails import HOUR_MS
from outliers.weeks import Week

_count = columns(LatencyCount)

DAYS_BEFORE = 28
#: A p95 is taken for known where it has a two-sided 95 % interval: 72 calls.
CALLS_ENOUGH = calls_needed(0.95)


class LatencyHistory:
    """The p95 of each slice before each week, read once a week and kept while the process lives.

    A slice that has too few calls in those 28 days is measured against its own week so far, once that has 72
    calls: a new prompt's first week is not left without a latency part. Below that nothing is known.
    """

    def __init__(self) -> None:
        self._before: dict[str, dict[int, float]] = {}

    def p95_ms(self, connection: Connection, week: Week, slice_ids: Collection[int]) -> dict[int, float]:
        """Return the p95 of those slices for which one is known."""
        if week.id not in self._before:
            since_ms = week.since_ms - DAYS_BEFORE * 24 * HOUR_MS
            self._before[week.id] = p95_by_slice(connection, since_ms, week.since_ms)
        before = self._before[week.id]
        known = {slice_id: before[slice_id] for slice_id in slice_ids if slice_id in before}
        new = [slice_id for slice_id in slice_ids if slice_id not in known]
        if new:
            known |= p95_by_slice(connection, week.since_ms, week.until_ms, new)
        return known


def p95_by_slice(
    connection: Connection, since_ms: int, until_ms: int, slice_ids: Collection[int] | None = None
) -> dict[int, float]:
    """Return the p95 of answered calls (total latency) of each slice with at least 72 of them."""
    wanted = (
        select(_count.c.slice_id, _count.c.bucket, func.sum(_count.c.n), func.sum(_count.c.weight))
        .where(
            _count.c.hour >= since_ms // HOUR_MS,
            _count.c.hour < -(-until_ms // HOUR_MS),
            _count.c.measure == "total",
            _count.c.outcome == "answered",
        )
        .group_by(_count.c.slice_id, _count.c.bucket)
        .order_by(_count.c.slice_id, _count.c.bucket)
    )
    if slice_ids is not None:
        wanted = wanted.where(_count.c.slice_id.in_(list(slice_ids)))
    known: dict[int, float] = {}
    for slice_id, rows in groupby(connection.execute(wanted), key=lambda row: row[0]):
        counted = [(bucket, n, weight) for _slice, bucket, n, weight in rows]
        if sum(n for _bucket, n, _weight in counted) < CALLS_ENOUGH:
            continue
        rank, passed = 0.95 * sum(weight for _bucket, _n, weight in counted), 0.0
        for bucket, _n, weight in counted:
            passed += weight
            if passed >= rank - 1e-9:
                known[slice_id] = value_ms(bucket)
                break
    return known
