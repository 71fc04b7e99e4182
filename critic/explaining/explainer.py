"""Writes explanations that were asked for, beside the lanes: a few at a time, within the budget.

Flow: `critic.explaining.explanations.lease_words` -> the call and the rubric's version -> the critic that
scored, or the first configured one that can write -> `Explaining.explain` ->
`critic.explaining.explanations.keep`. No text goes where LOWLIGHT_EGRESS does not let it, and money is
reserved from the same daily budget first.
"""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Literal

from sqlalchemy import Connection

from critic.drivers.base import Case, CriticMisconfigured, CriticUnavailable, Driver, Refused
from critic.drivers.explaining import Explaining, Words, at_most, explaining
from critic.explaining.explanations import ATTEMPTS_MAX, WantedWords, Written, due_now, keep, lease_words
from critic.local import Reading
from critic.queue.calls import TakenCall, calls_by_seq, version_source
from critic.queue.work import Work
from critic.spending.budget import DAY_MS, NoRoom, Reserved, Spend, Wanted, day_of, reserve
from rubrics import BadRubric, new_fence, rubric_of

log = logging.getLogger(__name__)

#: Explanations in flight at once: somebody waits for a page, nobody for a thousand.
AT_ONCE = 4
#: Wait of one whose provider named none; it doubles with each try.
RETRY_S = 5.0
#: Money that is only reserved is free again in a moment.
MOMENT_MS = 1_000


