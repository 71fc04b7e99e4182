"""The worker's upkeep of money: what was put off is taken up again, and what the dead held is settled.

Flow: critic.working.worker -> `Upkeep.run`, every few seconds while a budget holds. It does little at a time,
so that intake never waits behind it.
"""

import asyncio
import logging
from collections.abc import Mapping
from functools import partial

from sqlalchemy import Connection

from critic.queue.deferral import give_up, revive
from critic.queue.work import Work
from critic.spending.budget import day_of, settle_dead
from critic.working.purse import Purse

log = logging.getLogger(__name__)

EVERY_S = 2.0
#: Between two looks for what has waited for 14 days, which goes through all that is deferred.
GIVE_UP_EVERY_MS = 10 * 60 * 1000
#: Deferred calls taken up at a time: a budget that is spent again puts off at most so many once more.
REVIVED_MAX = 200


class Upkeep:
    """See the module.

    Args:
        purses: by critic with a budget.
    """

    def __init__(self, work: Work, purses: Mapping[str, Purse], *, every_s: float = EVERY_S) -> None:
        self._work = work
        self._purses = purses
        self._every_s = every_s
        self._give_up_at_ms = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Look after the money until `stop` is set."""
        while not stop.is_set():
            await self.look()
            try:
                async with asyncio.timeout(self._every_s):
                    await stop.wait()
            except TimeoutError:
                continue

    async def look(self) -> None:
        """Settle what ended, give up what is too old, take up what its day's end had put off."""
        now_ms = self._work.clock_ms()
        today = day_of(now_ms)
        to_revive = [critic for critic, purse in self._purses.items() if purse.empty_on != today]
        revived = await self._work.write(partial(_look, critics=to_revive, now_ms=now_ms))
        self._work.tell(revived)
        if now_ms >= self._give_up_at_ms and not await self._work.write(partial(give_up, now_ms=now_ms)):
            self._give_up_at_ms = now_ms + GIVE_UP_EVERY_MS


def _look(connection: Connection, *, critics: list[str], now_ms: int) -> set[str]:
    """Return the critics that have calls to judge again."""
    usd = settle_dead(connection, now_ms=now_ms)
    if usd:
        log.warning("$%.4f that a worker held when it ended is settled in full", usd)
    return {critic for critic in critics if revive(connection, critic, calls_max=REVIVED_MAX, now_ms=now_ms)}
