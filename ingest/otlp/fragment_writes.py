"""The writer's jobs for fragments: keep them, load what belongs together, close them, forget them.

Flow: `ingest.otlp.intake` hands `keep_fragments` to the writer; `ingest.otlp.closing` reads with
`due_rows` and `related_rows`, then hands `close_fragments` to the writer.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, select, update

from ingest.bulk import insert_rows
from ingest.otlp.facts import Facts, Part
from ingest.otlp.joining import Row
from ingest.tables import OtlpFragment, columns

FRAGMENT = columns(OtlpFragment)

_KEPT = (
    "project_id",
    "trace_id",
    "span_id",
    "digest",
    "role",
    "parent_span_id",
    "started_ns",
    "ended_ns",
    "instance",
    "response_id",
    "pair_key",
    "facts",
    "received_at_ms",
    "due_at_ms",
)
#: Fragments that are looked at together, of up to _KEYS_MAX traces; the newest where there are more.
RELATED_MAX = 20_000
#: Of the fragments that are closed in one go.
FACTS_CHARS_MAX = 16 * 1024 * 1024
#: Of one statement's IN (...).
_KEYS_MAX = 100


def keep_fragments(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> int:
    """Write fragments, each once however often it is sent; return how many are open now.

    Args:
        rows: values of _KEPT.
    """
    insert_rows(connection, "otlp_fragment", _KEPT, rows, "ON CONFLICT DO NOTHING")
    return len(rows)


def due_rows(connection: Connection, now_ms: int, limit: int) -> list[tuple[int, Row]]:
    """Return (project_id, row) of the open fragments that are due, those that waited longest first.

    At least one where any is due, then no more than hold FACTS_CHARS_MAX together: prompts may be long.
    """
    due = (
        select(FRAGMENT.c.seq, func.length(FRAGMENT.c.facts))
        .where(FRAGMENT.c.due_at_ms <= now_ms)
        .order_by(FRAGMENT.c.due_at_ms, FRAGMENT.c.seq)
        .limit(limit)
    )
    seqs: list[int] = []
    held = 0
    for seq, chars in connection.execute(due):
        held += chars
        if seqs and held > FACTS_CHARS_MAX:
            break
        seqs.append(seq)
    if not seqs:
        return []
    whole = select(FRAGMENT).where(FRAGMENT.c.seq.in_(seqs)).order_by(FRAGMENT.c.seq)
    return [(found.project_id, _row(found)) for found in connection.execute(whole)]


def related_rows(
    connection: Connection,
    project_id: int,
    known: Collection[int],
    *,
    trace_ids: Iterable[str] = (),
    response_ids: Iterable[str] = (),
    pair_keys: Iterable[str] = (),
) -> list[Row]:
    """Return the fragments of these traces, responses and pairs, open and closed; none of `known`."""
    seqs: set[int] = set()
    for column, values in (
        (FRAGMENT.c.trace_id, sorted(trace_ids)),
        (FRAGMENT.c.response_id, sorted(response_ids)),
        (FRAGMENT.c.pair_key, sorted(pair_keys)),
    ):
        for start in range(0, len(values), _KEYS_MAX):
            query = (
                select(FRAGMENT.c.seq)
                .where(FRAGMENT.c.project_id == project_id, column.in_(values[start : start + _KEYS_MAX]))
                .order_by(FRAGMENT.c.seq.desc())
                .limit(RELATED_MAX)
            )
            seqs.update(connection.scalars(query))
    new = sorted(seqs.difference(known))
    found: list[Row] = []
    for start in range(0, len(new), _KEYS_MAX):
        query = select(FRAGMENT).where(FRAGMENT.c.seq.in_(new[start : start + _KEYS_MAX]))
        found += map(_row, connection.execute(query))
    return found


def close_fragments(
    connection: Connection, project_id: int, closed: Sequence[tuple[Row, int | None]]
) -> None:
    """Take fragments away that are done with, and leave of each span what its call may be found by.

    They are deleted and not emptied where they lie: emptied rows would keep their pages until they go.

    Args:
        closed: each with the call it is part of.
    """
    seqs = [row.seq for row, _call_seq in closed]
    for start in range(0, len(seqs), _KEYS_MAX):
        connection.execute(delete(FRAGMENT).where(FRAGMENT.c.seq.in_(seqs[start : start + _KEYS_MAX])))
    left = []
    for row, call_seq in closed:
        part = row.part
        if part.role != "content":
            facts = part.facts.without_texts()
            place = (part.parent_span_id, part.started_ns, part.ended_ns, part.instance)
            ties = (facts.response_id, part.pair_key, facts.as_json(), row.received_at_ms, None, call_seq)
            left.append((project_id, *row.key, row.digest, part.role, *place, *ties))
    insert_rows(connection, "otlp_fragment", (*_KEPT, "call_seq"), left)


def postpone(connection: Connection, waiting: Sequence[tuple[int, int]]) -> None:
    """Let fragments wait for the rest of their call.

    Args:
        waiting: (seq, due_at_ms).
    """
    if waiting:
        wait = update(FRAGMENT).where(FRAGMENT.c.seq == bindparam("of"), FRAGMENT.c.due_at_ms.is_not(None))
        rows = [{"of": seq, "due": due_at_ms} for seq, due_at_ms in waiting]
        connection.execute(wait.values(due_at_ms=bindparam("due")), rows)


def forget(connection: Connection, before_ms: int, limit: int = 5_000) -> int:
    """Delete closed fragments that came before a time; return how many."""
    old = (
        select(FRAGMENT.c.seq)
        .where(FRAGMENT.c.due_at_ms.is_(None), FRAGMENT.c.received_at_ms < before_ms)
        .limit(limit)
    )
    return connection.execute(delete(FRAGMENT).where(FRAGMENT.c.seq.in_(old))).rowcount


def any_to_forget(connection: Connection, before_ms: int) -> bool:
    """Whether `forget` would find anything."""
    old = select(FRAGMENT.c.seq).where(FRAGMENT.c.due_at_ms.is_(None), FRAGMENT.c.received_at_ms < before_ms)
    return connection.execute(old.limit(1)).first() is not None


def open_fragments(connection: Connection) -> int:
    """Return how many fragments wait for their call to close."""
    waiting = select(func.count()).select_from(FRAGMENT).where(FRAGMENT.c.due_at_ms.is_not(None))
    return connection.execute(waiting).scalar_one()


def _row(found: Any) -> Row:
    part = Part(
        found.role,
        found.trace_id,
        found.span_id,
        found.parent_span_id,
        found.started_ns,
        found.ended_ns,
        found.instance,
        Facts.of_json(found.facts),
        found.pair_key,
    )
    return Row(found.seq, part, found.digest, found.received_at_ms, found.due_at_ms, found.call_seq)
