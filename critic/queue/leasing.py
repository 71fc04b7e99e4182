"""The critic's queue: score rows that are pending. Every function here is one short transaction's worth.

Flow: intake's `todo` rows -> critic.queue.plan says which scores a call needs -> `take_todo` makes pending
rows and drops the todo -> `lease` hands rows out under a token -> critic.queue.returning takes them back.

All are plain functions of a Connection with plain data as arguments, so that they travel through
`ingest.doors`; none commits. Times are milliseconds since 1970 (UTC) and come from the caller.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update

from critic.queue.pauses import paused
from critic.queue.rows import NO_INPUT, NO_OUTPUT, NOT_BY_ITSELF_MS, Leased, NewScore
from critic.spending.budget import DAY_MS
from critic.tables import GuardReading, RubricVersion, Score
from ingest.tables import Todo, columns
from ingest.upsert import upsert

SCORE = columns(Score)
TODO = columns(Todo)
READING = columns(GuardReading)
VERSION = columns(RubricVersion)

#: SQLite takes 32,766 parameters a statement; lists of keys are cut to this.
KEYS_MAX = 1000
#: Tries that count against a call (a time-out, a worker that died over it) before it is `failed`.
ATTEMPTS_MAX = 6
#: The longest wait for another try: what `critic.working.pace` draws at most.
WAIT_MAX_MS = 300_000
#: The advisory lock of PostgreSQL under which `changed` numbers are given; any number that is ours alone.
CHANGED_LOCK = 0x6C6F776C
#: Rows looked at per call wanted when leasing: as many rubrics as a call commonly has.
ROWS_A_CALL = 8


@dataclass(frozen=True)
class Backlog:
    """How much waits.

    Attributes:
        todo: calls that no critic has looked at.
        pending: score rows that wait or are in hand.
        by_status: score rows by status, over everything kept.
        paused: why, by critic that is paused now.
        oldest_ms: when the oldest pending row was made; None where none waits.
    """

    todo: int
    pending: int
    by_status: Mapping[str, int] = field(default_factory=dict)
    paused: Mapping[str, str] = field(default_factory=dict)
    oldest_ms: int | None = None


def take_todo(
    connection: Connection,
    *,
    todo_seqs: Sequence[int],
    scores: Sequence[NewScore],
    readings: Sequence[Mapping[str, Any]],
    reopen: Sequence[int],
    versions: Sequence[Mapping[str, Any]],
    now_ms: int,
) -> int:
    """Turn todo rows into score rows and guard readings, and drop them; return how many rows are new.

    Taking the same call twice, or the same todo row in two workers, makes nothing twice.

    Args:
        readings: one dict of `GuardReading` columns (without `changed`) per call that was read.
        reopen: call_seqs whose texts came late: rows closed for want of them wait again.
        versions: `RubricVersion` rows that the scores name.
    """
    if versions:
        register = upsert(connection, VERSION).on_conflict_do_nothing()
        connection.execute(register, [{**version, "first_used_at_ms": now_ms} for version in versions])
    added = add_scores(connection, scores, now_ms=now_ms)
    _put_readings(connection, readings)
    _reopen(connection, reopen, now_ms)
    for seqs in cut(todo_seqs):
        connection.execute(TODO.delete().where(TODO.c.seq.in_(seqs)))
    return added


def add_scores(connection: Connection, scores: Sequence[NewScore], *, now_ms: int) -> int:
    """Make the rows that are not there yet; return how many are new."""
    if not scores:
        return 0
    changed = next_changed(connection, SCORE)
    rows = []
    for i, score in enumerate(scores):
        closed = score.status != "pending"
        rows.append(
            asdict(score)
            | {
                "attempts": 0,
                "not_before_ms": now_ms if score.batch is None else NOT_BY_ITSELF_MS,
                "created_at_ms": now_ms,
                "finished_at_ms": now_ms if closed else None,
                "changed": changed + i if closed else None,
            }
        )
    before = connection.scalar(select(func.coalesce(func.max(SCORE.c.seq), 0)))
    connection.execute(upsert(connection, SCORE).on_conflict_do_nothing(), rows)
    return connection.scalar(select(func.count()).select_from(SCORE).where(SCORE.c.seq > before)) or 0


def lease(connection: Connection, critic: str, *, calls_max: int, now_ms: int, lease_ms: int) -> list[Leased]:
    """Hand out all due rows of at most `calls_max` calls of one critic, longest due first.

    A row that waits for a retry is due when its wait ends, and one whose lease ended when that did, so
    neither starves the other nor new calls. A paused critic has none. What this reads grows with the rows it
    hands out, and with neither those kept nor those that wait.
    """
    if calls_max < 1 or paused(connection, now_ms).get(critic) is not None:
        return []
    due = (
        (SCORE.c.status == "pending")
        & (SCORE.c.critic == bindparam("critic", critic))
        & (SCORE.c.not_before_ms <= bindparam("now_ms", now_ms))
    )
    first_due = select(SCORE.c.call_seq).where(due).order_by(SCORE.c.not_before_ms, SCORE.c.seq)
    first_rows = first_due.limit(calls_max * ROWS_A_CALL).with_for_update(skip_locked=True)
    calls = list(dict.fromkeys(connection.scalars(first_rows)))[:calls_max]
    token = secrets.token_hex(8)
    until_ms = now_ms + lease_ms
    leased = []
    for seqs in cut(_due_rows(connection, calls, critic, now_ms)):
        hand_out = (
            update(SCORE)
            .where(SCORE.c.seq.in_(seqs))
            .values(
                lease_token=token,
                lease_until_ms=until_ms,
                not_before_ms=until_ms,
                attempts=SCORE.c.attempts + 1,
                first_leased_at_ms=func.coalesce(SCORE.c.first_leased_at_ms, now_ms),
            )
            .returning(*(SCORE.c[name] for name in _LEASED))
        )
        for row in connection.execute(hand_out):
            spent = row.attempts > ATTEMPTS_MAX
            leased.append(Leased(token=token, lease_until_ms=until_ms, spent=spent, **row._mapping))
    place = {call_seq: i for i, call_seq in enumerate(calls)}
    return sorted(leased, key=lambda row: (place[row.call_seq], row.seq))


def _due_rows(connection: Connection, calls: Sequence[int], critic: str, now_ms: int) -> list[int]:
    """Return all due rows of these calls.

    Asked for by the call alone and sifted here: were status and critic in the query, SQLite would go through
    the index of all rows that wait, which a rescore of a million calls makes long.
    """
    found = []
    for call_seqs in cut(calls):
        rows = connection.execute(
            select(SCORE.c.seq, SCORE.c.status, SCORE.c.critic, SCORE.c.not_before_ms)
            .where(SCORE.c.call_seq.in_(call_seqs))
            .with_for_update(skip_locked=True)
        )
        found += [
            row.seq
            for row in rows
            if row.status == "pending" and row.critic == critic and row.not_before_ms <= now_ms
        ]
    return found


_LEASED = (
    "seq",
    "call_seq",
    "rubric",
    "rubric_blob",
    "view_blob",
    "critic",
    "occasion",
    "attempts",
    "first_leased_at_ms",
    "last_error",
    "stratum",
    "inclusion",
    "uniform",
    "urgency",
)


def release_leases(connection: Connection, *, now_ms: int) -> int:
    """Make every leased row due at once; return how many. For the only worker of a store, when it starts.

    What is in a batch stays there, as the provider has it. Tries of the worker that died stay counted: one
    call that kills its worker ends as `failed`.
    """
    released = connection.execute(
        update(SCORE)
        .where(SCORE.c.status == "pending", SCORE.c.lease_token.is_not(None), SCORE.c.batch.is_(None))
        .values(lease_token=None, lease_until_ms=None, not_before_ms=now_ms)
    )
    return released.rowcount


def follow_clock_back(connection: Connection, *, by_ms: int, now_ms: int) -> int:
    """After the clock was set back by `by_ms`, let each wait and lease last as long as it was meant to.

    Their ends were written by the clock of before: without this a row that is to be tried in a second would
    wait as long as the clock fell back. Returns how many rows were moved; what is in a batch does not wait.
    """
    moved = connection.execute(
        update(SCORE)
        .where(
            SCORE.c.status == "pending",
            SCORE.c.not_before_ms > now_ms,
            SCORE.c.batch.is_(None),
            # A lease that would be over by this was made by the clock of now.
            SCORE.c.lease_token.is_(None) | (SCORE.c.not_before_ms > now_ms + by_ms),
        )
        .values(
            not_before_ms=SCORE.c.not_before_ms - by_ms,
            lease_until_ms=SCORE.c.lease_until_ms - by_ms,
            first_leased_at_ms=SCORE.c.first_leased_at_ms - by_ms,
        )
    )
    return moved.rowcount


def bound_waits(connection: Connection, *, now_ms: int) -> int:
    """Let nothing wait longer from now on than a wait can be; return how many rows were due later.

    For a worker that starts: where the machine's clock was ahead when the last one ended, a retry meant for
    the next minute may stand in another year. A provider's own long wait is cut with them: like a pause, it
    is asked for again at the next request. What is deferred waits for the next reset at most.
    """
    later = 0
    for status, latest_ms in (
        ("pending", now_ms + WAIT_MAX_MS),
        ("deferred", now_ms // DAY_MS * DAY_MS + DAY_MS),
    ):
        moved = connection.execute(
            update(SCORE)
            .where(
                SCORE.c.status == status,
                SCORE.c.not_before_ms > latest_ms,
                SCORE.c.batch.is_(None),
                SCORE.c.lease_token.is_(None),
            )
            .values(not_before_ms=latest_ms)
        )
        later += moved.rowcount
    return later


def backlog(connection: Connection, now_ms: int | None = None) -> Backlog:
    """Return how much waits. `by_status` counts every row kept: for commands and tests, not for each page."""
    counts = connection.execute(select(SCORE.c.status, func.count()).group_by(SCORE.c.status))
    by_status: dict[str, int] = dict(counts.all())
    return Backlog(
        todo=connection.scalar(select(func.count()).select_from(TODO)) or 0,
        pending=by_status.get("pending", 0),
        by_status=by_status,
        paused={} if now_ms is None else paused(connection, now_ms),
        oldest_ms=connection.scalar(
            select(func.min(SCORE.c.created_at_ms)).where(SCORE.c.status == "pending")
        ),
    )


def next_changed(connection: Connection, table: Any) -> int:
    """Return the next value of a table's `changed` counter; it never repeats, and commits in its own order.

    Whoever reads by it goes on from the largest number seen, so that neither may happen. SQLite has one
    writer at a time; on PostgreSQL two workers ask one after the other, until the end of their transactions.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(CHANGED_LOCK)))
    return (connection.scalar(select(func.max(table.c.changed))) or 0) + 1


