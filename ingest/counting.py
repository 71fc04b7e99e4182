"""Latencies are counted behind the calls: many calls in one go, a moment after they were kept.

Flow: the writer, where it rests and else every two seconds -> `count_new_calls` -> call -> `latency_count`;
whoever is about to read those counts has the rest counted first (`ingest.store.read_counted`). A call that
changes once it is counted (`ingest.call_fills`) -> `add_counts`.

Counted one by one in the transaction that keeps it, a lone call's three latencies took a fifth of its time
and twelve of the 43 pages that a commit of six wrote. `latency_counted.through_seq` says how far the counting
is: each call up to it is counted, none behind it. It moves in the transaction that counts, so that a killed
server goes on where its last commit was, and no call is ever counted twice or not at all.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import Connection

from ingest.bulk import execute, insert_rows
from ingest.latency import counted_latencies

HOUR_MS = 3_600_000
#: Calls counted in one transaction: about 15 ms, for which receipts wait.
CALLS_MAX = 2_000


class Latencies(NamedTuple):
    """What a call's row says of its latencies, in the order of `_ROWS`."""

    slice_id: int
    started_at_ms: int
    outcome: str
    latency_ms: float | None
    first_token_ms: float | None
    output_tokens: int | None
    sample_rate: float

    def measures(self) -> list[tuple[str, int]]:
        """Return (measure, bucket) of each latency that is known."""
        return counted_latencies(self.latency_ms, self.first_token_ms, self.output_tokens, self.outcome)


_ROWS = (
    "SELECT seq, slice_id, started_at_ms, outcome, latency_ms, first_token_ms, output_tokens, sample_rate "
    "FROM call WHERE seq > ? ORDER BY seq LIMIT ?"
)
_THROUGH = "SELECT through_seq FROM latency_counted WHERE id = 1"
_ADD = """
ON CONFLICT (slice_id, hour, measure, outcome, bucket) DO UPDATE
SET n = latency_count.n + excluded.n, weight = latency_count.weight + excluded.weight"""
_COLUMNS = ("slice_id", "measure", "hour", "outcome", "bucket", "n", "weight")

#: (slice_id, measure, hour, outcome, bucket)
Cell = tuple[int, str, int, str, int]


def count_new_calls(connection: Connection) -> bool:
    """Count those calls that are not counted yet, CALLS_MAX at most; return whether there may be more.

    A job of the writer's.
    """
    through = counted_through(connection)
    rows = execute(connection, _ROWS, (through, CALLS_MAX)).fetchall()
    if not rows:
        return False
    add_counts(connection, ((Latencies(*row[1:]), None) for row in rows))
    insert_rows(
        connection,
        "latency_counted",
        ("id", "through_seq"),
        [(1, rows[-1][0])],
        "ON CONFLICT (id) DO UPDATE SET through_seq = excluded.through_seq",
    )
    return len(rows) == CALLS_MAX


def counted_through(connection: Connection) -> int:
    """Return the `seq` up to which every call is counted. Part of a writer's job: nobody else may count."""
    # PostgreSQL may have other processes of ours that write; SQLite has locked everything already.
    lock = " FOR UPDATE" if connection.dialect.name == "postgresql" else ""
    row = execute(connection, _THROUGH + lock).fetchone()
    return row[0] if row is not None else 0


def add_counts(
    connection: Connection,
    calls: Iterable[tuple[Latencies, list[tuple[str, int]] | None]],
    sign: int = 1,
) -> None:
    """Add calls to the counts of their slice, hour and outcome.

    Args:
        calls: each with the (measure, bucket) pairs that count; None for all it has.
        sign: -1 takes away what was added before.
    """
    counts: dict[Cell, list[float]] = {}
    for call, pairs in calls:
        hour, weight = call.started_at_ms // HOUR_MS, sign / call.sample_rate
        for measure, bucket in call.measures() if pairs is None else pairs:
            cell = counts.setdefault((call.slice_id, measure, hour, call.outcome, bucket), [0, 0.0])
            cell[0] += sign
            cell[1] += weight
    # In the order of the table's own key, so that neighbours find their page at hand.
    rows: list[tuple[Any, ...]] = [(*cell, *counts[cell]) for cell in sorted(counts)]
    insert_rows(connection, "latency_count", _COLUMNS, rows, _ADD)


_ANY_NEW = (
    "SELECT coalesce((SELECT max(seq) FROM call), 0) > "
    "coalesce((SELECT through_seq FROM latency_counted WHERE id = 1), 0)"
)


def any_to_count(connection: Connection) -> bool:
    """Whether there are calls that are not counted yet."""
    return bool(execute(connection, _ANY_NEW).fetchone()[0])
