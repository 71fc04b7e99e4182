"""How far behind the traffic the page is: what is not ranked yet, and what the critic still has to do."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Subquery, func, select

from critic.tables import CriticState, Score
from dashboards.words import moment
from ingest.tables import Todo, columns

TODO, SCORE, STATE = columns(Todo), columns(Score), columns(CriticState)

#: Counting stops here: "more than 10,000" is all that a reader needs.
COUNT_MAX = 10_000
#: Deferred answers looked at for one that waits for money: bounded, however many there are.
DEFERRED_READ_MAX = 1_000


@dataclass(frozen=True)
class Pause:
    """A critic that takes no work now.

    Attributes:
        critic: as configured.
        until: when it tries again; None where it waits for a person.
        reason: in words.
    """

    critic: str
    until: datetime | None
    reason: str | None


@dataclass(frozen=True)
class CriticWork:
    """What the critic still has to do.

    Attributes:
        calls_waiting: calls that no critic has taken up.
        answers_waiting: answers that are being asked for, or asked for again.
        at_least: True where counting stopped and there are more.
        pauses: critics that take no work now, and why.
        out_of_money: critics that put calls off today because their budget is spent.
    """

    calls_waiting: int
    answers_waiting: int
    at_least: bool
    pauses: tuple[Pause, ...]
    out_of_money: tuple[str, ...] = ()


def critic_work(connection: Connection, now_ms: int) -> CriticWork:
    """Count what waits for the critic, to COUNT_MAX, and name the critics that pause."""
    calls = _counted(connection, select(TODO.c.seq).limit(COUNT_MAX).subquery())
    answers = _counted(
        connection, select(SCORE.c.seq).where(SCORE.c.status == "pending").limit(COUNT_MAX).subquery()
    )
    pauses = tuple(
        Pause(row.critic, moment(row.paused_until_ms) if row.paused_until_ms else None, row.reason)
        for row in connection.execute(
            select(STATE).where(STATE.c.paused_until_ms > now_ms).order_by(STATE.c.critic)
        )
    )
    spent = tuple(
        critic
        for critic in connection.scalars(select(STATE.c.critic).order_by(STATE.c.critic)).all()
        if _puts_off(connection, critic, now_ms)
    )
    return CriticWork(calls, answers, calls == COUNT_MAX or answers == COUNT_MAX, pauses, spent)


def _puts_off(connection: Connection, critic: str, now_ms: int) -> bool:
    """Tell whether any call waits for a reset of this critic's budget that is still to come."""
    deferred = (
        select(SCORE.c.not_before_ms)
        .where(SCORE.c.status == "deferred", SCORE.c.critic == critic)
        .limit(DEFERRED_READ_MAX)
        .subquery()
    )
    wanted = select(deferred.c.not_before_ms).where(deferred.c.not_before_ms > now_ms).limit(1)
    return connection.scalar(wanted) is not None


def _counted(connection: Connection, of: Subquery) -> int:
    return connection.execute(select(func.count()).select_from(of)).scalar_one()
