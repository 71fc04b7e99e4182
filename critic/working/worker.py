"""The worker: takes calls in, judges them in one lane per critic, writes what came of it.

Flow: critic.process -> `run` -> critic.working.taking and critic.working.lane, until told to stop. One output
per judgement, however many are in flight.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial

from critic import queue
from critic.batching.batches import give_up_others
from critic.batching.lane import BatchLane, Waits
from critic.drivers.base import Driver
from critic.drivers.batching import batcher_of
from critic.drivers.local import LocalDriver
from critic.queue.calls import waiting_rows
from critic.queue.pauses import resume_critic
from critic.queue.work import Work
from critic.working.lane import PASS_ON_ROWS, PAUSE_MS, Lane
from critic.working.pace import Pace
from critic.working.taking import Taking
from critic.working.upkeep import Upkeep
from ingest.settings import Settings

log = logging.getLogger(__name__)

#: Between two looks at the clock, and how far back it must be set to count: less is a clock being trimmed.
CLOCK_EVERY_S = 1.0
CLOCK_STEP_MS = 2_000


class Worker:
    """Scores what waits until told to stop, then finishes what it has in hand.

    Any error that is not a provider's is a bug and ends the worker: whoever started it starts it again, the
    leases bring its calls back, and a call's attempts are bounded.
    """

    def __init__(
        self,
        settings: Settings,
        work: Work,
        drivers: Sequence[Driver],
        local: LocalDriver,
        *,
        pause_ms: int = PAUSE_MS,
        batch_waits: Waits | None = None,
    ) -> None:
        self._work = work
        self.taking = Taking(work, local, poll_s=settings.critic_poll_s, polarity=settings.signal_polarity)
        self._lanes = [
            Lane(
                work,
                driver,
                Pace(settings.critic_in_flight_max, settings.critic_retry_s),
                timeout_s=settings.critic_timeout_s,
                poll_s=settings.critic_poll_s,
                pause_ms=pause_ms,
            )
            for driver in drivers
        ]
        self._batch_lanes = [
            BatchLane(work, driver, batcher, poll_s=settings.critic_poll_s, waits=batch_waits)
            for driver in drivers
            if (batcher := batcher_of(driver)) is not None
        ]
        purses = {
            driver.name: lane.purse
            for driver, lane in zip(drivers, self._lanes, strict=True)
            if driver.name in work.money.budgets
        }
        self._upkeep = Upkeep(work, purses) if purses else None

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; at least one critic must be configured.

        Raises:
            ExceptionGroup: bugs, and a store that stays away. What was in hand is given back first where
                that is still possible.
        """
        await self._begin()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._work.settle())
                group.create_task(self._wake_all(stop))
                parts = [group.create_task(self.taking.run(stop))]
                parts.append(group.create_task(self._watch_clock(stop)))
                parts += [group.create_task(lane.run(stop)) for lane in self._lanes]
                parts += [group.create_task(lane.run(stop)) for lane in self._batch_lanes]
                if self._upkeep is not None:
                    parts.append(group.create_task(self._upkeep.run(stop)))
                await asyncio.wait(parts)
                self._work.close()
        except BaseException:
            left = [retry for lane in self._lanes for retry in await lane.left_in_hand()]
            await self._work.settle_rest(left)
            raise

    async def _wake_all(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._work.tell(self._work.plan.critics)

    async def _watch_clock(self, stop: asyncio.Event) -> None:
        """Where the clock is set back, let what waits by it go on waiting as long as it was meant to.

        Pauses end: who is still out of quota says so at the next request.
        """
        ahead_ms = self._work.clock_ms() - time.monotonic() * 1000
        while not await _set_within(stop, CLOCK_EVERY_S):
            now_ms = self._work.clock_ms()
            was_ahead_ms, ahead_ms = ahead_ms, now_ms - time.monotonic() * 1000
            back_ms = int(was_ahead_ms - ahead_ms)
            if back_ms < CLOCK_STEP_MS:
                continue
            log.warning("the clock was set back by %.0f s; what waits follows it", back_ms / 1000)
            await self._work.write(partial(queue.follow_clock_back, by_ms=back_ms, now_ms=now_ms))
            await self._end_pauses(now_ms)
            self._work.tell(self._work.plan.critics)

    async def _end_pauses(self, now_ms: int) -> None:
        for critic in self._work.plan.critics:
            self._work.pause(critic, now_ms)
            await self._work.write(partial(resume_critic, critic=critic, now_ms=now_ms))

    async def _begin(self) -> None:
        """Forget old pauses (a key may be mended) and give rows of critics no longer configured away."""
        plan, now_ms = self._work.plan, self._work.clock_ms()
        await self._end_pauses(now_ms)
        later = await self._work.write(partial(queue.bound_waits, now_ms=now_ms))
        if later:
            log.info("%d rows were to wait longer than a wait can be; they are due sooner", later)
        give_up = partial(give_up_others, critics=plan.critics, limit=PASS_ON_ROWS, now_ms=now_ms)
        while await self._work.write(give_up):
            continue
        after_seq = 0
        while True:
            rows = await self._work.read(
                partial(
                    waiting_rows, critics=plan.critics, others=True, after_seq=after_seq, limit=PASS_ON_ROWS
                )
            )
            if not rows:
                return
            after_seq = rows[-1].seq
            scores = [score for row in rows for score in plan.after(None, row, row.prompt, (), row.project)]
            await self._work.write(
                partial(
                    queue.hand_over,
                    seqs=[row.seq for row in rows],
                    reason="its critic is no longer configured (LOWLIGHT_CRITIC)",
                    scores=scores,
                    now_ms=now_ms,
                )
            )


async def _set_within(event: asyncio.Event, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            return await event.wait()
    except TimeoutError:
        return False
