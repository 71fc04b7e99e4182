"""Score rows that go by batch: what waits for one, what is in one, and what becomes of it.

Flow: critic.queue.rescoring makes rows with `batch` 0 -> `waiting_rows` -> critic.batching.gathering ->
`open_batch` (the batch is written down, its money held, its rows marked, before anything is sent) ->
`note_sent` -> `close_rows` and `end_batch`. The rows' lease token is the batch's mark, so an answer closes a
row once, whoever fetches it and however often.

All are plain functions of a Connection with plain data as arguments; none commits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Select, bindparam, func, select, update

from critic import queue
from critic.egress import DEFAULT_PROJECT_NAME
from critic.queue.rows import NOT_BY_ITSELF_MS, WAITS, Finished, Leased, Retry
from critic.spending.budget import Budget, NoRoom, Reserved, Spend, Wanted, reserve, settle_spends
from critic.tables import CriticBatch, Reservation, Score
from ingest.tables import Call, Project, Slice, columns

SCORE, BATCH, RESERVATION = columns(Score), columns(CriticBatch), columns(Reservation)
CALL, SLICE, PROJECT = columns(Call), columns(Slice), columns(Project)

#: Batches that a row is sent with before it is `failed`: each answered none of it.
BATCH_TRIES = 3


@dataclass(frozen=True)
class OpenBatch:
    """A batch that is not done with."""

    seq: int
    critic: str
    project_id: int
    mark: str
    status: str
    provider_id: str | None
    requests: int
    reason: str | None
    created_at_ms: int


@dataclass(frozen=True)
class WaitingForBatch:
    """A row that waits for a batch, as if leased under the mark of the batch to come."""

    row: Leased
    project_id: int


@dataclass(frozen=True)
class InBatch:
    """A row of a batch, closed or not, with what its answer and its next critic need.

    Attributes:
        request: the first `seq` of the rows that share its request.
        open: whether it still waits for this very batch.
    """

    seq: int
    token: str
    call_seq: int
    request: int
    rubric: str
    rubric_blob: str
    view_blob: str
    critic: str
    occasion: str
    attempts: int
    seen_share: float | None
    prompt: str
    project: str
    stratum: str
    inclusion: float
    uniform: bool
    urgency: float
    open: bool


@dataclass(frozen=True)
class Marked:
    """A row that goes into a batch: its request, and how much of its call the critic is shown."""

    seq: int
    request: int
    seen_share: float


def newest_waiting_ms(connection: Connection, critic: str) -> int | None:
    """Return when the last row that waits for a batch of this critic was made; None where none waits."""
    newest = _waiting(critic).order_by(SCORE.c.seq.desc()).limit(1).with_only_columns(SCORE.c.created_at_ms)
    return connection.scalar(newest)


def waiting_rows(
    connection: Connection, critic: str, *, mark: str, after_seq: int, limit: int, now_ms: int
) -> list[WaitingForBatch]:
    """Return a page of the rows that wait for a batch, by `seq`."""
    page = (
        _waiting(critic)
        .with_only_columns(CALL.c.project_id, *(SCORE.c[name] for name in _ROW))
        .join(CALL, CALL.c.seq == SCORE.c.call_seq)
        .where(SCORE.c.seq > after_seq)
        .order_by(SCORE.c.seq)
        .limit(limit)
    )
    waiting = []
    for found in connection.execute(page):
        row = dict(found._mapping)
        project_id, first_ms = row.pop("project_id"), row.pop("first_leased_at_ms")
        leased = Leased(
            token=mark,
            lease_until_ms=NOT_BY_ITSELF_MS,
            spent=row["attempts"] >= BATCH_TRIES,
            first_leased_at_ms=now_ms if first_ms is None else first_ms,
            **row,
        )
        waiting.append(WaitingForBatch(leased, project_id))
    return waiting


_ROW = tuple(name for name in Leased.__dataclass_fields__ if name not in ("token", "lease_until_ms", "spent"))


def open_batches(connection: Connection, critic: str) -> list[OpenBatch]:
    """Return the critic's batches that are not done with, oldest first."""
    found = (
        select(*(BATCH.c[name] for name in OpenBatch.__dataclass_fields__))
        .where(BATCH.c.critic == critic, BATCH.c.status.in_(("sending", "sent")))
        .order_by(BATCH.c.seq)
    )
    return [OpenBatch(**row._mapping) for row in connection.execute(found)]


