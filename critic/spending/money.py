"""What a worker may spend and what its judgements cost: prices and budgets in one hand.

Flow: Settings -> `money_for` -> critic.working.lane asks `Money.at_most_usd` before and `Money.cost_usd`
after each request; critic.spending.budget keeps the accounts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from critic.drivers.base import Case, Charge, Driver
from critic.spending.budget import Budget
from critic.spending.prices import Prices, cost_usd, load_prices, shipped_prices
from ingest.errors import BadSettings
from ingest.settings import Settings


@dataclass(frozen=True)
class Money:
    """See the module.

    Attributes:
        budgets: by critic; a critic that is not named may judge everything.
    """

    prices: Prices = field(default_factory=shipped_prices)
    budgets: Mapping[str, Budget] = field(default_factory=dict)

    def at_most_usd(self, driver: Driver, case: Case, at_ms: int, *, batched: bool = False) -> float | None:
        """Return no less than judging a case can cost, or in a batch; None where the price is unknown."""
        price = self.prices.of(driver.name, None, at_ms)
        if price is None:
            return None
        usage = driver.at_most(case)
        at_most = price.at_most_usd(usage.input_tokens, usage.output_tokens)
        return at_most * price.batch_factor if batched else at_most

    def cost_usd(
        self, critic: str, came: Charge, at_ms: int, *, requests: float = 1, batched: bool = False
    ) -> float | None:
        """Return what an answer cost, whatever it says; 0 where it was not charged, None where unknown.

        Args:
            requests: see `Price.cost_usd`.
            batched: whether it came by a batch endpoint, at `Price.batch_factor`.
        """
        if not came.charged:
            return 0.0
        usd = cost_usd(
            critic,
            came.model_reported,
            came.input_tokens,
            came.cached_input_tokens,
            came.output_tokens,
            at_ms,
            prices=self.prices,
            cache_write_tokens=came.cache_write_tokens,
            requests=requests,
        )
        price = self.prices.of(critic, came.model_reported, at_ms) if batched and usd else None
        return usd if usd is None or price is None else usd * price.batch_factor


def money_for(settings: Settings, drivers: Sequence[Driver], at_ms: int) -> Money:
    """Return the prices and budgets that the settings name for these critics.

    Args:
        at_ms: when; a price may begin at a date.

    Raises:
        BadSettings: a budget for a critic whose price is unknown, so that it could not be held; a budget for
            a critic that is not configured; a price file that cannot be used.
    """
    prices = load_prices(settings.prices)
    wanted = settings.critic_budget_usd
    if wanted is None:
        return Money(prices)
    paid = {driver.name for driver in drivers if driver.leaves_machine}
    if isinstance(wanted, dict):
        for name in wanted.keys() - paid:
            here = any(driver.name == name for driver in drivers)
            why = "runs on this machine and costs nothing" if here else "is not in LOWLIGHT_CRITIC"
            raise BadSettings(f"LOWLIGHT_CRITIC_BUDGET_USD: {name!r} {why}; take its budget out")
        amounts = wanted
    else:
        amounts = dict.fromkeys(sorted(paid), wanted)
    budgets = {}
    for name, usd in amounts.items():
        price = prices.of(name, None, at_ms)
        if price is None:
            raise BadSettings(
                f"LOWLIGHT_CRITIC_BUDGET_USD: the price of {name} is not known, so no budget can be held. "
                "Put it into a TOML file (critic/spending/prices.toml shows the form; 0 where the server is "
                "your own) and name that file in LOWLIGHT_PRICES, or set budgets by critic and "
                "leave this one out"
            )
        if not price.free:
            budgets[name] = Budget(usd, usd * settings.critic_uniform_share)
    return Money(prices, budgets)
