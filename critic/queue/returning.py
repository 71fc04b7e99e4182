"""Leased score rows come back: with an answer, for another try, or for the next critic.

Flow: critic.queue.leasing `lease` -> a worker -> `settle` (`finish`, `retry_later`), under the lease's token.
As there, all are plain functions of a Connection and none commits; times are milliseconds since 1970 (UTC).
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update

from critic.queue.leasing import SCORE, add_scores, cut, next_changed
from critic.queue.rows import Finished, NewScore, Retry
from critic.spending.budget import Spend, settle_spends


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
    # Asked before rows are locked: whoever takes both takes them in this order, so that none waits for ever.
    changed = next_changed(connection, SCORE)
    held = _held(connection, results)
    kept = [result for result in results if result.seq in held]
    if kept:
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


def _held(connection: Connection, claims: Sequence[Finished] | Sequence[Retry]) -> set[int]:
    """Return the rows that are pending under the very token that is claimed."""
    tokens = {claim.seq: claim.token for claim in claims}
    held: set[int] = set()
    for seqs in cut(list(tokens)):
        rows = connection.execute(
            select(SCORE.c.seq, SCORE.c.lease_token)
            .where(SCORE.c.seq.in_(seqs), SCORE.c.status == "pending")
            .with_for_update()
        )
        held.update(row.seq for row in rows if row.lease_token == tokens[row.seq])
    return held
