"""Work for old calls: a rubric's version in force, asked about calls that it has not been asked about yet.

Flow: `lowlight rescore` -> POST /v1/rescore -> `page_of` (which calls of a window lack the answer, and what
answers cost so far) -> `make_work` -> pending score rows -> the worker, like any other. New calls get work by
themselves; old ones only from here.

A page is bounded, and a row is made once: whoever is broken off starts again and doubles nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Select, and_, case, func, select

from critic import queue
from critic.queue.plan import Plan
from critic.queue.rows import WAITS, NewScore
from critic.tables import CriticBatch, GuardReading, RubricVersion, Score
from ingest.tables import Call, Slice, columns
from ingest.upsert import upsert
from rubrics import Rubric

CALL, SLICE, SCORE, BATCH = columns(Call), columns(Slice), columns(Score), columns(CriticBatch)
READING, VERSION = columns(GuardReading), columns(RubricVersion)

#: Fields that `where` may name, each compared with "=".
FIELDS = ("provider", "model", "prompt", "prompt_version", "environment", "release")
#: Calls looked at in one page: some tens of milliseconds.
CALLS_A_PAGE = 2_000
#: Answers whose mean cost stands for those to come, and newest rows among which they are looked for.
ANSWERS_PRICED, ROWS_LOOKED_AT = 200, 20_000


@dataclass(frozen=True)
class Asked:
    """Which old calls are to be asked about.

    Attributes:
        rubric: in force now.
        critic: who is to answer first; one of the plan's.
        since_ms, until_ms: by when the call started.
        where: field of FIELDS to the value it must have.
        batch: whether they are asked by the critic's batch endpoint.
        among: a query of `call.seq` that they must be among; None for all of them.
        occasion: '' in production; else a run's id, asked of this critic alone, beside what it said.
    """

    project_id: int
    rubric: Rubric
    critic: str
    since_ms: int
    until_ms: int
    where: Mapping[str, str]
    batch: bool = False
    among: Select[tuple[int]] | None = None
    occasion: str = ""


@dataclass(frozen=True)
class Page:
    """One page of the calls asked about, by `seq`.

    Attributes:
        calls: calls of the window that fit `where` and that the rubric applies to.
        answered: those of them that have a row of this version and critic already, whatever became of it.
        rows: the rows to make for the others.
        next_seq: where the next page begins; None after the last.
    """

    calls: int
    answered: int
    rows: tuple[NewScore, ...]
    next_seq: int | None


def page_of(connection: Connection, asked: Asked, plan: Plan, *, after_seq: int = 0) -> Page:
    """Return the next page of calls: how many there are, and the rows that they lack."""
    rows = connection.execute(_calls(asked, after_seq)).all()
    calls = answered = 0
    new: list[NewScore] = []
    for row in rows:
        if not asked.rubric.applies(prompt=row.prompt, model=row.model, tags=row.tags or {}):
            continue
        calls += 1
        if row.has_row:
            answered += 1
            continue
        rubric = asked.rubric
        key = NewScore(
            row.seq, rubric.name, rubric.blob, rubric.view_blob, asked.critic, occasion=asked.occasion
        )
        made = (
            [plan.alone(asked.critic, key, row.prompt)]
            if asked.occasion
            else plan.after(_before(plan, asked.critic), key, row.prompt, _NOBODY)
        )
        new += [_by_batch(score, asked) for score in made]
    next_seq = rows[-1].seq if len(rows) == CALLS_A_PAGE else None
    return Page(calls, answered, tuple(new), next_seq)


#: A row waits for a paused critic: whoever asks for old calls has chosen who answers.
_NOBODY: Collection[str] = frozenset()


def make_work(
    connection: Connection, rows: Sequence[NewScore], versions: Sequence[Mapping[str, Any]], now_ms: int
) -> int:
    """Write job: make the rows that are not there yet; return how many are new."""
    if versions:
        register = upsert(connection, VERSION).on_conflict_do_nothing()
        connection.execute(register, [{**version, "first_used_at_ms": now_ms} for version in versions])
    return queue.add_scores(connection, rows, now_ms=now_ms)


def _by_batch(score: NewScore, asked: Asked) -> NewScore:
    by_batch = asked.batch and score.critic == asked.critic and score.status == "pending"
    return replace(score, batch=WAITS) if by_batch else score


def mean_cost_usd(
    connection: Connection, rubric: str, critic: str, *, batch_factor: float = 1.0
) -> tuple[float | None, int]:
    """Return what an answer of this critic, asked by itself, cost lately and over how many.

    (None, 0) where none was priced. Answers under the same rubric are asked first, whatever its version; then
    those under any.

    Args:
        batch_factor: what one that came by batch cost of that.
    """
    newest_seq = connection.scalar(select(func.coalesce(func.max(SCORE.c.seq), 0))) or 0
    by_itself = case((SCORE.c.batch.is_(None), SCORE.c.cost_usd), else_=SCORE.c.cost_usd / batch_factor)
    for of_rubric in ((SCORE.c.rubric == rubric,), ()):
        newest = (
            select(by_itself.label("cost_usd"))
            .where(
                SCORE.c.seq > newest_seq - ROWS_LOOKED_AT,
                SCORE.c.critic == critic,
                SCORE.c.status == "scored",
                SCORE.c.cost_usd.is_not(None),
                *of_rubric,
            )
            .order_by(SCORE.c.seq.desc())
            .limit(ANSWERS_PRICED)
            .subquery()
        )
        mean, n = connection.execute(select(func.avg(newest.c.cost_usd), func.count(newest.c.cost_usd))).one()
        if n:
            return float(mean), int(n)
    return None, 0


def waiting(connection: Connection, blob: str, critic: str) -> int:
    """Return how many rows of a version still wait for this critic."""
    pending = select(func.count()).where(
        SCORE.c.status == "pending", SCORE.c.critic == critic, SCORE.c.rubric_blob == blob
    )
    return int(connection.execute(pending).scalar_one())


def batches_told(connection: Connection, critic: str) -> str | None:
    """Return in words how the critic's open batches stand, or its last one; None where it has none."""
    counts: Mapping[str, int] = dict(
        connection.execute(
            select(BATCH.c.status, func.sum(BATCH.c.requests))
            .where(BATCH.c.critic == critic, BATCH.c.status.in_(("sending", "sent")))
            .group_by(BATCH.c.status)
        ).all()
    )
    newest = (
        select(BATCH.c.status, BATCH.c.reason)
        .where(BATCH.c.critic == critic)
        .order_by(BATCH.c.seq.desc())
        .limit(1)
    )
    last = connection.execute(newest).first()
    if last is None:
        return None
    parts = []
    if counts:
        parts.append(f"{sum(counts.values()):,} requests are at the provider")
    if last.reason:
        parts.append(f"the last batch {_WORDS[last.status]}: {last.reason}")
    return "; ".join(parts) or None


