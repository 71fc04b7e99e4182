"""The critic: how far it got, what waits, what it costs, why answers are missing, and what goes where."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from critic import drivers
from critic.drivers.base import Driver
from critic.queue.plan import Plan
from critic.spending.prices import load_prices
from dashboards.filters import Window, WindowQuery, window_of
from dashboards.pages.dateline import Dateline, dateline
from dashboards.panels import Panel, panel
from dashboards.queries import critic as queries
from dashboards.queries.calls import Newest, newest_call
from dashboards.queries.critic import Coverage, Egress, FailureClass, Queue, Speed
from dashboards.queries.critic_money import CriticMoney, critic_money
from dashboards.words import many, share
from ingest.errors import IngestError
from ingest.settings import Settings
from ingest.tables import DEFAULT_PROJECT


@dataclass(frozen=True)
class CriticPage:
    """Context of critic.html.

    Attributes:
        headline: how much of the window's traffic has a score.
        dateline: how fresh the page is; it names the critics that pause, and why.
        window: the time that shares, failures and latencies speak of.
        critics: as configured, first choice first.
        coverage: calls with a score, and answers by status.
        queue: what waits now, and since when.
        money: spent, reserved and put off today, per critic that costs money.
        failures: why answers are missing, commonest first.
        speeds: how long critics take.
        egress: whose texts may go where, and did.
        newest: the newest call, for a window without one.
    """

    headline: str
    dateline: Panel[Dateline]
    window: Window
    critics: tuple[str, ...]
    coverage: Panel[Coverage]
    queue: Panel[Queue]
    money: Panel[tuple[CriticMoney, ...]]
    failures: Panel[tuple[FailureClass, ...]]
    speeds: Panel[tuple[Speed, ...]]
    egress: Panel[Egress]
    newest: Panel[Newest | None]


def build(connection: Connection, settings: Settings, asked: WindowQuery, now: datetime) -> CriticPage:
    """Read the page."""
    window = window_of(asked, settings.zone, now)
    now_ms = round(now.timestamp() * 1000)
    critics = settings.critics if drivers.wanted(settings) else []
    covered = panel(
        "Coverage",
        connection,
        lambda: queries.coverage(connection, DEFAULT_PROJECT, window, critics),
    )

    def _egress() -> Egress:
        configured = _configured(settings)
        plan = Plan(configured, (), settings.egress)
        leaves = {driver.name: driver.leaves_machine for driver in configured}
        return queries.egress(connection, DEFAULT_PROJECT, window, plan, leaves)

    return CriticPage(
        headline=_headline(covered.data, critics),
        dateline=dateline(connection, now),
        window=window,
        critics=tuple(critics),
        coverage=covered,
        queue=panel("What waits", connection, lambda: queries.queue_now(connection, now_ms)),
        money=panel("Money", connection, lambda: money_of(connection, settings, now_ms)),
        failures=panel(
            "Why answers are missing",
            connection,
            lambda: queries.failures(connection, DEFAULT_PROJECT, window),
        ),
        speeds=panel(
            "How long it takes", connection, lambda: queries.speeds(connection, DEFAULT_PROJECT, window)
        ),
        egress=panel("What goes where", connection, _egress),
        newest=panel(
            "Newest call", connection, lambda: newest_call(connection, DEFAULT_PROJECT, settings.zone)
        ),
    )


def money_of(connection: Connection, settings: Settings, now_ms: int) -> tuple[CriticMoney, ...]:
    """Return what the configured critics spend, those that cost nothing left out."""
    budgets = daily_budgets(settings)
    return critic_money(
        connection,
        DEFAULT_PROJECT,
        list(budgets),
        {critic: usd for critic, usd in budgets.items() if usd is not None},
        settings.critic_uniform_share,
        load_prices(settings.prices),
        now_ms,
    )


def daily_budgets(settings: Settings) -> dict[str, float | None]:
    """Return what each configured critic that costs money may spend a UTC day; None for no limit."""
    paid = [driver.name for driver in _configured(settings) if driver.leaves_machine]
    wanted = settings.critic_budget_usd
    return {critic: wanted if isinstance(wanted, float) else (wanted or {}).get(critic) for critic in paid}


def _configured(settings: Settings) -> list[Driver]:
    """Return the configured critics, as far as they can be built: the page is there when a key is not."""
    built = []
    for name in settings.critics if drivers.wanted(settings) else []:
        try:
            built += drivers.build(settings.model_copy(update={"critic": name}))
        except IngestError:
            continue
    return built


def _headline(covered: Coverage | None, critics: list[str]) -> str:
    if not critics:
        return "No critic is configured: calls are kept and not judged."
    if covered is None:
        return "The critic"
    if not covered.calls:
        return "No call in this window."
    if not covered.scored_calls:
        return f"None of {many(covered.calls, 'call')} has a score."
    if covered.calls == 1:
        return "The one call has a score."
    return f"{share(covered.scored_calls / covered.calls)} of {many(covered.calls, 'call')} have a score."
