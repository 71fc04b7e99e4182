"""The critic's own figures: how far it got, how fast it is, what failed and why, and whose texts went where.

All of a window's newest CALLS_READ calls at most, so that nothing grows with what is kept. Money is in
`dashboards.queries.critic_money`.
"""

import math
import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Subquery, func, select

from critic.egress import DEFAULT_PROJECT_NAME
from critic.queue.plan import Plan
from critic.queue.rows import NOT_BY_ITSELF_MS
from critic.tables import STATUSES, CriticState, Score
from dashboards.filters import Window
from dashboards.queries.freshness import CriticWork, critic_work
from dashboards.queries.rubrics import CALLS_READ
from dashboards.words import moment
from ingest.tables import Call, Slice, Todo, columns

CALL, SCORE, SLICE, TODO, STATE = (columns(table) for table in (Call, Score, Slice, Todo, CriticState))

#: Classes of failures shown, examples of each, and prompts in the egress table.
CLASSES_MAX, EXAMPLES_MAX, PROMPTS_MAX = 12, 3, 20
#: Different reasons read before they are put into classes.
REASONS_MAX = 500
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True)
class CriticCoverage:
    """How far one critic got with the calls of a window.

    Attributes:
        critic: as configured, or once configured.
        scored_calls: calls it gave at least one score.
        by_status: answers by status, every status named.
    """

    critic: str
    scored_calls: int
    by_status: dict[str, int]

    @property
    def n(self) -> int:
        """All its answers."""
        return sum(self.by_status.values())


@dataclass(frozen=True)
class Coverage:
    """How many of a window's calls have a score.

    Attributes:
        calls: calls read: the window's newest, at most CALLS_READ.
        scored_calls: those with a score by any critic.
        asked_calls: those that any critic was asked about.
        critics: by critic, in configured order, others after them.
    """

    calls: int
    scored_calls: int
    asked_calls: int
    critics: tuple[CriticCoverage, ...]


@dataclass(frozen=True)
class Queue:
    """What waits, and for how long.

    Attributes:
        oldest_call_at: when the call that no critic has looked at longest arrived; None where none waits.
        longest_due_at: when the answer that has been due longest was first asked for; None where none waits.
    """

    work: CriticWork
    oldest_call_at: datetime | None
    longest_due_at: datetime | None


@dataclass(frozen=True)
class FailureClass:
    """Answers that failed alike.

    Attributes:
        status: failed, refused, ungraded, deferred, skipped, or pending where a try failed and another waits.
        reason: in words; numbers that differ between them read N.
        n: how many.
        examples: ids of calls, the newest first.
    """

    critic: str
    status: str
    reason: str
    n: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Speed:
    """How long one critic takes for a request.

    Attributes:
        n: answers measured.
        p50_ms, p95_ms: by nearest rank; no p95 below 20 answers.
    """

    critic: str
    n: int
    p50_ms: float
    p95_ms: float | None


@dataclass(frozen=True)
class Destination:
    """Where one critic's texts go.

    Attributes:
        leaves: whether they leave this machine.
        rules: what LOWLIGHT_EGRESS allows it, as (project, pattern); empty where nothing, or not needed.
    """

    critic: str
    leaves: bool
    rules: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class PromptEgress:
    """What became of one prompt's texts in the window.

    Attributes:
        prompt: its name; '' for calls without one.
        calls: how many.
        may: by critic, whether they may go there now.
        sent: by critic, calls whose texts were shown to it.
    """

    prompt: str
    calls: int
    may: dict[str, bool]
    sent: dict[str, int]


@dataclass(frozen=True)
class Egress:
    """What goes where."""

    destinations: tuple[Destination, ...]
    prompts: tuple[PromptEgress, ...]


