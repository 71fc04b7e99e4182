"""The writer's jobs for signals and labels, and the finding of a signal's call, whichever came first.

Flow: `ingest.intake` hands `keep_signals` and `keep_labels` to the writer -> signal, label, todo. A signal
that names a call not here yet waits with `call_seq` NULL; `resolve_waiting`, part of the job that keeps new
calls, gives it its call. A session's signal belongs to the session's last call before it, so that a call
which arrives late may take it over from an earlier one.
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, insert, select, update

from ingest.bulk import cursor_of
from ingest.call_rows import NewCall
from ingest.tables import Call, CallAlias, Label, Signal, Todo, columns
from ingest.upsert import upsert

CALL, SIGNAL, LABEL, TODO = columns(Call), columns(Signal), columns(Label), columns(Todo)
ALIAS = columns(CallAlias)


class Counted(NamedTuple):
    """How many items of a batch were new, and how many had been kept before."""

    accepted: int
    duplicates: int


def keep_signals(connection: Connection, project_id: int, rows: Sequence[dict[str, Any]]) -> Counted:
    """Write those signals whose id is new, each with its call where that is here already.

    Args:
        rows: columns of `signal` but `seq`, `project_id` and `call_seq`.
    """
    ids = [row["id"] for row in rows]
    query = select(SIGNAL.c.id).where(SIGNAL.c.project_id == project_id, SIGNAL.c.id.in_(ids))
    kept = set(connection.execute(query).scalars())
    new: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["id"] not in kept:
            new.setdefault(row["id"], {**row, "project_id": project_id, "call_seq": None})
    if new:
        _find_calls(connection, project_id, list(new.values()))
        connection.execute(insert(SIGNAL), list(new.values()))
        _add_todo(connection, {row["call_seq"] for row in new.values()})
    return Counted(len(new), len(rows) - len(new))


def keep_labels(connection: Connection, project_id: int, rows: Sequence[dict[str, Any]]) -> Counted:
    """Write labels; the same labeller's newer level replaces the old one, an equal level is a duplicate.

    Args:
        rows: call_id, rubric, level, labeller, at_ms.
    """
    rows = _own_ids(connection, project_id, rows)
    key = (LABEL.c.call_id, LABEL.c.rubric, LABEL.c.labeller)
    query = select(*key, LABEL.c.level).where(
        LABEL.c.project_id == project_id, LABEL.c.call_id.in_({row["call_id"] for row in rows})
    )
    levels = {tuple(found[:3]): found[3] for found in connection.execute(query)}
    changed: dict[tuple[str, str, str], dict[str, Any]] = {}
    duplicates = 0
    for row in rows:
        name = (row["call_id"], row["rubric"], row["labeller"])
        if levels.get(name) == row["level"]:
            duplicates += 1
        else:
            levels[name] = row["level"]
            changed[name] = {**row, "project_id": project_id}
    if changed:
        add = upsert(connection, LABEL)
        add = add.on_conflict_do_update(
            index_elements=["project_id", "call_id", "rubric", "labeller"],
            set_={"level": add.excluded.level, "at_ms": add.excluded.at_ms},
        )
        connection.execute(add, list(changed.values()))
    return Counted(len(rows) - duplicates, duplicates)


def resolve_waiting(connection: Connection, project_id: int, calls: Sequence[NewCall]) -> set[int]:
    """Give the signals that waited for these calls their `call_seq`; return those that were given.

    Args:
        calls: just written, so that each has its `seq`.
    """
    cursor = cursor_of(connection)
    cursor.execute(_ANY_WAITING)
    waits, in_sessions = cursor.fetchone()
    found: dict[int, int] = {}
    if waits:
        by_id = {call.id: call.seq for call in calls}
        for seq, call_id, _span_id in _waiting(connection, project_id, "call_id", by_id):
            found[seq] = by_id[call_id]
        by_response = {call.response_id: call.seq for call in calls if call.response_id}
        for seq, response_id, _span_id in _waiting(connection, project_id, "response_id", by_response):
            found[seq] = by_response[response_id]
        by_span = {(call.trace_id, call.span_id): call.seq for call in calls if call.trace_id}
        traces = {call.trace_id for call in calls if call.trace_id}
        for seq, trace_id, span_id in _waiting(connection, project_id, "trace_id", traces):
            if (trace_id, span_id) in by_span:
                found[seq] = by_span[trace_id, span_id]
    if in_sessions:
        found |= _taken_over(connection, project_id, calls)
    if found:
        connection.execute(
            update(SIGNAL).where(SIGNAL.c.seq == bindparam("of")).values(call_seq=bindparam("to")),
            [{"of": seq, "to": call_seq} for seq, call_seq in found.items()],
        )
    return set(found.values())


_ANY_WAITING = (
    "SELECT exists(SELECT 1 FROM signal WHERE call_seq IS NULL), "
    "exists(SELECT 1 FROM signal WHERE session_id IS NOT NULL)"
)
#: The names a signal may give its call, the most specific first: only the first one given decides.
_NAMES = ("call_id", "response_id", "trace_id")


def _waiting(
    connection: Connection, project_id: int, name: str, keys: Collection[str]
) -> Sequence[tuple[int, str, str | None]]:
    """The waiting signals whose column `name` decides and is among `keys`: (seq, that column, span_id)."""
    if not keys:
        return ()
    query = select(SIGNAL.c.seq, SIGNAL.c[name], SIGNAL.c.span_id).where(
        SIGNAL.c.call_seq.is_(None),
        SIGNAL.c.project_id == project_id,
        SIGNAL.c[name].in_(list(keys)),
        *(SIGNAL.c[earlier].is_(None) for earlier in _NAMES[: _NAMES.index(name)]),
    )
    return [(seq, key, span_id) for seq, key, span_id in connection.execute(query)]


def _taken_over(connection: Connection, project_id: int, calls: Sequence[NewCall]) -> dict[int, int]:
    """Signals of these calls' sessions that belong to one of them, being the last before the signal."""
    sessions: dict[str, list[tuple[int, int]]] = {}
    for call in calls:
        if call.session_id:
            sessions.setdefault(call.session_id, []).append((call.started_at_ms, call.seq))
    if not sessions:
        return {}
    owner = CALL.alias("owner")
    query = (
        select(SIGNAL.c.seq, SIGNAL.c.session_id, SIGNAL.c.at_ms, SIGNAL.c.call_seq, owner.c.started_at_ms)
        .outerjoin(owner, owner.c.seq == SIGNAL.c.call_seq)
        .where(
            SIGNAL.c.project_id == project_id,
            SIGNAL.c.session_id.in_(list(sessions)),
            *(SIGNAL.c[name].is_(None) for name in ("call_id", "response_id", "span_id")),
        )
    )
    taken, left = {}, set()
    for seq, session_id, at_ms, owner_seq, owner_started_at_ms in connection.execute(query).all():
        last = max((call for call in sessions[session_id] if call[0] <= at_ms), default=None)
        if last is not None and (owner_seq is None or last > (owner_started_at_ms, owner_seq)):
            taken[seq] = last[1]
            left.add(owner_seq)
    _add_todo(connection, left)
    return taken


