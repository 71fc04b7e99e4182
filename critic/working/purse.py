"""One lane's money: what its judgements may cost, have cost, and what is put off for want of it.

Flow: critic.working.lane hands over what it leased -> `fund` reserves the most that each judgement can cost
-> judged, deferred or asked for again in a moment; afterwards `spent`, `unused`, `without_answer` or
`in_doubt` is what to book. A critic that runs on this machine costs nothing and is never held up here.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from critic.drivers.base import Charge, CriticError, Driver, Verdict
from critic.queue.cases import Judgement
from critic.queue.rows import NO_BUDGET, NO_MONEY, Finished, Retry
from critic.queue.work import Work
from critic.spending.budget import DAY_MS, NoRoom, Reserved, Spend, Wanted, day_of, reserve

#: Money that is only reserved is free again in a moment.
MOMENT_MS = 500


class Purse:
    """See the module.

    Attributes:
        empty_on: the UTC day on which a judgement was last put off; nothing deferred is taken up on it.
    """

    def __init__(self, work: Work, driver: Driver) -> None:
        self._work = work
        self._driver = driver
        self._budget = work.money.budgets.get(driver.name)
        self.empty_on: int | None = None

    async def fund(self, judgements: Sequence[Judgement]) -> tuple[list[Judgement], list[Finished | Retry]]:
        """Reserve money for judgements; return those that have it, and what becomes of the others' rows."""
        if self._budget is None or not judgements:
            return list(judgements), []
        now_ms = self._work.clock_ms()
        at_most = [
            self._work.money.at_most_usd(self._driver, judgement.case, now_ms) for judgement in judgements
        ]
        wanted = [
            Wanted(judgement.project_id, self._driver.name, usd, judgement.rows[0].uniform)
            for judgement, usd in zip(judgements, at_most, strict=True)
            if usd is not None
        ]
        answers = iter(
            await self._work.write(
                partial(
                    reserve,
                    wanted=wanted,
                    budgets={self._driver.name: self._budget},
                    now_ms=now_ms,
                    until_ms=max(judgement.rows[0].lease_until_ms for judgement in judgements),
                )
            )
        )
        funded: list[Judgement] = []
        unfunded: list[Finished | Retry] = []
        for judgement, usd in zip(judgements, at_most, strict=True):
            if usd is None:
                unfunded += self._deferred(judgement, "its price is not known", now_ms)
                continue
            answer = next(answers)
            if isinstance(answer, Reserved):
                funded.append(replace(judgement, held=answer))
            elif answer.today:
                self.empty_on = day_of(now_ms)
                unfunded += self._deferred(judgement, self._why(usd, answer), now_ms)
            else:
                unfunded += [
                    Retry(row.seq, row.token, now_ms + MOMENT_MS, None, False) for row in judgement.rows
                ]
        return funded, unfunded

    def costs_usd(self, verdicts: Sequence[Verdict]) -> list[float | None]:
        """Return what each verdict cost; 0 where it was not charged, None where that is unknown."""
        return [
            self._cost_usd(verdict, (getattr(verdict, "draws", None) or 1) / len(verdicts))
            for verdict in verdicts
        ]

    def spent(self, judgement: Judgement, costs_usd: Sequence[float | None]) -> Spend | None:
        """Return what to book for an answered judgement; a cost that is unknown is booked in full."""
        return self._spend(judgement, _sum(costs_usd))

    def unused(self, judgement: Judgement) -> Spend | None:
        """Return what to book where nothing was asked, or nothing was charged for."""
        if judgement.held is None:
            return None
        return Spend(judgement.project_id, self._driver.name, 0.0, judgement.held, requests=0)

    def without_answer(self, judgement: Judgement, error: CriticError) -> Spend | None:
        """Return what to book where no score came: all that is held, what parts of it cost, or nothing."""
        if error.in_doubt:
            return self.in_doubt(judgement)
        if not error.paid:
            return self.unused(judgement)
        return self._spend(judgement, _sum([self._cost_usd(came, 1) for came in error.paid]))

    def in_doubt(self, judgement: Judgement) -> Spend | None:
        """Return what to book where nobody knows what was charged: no answer came, or a bug ended it."""
        return self._spend(judgement, None)

    def _spend(self, judgement: Judgement, usd: float | None) -> Spend | None:
        if not self._driver.leaves_machine:
            return None
        return Spend(judgement.project_id, self._driver.name, usd, judgement.held)

    def _cost_usd(self, came: Charge, requests: float) -> float | None:
        if not self._driver.leaves_machine:
            return 0.0
        return self._work.money.cost_usd(self._driver.name, came, self._work.clock_ms(), requests=requests)

    def _deferred(self, judgement: Judgement, why: str, now_ms: int) -> list[Finished | Retry]:
        """Return rows that wait for the reset; a critic that costs nothing judges them meanwhile."""
        reset_ms = (day_of(now_ms) + 1) * DAY_MS
        return [
            Finished(
                row.seq,
                row.token,
                "deferred",
                f"{NO_BUDGET} today: {why}",
                not_before_ms=reset_ms,
                then=tuple(self._work.plan.free_after(row.critic, row)),
            )
            for row in judgement.rows
        ]

    def _why(self, usd: float, answer: NoRoom) -> str:
        assert self._budget is not None
        if not self._budget.usd:
            return NO_MONEY
        return (
            f"it can cost ${usd:.4f}, and ${answer.left_usd:.4f} of ${self._budget.usd:g} is left for it "
            "(LOWLIGHT_CRITIC_BUDGET_USD)"
        )


def _sum(costs_usd: Sequence[float | None]) -> float | None:
    return None if None in costs_usd else sum(cost or 0.0 for cost in costs_usd)
