"""A trial: labelled calls scored by a real critic under some rubric versions, apart from production.

Flow: `lowlight rubric test` -> a fresh store -> `judge` (the same worker, queue and drivers as in production)
-> `critic.trust.agreement.labelled` per version. Nothing of it reaches the team's own database.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, func, select

from critic import drivers
from critic.drivers.base import Driver
from critic.drivers.local import LocalDriver
from critic.queue.pauses import paused
from critic.queue.plan import Plan
from critic.queue.work import Work, now_ms
from critic.tables import Score
from critic.working.worker import Worker
from ingest.settings import Settings
from ingest.store import Store
from ingest.tables import Todo, columns
from rubrics import Rubric

SCORE, TODO = columns(Score), columns(Todo)

#: How often it is asked whether anything still waits.
POLL_S = 0.1


class TrialStopped(drivers.CriticError):
    """The critic stopped answering before every call was scored; the message says why."""


@dataclass(frozen=True)
class Left:
    """How far a trial is: questions answered or closed, and how many there are."""

    done: int
    of: int


def judge(
    settings: Settings,
    store: Store,
    rubrics: Sequence[Rubric],
    *,
    timeout_s: float,
    progress: Callable[[Left], None] = lambda _left: None,
) -> None:
    """Score every call of `store` under each of these rubrics that applies, and return when none waits.

    Raises:
        TrialStopped: the only critic is paused (bad key, spent quota), or the time is over.
        BadSettings: an unknown critic, or one without its key.
    """
    asyncio.run(_judge(settings, store, rubrics, drivers.build(settings), timeout_s, progress))


async def _judge(
    settings: Settings,
    store: Store,
    rubrics: Sequence[Rubric],
    configured: Sequence[Driver],
    timeout_s: float,
    progress: Callable[[Left], None],
) -> None:
    own = [driver for driver in configured if isinstance(driver, LocalDriver)]
    local = own[0] if own else LocalDriver(settings.base_rate)
    work = Work(store, Plan(configured, rubrics, settings.egress))
    worker = Worker(settings, work, configured, local)
    stop = asyncio.Event()
    until = time.monotonic() + timeout_s
    running = asyncio.create_task(worker.run(stop))
    try:
        while not running.done():
            left, todo = await work.read(_left)
            progress(left)
            if not todo and left.done == left.of:
                return
            stopped = await work.read(partial(paused, now_ms=now_ms()))
            if stopped.keys() >= set(work.plan.critics):
                raise TrialStopped("; ".join(f"{critic}: {reason}" for critic, reason in stopped.items()))
            if time.monotonic() > until:
                raise TrialStopped(f"after {timeout_s:g} s {left.of - left.done} answers are still missing")
            await asyncio.sleep(POLL_S)
    finally:
        stop.set()
        await running


def _left(connection: Connection) -> tuple[Left, int]:
    counted = select(func.count(), func.count().filter(SCORE.c.status != "pending")).select_from(SCORE)
    of, done = connection.execute(counted).one()
    todo = connection.execute(select(func.count()).select_from(TODO)).scalar_one()
    return Left(done, of), todo


def unscored(connection: Connection, blob: str, critic: str) -> dict[str, int]:
    """Return how many calls of a version have no score, by reason, commonest first."""
    rows = connection.execute(
        select(func.coalesce(SCORE.c.reason, SCORE.c.status), func.count())
        .where(SCORE.c.rubric_blob == blob, SCORE.c.critic == critic, SCORE.c.status != "scored")
        .group_by(func.coalesce(SCORE.c.reason, SCORE.c.status))
        .order_by(func.count().desc())
    )
    return dict(rows.all())


def cost_usd(connection: Connection) -> float | None:
    """Return what the trial cost; None where a price is unknown. The local critic costs nothing."""
    unknown_price = SCORE.c.cost_usd.is_(None) & SCORE.c.critic.not_like("local%")
    answered = SCORE.c.status.in_(("scored", "refused"))
    priced = select(func.sum(SCORE.c.cost_usd), func.count().filter(unknown_price, answered))
    total, unknown = connection.execute(priced).one()
    return None if unknown else float(total or 0.0)