def coverage(connection: Connection, project_id: int, window: Window, critics: list[str]) -> Coverage:
    """Return how far critics got with a window's newest calls."""
    newest = _newest(project_id, window)
    rows = connection.execute(
        select(SCORE.c.critic, SCORE.c.status, func.count().label("n"))
        .select_from(newest.join(SCORE, SCORE.c.call_seq == newest.c.seq))
        .where(SCORE.c.occasion == "")
        .group_by(SCORE.c.critic, SCORE.c.status)
    )
    by_critic: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(STATUSES, 0))
    for row in rows:
        by_critic[row.critic][row.status] = row.n
    scored = SCORE.c.status == "scored"
    per_critic = connection.execute(
        select(SCORE.c.critic, func.count(SCORE.c.call_seq.distinct()))
        .select_from(newest.join(SCORE, SCORE.c.call_seq == newest.c.seq))
        .where(SCORE.c.occasion == "", scored)
        .group_by(SCORE.c.critic)
    )
    scored_calls: dict[str, int] = dict(per_critic.all())
    asked, with_score = connection.execute(
        select(
            func.count(SCORE.c.call_seq.distinct()), func.count(SCORE.c.call_seq.distinct()).filter(scored)
        )
        .select_from(newest.join(SCORE, SCORE.c.call_seq == newest.c.seq))
        .where(SCORE.c.occasion == "")
    ).one()
    order = {critic: place for place, critic in enumerate(critics)}
    names = sorted({*by_critic, *critics}, key=lambda name: (order.get(name, len(order)), name))
    return Coverage(
        calls=connection.scalar(select(func.count()).select_from(newest)) or 0,
        scored_calls=with_score,
        asked_calls=asked,
        critics=tuple(
            CriticCoverage(name, scored_calls.get(name, 0), dict(by_critic[name])) for name in names
        ),
    )


def queue_now(connection: Connection, now_ms: int) -> Queue:
    """Return what waits for the critics now."""
    oldest_todo = select(TODO.c.call_seq).order_by(TODO.c.seq).limit(1).scalar_subquery()
    arrived_ms = connection.scalar(select(CALL.c.received_at_ms).where(CALL.c.seq == oldest_todo))
    due = [
        connection.scalar(
            select(SCORE.c.created_at_ms)
            .where(
                SCORE.c.status == "pending",
                SCORE.c.critic == critic,
                SCORE.c.not_before_ms < NOT_BY_ITSELF_MS,  # a batch may take a day
            )
            .order_by(SCORE.c.not_before_ms, SCORE.c.seq)
            .limit(1)
        )
        for critic in connection.scalars(select(STATE.c.critic)).all()
    ]
    waiting = [at_ms for at_ms in due if at_ms is not None]
    return Queue(
        critic_work(connection, now_ms),
        None if arrived_ms is None else moment(arrived_ms),
        moment(min(waiting)) if waiting else None,
    )


def failures(connection: Connection, project_id: int, window: Window) -> tuple[FailureClass, ...]:
    """Return why answers of a window's newest calls are missing, commonest first, with examples."""
    newest = _newest(project_id, window)
    said = func.coalesce(SCORE.c.reason, SCORE.c.last_error)
    rows = connection.execute(
        select(
            SCORE.c.critic,
            SCORE.c.status,
            said.label("reason"),
            func.count().label("n"),
            func.max(SCORE.c.call_seq).label("newest_seq"),
        )
        .select_from(newest.join(SCORE, SCORE.c.call_seq == newest.c.seq))
        .where(SCORE.c.occasion == "", SCORE.c.status != "scored", said.is_not(None))
        .group_by(SCORE.c.critic, SCORE.c.status, said)
        .order_by(func.count().desc())
        .limit(REASONS_MAX)
    ).all()
    n: dict[tuple[str, str, str], int] = defaultdict(int)
    seqs: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    words: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for row in rows:
        key = (row.critic, row.status, _NUMBER.sub("N", row.reason))
        n[key] += row.n
        seqs[key].append(row.newest_seq)
        words[key].add(row.reason)
    commonest = sorted(n, key=lambda key: (-n[key], key))[:CLASSES_MAX]
    shown = {key: sorted(seqs[key], reverse=True)[:EXAMPLES_MAX] for key in commonest}
    wanted = [seq for of_class in shown.values() for seq in of_class]
    ids: dict[int, str] = dict(
        connection.execute(select(CALL.c.seq, CALL.c.id).where(CALL.c.seq.in_(wanted))).all()
    )
    return tuple(
        FailureClass(
            critic=key[0],
            status=key[1],
            reason=next(iter(words[key])) if len(words[key]) == 1 else key[2],
            n=n[key],
            examples=tuple(ids[seq] for seq in shown[key] if seq in ids),
        )
        for key in commonest
    )