def _find_calls(connection: Connection, project_id: int, rows: Sequence[dict[str, Any]]) -> None:
    """Set `call_seq` in each row whose call is here; the most specific name a signal gives decides."""
    by_name: dict[str, list[dict[str, Any]]] = {name: [] for name in _NAMES}
    in_session = []
    for row in rows:
        if row["call_id"]:
            by_name["call_id"].append(row)
        elif row["response_id"]:
            by_name["response_id"].append(row)
        elif row["span_id"]:
            by_name["trace_id"].append(row)
        else:
            in_session.append(row)
    for name, named in by_name.items():
        if not named:
            continue
        column = CALL.c["id" if name == "call_id" else name]
        query = (
            select(CALL.c.seq, column, CALL.c.span_id)
            .where(CALL.c.project_id == project_id, column.in_({row[name] for row in named}))
            .order_by(CALL.c.seq)
        )
        seqs: dict[tuple[str, str | None], int] = {}
        for seq, key, span_id in connection.execute(query):
            seqs[key, span_id if name == "trace_id" else None] = seq
        for row in named:
            row["call_seq"] = seqs.get((row[name], row["span_id"] if name == "trace_id" else None))
    _find_by_alias(connection, project_id, by_name["call_id"])
    for row in in_session:
        query = (
            select(CALL.c.seq)
            .where(
                CALL.c.project_id == project_id,
                CALL.c.session_id == row["session_id"],
                CALL.c.started_at_ms <= row["at_ms"],
            )
            .order_by(CALL.c.started_at_ms.desc(), CALL.c.seq.desc())
            .limit(1)
        )
        row["call_seq"] = connection.execute(query).scalar()


def _find_by_alias(connection: Connection, project_id: int, rows: Sequence[dict[str, Any]]) -> None:
    """Set `call_seq` in rows whose call was sent under an id that is not its own; see `ingest.one_call`."""
    lost = {row["call_id"] for row in rows if row["call_seq"] is None}
    if lost:
        query = select(ALIAS.c.id, ALIAS.c.call_seq).where(
            ALIAS.c.project_id == project_id, ALIAS.c.id.in_(lost)
        )
        seqs: dict[str, int] = dict(map(tuple, connection.execute(query)))
        for row in rows:
            row["call_seq"] = row["call_seq"] or seqs.get(row["call_id"])


def _own_ids(
    connection: Connection, project_id: int, rows: Sequence[dict[str, Any]]
) -> Sequence[dict[str, Any]]:
    """Return rows with the id of the call itself where they name it by another."""
    query = (
        select(ALIAS.c.id, CALL.c.id)
        .join(CALL, CALL.c.seq == ALIAS.c.call_seq)
        .where(ALIAS.c.project_id == project_id, ALIAS.c.id.in_({row["call_id"] for row in rows}))
    )
    own: dict[str, str] = dict(map(tuple, connection.execute(query)))
    return [{**row, "call_id": own.get(row["call_id"], row["call_id"])} for row in rows]


def _add_todo(connection: Connection, call_seqs: set[int | None]) -> None:
    """Ask the critic to look again at calls that a signal reached or left."""
    rows = [{"call_seq": seq, "reason": "signal"} for seq in sorted(filter(None, call_seqs))]
    if rows:
        connection.execute(insert(TODO), rows)
