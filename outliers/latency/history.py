"""What latency a slice is used to: its p95 over the 28 days before a week, from the counted latencies.

Flow: `latency_count` -> `LatencyHistory` -> the latency part of an experience. Milliseconds.
"""

from bisect import bisect_left
from collections.abc import Collection, Sequence
from itertools import accumulate, groupby

from sqlalchemy import Connection, func, select

from ingest.latency import value_ms
from ingest.tables import LatencyCount, columns
from outliers.intervals import calls_needed
from outliers.latency.tails import HOUR_MS
from outliers.weeks import Week

_count = columns(LatencyCount)

DAYS_BEFORE = 28
#: A p95 is taken for known where it has a two-sided 95 % interval: 72 calls.
CALLS_ENOUGH = calls_needed(0.95)
#: The p95 of 15 pairs of provider and model in public LLMPerf runs is 1.04 to 2.82 of their medians (half of
#: them below 1.2): a p95 beyond three medians is made by trouble of its own week.
MEDIANS = 3.0


class LatencyHistory:
    """The p95 of each slice before each week, read once a week and kept while the process lives.

    A slice that has too few calls in those 28 days is measured against its own week so far, once that has 72
    calls: a new prompt's first week is not left without a latency part. Trouble that holds for more than one
    call in twenty of that week would hide in its p95 and cannot hide in its median, so the smaller of p95 and
    `MEDIANS` medians is taken. Below 72 calls nothing is known.
    """

    def __init__(self) -> None:
        self._before: dict[str, dict[int, float]] = {}

    def p95_ms(self, connection: Connection, week: Week, slice_ids: Collection[int]) -> dict[int, float]:
        """Return the p95 of those slices for which one is known."""
        if week.id not in self._before:
            since_ms = week.since_ms - DAYS_BEFORE * 24 * HOUR_MS
            quantiles = quantiles_by_slice(connection, since_ms, week.since_ms, (0.95,))
            self._before[week.id] = {slice_id: p95 for slice_id, (p95,) in quantiles.items()}
        before = self._before[week.id]
        known = {slice_id: before[slice_id] for slice_id in slice_ids if slice_id in before}
        new = [slice_id for slice_id in slice_ids if slice_id not in known]
        if new:
            own = quantiles_by_slice(connection, week.since_ms, week.until_ms, (0.5, 0.95), new)
            known |= {slice_id: min(p95, MEDIANS * p50) for slice_id, (p50, p95) in own.items()}
        return known


def quantiles_by_slice(
    connection: Connection,
    since_ms: int,
    until_ms: int,
    qs: Sequence[float],
    slice_ids: Collection[int] | None = None,
) -> dict[int, tuple[float, ...]]:
    """Return quantiles of answered calls (total latency) of each slice with at least 72 of them.

    Args:
        qs: ascending.
    """
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
    known: dict[int, tuple[float, ...]] = {}
    for slice_id, rows in groupby(connection.execute(wanted), key=lambda row: row[0]):
        counted = [(bucket, n, weight) for _slice, bucket, n, weight in rows]
        if sum(n for _bucket, n, _weight in counted) >= CALLS_ENOUGH:
            passed = list(accumulate(weight for _bucket, _n, weight in counted))
            places = [bisect_left(passed, q * passed[-1] - 1e-9) for q in qs]
            known[slice_id] = tuple(value_ms(counted[place][0]) for place in places)
    return known
