"""One critic's batch lane: hands over what waits for a batch, asks until it ended, keeps the answers.

Flow: critic.batching.gathering -> critic.batching.batches.open_batch -> `Batcher.send` -> `look`, ever more
seldom -> `fetch` -> critic.batching.outcomes -> critic.batching.batches.close_rows. All that matters is in
the database before and after each step, so a lane that ends anywhere is continued by the next one: a batch
stays at the provider, one that was sent and not noted is looked for, answers that are fetched twice close no
row twice.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from critic.batching import batches
from critic.batching.batches import InBatch, OpenBatch
from critic.batching.gathering import Gathered, gather
from critic.batching.outcomes import became, not_run
from critic.drivers.base import Charge, CriticError, CriticUnavailable, Driver
from critic.drivers.batching import Batcher, BatchGone, SentInDoubt, Sought, TurnedDown
from critic.queue.rows import Finished, NewScore, Retry
from critic.queue.work import Work
from critic.spending.budget import NoRoom, Spend
from rubrics import Rubric

log = logging.getLogger(__name__)

#: Batches at the provider at once.
OPEN_MAX = 8
#: Rows closed in one write: bounds how long intake waits behind it.
CLOSE_ROWS = 500
#: Times that a file of answers which breaks off, or a batch that is not there, is asked for again.
BROKEN_MAX = 3
#: What a step may still take when the worker is told to stop.
GRACE_S = 2.0


@dataclass(frozen=True)
class Waits:
    """How long a lane waits for what, in seconds.

    Attributes:
        gather_s: rows wait until none was added for so long, so that a page of them is no batch.
        ask_s, ask_max_s: first and longest time between two looks at a batch.
        find_s, find_max_s: when a batch that was perhaps sent is first looked for, and how long.
        pause_s: after the provider turned down everything, or the day's budget is spent.
    """

    gather_s: float = 10.0
    ask_s: float = 30.0
    ask_max_s: float = 600.0
    find_s: float = 60.0
    find_max_s: float = 600.0
    pause_s: float = 900.0


class BatchLane:
    """See the module. Any error but those that batchers raise on purpose is a bug and ends the worker."""

    def __init__(
        self, work: Work, driver: Driver, batcher: Batcher, *, poll_s: float, waits: Waits | None = None
    ) -> None:
        self._work = work
        self._driver = driver
        self._batcher = batcher
        self._poll_s = poll_s
        self._waits = waits or Waits()
        self._rubrics: dict[str, Rubric] = {rubric.blob: rubric for rubric in work.plan.rubrics}
        #: by batch: when to look at it next (monotonic seconds), after how long a wait
        self._due: dict[int, tuple[float, float]] = {}
        self._broken: dict[int, int] = {}
        self._send_at = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Go on with the critic's batches until `stop` is set; what is at the provider stays there."""
        stopped = asyncio.ensure_future(stop.wait())
        step: asyncio.Future[None] | None = None
        try:
            while not stop.is_set():
                step = asyncio.ensure_future(self._step())
                await asyncio.wait({step, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if not step.done():
                    await asyncio.wait({step}, timeout=GRACE_S)
                    break
                await step
                await asyncio.wait({stopped}, timeout=self._poll_s)
        finally:
            stopped.cancel()
            if step is not None and step.cancel():  # the next start goes on from what is written down
                with contextlib.suppress(asyncio.CancelledError):
                    await step
            await self._batcher.close()

    async def _step(self) -> None:
        critic = self._driver.name
        opened = await self._work.read(partial(batches.open_batches, critic=critic))
        for batch in opened:
            if time.monotonic() >= self._due.get(batch.seq, (0.0, 0.0))[0]:
                await self._look_after(batch)
        if len(opened) < OPEN_MAX and time.monotonic() >= self._send_at:
            newest_ms = await self._work.read(partial(batches.newest_waiting_ms, critic=critic))
            if newest_ms is not None and self._age_s(newest_ms) >= self._waits.gather_s:
                await self._send_next()

    async def _send_next(self) -> None:
        """Write the next batch down and hand it over."""
        now_ms = self._work.clock_ms()
        gathered = await self._work.read(
            partial(
                gather,
                mark=secrets.token_hex(8),
                driver=self._driver,
                batcher=self._batcher,
                plan=self._work.plan,
                money=self._work.money,
                rubrics=self._rubrics,
                paused=self._work.paused(),
                now_ms=now_ms,
            )
        )
        if gathered is None:
            return
        opened = await self._open(gathered, now_ms)
        if gathered.no_room or isinstance(opened, NoRoom):
            log.warning("what waits for a batch of %s does not fit today's budget", self._driver.name)
            self._send_at = time.monotonic() + self._waits.pause_s
        if not isinstance(opened, int):
            return
        try:
            provider_id = await self._batcher.send(gathered.mark, gathered.lines)
        except SentInDoubt as error:
            log.warning("a batch was perhaps sent: %s; it is looked for", error)
            await self._work.write(partial(batches.note_trouble, batch=opened, reason=str(error)))
            return
        except CriticError as error:
            await self._not_taken(opened, error)
            return
        await self._work.write(
            partial(batches.note_sent, batch=opened, provider_id=provider_id, now_ms=self._work.clock_ms())
        )
        self._ask_in(opened, self._waits.ask_s)
        log.info("a batch of %d requests is at %s: %s", len(gathered.lines), self._driver.name, provider_id)

    async def _open(self, gathered: Gathered, now_ms: int) -> int | NoRoom | None:
        opened = await self._work.write(
            partial(
                batches.open_batch,
                critic=self._driver.name,
                project_id=gathered.project_id,
                mark=gathered.mark,
                rows=gathered.rows,
                requests=len(gathered.lines),
                closed=gathered.closed,
                usd=gathered.usd,
                budget=self._work.money.budgets.get(self._driver.name),
                now_ms=now_ms,
            )
        )
        self._work.tell({score.critic for finished in gathered.closed for score in finished.then})
        return opened

    async def _not_taken(self, opened: int, error: CriticError) -> None:
        """Let the rows of a batch that the provider did not take wait; its own fault counts as a try."""
        self._send_at = time.monotonic() + self._waits.pause_s
        if isinstance(error, CriticUnavailable):
            self._send_at = time.monotonic() + max(self._waits.ask_s, error.retry_after_s or 0.0)
        batch = await self._batch(opened)
        if batch is not None:
            counts = isinstance(error, TurnedDown)
            await self._end_not_run(batch, "failed", str(error), counts=counts)

    async def _look_after(self, batch: OpenBatch) -> None:
        try:
            if batch.status == "sending":
                await self._find(batch)
            else:
                await self._ask(batch)
        except BatchGone as error:
            if self._broke(batch) < BROKEN_MAX:
                self._ask_later(batch)
                return
            log.warning("%s; its requests are sent again and may be paid for twice", error)
            await self._end_not_run(batch, "lost", str(error), counts=True, usd=None)
        except CriticError as error:
            wait_s = error.retry_after_s if isinstance(error, CriticUnavailable) else self._waits.pause_s
            self._ask_later(batch, at_least_s=wait_s or 0.0)
            if batch.reason != str(error):
                log.warning("a batch at %s waits: %s", self._driver.name, error)
                await self._work.write(partial(batches.note_trouble, batch=batch.seq, reason=str(error)))

    async def _find(self, batch: OpenBatch) -> None:
        """Look for a batch of which nobody noted whether it was taken."""
        age_s = self._age_s(batch.created_at_ms)
        if age_s < self._waits.find_s:
            self._due[batch.seq] = (time.monotonic() + self._waits.find_s - age_s, self._waits.ask_s)
            return
        since_ms = batch.created_at_ms
        known = await self._work.read(
            partial(batches.known_ids, critic=batch.critic, since_ms=since_ms - 2 * 24 * 3600 * 1000)
        )
        found = await self._batcher.find(Sought(batch.mark, batch.requests, since_ms, known))
        if found.provider_id is not None:
            log.info("the batch %s was taken after all: %s", batch.mark, found.provider_id)
            await self._work.write(
                partial(
                    batches.note_sent,
                    batch=batch.seq,
                    provider_id=found.provider_id,
                    now_ms=self._work.clock_ms(),
                )
            )
            self._due.pop(batch.seq, None)
        elif found.maybe_later or age_s < self._waits.find_max_s:
            self._ask_later(batch)
        else:
            await self._end_not_run(batch, "failed", "it never came to the provider", counts=False)

    async def _ask(self, batch: OpenBatch) -> None:
        """Look how far a batch is, and keep its answers where it ended."""
        assert batch.provider_id is not None
        state = await self._batcher.look(batch.provider_id)
        if state.turned_down is not None:
            if state.no_room:
                self._send_at = time.monotonic() + self._waits.pause_s
            counts = not state.no_room
            await self._end_not_run(batch, "failed", state.turned_down, counts=counts)
        elif state.ended:
            await self._keep(batch, batch.provider_id)
        else:
            self._ask_later(batch)
            if batch.reason is not None:
                await self._work.write(partial(batches.note_trouble, batch=batch.seq, reason=None))

    async def _keep(self, batch: OpenBatch, provider_id: str) -> None:
        """Fetch the answers and close the rows."""
        results = await self._batcher.fetch(provider_id)
        if not results.whole and self._broke(batch) < BROKEN_MAX:
            log.warning("the answers of batch %s broke off; they are fetched again", provider_id)
            self._ask_later(batch)
            return
        rows = await self._work.read(partial(batches.rows_of, batch=batch))
        done = await asyncio.to_thread(
            became,
            batch,
            results,
            rows,
            batcher=self._batcher,
            held=await self._work.read(partial(batches.held_for, batch=batch.seq)),
            price=partial(_price, self._work, batch),
            next_rows=self._next_rows(),
        )
        reason = f"{len(done.finished):,} answers kept, {len(done.back):,} to ask again"
        await self._close(done.finished, done.back)
        await self._end(batch, "ended", reason, done.spends)
        try:
            await self._batcher.forget(provider_id)
        except CriticError as error:
            log.warning("%s keeps the texts of batch %s: %s", self._driver.name, provider_id, error)

    async def _end_not_run(
        self, batch: OpenBatch, status: str, reason: str, *, counts: bool, usd: float | None = 0.0
    ) -> None:
        """Be done with a batch that gave nothing. `usd` None: what was held for it is taken for spent."""
        rows = await self._work.read(partial(batches.rows_of, batch=batch))
        finished, back = not_run(rows, reason, counts=counts, next_rows=self._next_rows())
        await self._close(finished, back)
        held = await self._work.read(partial(batches.held_for, batch=batch.seq))
        requests = batch.requests if usd is None else 0
        spends = [Spend(batch.project_id, batch.critic, usd, held, requests=requests)]
        await self._end(batch, status, reason, spends)

    async def _close(self, finished: Sequence[Finished], back: Sequence[Retry]) -> None:
        for i in range(0, max(len(finished), len(back)), CLOSE_ROWS):
            part = slice(i, i + CLOSE_ROWS)
            await self._work.write(
                partial(
                    batches.close_rows,
                    finished=finished[part],
                    back=back[part],
                    now_ms=self._work.clock_ms(),
                )
            )
        self._work.tell({score.critic for one in finished for score in one.then})

    async def _end(self, batch: OpenBatch, status: str, reason: str, spends: Sequence[Spend]) -> None:
        await self._work.write(
            partial(
                batches.end_batch,
                batch=batch.seq,
                status=status,
                reason=reason,
                spends=spends,
                now_ms=self._work.clock_ms(),
            )
        )
        self._due.pop(batch.seq, None)
        self._broken.pop(batch.seq, None)
        log.info("the batch %s of %s: %s: %s", batch.mark, batch.critic, status, reason)

    async def _batch(self, seq: int) -> OpenBatch | None:
        opened = await self._work.read(partial(batches.open_batches, critic=self._driver.name))
        return next((batch for batch in opened if batch.seq == seq), None)

    def _next_rows(self) -> "partial[tuple[NewScore, ...]]":
        return partial(_after, self._work, self._work.paused())

    def _broke(self, batch: OpenBatch) -> int:
        self._broken[batch.seq] = self._broken.get(batch.seq, 0) + 1
        return self._broken[batch.seq]

    def _ask_in(self, batch: int, wait_s: float) -> None:
        self._due[batch] = (time.monotonic() + wait_s, wait_s)

    def _ask_later(self, batch: OpenBatch, *, at_least_s: float = 0.0) -> None:
        """Double the wait, up to its longest."""
        before_s = self._due.get(batch.seq, (0.0, self._waits.ask_s / 2))[1]
        wait_s = max(self._waits.ask_s, min(2 * before_s, self._waits.ask_max_s))
        self._due[batch.seq] = (time.monotonic() + max(wait_s, at_least_s), wait_s)

    def _age_s(self, since_ms: int) -> float:
        return (self._work.clock_ms() - since_ms) / 1000


def _after(work: Work, paused: frozenset[str], row: InBatch) -> tuple[NewScore, ...]:
    return tuple(work.plan.after(row.critic, row, row.prompt, paused, row.project))


def _price(work: Work, batch: OpenBatch, came: Charge) -> float | None:
    return work.money.cost_usd(batch.critic, came, batch.created_at_ms, batched=True)