def _put_readings(connection: Connection, readings: Sequence[Mapping[str, Any]]) -> None:
    """Keep the newest reading of each call, under fresh `changed` numbers."""
    if not readings:
        return
    changed = next_changed(connection, READING)
    for call_seqs in cut([reading["call_seq"] for reading in readings]):
        connection.execute(READING.delete().where(READING.c.call_seq.in_(call_seqs)))
    rows = [{**reading, "changed": changed + i} for i, reading in enumerate(readings)]
    connection.execute(READING.insert(), rows)


def _reopen(connection: Connection, call_seqs: Sequence[int], now_ms: int) -> None:
    """Let rows that were closed for want of a text wait again, now that it came."""
    for part in cut(call_seqs):
        connection.execute(
            update(SCORE)
            .where(
                SCORE.c.call_seq.in_(part),
                SCORE.c.status == "ungraded",
                SCORE.c.reason.in_((NO_OUTPUT, NO_INPUT)),
            )
            .values(
                status="pending",
                reason=None,
                finished_at_ms=None,
                attempts=0,
                first_leased_at_ms=None,
                not_before_ms=now_ms,
                created_at_ms=now_ms,
                batch=None,
            )
        )


def cut(keys: Sequence[int]) -> list[Sequence[int]]:
    """Return the keys in parts of at most KEYS_MAX."""
    return [keys[i : i + KEYS_MAX] for i in range(0, len(keys), KEYS_MAX)]
