"""The critic's queue: score rows that are pending. Every function here is one short transaction's worth.

Flow: intake's `todo` rows -> critic.queue.plan says which scores a call needs -> `take_todo` makes pending
rows and drops the todo -> `lease` hands rows out under a token -> `finish` (or `retry_later`) takes them
back.

All are plain functions of a Connection with plain data as arguments, so that they travel through
`ingest.doors`; none commits. Times are milliseconds since 1970 (UTC) and come from the caller.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update

from critic.queue.pauses import paused
from critic.queue.rows import NO_INPUT, NO_OUTPUT, NOT_BY_ITSELF_MS, Finished, Leased, NewScore, Retry
from critic.spending.budget import Spend, settle_spends
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
    for seqs in _cut(todo_seqs):
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
    for seqs in _cut(_due_rows(connection, calls, critic, now_ms)):
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
    for call_seqs in _cut(calls):
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


def settle(
    connection: Connection,
    *,
    finished: Sequence[Finished],
    retries: Sequence[Retry],
    spends: Sequence[Spend] = (),
    now_ms: int,
) -> list[int]:
    """Take back what a worker has done with its rows, in one transaction; return those that came too late.

    What an answer cost is booked even where it came too late: it was paid for.
    """
    late = finish(connection, finished, now_ms=now_ms) if finished else []
    late += retry_later(connection, retries) if retries else []
    settle_spends(connection, spends, now_ms=now_ms)
    return late


def finish(connection: Connection, results: Sequence[Finished], *, now_ms: int) -> list[int]:
    """Keep results whose token is still the row's; return the `seq` of each that came too late.

    A late one changes nothing: somebody else holds the row or has finished it.
    """
    held = _held(connection, results)
    kept = [result for result in results if result.seq in held]
    if kept:
        changed = next_changed(connection, SCORE)
        connection.execute(
            _CLOSE, [_closed_row(result, now_ms, changed + i) for i, result in enumerate(kept)]
        )
        add_scores(connection, [score for result in kept for score in result.then], now_ms=now_ms)
    return [result.seq for result in results if result.seq not in held]


_ANSWER = (
    *("status", "reason", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "score", "confidence", "draws", "why"),
    *(
        "model_reported",
        "input_tokens",
        "output_tokens",
        "cached_input_tokens",
        "label_mass",
        "seen_share",
        "cost_usd",
        "answer_ms",
        "finished_at_ms",
        "changed",
    ),
)
#: Close one leased row with all that its critic said.
_CLOSE = (
    update(SCORE)
    .where(SCORE.c.seq == bindparam("row_seq"))
    .values(
        {name: bindparam(f"new_{name}") for name in _ANSWER}
        | {
            "lease_token": None,
            "lease_until_ms": None,
            "not_before_ms": func.coalesce(bindparam("until_ms"), SCORE.c.not_before_ms),
            "deferred_at_ms": func.coalesce(SCORE.c.deferred_at_ms, bindparam("deferred_ms")),
        }
    )
)


def _closed_row(result: Finished, now_ms: int, changed: int) -> dict[str, Any]:
    levels: Sequence[float | None] = result.probabilities or (None,) * 7
    return {
        "row_seq": result.seq,
        "new_status": result.status,
        "new_reason": result.reason,
        **{f"new_p{i}": p for i, p in enumerate(levels, start=1)},
        "new_score": result.score,
        "new_confidence": result.confidence,
        "new_draws": result.draws,
        "new_why": dict(result.why) if result.why else None,
        "new_model_reported": result.model_reported,
        "new_input_tokens": result.input_tokens,
        "new_output_tokens": result.output_tokens,
        "new_cached_input_tokens": result.cached_input_tokens,
        "new_label_mass": result.label_mass,
        "new_seen_share": result.seen_share,
        "until_ms": result.not_before_ms,
        "deferred_ms": now_ms if result.status == "deferred" else None,
        "new_cost_usd": result.cost_usd,
        "new_answer_ms": result.answer_ms,
        "new_finished_at_ms": now_ms,
        "new_changed": changed,
    }


def retry_later(connection: Connection, retries: Sequence[Retry]) -> list[int]:
    """Hand leased rows back until `not_before_ms`; return the `seq` of each that came too late."""
    held = _held(connection, retries)
    rows = [
        {
            "row_seq": retry.seq,
            "until_ms": retry.not_before_ms,
            "error": retry.error,
            "uncounted": 0 if retry.counts else 1,
        }
        for retry in retries
        if retry.seq in held
    ]
    if rows:
        connection.execute(_HAND_BACK, rows)
    return [retry.seq for retry in retries if retry.seq not in held]


#: Hand one leased row back, its try uncounted where the call is not to blame.
_HAND_BACK = (
    update(SCORE)
    .where(SCORE.c.seq == bindparam("row_seq"))
    .values(
        lease_token=None,
        lease_until_ms=None,
        not_before_ms=bindparam("until_ms"),
        attempts=SCORE.c.attempts - bindparam("uncounted"),
        last_error=func.coalesce(bindparam("error"), SCORE.c.last_error),
    )
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


def hand_over(
    connection: Connection, seqs: Sequence[int], *, reason: str, scores: Sequence[NewScore], now_ms: int
) -> None:
    """Close pending rows as skipped, whoever holds them, and make `scores` instead, in one transaction."""
    changed = next_changed(connection, SCORE)
    close = (
        update(SCORE)
        .where(SCORE.c.seq == bindparam("row_seq"), SCORE.c.status == "pending")
        .values(
            status="skipped",
            reason=reason,
            lease_token=None,
            lease_until_ms=None,
            finished_at_ms=now_ms,
            changed=bindparam("new_changed"),
        )
    )
    if seqs:
        connection.execute(
            close, [{"row_seq": seq, "new_changed": changed + i} for i, seq in enumerate(seqs)]
        )
    add_scores(connection, scores, now_ms=now_ms)


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
    """Return the next value of a table's `changed` counter; only the one writer asks, so it never repeats."""
    return (connection.scalar(select(func.max(table.c.changed))) or 0) + 1


def _held(connection: Connection, claims: Sequence[Finished] | Sequence[Retry]) -> set[int]:
    """Return the rows that are pending under the very token that is claimed."""
    tokens = {claim.seq: claim.token for claim in claims}
    held: set[int] = set()
    for seqs in _cut(list(tokens)):
        rows = connection.execute(
            select(SCORE.c.seq, SCORE.c.lease_token)
            .where(SCORE.c.seq.in_(seqs), SCORE.c.status == "pending")
            .with_for_update()
        )
        held.update(row.seq for row in rows if row.lease_token == tokens[row.seq])
    return held


def _put_readings(connection: Connection, readings: Sequence[Mapping[str, Any]]) -> None:
    """Keep the newest reading of each call, under fresh `changed` numbers."""
    if not readings:
        return
    changed = next_changed(connection, READING)
    for call_seqs in _cut([reading["call_seq"] for reading in readings]):
        connection.execute(READING.delete().where(READING.c.call_seq.in_(call_seqs)))
    rows = [{**reading, "changed": changed + i} for i, reading in enumerate(readings)]
    connection.execute(READING.insert(), rows)


def _reopen(connection: Connection, call_seqs: Sequence[int], now_ms: int) -> None:
    """Let rows that were closed for want of a text wait again, now that it came."""
    for part in _cut(call_seqs):
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


def _cut(keys: Sequence[int]) -> list[Sequence[int]]:
    return [keys[i : i + KEYS_MAX] for i in range(0, len(keys), KEYS_MAX)]
