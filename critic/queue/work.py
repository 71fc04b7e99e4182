"""What the worker's coroutines share: the store, kept off the loop, the plan, who is paused, the outbox.

Flow: critic.working.taking and critic.working.lane -> `Work.read`, `Work.write` (threads) and `Work.hand_in`
-> one grouped write for all answers that wait -> the lanes whose critic got new rows are told.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection

from critic import queue
from critic.queue.plan import Plan
from critic.queue.rows import Finished, Retry
from critic.spending.budget import Spend
from critic.spending.money import Money
from ingest.errors import IngestError, StoreUnavailable, WriterBusy
from ingest.store import Store, read_counted

T = TypeVar("T")
#: What a lane hands in.
HandedIn = Finished | Retry | Spend

log = logging.getLogger(__name__)

#: Answers in one write: bounds how long intake waits behind it.
SETTLE_MAX = 500
#: Tries of a write before the worker gives up, a second apart. What it had in hand is leased, so not lost.
WRITE_TRIES = 10


def now_ms() -> int:
    """Return the time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Work:
    """See the module. `clock_ms` is the wall clock of every wait, lease and pause.

    Attributes:
        money: prices and budgets; without any given, the shipped prices and no budget.
    """

    def __init__(
        self,
        store: Store,
        plan: Plan,
        *,
        money: Money | None = None,
        clock_ms: Callable[[], int] = now_ms,
    ) -> None:
        self.plan = plan
        self.money = money or Money()
        self.clock_ms = clock_ms
        self._store = store
        self._paused_until_ms: dict[str, int] = {}
        self._new_rows: set[str] = set()
        self._news: dict[str, asyncio.Event] = {critic: asyncio.Event() for critic in plan.critics}
        self._outbox: asyncio.Queue[HandedIn | None] = asyncio.Queue()
        self._unwritten: list[HandedIn] = []

    async def read(self, query: Callable[[Connection], T], *, counted: bool = False) -> T:
        """Return `query(connection)` on a short read-only connection, in a thread.

        Args:
            counted: it reads latency counts; see `ingest.store.read_counted`.
        """

        def _read() -> T:
            with read_counted(self._store) if counted else self._store.read() as connection:
                return query(connection)

        return await asyncio.to_thread(_read)

    async def write(self, job: Callable[[Connection], T]) -> T:
        """Return `job(connection)` once committed, in a thread; waits while the writer is busy.

        Raises:
            StoreUnavailable: not within ten tries; the server is gone or the database is.
        """
        for tries_left in reversed(range(WRITE_TRIES)):
            try:
                return await asyncio.to_thread(self._store.write, job)
            except (WriterBusy, StoreUnavailable) as error:
                if not tries_left:
                    raise
                log.warning("the critic's write waits: %s", error)
                await asyncio.sleep(getattr(error, "retry_after_s", 1.0))
        raise AssertionError("unreachable")

    def paused(self) -> frozenset[str]:
        """Return the critics that are paused now."""
        now = self.clock_ms()
        return frozenset(critic for critic, until in self._paused_until_ms.items() if until > now)

    def pause(self, critic: str, until_ms: int) -> None:
        """Note a pause that has been or is being written."""
        self._paused_until_ms[critic] = until_ms

    def news(self, critic: str) -> asyncio.Event:
        """Return the event that wakes a critic's lane."""
        return self._news[critic]

    def tell(self, critics: Iterable[str]) -> None:
        """Wake the lanes of these critics: there may be new rows."""
        for critic in self._news.keys() & set(critics):
            self._new_rows.add(critic)
            self._news[critic].set()

    def has_new_rows(self, critic: str) -> bool:
        """Tell whether `tell` named this critic since the last time it was asked."""
        told = critic in self._new_rows
        self._new_rows.discard(critic)
        return told

    def hand_in(self, result: HandedIn) -> None:
        """Give back a leased row, or book what a request cost; it is written with whatever else waits.

        A request's cost is handed in after its rows: should a crash come between the two, the money held for
        it is settled in full, and nothing is judged twice.
        """
        self._outbox.put_nowait(result)

    async def settle(self) -> None:
        """Write what is handed in, as it comes, until `close`."""
        closed = False
        while not closed:
            results = [await self._outbox.get()]
            while len(results) < SETTLE_MAX and not self._outbox.empty():
                results.append(self._outbox.get_nowait())
            closed = None in results
            await self._settle([result for result in results if result is not None])

    def close(self) -> None:
        """End `settle` once everything handed in is written."""
        self._outbox.put_nowait(None)

    async def settle_rest(self, retries: Iterable[Retry]) -> None:
        """Write what is left when `settle` was broken off, and these retries, where that is possible."""
        # A write that was broken off may have been done all the same; doing it twice changes nothing.
        results: list[HandedIn] = [*self._unwritten, *retries]
        while not self._outbox.empty():
            waiting = self._outbox.get_nowait()
            if waiting is not None:
                results.append(waiting)
        try:
            await self._settle(results)
        except IngestError as error:
            log.warning("%d leased rows come back when their leases end: %s", len(results), error)

    async def _settle(self, results: list[HandedIn]) -> None:
        if not results:
            return
        self._unwritten = results
        finished = [result for result in results if isinstance(result, Finished)]
        retries = [result for result in results if isinstance(result, Retry)]
        spends = [result for result in results if isinstance(result, Spend)]
        late = await self.write(
            partial(queue.settle, finished=finished, retries=retries, spends=spends, now_ms=self.clock_ms())
        )
        self._unwritten = []
        if late:
            log.warning("%d answers came after their lease had ended; they are not kept", len(late))
        self.tell({score.critic for result in finished for score in result.then})
