"""One critic's lane: leases its rows, asks its driver about each case, hands the answers in.

Flow: critic.queue.lease -> critic.queue.cases.prepare -> critic.working.purse (where a budget
holds) -> `Driver.judge`, many at once -> `Work.hand_in`. A case that waits for another try goes back into the
queue and frees its slot; a hung one ends at the time limit.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from functools import partial

from critic import queue
from critic.drivers.base import Answer, CriticMisconfigured, CriticUnavailable, Driver, Verdict
from critic.queue.calls import waiting_rows
from critic.queue.cases import Judgement, prepare
from critic.queue.closing import closed_by
from critic.queue.pauses import pause_critic, resume_critic
from critic.queue.rows import Finished, Leased, NewScore, Retry
from critic.queue.work import Work
from critic.spending.budget import Spend
from critic.working.pace import Pace
from critic.working.purse import Purse
from ingest.errors import IngestError
from rubrics import Rubric

log = logging.getLogger(__name__)

#: A paused critic is asked again after this long, by one judgement; a new start asks at once.
PAUSE_MS = 15 * 60 * 1000
#: Tries that do not count against a call end this long after its first.
PATIENCE_MS = 24 * 3600 * 1000
#: Rows read at a time when a paused critic's backlog goes to the next one.
PASS_ON_ROWS = 500


class Lane:
    """See the module. Any error but those that drivers raise on purpose is a bug and ends the worker."""

    def __init__(
        self,
        work: Work,
        driver: Driver,
        pace: Pace,
        *,
        timeout_s: float,
        poll_s: float,
        pause_ms: int = PAUSE_MS,
    ) -> None:
        self._work = work
        self._driver = driver
        self._pace = pace
        self._timeout_s = timeout_s
        self._poll_s = poll_s
        self._pause_ms = pause_ms
        self._purse = Purse(work, driver)
        # A case may wait in `_ready` for its slot and must then still have its whole time limit.
        self._lease_ms = int((4 * timeout_s + 60) * 1000)
        self._rubrics: dict[str, Rubric] = {rubric.blob: rubric for rubric in work.plan.rubrics}
        self._ready: deque[Judgement] = deque()
        #: by task, when it was sent; oldest first
        self._judging: dict[asyncio.Task[None], float] = {}
        self._refilling: asyncio.Task[None] | None = None
        self._in_hand: dict[int, Leased] = {}
        self._leasing: asyncio.Future[list[Leased]] | None = None
        self._ask_at = 0.0
        self._was_paused = False

    async def run(self, stop: asyncio.Event) -> None:
        """Judge until `stop` is set, then finish what is in hand and give back what has not begun."""
        news = self._work.news(self._driver.name)
        try:
            async with asyncio.TaskGroup() as group:
                while not stop.is_set():
                    news.clear()
                    self._start(group)
                    if self._refilling is None and (wanted := self._wanted()):
                        # Beside the judging: a slot that frees meanwhile takes what is ready.
                        self._refilling = group.create_task(self._refill(wanted))
                        self._refilling.add_done_callback(self._refilled)
                    await _set_within(news, self._pace.held_s() or self._poll_s)
                if self._refilling is not None:
                    await self._refilling
                self._give_back_ready()
        finally:
            await self._driver.close()

    @property
    def purse(self) -> Purse:
        """The lane's money."""
        return self._purse

    async def left_in_hand(self) -> list[Retry]:
        """Return what undoes the leases of rows that nobody handed in: the worker is ending on a bug."""
        if self._leasing is not None:
            with contextlib.suppress(IngestError):
                self._in_hand |= {row.seq: row for row in await self._leasing}
        return [self._untouched(row) for row in self._in_hand.values()]

    def _wanted(self) -> int:
        """Return how many calls to lease now, ahead of the slots, so that none waits for the database."""
        if self._work.has_new_rows(self._driver.name):
            self._ask_at = 0.0
        wanted = self._pace.limit - len(self._ready)
        return 0 if 2 * wanted <= self._pace.limit or time.monotonic() < self._ask_at else wanted

    async def _refill(self, wanted: int) -> None:
        """Make judgements ready of at most `wanted` calls."""
        leased = await self._lease(wanted)
        if len({row.call_seq for row in leased}) < wanted:
            self._ask_at = time.monotonic() + self._poll_s
        if not leased:
            return
        judgements, closed = await self._work.read(
            partial(
                prepare,
                leased=leased,
                driver=self._driver,
                plan=self._work.plan,
                paused=self._work.paused(),
                rubrics=self._rubrics,
            )
        )
        for finished in closed:
            self._hand_in(finished)
        funded, unfunded = await self._purse.fund(judgements)
        for result in unfunded:
            self._hand_in(result)
        self._ready.extend(funded)

    async def _lease(self, calls_max: int) -> list[Leased]:
        job = partial(
            queue.lease,
            critic=self._driver.name,
            calls_max=calls_max,
            now_ms=self._work.clock_ms(),
            lease_ms=self._lease_ms,
        )
        # Kept, so that rows leased while the worker ends are known and given back.
        self._leasing = asyncio.ensure_future(self._work.write(job))
        leased = await asyncio.shield(self._leasing)
        self._leasing = None
        self._in_hand |= {row.seq: row for row in leased}
        return leased

    def _start(self, group: asyncio.TaskGroup) -> None:
        """Put a judgement into every free slot."""
        if self._driver.name in self._work.paused():
            self._give_back_ready()
        if not self._ready or self._pace.held_s():
            return
        free = self._pace.limit + self._hung() - len(self._judging)
        while self._ready and free > 0:
            judgement = self._ready.popleft()
            left_ms = judgement.rows[0].lease_until_ms - self._work.clock_ms()
            if left_ms < self._timeout_s * 1000:
                self._give_back_unasked(judgement)
                continue
            task = group.create_task(self._judge(judgement))
            self._judging[task] = time.monotonic()
            task.add_done_callback(self._done)
            free -= 1

    def _hung(self) -> int:
        """Return how many judgements hold no slot because their provider seems to have forgotten them.

        At most as many as there are slots, so that no more than twice the limit are ever in flight.
        """
        before = time.monotonic() - self._pace.hung_after_s()
        hung = 0
        for sent_at in self._judging.values():
            if sent_at > before:
                break
            hung += 1
        return min(hung, self._pace.limit)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._judging.pop(task, None)
        self._work.news(self._driver.name).set()

    def _refilled(self, _task: asyncio.Task[None]) -> None:
        self._refilling = None
        self._work.news(self._driver.name).set()

    async def _judge(self, judgement: Judgement) -> None:
        started_at = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s):
                verdicts = await self._driver.judge(judgement.case)
            answer_ms = (time.monotonic() - started_at) * 1000
            pairs = list(zip(judgement.rows, verdicts, strict=True))
        except TimeoutError:
            said = f"{self._driver.name} gave no answer within {self._timeout_s:g} s"
            self._not_answered(judgement, started_at, CriticUnavailable(said, blames_call=True))
        except CriticUnavailable as error:
            self._not_answered(judgement, started_at, error)
        except CriticMisconfigured as error:
            await self._pause(judgement, error)
        except Exception as error:
            # A bug. This call's try counts, its neighbours' do not: else one bad call spends theirs.
            for row in judgement.rows:
                self._hand_in(self._later(row, 0.0, f"{type(error).__name__}: {error}", counts=True))
            self._book(self._purse.in_doubt(judgement))
            raise
        else:
            await self._answered(answer_ms / 1000)
            costs_usd = self._purse.costs_usd(verdicts)
            for (row, verdict), cost_usd in zip(pairs, costs_usd, strict=True):
                self._hand_in(self._finished(row, verdict, judgement, answer_ms, cost_usd))
            self._book(self._purse.spent(judgement, costs_usd))

    def _book(self, spend: Spend | None) -> None:
        if spend is not None:
            self._work.hand_in(spend)

    async def _answered(self, took_s: float) -> None:
        self._pace.answered(took_s)
        self._pace.obey(self._driver.limits, len(self._judging) - 1)
        if self._was_paused:
            self._was_paused = False
            name = self._driver.name
            await self._work.write(partial(resume_critic, critic=name, now_ms=self._work.clock_ms()))

    def _not_answered(self, judgement: Judgement, started_at: float, error: CriticUnavailable) -> None:
        """Hand a case back for another try, or close it where its tries or a day are spent."""
        self._pace.not_answered(started_at)
        self._pace.obey(self._driver.limits, len(self._judging) - 1)
        now_ms = self._work.clock_ms()
        for row in judgement.rows:
            spent = row.attempts >= queue.ATTEMPTS_MAX if error.blames_call else False
            if spent or now_ms - row.first_leased_at_ms > PATIENCE_MS:
                reason = f"given up after {row.attempts} tries; the last: {error}"
                self._hand_in(self._unscored(row, "failed", reason, judgement))
            else:
                wait_s = self._pace.wait_s(row.attempts, error.retry_after_s)
                self._hand_in(self._later(row, wait_s, str(error), counts=error.blames_call))
        self._book(self._purse.without_answer(judgement, error))

    async def _pause(self, judgement: Judgement, error: CriticMisconfigured) -> None:
        """Stop asking this critic, and let the next one have what waits for it."""
        self._give_back(judgement, self._purse.without_answer(judgement, error))
        name, now_ms = self._driver.name, self._work.clock_ms()
        if name in self._work.paused():
            return  # another judgement of the same moment has seen to it
        until_ms = now_ms + self._pause_ms
        self._work.pause(name, until_ms)
        self._was_paused = True
        self._pace.start_over()
        self._give_back_ready()
        log.error("%s is paused; /readyz and the pages say why", name)  # in words that may quote a key
        await self._work.write(
            partial(pause_critic, critic=name, until_ms=until_ms, reason=str(error), now_ms=now_ms)
        )
        await self._pass_on()

    async def _pass_on(self) -> None:
        """Give the next critic a row for each that waits here; those here wait for the pause to end."""
        plan, name, after_seq = self._work.plan, self._driver.name, 0
        while plan.critics[-1] != name:
            rows = await self._work.read(
                partial(waiting_rows, critics=[name], others=False, after_seq=after_seq, limit=PASS_ON_ROWS)
            )
            if not rows:
                break
            after_seq, paused = rows[-1].seq, self._work.paused()
            scores = [
                score for row in rows for score in plan.after(name, row, row.prompt, paused, row.project)
            ]
            await self._work.write(partial(queue.add_scores, scores=scores, now_ms=self._work.clock_ms()))
            self._work.tell({score.critic for score in scores})

    def _finished(
        self, row: Leased, verdict: Verdict, judgement: Judgement, answer_ms: float, cost_usd: float | None
    ) -> Finished:
        return closed_by(
            row,
            verdict,
            then=() if isinstance(verdict, Answer) else self._next_rows(row, judgement),
            seen_share=judgement.case.seen_share,
            cost_usd=cost_usd,
            answer_ms=answer_ms,
        )

    def _unscored(self, row: Leased, status: str, reason: str, judgement: Judgement) -> Finished:
        """Return a row closed without a score, and the row of whoever is to judge instead."""
        return Finished(row.seq, row.token, status, reason, then=self._next_rows(row, judgement))

    def _next_rows(self, row: Leased, judgement: Judgement) -> tuple[NewScore, ...]:
        paused = self._work.paused()
        return tuple(self._work.plan.after(row.critic, row, judgement.prompt, paused, judgement.project))

    def _give_back_ready(self) -> None:
        while self._ready:
            self._give_back_unasked(self._ready.popleft())

    def _give_back_unasked(self, judgement: Judgement) -> None:
        self._give_back(judgement, self._purse.unused(judgement))

    def _give_back(self, judgement: Judgement, spend: Spend | None) -> None:
        """Hand back what is to be asked anew, at once and uncounted."""
        for row in judgement.rows:
            self._hand_in(self._untouched(row))
        self._book(spend)

    def _untouched(self, row: Leased) -> Retry:
        return self._later(row, 0.0, None, counts=False)

    def _later(self, row: Leased, wait_s: float, error: str | None, *, counts: bool) -> Retry:
        return Retry(row.seq, row.token, self._work.clock_ms() + int(wait_s * 1000), error, counts)

    def _hand_in(self, result: Finished | Retry) -> None:
        self._in_hand.pop(result.seq, None)
        self._work.hand_in(result)


async def _set_within(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
