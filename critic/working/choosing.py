"""Choosing which calls a critic with a budget judges: what the day still holds, and each call's own facts.

Flow: critic.working.taking (new calls, late signals) -> `Choosing.choose` on a read-only connection -> one
`critic.spending.sampling.Choice` per call and critic -> critic.queue.plan, critic.queue.deferral. The
rates are computed anew for each batch, so that a wrong forecast is mended within the day.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from critic.queue.calls import TODO, TakenCall, signals_by_call
from critic.queue.deferral import deferred_calls
from critic.spending.budget import DAY_MS, SAMPLE, Account, Budget, account_of, day_of
from critic.spending.money import Money
from critic.spending.sampling import (
    TAIL_CALLS_MIN,
    TAIL_SHARE,
    Choice,
    Facts,
    Rates,
    expected_calls,
    place_of,
    rates_for,
    stratum_of,
)
from ingest.latency import value_ms
from ingest.tables import LatencyCount, columns

COUNT = columns(LatencyCount)

HOUR_MS = 3_600_000
HISTORY_DAYS = 28
#: A slice's p99 and count are read again after this long.
HISTORY_KEPT_MS = 10 * 60_000
#: Requests that must have been paid for before their mean says what the next one costs.
REQUESTS_ENOUGH = 20
#: Waiting calls counted at most.
WAITING_MAX = 100_000
#: Before any was paid for: characters to a token, and tokens of a rubric's question and levels.
CHARS_A_TOKEN = 3.5
TOKENS_A_RUBRIC = 500
OUTPUT_TOKENS_A_RUBRIC = 32


@dataclass(frozen=True)
class Known:
    """A call to choose about.

    Attributes:
        p_fail: the guard's, see `critic.spending.sampling.Facts`.
    """

    call: TakenCall
    p_fail: float | None


class Choosing:
    """See the module. It chooses for the critics that `money` has a budget for, and for no other.

    Args:
        rubrics: how many rubrics a call is asked about, at most.
        requests: how many requests those take, one for each distinct view.
        polarity: the team's own signals, -1..1.
    """

    def __init__(self, money: Money, *, rubrics: int, requests: int, polarity: Mapping[str, float]) -> None:
        self._money = money
        self._rubrics = max(1, rubrics)
        self._requests = max(1, requests)
        self._polarity = polarity
        self._slices: dict[int, tuple[int, int, float | None]] = {}

    @property
    def samples(self) -> bool:
        """Whether any critic samples."""
        return bool(self._money.budgets)

    def choose(
        self, connection: Connection, known: Sequence[Known], *, now_ms: int
    ) -> dict[int, dict[str, Choice]]:
        """Return what each critic with a budget decides about these calls: by call, by critic."""
        if not known or not self.samples:
            return {}
        call_seqs = [one.call.call_seq for one in known]
        signals = signals_by_call(connection, call_seqs)
        history = self._history(connection, {one.call.slice_id for one in known}, now_ms)
        rates = {
            (project_id, critic): self._rates(connection, project_id, critic, budget, known, now_ms)
            for project_id in {one.call.project_id for one in known}
            for critic, budget in self._money.budgets.items()
        }
        choices: dict[int, dict[str, Choice]] = {}
        for one in known:
            call = one.call
            calls, tail_from_ms = history[call.slice_id]
            facts = Facts(
                outcome=call.outcome,
                p_fail=one.p_fail,
                latency_ms=call.latency_ms,
                tail_from_ms=tail_from_ms,
                slice_calls=calls,
                signals=signals.get(call.call_seq, ()),
            )
            stratum = stratum_of(facts, self._polarity)
            choices[call.call_seq] = {
                critic: rates[call.project_id, critic].choice(
                    stratum, place_of(critic, call.project_id, call.id), one.p_fail, budget.usd
                )
                for critic, budget in self._money.budgets.items()
            }
        return choices

    def _rates(
        self,
        connection: Connection,
        project_id: int,
        critic: str,
        budget: Budget,
        known: Sequence[Known],
        now_ms: int,
    ) -> Rates:
        day = day_of(now_ms)
        today, yesterday = (account_of(connection, project_id, critic, day - back) for back in (0, 1))
        call_usd = self._call_usd(critic, (today, yesterday), known, now_ms)
        if call_usd is None:
            return Rates(1.0)  # the price became unknown while the worker ran; every reservation is refused
        expected = expected_calls(
            _counted(connection, project_id, critic, day),
            _counted(connection, project_id, critic, day - 1),
            _waiting(connection),
            (now_ms % DAY_MS) / DAY_MS,
        )
        uniform_used = today.uniform_spent_usd + today.uniform_reserved_usd
        rest_used = today.spent_usd + today.reserved_usd - uniform_used
        owed_usd = deferred_calls(connection, critic) * call_usd
        return rates_for(
            expected,
            call_usd,
            budget.uniform_usd - uniform_used,
            budget.usd - budget.uniform_usd - rest_used - owed_usd,
        )

    def _call_usd(
        self, critic: str, accounts: Sequence[Account], known: Sequence[Known], now_ms: int
    ) -> float | None:
        """Return what judging one call costs: as paid lately, or by the length of these calls' texts."""
        requests = sum(account.requests for account in accounts)
        if requests >= REQUESTS_ENOUGH:
            return sum(account.spent_usd for account in accounts) / requests * self._requests
        price = self._money.prices.of(critic, None, now_ms)
        if price is None:
            return None
        chars = sum(len(one.call.input or "") + len(one.call.output or "") for one in known) / len(known)
        tokens = self._requests * chars / CHARS_A_TOKEN + self._rubrics * TOKENS_A_RUBRIC
        return price.cost_usd(round(tokens), None, self._rubrics * OUTPUT_TOKENS_A_RUBRIC)

    def _history(
        self, connection: Connection, slice_ids: set[int], now_ms: int
    ) -> dict[int, tuple[int, float | None]]:
        """Return the calls of each slice in the 28 days before, and its p99 where that is known."""
        old = {
            slice_id
            for slice_id in slice_ids
            if slice_id not in self._slices or self._slices[slice_id][0] <= now_ms - HISTORY_KEPT_MS
        }
        if old:
            read = latencies_of(connection, sorted(old), now_ms)
            self._slices |= {slice_id: (now_ms, *read.get(slice_id, (0, None))) for slice_id in old}
        return {slice_id: self._slices[slice_id][1:] for slice_id in slice_ids}