_WORDS = {
    "sending": "is being sent",
    "sent": "waits",
    "ended": "ended",
    "failed": "was not run",
    "lost": "was lost",
}


def _calls(asked: Asked, after_seq: int) -> Any:
    """A page of calls that the guard has read, oldest row first, each with whether it has the answer's row.

    A call that was not read yet is new: it gets its rows when it is.
    """
    rubric = asked.rubric
    the_row = and_(
        SCORE.c.call_seq == CALL.c.seq,
        SCORE.c.rubric_blob == rubric.blob,
        SCORE.c.view_blob == rubric.view_blob,
        SCORE.c.critic == asked.critic,
        SCORE.c.occasion == asked.occasion,
    )
    return (
        select(
            CALL.c.seq,
            CALL.c.tags,
            SLICE.c.prompt,
            SLICE.c.model,
            select(SCORE.c.seq).where(the_row).exists().label("has_row"),
        )
        .join(SLICE, SLICE.c.id == CALL.c.slice_id)
        .join(READING, READING.c.call_seq == CALL.c.seq)
        .where(
            CALL.c.project_id == asked.project_id,
            CALL.c.seq > after_seq,
            CALL.c.started_at_ms >= asked.since_ms,
            CALL.c.started_at_ms < asked.until_ms,
            *(SLICE.c[field] == value for field, value in asked.where.items()),
            *(() if asked.among is None else (CALL.c.seq.in_(asked.among),)),
        )
        .order_by(CALL.c.seq)
        .limit(CALLS_A_PAGE)
    )


def _before(plan: Plan, critic: str) -> str | None:
    place = plan.critics.index(critic)
    return plan.critics[place - 1] if place else None
