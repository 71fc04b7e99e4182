"""What waits for money, and what a late signal brings back.

Flow: critic.working.lane defers what no budget holds -> `revive` after the reset, the worst first ->
`give_up` after 14 days. critic.working.taking -> `take_sampled`: new calls with their place in the sample,
and `Move`s of old ones.

All are plain functions of a Connection with plain data as arguments; none commits.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, func, or_, select, update

from critic.queue.leasing import ROWS_A_CALL, SCORE, next_changed, take_todo
from critic.queue.rows import NO_BUDGET, NOT_SAMPLED, Move
from critic.spending.budget import DAY_MS, DEFERRED_DAYS_MAX, count_sampled
from critic.spending.sampling import FORCED

#: Deferred calls counted at most: beyond it a day's budget is spoken for anyway.
DEFERRED_COUNT_MAX = 5_000
GIVE_UP_ROWS = 500

_WAITS_AGAIN: Mapping[str, Any] = {
    "status": "pending",
    "reason": None,
    "finished_at_ms": None,
    "attempts": 0,
    "first_leased_at_ms": None,
    "lease_token": None,
    "lease_until_ms": None,
    "batch": None,
}


def take_sampled(
    connection: Connection,
    *,
    moves: Sequence[Move],
    placed: Sequence[Mapping[str, Any]],
    counts: Mapping[tuple[int, str, str], tuple[int, int]],
    now_ms: int,
    **taken: Any,
) -> int:
    """Do what `critic.queue.take_todo` does, move calls between strata, and count today's sample.

    Args:
        placed: see `place_late`.
        counts: see `critic.spending.budget.count_sampled`.
        taken: what `take_todo` takes.
    """
    added = take_todo(connection, now_ms=now_ms, **taken)
    place_late(connection, placed, now_ms=now_ms)
    move_calls(connection, moves, now_ms=now_ms)
    count_sampled(connection, counts, now_ms=now_ms)
    return added


def move_calls(connection: Connection, moves: Sequence[Move], *, now_ms: int) -> None:
    """Give calls their new stratum and its inclusion, and let those that are wanted now wait again.

    A call never becomes less likely to be in the sample: whoever was in it stays in it. A call that is moved
    to where it is already is left alone, so that the same signal again reopens nothing.
    """
    if not moves:
        return
    rows = [
        {
            "of_call": move.call_seq,
            "of_critic": move.critic,
            "to_stratum": move.stratum,
            "to_inclusion": move.inclusion,
            "to_urgency": move.urgency,
            "due_ms": now_ms,
            "forced": int(move.stratum in FORCED),
        }
        for move in moves
    ]
    wanted = [row for row, move in zip(rows, moves, strict=True) if move.chosen]
    if wanted:
        connection.execute(_REOPEN, wanted)
    unused = ("due_ms", "forced")
    connection.execute(_MOVE, [{k: v for k, v in row.items() if k not in unused} for row in rows])


_MOVED = and_(
    SCORE.c.call_seq == bindparam("of_call"),
    SCORE.c.critic == bindparam("of_critic"),
    SCORE.c.occasion == "",
    SCORE.c.stratum != bindparam("to_stratum"),
    SCORE.c.inclusion <= bindparam("to_inclusion"),
)
_LEFT_OUT = and_(
    SCORE.c.status == "skipped",
    or_(SCORE.c.reason.startswith(NOT_SAMPLED), SCORE.c.reason.startswith(NO_BUDGET)),
)
#: What was left out waits again; a forced call also where it waited for money or could not be judged: what
#: stood in the way then (a setting, a text) may be gone.
_REOPEN = (
    update(SCORE)
    .where(
        _MOVED,
        or_(
            _LEFT_OUT,
            # Compared one by one: a list cannot be bound where one statement is run for many rows.
            and_(
                bindparam("forced", type_=SCORE.c.attempts.type) == 1,
                or_(SCORE.c.status == "deferred", SCORE.c.status == "ungraded"),
            ),
        ),
    )
    .values({**_WAITS_AGAIN, "not_before_ms": bindparam("due_ms")})
)
_MOVE = (
    update(SCORE)
    .where(_MOVED)
    .values(
        stratum=bindparam("to_stratum"), inclusion=bindparam("to_inclusion"), urgency=bindparam("to_urgency")
    )
)


def place_late(connection: Connection, placed: Sequence[Mapping[str, Any]], *, now_ms: int) -> None:
    """Give calls whose texts came late their place in the sample; those left out of it are skipped.

    Args:
        placed: of_call, of_critic, to_stratum, to_inclusion, to_uniform, to_urgency, and `skip_because`, None
            for a chosen one.
    """
    if not placed:
        return
    changed = next_changed(connection, SCORE)
    skipped = bindparam("skip_because", type_=SCORE.c.reason.type)
    connection.execute(
        update(SCORE)
        .where(
            SCORE.c.call_seq == bindparam("of_call"),
            SCORE.c.critic == bindparam("of_critic"),
            SCORE.c.occasion == "",
            # Not compared as it is: SQLite would go through the index of all that waits, once a call.
            func.coalesce(SCORE.c.status, "") == "pending",
            SCORE.c.stratum == "",
        )
        .values(
            stratum=bindparam("to_stratum"),
            inclusion=bindparam("to_inclusion"),
            uniform=bindparam("to_uniform"),
            urgency=bindparam("to_urgency"),
            reason=skipped,
            status=case((skipped.is_(None), "pending"), else_="skipped"),
            finished_at_ms=case((skipped.is_(None), None), else_=now_ms),
            changed=case((skipped.is_(None), SCORE.c.changed), else_=changed),
        ),
        list(placed),
    )


def revive(connection: Connection, critic: str, *, calls_max: int, now_ms: int) -> int:
    """Let deferred calls of one critic wait for a lease again, the most urgent first; return how many rows.

    Only those whose day is over. They are due before anything that came since, in their order.
    """
    worst_first = (
        select(SCORE.c.call_seq)
        .where(SCORE.c.status == "deferred", SCORE.c.critic == critic, SCORE.c.not_before_ms <= now_ms)
        .order_by(SCORE.c.urgency.desc(), SCORE.c.created_at_ms, SCORE.c.seq)
        .limit(calls_max * ROWS_A_CALL)
    )
    calls = list(dict.fromkeys(connection.scalars(worst_first)))[:calls_max]
    if not calls:
        return 0
    rows = connection.execute(
        select(SCORE.c.seq, SCORE.c.call_seq).where(
            SCORE.c.call_seq.in_(calls),
            SCORE.c.critic == critic,
            # As in `place_late`: by the call, and not through all that is deferred.
            func.coalesce(SCORE.c.status, "") == "deferred",
        )
    ).all()
    place = {call_seq: i for i, call_seq in enumerate(calls)}
    connection.execute(
        _REVIVE, [{"row_seq": row.seq, "due_ms": now_ms - DAY_MS + place[row.call_seq]} for row in rows]
    )
    return len(rows)


_REVIVE = (
    update(SCORE)
    .where(SCORE.c.seq == bindparam("row_seq"))
    .values({**_WAITS_AGAIN, "not_before_ms": bindparam("due_ms")})
)


def give_up(connection: Connection, *, now_ms: int) -> int:
    """Skip what has waited for money for 14 days; return how many rows. Call it until it returns 0."""
    old = (
        select(SCORE.c.seq)
        .where(
            SCORE.c.status == "deferred",
            SCORE.c.deferred_at_ms <= now_ms - DEFERRED_DAYS_MAX * DAY_MS,
        )
        # In the order of the index of what is deferred: by `seq` SQLite would look at every row kept.
        .order_by(SCORE.c.critic, SCORE.c.urgency)
        .limit(GIVE_UP_ROWS)
    )
    seqs = list(connection.scalars(old))
    if not seqs:
        return 0
    changed = next_changed(connection, SCORE)
    connection.execute(
        update(SCORE)
        .where(SCORE.c.seq == bindparam("row_seq"))
        .values(
            status="skipped",
            reason=f"{NO_BUDGET} within {DEFERRED_DAYS_MAX} days",
            finished_at_ms=now_ms,
            changed=bindparam("new_changed"),
        ),
        [{"row_seq": seq, "new_changed": changed + i} for i, seq in enumerate(seqs)],
    )
    return len(seqs)


def deferred_calls(connection: Connection, critic: str) -> int:
    """Return how many calls of a critic wait for money, counted up to `DEFERRED_COUNT_MAX` rows."""
    waiting = (
        select(SCORE.c.call_seq)
        .where(SCORE.c.status == "deferred", SCORE.c.critic == critic)
        .limit(DEFERRED_COUNT_MAX)
        .subquery()
    )
    return connection.scalar(select(func.count(func.distinct(waiting.c.call_seq)))) or 0