def latencies_of(
    connection: Connection, slice_ids: Sequence[int], now_ms: int
) -> dict[int, tuple[int, float | None]]:
    """Return (calls, p99 of the answered ones in milliseconds or None) of slices in the 28 days before."""
    by_bucket = (
        select(COUNT.c.slice_id, COUNT.c.outcome, COUNT.c.bucket, func.sum(COUNT.c.n).label("n"))
        .where(
            COUNT.c.slice_id.in_(slice_ids),
            COUNT.c.measure == "total",
            COUNT.c.hour >= (now_ms - HISTORY_DAYS * DAY_MS) // HOUR_MS,
        )
        .group_by(COUNT.c.slice_id, COUNT.c.outcome, COUNT.c.bucket)
        .order_by(COUNT.c.slice_id, COUNT.c.bucket.desc())
    )
    calls: Counter[int] = Counter()
    answered: dict[int, list[tuple[int, int]]] = {}
    for row in connection.execute(by_bucket):
        calls[row.slice_id] += row.n
        if row.outcome == "answered":
            answered.setdefault(row.slice_id, []).append((row.bucket, row.n))
    return {slice_id: (n, _tail_from_ms(answered.get(slice_id, ()))) for slice_id, n in calls.items()}


def _tail_from_ms(slowest_first: Sequence[tuple[int, int]]) -> float | None:
    total = sum(n for _bucket, n in slowest_first)
    if total < TAIL_CALLS_MIN:
        return None
    slower = 0
    for bucket, n in slowest_first:
        slower += n
        if slower >= TAIL_SHARE * total:
            return value_ms(bucket)
    return None


def _counted(connection: Connection, project_id: int, critic: str, day: int) -> dict[str, int]:
    rows = connection.execute(
        select(SAMPLE.c.stratum, SAMPLE.c.calls).where(
            SAMPLE.c.project_id == project_id, SAMPLE.c.critic == critic, SAMPLE.c.day == day
        )
    )
    return {row.stratum: row.calls for row in rows}


def _waiting(connection: Connection) -> int:
    some = select(TODO.c.seq).limit(WAITING_MAX).subquery()
    return connection.scalar(select(func.count()).select_from(some)) or 0
