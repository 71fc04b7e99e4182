"""The writer's jobs for calls: find what is new, number it, write it with all that hangs on it.

Flow: `ingest.intake` hands `keep_calls` to the writer with prepared rows -> call, call_text, todo,
latency_count, end_user, and the signals that waited. Everything is written once per new call, in the
transaction that makes it new: a call that comes again changes nothing.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, func, insert, select

from ingest.call_rows import NewCall, SliceKey
from ingest.latency import OTHER_SLICE, SLICES_MAX
from ingest.signal_writes import resolve_waiting
from ingest.tables import Call, CallText, EndUser, LatencyCount, Slice, Todo, columns
from ingest.upsert import upsert

HOUR_MS = 3_600_000

CALL, CALL_TEXT, TODO, SLICE = columns(Call), columns(CallText), columns(Todo), columns(Slice)
LATENCY_COUNT, END_USER = columns(LatencyCount), columns(EndUser)


class Kept(NamedTuple):
    """What became of a batch.

    Attributes:
        accepted: calls that were new.
        slices: the ids of the slices that had to be looked up; true once the transaction is committed.
    """

    accepted: int
    slices: dict[SliceKey, int]


def keep_calls(
    connection: Connection, project_id: int, calls: Sequence[NewCall], slices: dict[SliceKey, int]
) -> Kept:
    """Write those calls of a batch whose id the project does not have yet; of two alike the first counts.

    Args:
        slices: ids of slices known from earlier batches; not changed here.
    """
    kept = _kept_ids(connection, project_id, [call.id for call in calls])
    new: dict[str, NewCall] = {}
    for call in calls:
        if call.id not in kept:
            new.setdefault(call.id, call)
    if not new:
        return Kept(0, {})
    fresh = list(new.values())
    found = _slice_ids(connection, project_id, {call.slice_key for call in fresh} - slices.keys())
    first_seq = (connection.execute(select(func.max(CALL.c.seq))).scalar() or 0) + 1
    texts = []
    for seq, call in enumerate(fresh, first_seq):
        row = call.row
        row["seq"] = seq
        row["project_id"] = project_id
        row["slice_id"] = found[call.slice_key] if call.slice_key in found else slices[call.slice_key]
        if call.text is not None:
            call.text["call_seq"] = seq
            texts.append(call.text)
    connection.execute(insert(CALL), [call.row for call in fresh])
    if texts:
        connection.execute(insert(CALL_TEXT), texts)
    connection.execute(insert(TODO), [{"call_seq": call.row["seq"], "reason": "new"} for call in fresh])
    _count_latencies(connection, fresh)
    _see_users(connection, project_id, fresh)
    resolve_waiting(connection, project_id, [call.row for call in fresh])
    return Kept(len(fresh), found)


def _kept_ids(connection: Connection, project_id: int, ids: list[str]) -> set[str]:
    """Which of these ids the project has already."""
    query = select(CALL.c.id).where(CALL.c.project_id == project_id, CALL.c.id.in_(ids))
    return set(connection.execute(query).scalars())


def _slice_ids(connection: Connection, project_id: int, keys: Iterable[SliceKey]) -> dict[SliceKey, int]:
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


def _count_latencies(connection: Connection, calls: Sequence[NewCall]) -> None:
    counts: dict[tuple[int, int, str, str, int], list[float]] = {}
    for call in calls:
        row = call.row
        hour = row["started_at_ms"] // HOUR_MS
        for measure, bucket in call.counted:
            count = counts.setdefault((row["slice_id"], hour, measure, row["outcome"], bucket), [0, 0.0])
            count[0] += 1
            count[1] += 1 / row["sample_rate"]
    if not counts:
        return
    add = upsert(connection, LATENCY_COUNT)
    add = add.on_conflict_do_update(
        index_elements=list(LATENCY_COUNT.primary_key.columns),
        set_={
            "n": LATENCY_COUNT.c.n + add.excluded.n,
            "weight": LATENCY_COUNT.c.weight + add.excluded.weight,
        },
    )
    names = ("slice_id", "hour", "measure", "outcome", "bucket")
    connection.execute(
        add,
        [
            dict(zip(names, key, strict=True), n=int(n), weight=weight)
            for key, (n, weight) in sorted(counts.items())
        ],
    )


def _see_users(connection: Connection, project_id: int, calls: Sequence[NewCall]) -> None:
    """Remember when each person first came; calls may arrive in any order."""
    first: dict[str, int] = {}
    for call in calls:
        user_id, at_ms = call.row["user_id"], call.row["started_at_ms"]
        if user_id is not None and at_ms < first.get(user_id, at_ms + 1):
            first[user_id] = at_ms
    if not first:
        return
    see = upsert(connection, END_USER)
    see = see.on_conflict_do_update(
        index_elements=list(END_USER.primary_key.columns),
        set_={"first_seen_at_ms": see.excluded.first_seen_at_ms},
        where=see.excluded.first_seen_at_ms < END_USER.c.first_seen_at_ms,
    )
    connection.execute(
        see,
        [
            {"project_id": project_id, "user_id": user_id, "first_seen_at_ms": at_ms}
            for user_id, at_ms in sorted(first.items())
        ],
    )