def known_ids(connection: Connection, critic: str, *, since_ms: int) -> frozenset[str]:
    """Return the providers' ids of the critic's batches that were made since then."""
    ids = select(BATCH.c.provider_id).where(
        BATCH.c.critic == critic, BATCH.c.created_at_ms >= since_ms, BATCH.c.provider_id.is_not(None)
    )
    return frozenset(connection.scalars(ids))


def open_batch(
    connection: Connection,
    *,
    critic: str,
    project_id: int,
    mark: str,
    rows: Sequence[Marked],
    requests: int,
    closed: Sequence[Finished],
    usd: float | None,
    budget: Budget | None,
    now_ms: int,
) -> int | NoRoom | None:
    """Write down a batch that is about to be sent: its row, its money, its score rows.

    Args:
        rows: what goes into it; where there are none, only `closed` is done.
        closed: waiting rows that end without being asked.
        usd: what it can cost at most; held where `budget` is given.

    Returns:
        The batch's `seq`; None where there is nothing to send or a row no longer waits, so that all is to be
        gathered anew; the missing room.
    """
    seqs = [row.seq for row in rows]
    every = [*seqs, *(row.seq for row in closed)]
    if _still_waiting(connection, every) != len(every):
        return None
    batch: int | None = None
    if rows:
        values = {
            "critic": critic,
            "project_id": project_id,
            "mark": mark,
            "status": "sending",
            "requests": requests,
            "created_at_ms": now_ms,
        }
        batch = connection.execute(BATCH.insert().values(values).returning(BATCH.c.seq)).scalar_one()
        if budget is not None and usd is not None:
            wanted = Wanted(project_id, critic, usd, uniform=False, batch=batch)
            budgets = {critic: budget}
            (held,) = reserve(connection, [wanted], budgets=budgets, now_ms=now_ms, until_ms=NOT_BY_ITSELF_MS)
            if isinstance(held, NoRoom):
                connection.execute(BATCH.delete().where(BATCH.c.seq == batch))
                return held
        marked = [{"row_seq": row.seq, "of_request": row.request, "of_share": row.seen_share} for row in rows]
        mark_rows = _MARK.values(
            batch=batch,
            lease_token=mark,
            batch_request=bindparam("of_request"),
            seen_share=bindparam("of_share"),
            attempts=SCORE.c.attempts + 1,
            first_leased_at_ms=func.coalesce(SCORE.c.first_leased_at_ms, now_ms),
        )
        connection.execute(mark_rows, marked)
    if closed:
        taken = _MARK.values(lease_token=mark, batch=None)
        connection.execute(taken, [{"row_seq": row.seq} for row in closed])
        queue.finish(connection, closed, now_ms=now_ms)
    return batch


_MARK = update(SCORE).where(SCORE.c.seq == bindparam("row_seq"))


def note_sent(connection: Connection, batch: int, *, provider_id: str, now_ms: int) -> None:
    """Note that the provider has a batch, and its name for it."""
    connection.execute(
        update(BATCH)
        .where(BATCH.c.seq == batch, BATCH.c.status == "sending")
        .values(status="sent", provider_id=provider_id, sent_at_ms=now_ms, reason=None)
    )


def note_trouble(connection: Connection, batch: int, reason: str | None) -> None:
    """Note what stands in the way of a batch that is still open; None: nothing any more."""
    connection.execute(
        update(BATCH).where(BATCH.c.seq == batch, BATCH.c.ended_at_ms.is_(None)).values(reason=reason)
    )


def rows_of(connection: Connection, batch: OpenBatch) -> list[InBatch]:
    """Return a batch's rows by request and `seq`, those of calls that are no longer kept left out."""
    project = func.coalesce(PROJECT.c.name, DEFAULT_PROJECT_NAME).label("project")
    found = (
        select(
            *(SCORE.c[name] for name in _IN_BATCH),
            SCORE.c.batch_request.label("request"),
            SLICE.c.prompt,
            project,
            ((SCORE.c.status == "pending") & (SCORE.c.lease_token == batch.mark)).label("open"),
        )
        .join(CALL, CALL.c.seq == SCORE.c.call_seq)
        .join(SLICE, SLICE.c.id == CALL.c.slice_id)
        .outerjoin(PROJECT, PROJECT.c.seq == CALL.c.project_id)
        .where(SCORE.c.critic == batch.critic, SCORE.c.batch == batch.seq)
        .order_by(SCORE.c.batch_request, SCORE.c.seq)
    )
    rows = [dict(row._mapping) for row in connection.execute(found)]
    return [InBatch(**{**row, "token": batch.mark, "open": bool(row["open"])}) for row in rows]


