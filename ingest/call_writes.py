"""The writer's jobs for calls: find what is new, number it, write it with all that hangs on it.

Flow: `ingest.one_call`, `ingest.otlp` -> `keep_calls` with prepared rows -> call, call_text, todo, end_user,
and the signals that waited. Everything is written once per new call, in the transaction that makes it new: a
call that comes again changes nothing. Its latencies are counted a moment later (`ingest.counting`).
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, func, insert, select

from ingest.bulk import cursor_of, execute, insert_rows, without_empty
from ingest.call_rows import CALL_COLUMNS, RARE_COLUMNS, TEXT_COLUMNS, NewCall, SliceKey
from ingest.latency import OTHER_SLICE, SLICES_MAX
from ingest.signal_writes import resolve_waiting
from ingest.tables import Slice, columns

SLICE = columns(Slice)


class Kept(NamedTuple):
    """What became of a batch.

    Attributes:
        accepted: calls that were new.
        slices: the ids of the slices that had to be looked up; true once the transaction is committed.
    """

    accepted: int
    slices: dict[SliceKey, int]


def keep_calls(
    connection: Connection,
    project_id: int,
    calls: Sequence[NewCall],
    slices: dict[SliceKey, int],
    *,
    sole: bool = False,
) -> Kept:
    """Write those calls of a batch whose id the project does not have yet; of two alike the first counts.

    Args:
        calls: their `seq` is set here: 0 for a call that the project has already.
        slices: ids of slices known from earlier batches; not changed here.
        sole: there is nothing else in the transaction, so that a failure may end it as a whole.
    """
    if not calls:
        return Kept(0, {})
    found = slice_ids(connection, project_id, {call.slice_key for call in calls} - slices.keys())
    first = _first_free_seq(connection)
    rows = []
    for seq, call in enumerate(calls, first):
        key = call.slice_key
        call.seq = seq
        call.slice_id = found[key] if key in found else slices[key]
        rows.append((seq, project_id, call.slice_id, *call.row))
    names, filled = without_empty(("seq", "project_id", "slice_id", *CALL_COLUMNS), rows, RARE_COLUMNS)
    sqlite = connection.dialect.name == "sqlite"
    taken = insert_rows(
        connection,
        "call",
        names,
        filled,
        "ON CONFLICT (project_id, id) DO NOTHING",
        # Else SQLite copies each page before it changes, in case a row violates a constraint: half the work.
        insert="INSERT OR ROLLBACK" if sole and sqlite else "INSERT",
    )
    fresh = calls if taken == len(calls) else _those_taken(connection, calls, first)
    if not fresh:
        return Kept(0, found)
    if sqlite:
        for call in fresh:
            call.pack()
    texts = [(call.seq, *call.text) for call in fresh if call.text is not None]
    insert_rows(connection, "call_text", ("call_seq", *TEXT_COLUMNS), texts)
    insert_rows(connection, "todo", ("call_seq", "reason"), [(call.seq, "new") for call in fresh])
    see_users(connection, project_id, fresh)
    resolve_waiting(connection, project_id, fresh)
    return Kept(len(fresh), found)


def _those_taken(connection: Connection, calls: Sequence[NewCall], first: int) -> list[NewCall]:
    """Return the calls that were new; the others lose the number that they were tried under."""
    cursor = cursor_of(connection)
    cursor.execute(f"SELECT seq FROM call WHERE seq >= {first}")  # noqa: S608 (a number of ours)
    taken = {row[0] for row in cursor.fetchall()}
    fresh = []
    for call in calls:
        if call.seq in taken:
            fresh.append(call)
        else:
            call.seq = 0
    return fresh


_LAST_SEQS = (
    "SELECT coalesce(max(seq), 0) FROM call "
    "UNION ALL SELECT coalesce(max(through_seq), 0) FROM latency_counted"
)


def _first_free_seq(connection: Connection) -> int:
    """The `seq` of the next call; there is one writer, so nobody else can take it.

    Above all that were counted, too: were the newest calls deleted, one under a number of theirs would pass
    for counted.
    """
    (kept,), (counted,) = execute(connection, _LAST_SEQS).fetchall()
    return int(max(kept, counted)) + 1


def slice_ids(connection: Connection, project_id: int, keys: Iterable[SliceKey]) -> dict[SliceKey, int]:
    """Find or make the slices of these keys; past SLICES_MAX of them all share the one named "other"."""
    found: dict[SliceKey, int] = {}
    count: int | None = None
    for key in sorted(keys):
        slice_id = _slice_id(connection, project_id, key)
        if slice_id is None:
            if count is None:
                counting = select(func.count()).select_from(SLICE).where(SLICE.c.project_id == project_id)
                count = connection.execute(counting).scalar_one()
            if count < SLICES_MAX:
                slice_id = _new_slice(connection, project_id, key)
                count += 1
            else:
                slice_id = _slice_id(connection, project_id, OTHER_KEY)
                slice_id = slice_id or _new_slice(connection, project_id, OTHER_KEY)
        found[key] = slice_id
    return found


OTHER_KEY: SliceKey = (OTHER_SLICE,) * 6
_SLICE_FIELDS = ("provider", "model", "prompt", "prompt_version", "environment", "release")


def _slice_id(connection: Connection, project_id: int, key: SliceKey) -> int | None:
    query = select(SLICE.c.id).where(
        SLICE.c.project_id == project_id,
        *(SLICE.c[name] == value for name, value in zip(_SLICE_FIELDS, key, strict=True)),
    )
    return connection.execute(query).scalar()


def _new_slice(connection: Connection, project_id: int, key: SliceKey) -> int:
    names = dict(zip(_SLICE_FIELDS, key, strict=True))
    made = insert(SLICE).values(project_id=project_id, **names).returning(SLICE.c.id)
    return int(connection.execute(made).scalar_one())


_KEEP_FIRST = """
ON CONFLICT (project_id, user_id) DO UPDATE SET first_seen_at_ms = excluded.first_seen_at_ms
WHERE excluded.first_seen_at_ms < end_user.first_seen_at_ms"""


def see_users(connection: Connection, project_id: int, calls: Sequence[NewCall]) -> None:
    """Remember when each person first came; calls may arrive in any order."""
    first: dict[str, int] = {}
    for call in calls:
        if call.user_id is not None and call.started_at_ms < first.get(call.user_id, call.started_at_ms + 1):
            first[call.user_id] = call.started_at_ms
    rows = [(project_id, user_id, at_ms) for user_id, at_ms in sorted(first.items())]
    insert_rows(connection, "end_user", ("project_id", "user_id", "first_seen_at_ms"), rows, _KEEP_FIRST)
