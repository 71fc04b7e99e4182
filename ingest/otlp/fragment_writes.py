"""The writer's jobs for fragments: keep them, load what belongs together, close them, forget them.

Flow: `ingest.otlp.ended` keeps them in the writer's turn; `ingest.otlp.closing` reads with `due_rows` and
`related_rows`, then hands `close_fragments` to the writer.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, update

from ingest.bulk import among, insert_rows
from ingest.otlp.facts import Facts, Part
from ingest.otlp.fragment_values import KEPT, REMEMBERED, Values, values_of
from ingest.otlp.joining import Row, SpanKey
from ingest.tables import OtlpFragment, columns

FRAGMENT = columns(OtlpFragment)

#: Fragments that are looked at together, of up to _KEYS_MAX traces; the newest where there are more.
RELATED_MAX = 20_000
#: Of the fragments that are closed in one go.
FACTS_CHARS_MAX = 16 * 1024 * 1024
#: Of one statement's IN (...).
_KEYS_MAX = 100


def keep_fragments(connection: Connection, rows: Sequence[Values]) -> None:
    """Write open fragments, each once however often it is sent. Args: rows: values of KEPT."""
    insert_rows(connection, "otlp_fragment", KEPT, rows, "ON CONFLICT DO NOTHING")


def keep_remembered(connection: Connection, rows: Sequence[Values]) -> None:
    """Write closed fragments. Args: rows: values of REMEMBERED."""
    insert_rows(connection, "otlp_fragment", REMEMBERED, rows, "ON CONFLICT DO NOTHING")


def due_rows(connection: Connection, now_ms: int, limit: int) -> list[tuple[int, Row]]:
    """Return (project_id, row) of the open fragments that are due, those that waited longest first.

    At least one where any is due, then no more than hold FACTS_CHARS_MAX together: prompts may be long.
    """
    due = (
        select(FRAGMENT.c.project_id, *(FRAGMENT.c[name] for name in _READ))
        .where(FRAGMENT.c.due_at_ms <= now_ms)
        .order_by(FRAGMENT.c.due_at_ms, FRAGMENT.c.seq)
        .limit(limit)
    )
    rows: list[tuple[int, Row]] = []
    held = 0
    # A few at a time, as far as they are wanted; most drivers would fetch all of them.
    with connection.execute(due, execution_options={"yield_per": 50}) as found:
        for project_id, *values in found:
            held += len(values[_FACTS])
            if rows and held > FACTS_CHARS_MAX:
                break
            rows.append((project_id, _row(values)))
    return sorted(rows, key=lambda row: row[1].seq)


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
        found += map(_row, among(connection, _SELECT, (), new[start : start + _KEYS_MAX]))
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
    told: set[SpanKey] = set()
    for row, call_seq in closed:
        part = row.part
        # Of the records of one span one will do.
        if part.role != "content" or (call_seq is not None and row.key not in told):
            told.add(row.key)
            facts = part.facts.as_json_without_texts()
            values = values_of(project_id, part, row.digest, facts, row.received_at_ms, None)
            left.append((*values, call_seq))
    insert_rows(connection, "otlp_fragment", REMEMBERED, left)


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


#: Columns of a Row, in the order that `_row` takes them.
_READ = (
    *("seq", "role", "trace_id", "span_id", "parent_span_id", "started_ns", "ended_ns", "instance"),
    *("facts", "pair_key", "digest", "received_at_ms", "due_at_ms", "call_seq"),
)
_FACTS = _READ.index("facts")
_SELECT = f"SELECT {', '.join(_READ)} FROM otlp_fragment WHERE seq"  # noqa: S608 (names of ours)


def _row(values: Sequence[Any]) -> Row:
    seq, role, trace_id, span_id, parent, started_ns, ended_ns, instance, facts, pair_key, *rest = values
    part = Part(
        role, trace_id, span_id, parent, started_ns, ended_ns, instance, Facts.of_json(facts), pair_key
    )
    return Row(seq, part, *rest)