def speeds(connection: Connection, project_id: int, window: Window) -> tuple[Speed, ...]:
    """Return how long critics took for the window's newest calls; one value a request, whatever it asked."""
    newest = _newest(project_id, window)
    rows = connection.execute(
        select(SCORE.c.critic, SCORE.c.answer_ms)
        .select_from(newest.join(SCORE, SCORE.c.call_seq == newest.c.seq))
        .where(SCORE.c.occasion == "", SCORE.c.answer_ms.is_not(None))
        # Rubrics that shared a request have its time to the digit.
        .group_by(SCORE.c.critic, SCORE.c.call_seq, SCORE.c.answer_ms)
        .order_by(SCORE.c.critic, SCORE.c.answer_ms)
    )
    times: dict[str, list[float]] = defaultdict(list)
    for critic, answer_ms in rows:
        times[critic].append(answer_ms)
    return tuple(
        Speed(critic, len(found), _rank(found, 0.5), _rank(found, 0.95) if len(found) >= 20 else None)
        for critic, found in times.items()
    )


def egress(
    connection: Connection, project_id: int, window: Window, plan: Plan, leaves: dict[str, bool]
) -> Egress:
    """Return which texts may go to which critic, and of which prompts some went.

    Args:
        plan: of the configured critics, for its rules.
        leaves: by configured critic, whether texts leave this machine.
    """
    newest = _newest(project_id, window)
    by_prompt = connection.execute(
        select(SLICE.c.prompt, func.count().label("n"))
        .select_from(newest.join(SLICE, SLICE.c.id == newest.c.slice_id))
        .group_by(SLICE.c.prompt)
        .order_by(func.count().desc(), SLICE.c.prompt)
        .limit(PROMPTS_MAX)
    ).all()
    shown = connection.execute(
        select(SLICE.c.prompt, SCORE.c.critic, func.count(SCORE.c.call_seq.distinct()).label("n"))
        .select_from(
            newest.join(SLICE, SLICE.c.id == newest.c.slice_id).join(SCORE, SCORE.c.call_seq == newest.c.seq)
        )
        .where(SCORE.c.answer_ms.is_not(None), SCORE.c.occasion == "")
        .group_by(SLICE.c.prompt, SCORE.c.critic)
    )
    sent: dict[str, dict[str, int]] = defaultdict(dict)
    for prompt, critic, n in shown:
        if leaves.get(critic, critic != "local"):
            sent[prompt][critic] = n
    return Egress(
        tuple(
            Destination(
                critic,
                out,
                tuple((rule.project, rule.pattern) for rule in plan.egress.rules_for(critic)) if out else (),
            )
            for critic, out in leaves.items()
        ),
        tuple(
            PromptEgress(
                row.prompt,
                row.n,
                {
                    critic: plan.egress.allows(critic, DEFAULT_PROJECT_NAME, row.prompt)
                    for critic, out in leaves.items()
                    if out
                },
                sent[row.prompt],
            )
            for row in by_prompt
        ),
    )


def _newest(project_id: int, window: Window) -> Subquery:
    return (
        select(CALL.c.seq, CALL.c.slice_id)
        .where(
            CALL.c.project_id == project_id,
            CALL.c.started_at_ms >= window.since_ms,
            CALL.c.started_at_ms < window.until_ms,
        )
        .order_by(CALL.c.started_at_ms.desc())
        .limit(CALLS_READ)
        .subquery()
    )


def _rank(ascending: list[float], q: float) -> float:
    """The nearest-rank quantile."""
    return ascending[max(1, math.ceil(len(ascending) * q)) - 1]
