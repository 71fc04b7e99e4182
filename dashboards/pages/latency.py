"""Latency: each group's tail with n and interval, what a p95 hides, slow hours, and why calls were slow."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from dashboards.filters import LatencyQuery, Window, window_of
from dashboards.pages.dateline import Dateline, dateline
from dashboards.panels import Panel, panel
from dashboards.queries.calls import Newest, newest_call
from dashboards.queries.cases import Cohort, cohorts
from dashboards.queries.latencies import FarOut, Latencies, latencies
from dashboards.queries.slow_causes import SideBySide, WeekTails, causes_by_week, side_by_side
from dashboards.queries.slow_hours import SlowHours, SpellShown, slow_hours, spells_shown
from dashboards.words import count, duration, group, many
from ingest.settings import Settings
from ingest.tables import DEFAULT_PROJECT
from outliers.weeks import weeks_between

#: Causes and conditions are computed per week; a long window shows those of its last ones.
WEEKS_OF_CAUSES = 2
#: A headline names so many waits, and of more the longest.
WAITS_NAMED = 3


@dataclass(frozen=True)
class WeekConditions:
    """What set one week's slow tail apart; `week` is "2026-W47"."""

    week: str
    conditions: tuple[Cohort, ...]


@dataclass(frozen=True)
class LatencyPage:
    """Context of latency.html.

    Attributes:
        headline: where the tail is, in one sentence.
        dateline: how fresh the page is.
        asked: the filters, as they stand in the address.
        window: the time that the page speaks of.
        latencies: each group's tail, and the slowest calls.
        side_by_side: the whole answer, its first token and the time per output token; empty by hour.
        hours: when each group was slower than it mostly is.
        spells: hours in which a provider or service was slower than its own past, newest first.
        causes: why the slowest calls were slow, newest week first.
        conditions: what else is more frequent among them, newest week first.
        newest: the newest call of all; data None in an empty store.
    """

    headline: str
    dateline: Panel[Dateline]
    asked: LatencyQuery
    window: Window
    latencies: Panel[Latencies]
    side_by_side: Panel[tuple[SideBySide, ...]]
    hours: Panel[SlowHours]
    spells: Panel[tuple[SpellShown, ...]]
    causes: Panel[tuple[WeekTails, ...]]
    conditions: Panel[tuple[WeekConditions, ...]]
    newest: Panel[Newest | None]


def build(connection: Connection, settings: Settings, asked: LatencyQuery, now: datetime) -> LatencyPage:
    """Read the page."""
    window = window_of(asked, settings.zone, now)

    def _latencies() -> Latencies:
        return latencies(connection, DEFAULT_PROJECT, window, group_by=asked.group_by, measure=asked.measure)

    def _conditions() -> tuple[WeekConditions, ...]:
        weeks = weeks_between(window.since_ms, window.until_ms, settings.zone)
        found = [
            WeekConditions(week.id, cohorts(connection, DEFAULT_PROJECT, week.id, "tail"))
            for week in reversed(weeks[-WEEKS_OF_CAUSES:])
        ]
        return tuple(week for week in found if week.conditions)

    def _hours() -> SlowHours:
        return slow_hours(connection, DEFAULT_PROJECT, window, group_by=asked.group_by, measure=asked.measure)

    def _causes() -> tuple[WeekTails, ...]:
        return causes_by_week(connection, DEFAULT_PROJECT, window, settings.zone, WEEKS_OF_CAUSES)

    read = panel("Latency", connection, _latencies)
    return LatencyPage(
        headline=_headline(read.data),
        dateline=dateline(connection, now),
        asked=asked,
        window=window,
        latencies=read,
        side_by_side=panel(
            "Side by side",
            connection,
            lambda: side_by_side(connection, DEFAULT_PROJECT, window, group_by=asked.group_by),
        ),
        hours=panel("Slow hours", connection, _hours),
        spells=panel("Spells", connection, lambda: spells_shown(connection, DEFAULT_PROJECT, window)),
        causes=panel("Causes", connection, _causes),
        conditions=panel("What sets the tail apart", connection, _conditions),
        newest=panel(
            "Newest call", connection, lambda: newest_call(connection, DEFAULT_PROJECT, settings.zone)
        ),
    )


def _headline(read: Latencies | None) -> str:
    """Name the group whose p95 hides most; where none hides anything, the one with the slowest call."""
    if read is None:
        return "Latency"
    if not read.groups:
        return "No latencies in this window."
    first = read.groups[0]
    if first.far_out is not None:
        return _far_out(group(first.group, read.group_by), first.far_out, first.p95.value_ms)
    slowest = max(read.groups, key=lambda one: one.slowest_ms or 0.0)
    if slowest.slowest_ms is None:
        return f"{many(sum(one.n for one in read.groups), 'call')}, none of them answered."
    told = f"the slowest, {duration(slowest.slowest_ms)}, is of {group(slowest.group, read.group_by)}."
    if all(one.quantiles[0].value_ms is None for one in read.groups):
        n = sum(one.n_answered for one in read.groups)
        return f"{many(n, 'answered call')}, too few for a median; {told}"
    return f"No call took longer than 10× its median; {told}"


def _far_out(name: str, far: FarOut, p95_ms: float | None) -> str:
    few = far.n <= WAITS_NAMED and not far.at_least
    waits = ", ".join(duration(call.value_ms) for call in far.calls) if few else ""
    said = (
        f"{name}: {'at least ' if far.at_least else ''}{count(far.n)} of {count(far.n_answered)} answered "
        f"calls took longer than 10× the median: {waits or 'up to ' + duration(far.calls[0].value_ms)}."
    )
    if p95_ms is None:
        return said
    return f"{said} Its p95, {duration(p95_ms)}, " + (
        "hides them." if p95_ms < far.threshold_ms else "is as long."
    )
