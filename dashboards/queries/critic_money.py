"""What critics spend: today and the day before, against their budgets, and what waits or was left out for it.

Flow: `critic_day`, `sample_count`, deferred score rows -> `CriticMoney`. A day is a UTC day; all US dollars.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from critic.queue.deferral import DEFERRED_COUNT_MAX, deferred_calls
from critic.queue.rows import NO_BUDGET
from critic.spending.budget import DAY_MS, DEFERRED_DAYS_MAX, SAMPLE, Account, account_of, day_of
from critic.spending.prices import Prices
from critic.spending.sampling import STRATA
from critic.tables import Score
from dashboards.words import moment
from ingest.tables import columns

SCORE = columns(Score)

#: Newest closed answers that are looked at for what was given up today.
CLOSED_READ = 5_000


@dataclass(frozen=True)
class PriceShown:
    """What a critic's model costs per million tokens, and where that was read."""

    input_usd: float
    cached_input_usd: float | None
    output_usd: float
    valid_from: str
    source: str


@dataclass(frozen=True)
class StratumShown:
    """One stratum of today's sample.

    Attributes:
        calls: of it that came today.
        chosen: of those that are judged.
    """

    stratum: str
    calls: int
    chosen: int


@dataclass(frozen=True)
class CriticMoney:
    """One critic's money.

    Attributes:
        price: None where it is unknown.
        budget_usd: a day's; None where there is none, so that every call is judged.
        uniform_usd: the part of it that is kept for the uniform sample.
        today, yesterday: what was spent and is reserved; `in_doubt_usd` is the most that crashes and missing
            answers can have doubled.
        resets_at: when the next day begins.
        deferred_calls: calls that wait for money.
        at_least: True where counting them stopped.
        skipped_today: calls left out of the sample today.
        given_up_today: answers given up today because they found no money for 14 days.
        strata: today's sample; empty where nothing is sampled.
    """

    critic: str
    price: PriceShown | None
    budget_usd: float | None
    uniform_usd: float | None
    today: Account
    yesterday: Account
    resets_at: datetime
    deferred_calls: int
    at_least: bool
    skipped_today: int
    given_up_today: int
    strata: tuple[StratumShown, ...]

    @property
    def days_kept(self) -> int:
        """Days after which a deferred call is given up."""
        return DEFERRED_DAYS_MAX


def critic_money(
    connection: Connection,
    project_id: int,
    critics: list[str],
    budgets_usd: dict[str, float],
    uniform_share: float,
    prices: Prices,
    now_ms: int,
) -> tuple[CriticMoney, ...]:
    """Return the money of each of these critics.

    Args:
        critics: those whose texts leave this machine; the others cost nothing.
        budgets_usd: by critic that has one.
    """
    day = day_of(now_ms)
    shown = []
    for critic in critics:
        price = prices.of(critic, None, now_ms)
        deferred = deferred_calls(connection, critic)
        budget_usd = budgets_usd.get(critic)
        strata = _strata(connection, project_id, critic, day)
        shown.append(
            CriticMoney(
                critic=critic,
                price=None
                if price is None
                else PriceShown(
                    price.input, price.cached_input, price.output, price.valid_from.isoformat(), price.source
                ),
                budget_usd=budget_usd,
                uniform_usd=None if budget_usd is None else budget_usd * uniform_share,
                today=account_of(connection, project_id, critic, day),
                yesterday=account_of(connection, project_id, critic, day - 1),
                resets_at=moment((day + 1) * DAY_MS),
                deferred_calls=deferred,
                at_least=deferred >= DEFERRED_COUNT_MAX,
                skipped_today=sum(stratum.calls - stratum.chosen for stratum in strata),
                given_up_today=_given_up(connection, critic, day * DAY_MS),
                strata=strata,
            )
        )
    return tuple(shown)


def _given_up(connection: Connection, critic: str, since_ms: int) -> int:
    """Count answers that were given up today, among the newest rows that anything was decided about."""
    newest = select(SCORE).order_by(SCORE.c.changed.desc()).limit(CLOSED_READ).subquery()
    counted = select(func.count()).where(
        newest.c.critic == critic,
        newest.c.status == "skipped",
        newest.c.reason.startswith(f"{NO_BUDGET} within"),
        newest.c.finished_at_ms >= since_ms,
    )
    return connection.scalar(counted) or 0


def _strata(connection: Connection, project_id: int, critic: str, day: int) -> tuple[StratumShown, ...]:
    rows = connection.execute(
        select(SAMPLE.c.stratum, SAMPLE.c.calls, SAMPLE.c.chosen).where(
            SAMPLE.c.project_id == project_id, SAMPLE.c.critic == critic, SAMPLE.c.day == day
        )
    )
    found = {row.stratum: StratumShown(row.stratum, row.calls, row.chosen) for row in rows}
    return tuple(found[stratum] for stratum in STRATA if stratum in found)