class Explainer:
    """See the module. Its drivers are its own, so that it can end after the lanes have closed theirs."""

    def __init__(self, work: Work, drivers: Sequence[Driver], *, timeout_s: float, poll_s: float) -> None:
        self._work = work
        self._drivers = drivers
        self._timeout_s = timeout_s
        self._poll_s = poll_s

    async def run(self, stop: asyncio.Event) -> None:
        """Write what is asked for until `stop` is set, then finish what is in hand."""
        try:
            while not stop.is_set():
                if await self.write_due() == AT_ONCE:
                    continue
                try:
                    async with asyncio.timeout(self._poll_s):
                        await stop.wait()
                except TimeoutError:
                    continue
        finally:
            for driver in self._drivers:
                await driver.close()

    async def write_due(self) -> int:
        """Write a few explanations that are due; return how many were taken up."""
        now_ms = self._work.clock_ms()
        # Nearly always nothing is asked for: a reader sees that without holding up the writer.
        if not await self._work.read(partial(due_now, now_ms=now_ms)):
            return 0
        lease_ms = int(2_000 * self._timeout_s) + 60_000
        wanted = await self._work.write(partial(lease_words, limit=AT_ONCE, now_ms=now_ms, lease_ms=lease_ms))
        await asyncio.gather(*(self._one(one) for one in wanted))
        return len(wanted)

    async def _one(self, wanted: WantedWords) -> None:
        found = await self._work.read(partial(_call_and_source, wanted=wanted))
        if isinstance(found, str):
            await self._keep(Written(wanted.seq, "failed", reason=found))
            return
        call, source = found
        try:
            rubric = rubric_of(wanted.rubric, source)
        except BadRubric as error:
            reason = f"version {wanted.rubric_blob[:12]} of {wanted.rubric} cannot be used any more: {error}"
            await self._keep(Written(wanted.seq, "failed", reason=reason))
            return
        why_not = "no configured critic can write (openai:, anthropic:, chat-logprobs: and chat-draws: can)"
        for driver in explaining(self._drivers, wanted.critic):
            kept_back = self._work.plan.kept_back(driver.name, call.prompt, call.project)
            if kept_back or driver.name in self._work.paused():
                why_not = kept_back or f"{driver.name} is paused"
                continue
            fence = new_fence()
            shown = rubric.show(call.view(), fence, chars_max=driver.view_chars_max)
            reading = Reading(None, None, {}, None, None, None, {})
            case = Case(call.view(), shown.text, fence, (rubric,), reading, shown.seen_share)
            try:
                await self._asked(wanted, driver, case, call.project_id)
            except CriticMisconfigured as error:
                why_not = str(error)
                continue
            return
        await self._keep(Written(wanted.seq, "failed", reason=why_not))

    async def _asked(self, wanted: WantedWords, driver: Explaining, case: Case, project_id: int) -> None:
        """Reserve, ask and keep what came of it.

        Raises:
            CriticMisconfigured: this driver answers nobody; the reservation is given back.
        """
        held = await self._reserved(wanted, driver, case, project_id)
        if held is False:
            return
        account = (project_id, driver.name)
        try:
            async with asyncio.timeout(self._timeout_s):
                came = await driver.explain(case, wanted.shares)
        except TimeoutError as error:
            await self._later(wanted, error, Spend(*account, None, held))
            return
        except CriticUnavailable as error:
            nothing_came = Spend(*account, 0.0, held, requests=0)
            await self._later(wanted, error, Spend(*account, None, held) if error.in_doubt else nothing_came)
            return
        except CriticMisconfigured:
            await self._work.write(
                partial(
                    keep,
                    written=[],
                    spends=[Spend(*account, 0.0, held, requests=0)],
                    now_ms=self._work.clock_ms(),
                )
            )
            raise
        cost_usd = self._work.money.cost_usd(driver.name, came, self._work.clock_ms())
        if isinstance(came, Words):
            done = Written(wanted.seq, "written", driver.name, came, cost_usd=cost_usd)
            await self._keep(done, Spend(*account, cost_usd, held))
            return
        status = "refused" if isinstance(came, Refused) else "failed"
        reason = getattr(came, "reason", "the critic gave a verdict instead of words")
        done = Written(wanted.seq, status, driver.name, reason=reason)
        await self._keep(done, Spend(*account, cost_usd, held))

    async def _reserved(
        self, wanted: WantedWords, driver: Explaining, case: Case, project_id: int
    ) -> Reserved | Literal[False] | None:
        """Return the money held; None where no budget holds, False where there is none and the words wait."""
        budget = self._work.money.budgets.get(driver.name)
        if budget is None:
            return None
        now_ms = self._work.clock_ms()
        price, bound = self._work.money.prices.of(driver.name, None, now_ms), at_most(case, wanted.shares)
        if price is None:
            await self._keep(Written(wanted.seq, "failed", reason=f"the price of {driver.name} is not known"))
            return False
        usd = price.at_most_usd(bound.input_tokens, bound.output_tokens)
        (answer,) = await self._work.write(
            partial(
                reserve,
                wanted=[Wanted(project_id, driver.name, usd, uniform=False)],
                budgets={driver.name: budget},
                now_ms=now_ms,
                until_ms=now_ms + int(2_000 * self._timeout_s) + 60_000,
            )
        )
        if not isinstance(answer, NoRoom):
            return answer
        until_ms = (day_of(now_ms) + 1) * DAY_MS if answer.today else now_ms + MOMENT_MS
        reason = "no budget is left today (LOWLIGHT_CRITIC_BUDGET_USD)" if answer.today else None
        await self._keep(Written(wanted.seq, "wanted", reason=reason, not_before_ms=until_ms, counts=False))
        return False

    async def _later(self, wanted: WantedWords, error: BaseException, spend: Spend) -> None:
        said = str(error) or f"no answer within {self._timeout_s:g} s"
        if wanted.attempts >= ATTEMPTS_MAX:
            reason = f"given up after {wanted.attempts} tries; the last: {said}"
            await self._keep(Written(wanted.seq, "failed", reason=reason), spend)
            return
        wait_s = max(getattr(error, "retry_after_s", None) or 0.0, RETRY_S * 2.0 ** (wanted.attempts - 1))
        until_ms = self._work.clock_ms() + int(wait_s * 1000)
        await self._keep(Written(wanted.seq, "wanted", reason=said, not_before_ms=until_ms), spend)

    async def _keep(self, written: Written, *spends: Spend) -> None:
        job = partial(keep, written=[written], spends=spends, now_ms=self._work.clock_ms())
        await self._work.write(job)


def _call_and_source(connection: Connection, wanted: WantedWords) -> tuple[TakenCall, str] | str:
    """Return the call and the rubric's text; or why there is nothing to explain."""
    call = calls_by_seq(connection, [wanted.call_seq]).get(wanted.call_seq)
    if call is None:
        return "the call is no longer kept"
    if call.not_judged_because is not None:
        return call.not_judged_because
    kept = version_source(connection, wanted.rubric_blob)
    if kept is None:
        return f"version {wanted.rubric_blob[:12]} of rubric {wanted.rubric} is not kept"
    return call, kept[1]
