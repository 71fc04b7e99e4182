"""Costs: what a week's answers cost, what changed, what bad experiences cost, and what critics spent."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from dashboards.filters import WeekCostsQuery, Window, week_window
from dashboards.pages.critic import daily_budgets
from dashboards.pages.dateline import Dateline, dateline
from dashboards.panels import Panel, panel
from dashboards.queries.calls import Newest, newest_call
from dashboards.queries.costs import CriticCost, critic_costs
from dashboards.queries.volume import volume
from dashboards.words import money
from ingest.settings import Settings
from ingest.tables import DEFAULT_PROJECT
from outliers.changes import Change, changes_of
from outliers.costs import Costs, costs_of
from outliers.weeks import Week, last_ended, week_by_id, week_of


@dataclass(frozen=True)
class CriticSpend:
    """What one critic spent in the week, beside what it may spend.

    Attributes:
        spent: None where it did not spend in this week.
        budget_usd: a UTC day's; None without a limit.
        configured: whether it is one of those that are asked now.
    """

    critic: str
    spent: CriticCost | None
    budget_usd: float | None
    configured: bool


@dataclass(frozen=True)
class CostsPage:
    """Context of costs.html.

    Attributes:
        headline: what the week's answers cost and what changed, in one sentence.
        dateline: how fresh the page is.
        asked: the filters, as they stand in the address.
        window: the week: the last ended one unless asked.
        running: whether that week still runs; it is then compared with the same part of the week before.
        costs: what it cost, by every field and day; data None before the week was computed.
        has_calls: whether the week has any, computed or not.
        changes: of the changes of the week, those of the cost per call.
        critics: what the critics spent themselves, in the week's UTC days.
        newest: the newest call of all; data None in an empty store.
    """

    headline: str
    dateline: Panel[Dateline]
    asked: WeekCostsQuery
    window: Window
    running: bool
    costs: Panel[Costs | None]
    has_calls: bool
    changes: Panel[tuple[Change, ...]]
    critics: Panel[tuple[CriticSpend, ...]]
    newest: Panel[Newest | None]


def build(connection: Connection, settings: Settings, asked: WeekCostsQuery, now: datetime) -> CostsPage:
    """Read the page."""
    zone = settings.zone
    now_ms = round(now.timestamp() * 1000)
    week = week_by_id(asked.week, zone) if asked.week else last_ended(now_ms, zone)
    window = week_window(week, zone, now)
    running = week.id == week_of(now_ms, zone).id
    costs = panel("Costs", connection, lambda: costs_of(connection, DEFAULT_PROJECT, week))
    changes = panel("What changed", connection, lambda: _changes(connection, week))
    newest = panel("Newest call", connection, lambda: newest_call(connection, DEFAULT_PROJECT, zone))
    has_calls = bool(costs.data and costs.data.now.n)
    if costs.data is None:
        counted = panel("The week", connection, lambda: volume(connection, DEFAULT_PROJECT, week))
        has_calls = counted.data is not None and counted.data.n > 0
    return CostsPage(
        headline=_headline(week.id, running, costs.data, changes.data or (), has_calls, newest.data),
        dateline=dateline(connection, now),
        asked=asked,
        window=window,
        running=running,
        costs=costs,
        has_calls=has_calls,
        changes=changes,
        critics=panel("What critics spent", connection, lambda: _critics(connection, settings, window)),
        newest=newest,
    )


def _changes(connection: Connection, week: Week) -> tuple[Change, ...]:
    found = changes_of(connection, DEFAULT_PROJECT, week)
    return tuple(change for change in found if change.measure == "cost_per_call_usd")


def _critics(connection: Connection, settings: Settings, window: Window) -> tuple[CriticSpend, ...]:
    budgets = daily_budgets(settings)
    spent = {one.critic: one for one in critic_costs(connection, DEFAULT_PROJECT, window)}
    return tuple(
        CriticSpend(critic, spent.get(critic), budgets.get(critic), critic in budgets)
        for critic in [*budgets, *(name for name in spent if name not in budgets)]
    )


def _headline(
    week_id: str,
    running: bool,
    costs: Costs | None,
    changes: tuple[Change, ...],
    has_calls: bool,
    newest: Newest | None,
) -> str:
    week = f"week {int(week_id[-2:])}{' so far' if running else ''}"
    if not has_calls:
        return "No calls yet." if newest is None else f"No calls in {week}."
    if costs is None:
        return f"What {week} cost is not computed yet."
    if costs.now.cost_usd is None:
        return f"No call of {week} says what it cost."
    said = f"The answers of {week} cost {money(costs.now.cost_usd)}, {money(costs.now.per_call.value)} a call"
    before = costs.before.per_call.value
    if before is None:
        return f"{said}; what the week before cost is unknown."
    moved = next((change for change in changes if change.by is None and change.moved), None)
    if moved is None:
        return f"{said}: no more than noise away from the {money(before)} of the week before."
    return f"{said}: {'up' if moved.worse else 'down'} from {money(before)} the week before, beyond noise."