_IN_BATCH = tuple(
    name
    for name in InBatch.__dataclass_fields__
    if name not in ("token", "request", "prompt", "project", "open")
)


def close_rows(
    connection: Connection, *, finished: Sequence[Finished], back: Sequence[Retry], now_ms: int
) -> None:
    """Keep answers and let rows without one wait for the next batch; what is done already stays as it is."""
    queue.finish(connection, finished, now_ms=now_ms)
    put_back(connection, back)


def put_back(connection: Connection, rows: Sequence[Retry]) -> None:
    """Let rows that are still in their batch wait for the next one."""
    if rows:
        connection.execute(
            _PUT_BACK,
            [
                {
                    "row_seq": row.seq,
                    "of_token": row.token,
                    "error": row.error,
                    "uncounted": 0 if row.counts else 1,
                }
                for row in rows
            ],
        )


_PUT_BACK = (
    update(SCORE)
    .where(
        SCORE.c.seq == bindparam("row_seq"),
        SCORE.c.status == "pending",
        SCORE.c.lease_token == bindparam("of_token"),
    )
    .values(
        lease_token=None,
        lease_until_ms=None,
        batch=WAITS,
        batch_request=None,
        not_before_ms=NOT_BY_ITSELF_MS,
        attempts=SCORE.c.attempts - bindparam("uncounted"),
        last_error=func.coalesce(bindparam("error"), SCORE.c.last_error),
    )
)


def held_for(connection: Connection, batch: int) -> Reserved | None:
    """Return the money that is held for a batch; None where no budget holds."""
    row = connection.execute(select(RESERVATION).where(RESERVATION.c.batch == batch)).first()
    return None if row is None else Reserved(row.seq, row.usd, row.uniform, row.day)


def end_batch(
    connection: Connection,
    batch: int,
    *,
    status: str,
    reason: str | None,
    spends: Sequence[Spend],
    now_ms: int,
) -> bool:
    """Be done with a batch and book what it cost, once; return whether it was still open."""
    ended = connection.execute(
        update(BATCH)
        .where(BATCH.c.seq == batch, BATCH.c.status.in_(("sending", "sent")))
        .values(status=status, reason=reason, ended_at_ms=now_ms)
    )
    if ended.rowcount:
        settle_spends(connection, spends, now_ms=now_ms)
    return bool(ended.rowcount)


def give_up_others(connection: Connection, critics: Sequence[str], *, limit: int, now_ms: int) -> int:
    """Close batched rows of critics that are no longer configured; return how many. Call it until 0.

    Their batches are taken for lost, and what was held for them for spent: nobody asks for the answers.
    """
    others = (
        select(SCORE.c.seq)
        .where(SCORE.c.batch.is_not(None), SCORE.c.status == "pending", SCORE.c.critic.not_in(critics))
        .limit(limit)
    )
    reason = "its critic is no longer configured (LOWLIGHT_CRITIC)"
    seqs = list(connection.scalars(others))
    queue.hand_over(connection, seqs, reason=reason, scores=[], now_ms=now_ms)
    left = select(BATCH).where(BATCH.c.critic.not_in(critics), BATCH.c.status.in_(("sending", "sent")))
    for row in connection.execute(left).all():
        held = held_for(connection, row.seq)
        spends = [Spend(row.project_id, row.critic, None, held, requests=row.requests)]
        end_batch(connection, row.seq, status="lost", reason=reason, spends=spends, now_ms=now_ms)
    return len(seqs)


def _waiting(critic: str) -> Select[tuple[int]]:
    return select(SCORE.c.seq).where(
        SCORE.c.critic == critic,
        SCORE.c.batch == WAITS,
        SCORE.c.status == "pending",
        SCORE.c.lease_token.is_(None),
    )


def _still_waiting(connection: Connection, seqs: Sequence[int]) -> int:
    n = 0
    for i in range(0, len(seqs), queue.KEYS_MAX):
        part = (
            select(SCORE.c.seq)
            .where(
                SCORE.c.seq.in_(seqs[i : i + queue.KEYS_MAX]),
                SCORE.c.batch == WAITS,
                SCORE.c.status == "pending",
                SCORE.c.lease_token.is_(None),
            )
            .with_for_update()
        )
        n += len(connection.scalars(part).all())
    return n
