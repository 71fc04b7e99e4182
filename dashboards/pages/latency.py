"""Latency: each group's tail with n and interval, the calls a p95 hides, and what sets the tail apart."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from dashboards.dateline import Dateline, dateline
from dashboards.filters import LatencyQuery, Window, window_of
from dashboards.panels import Panel, panel
from dashboards.queries.calls import Newest, newest_call
from dashboards.queries.cases import Cohort, cohorts
from dashboards.queries.latencies import GroupTail, Latencies, latencies
from dashboards.words import count, duration, many
from ingest.settings import Settings
from ingest.tables import DEFAULT_PROJECT
from outliers.weeks import weeks_between

#: Conditions are computed per week; a long window shows those of its last ones.
WEEKS_OF_CONDITIONS = 2


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
        conditions: what sets the slow tail apart, newest week first.
        newest: the newest call of all; data None in an empty store.
    """

    headline: str
    dateline: Panel[Dateline]
    asked: LatencyQuery
    window: Window
    latencies: Panel[Latencies]
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
            for week in reversed(weeks[-WEEKS_OF_CONDITIONS:])
        ]
        return tuple(week for week in found if week.conditions)

    read = panel("Latency", connection, _latencies)
    return LatencyPage(
        headline=_headline(read.data),
        dateline=dateline(connection, now),
        asked=asked,
        window=window,
        latencies=read,
        conditions=panel("What sets the tail apart", connection, _conditions),
        newest=panel(
            "Newest call", connection, lambda: newest_call(connection, DEFAULT_PROJECT, settings.zone)
        ),
    )


def _headline(read: Latencies | None) -> str:
    """Name the group whose slow end is longest: by its calls beyond ten medians, else by its slowest call."""
    if read is None:
        return "Latency"
    if not read.groups:
        return "No latencies in this window."
    far = [(group, group.far_out) for group in read.groups if group.far_out]
    if far:
        group, out = max(far, key=lambda pair: pair[1].calls[0].value_ms / pair[1].threshold_ms)
        at_least = "at least " if out.at_least else ""
        return (
            f"{_name(group, read)}: {at_least}{count(out.n)} of {count(out.n_answered)} answered calls took "
            f"longer than 10× the median, up to {duration(out.calls[0].value_ms)}."
        )
    slowest = [group for group in read.groups if group.slowest_ms is not None]
    if not slowest:
        return f"{many(sum(group.n for group in read.groups), 'call')}, none of them answered."
    group = max(slowest, key=lambda group: group.slowest_ms or 0.0)
    slowest_ms = duration(group.slowest_ms)
    return f"No call took longer than 10× its median; the slowest, {slowest_ms}, is of {_name(group, read)}."


def _name(group: GroupTail, read: Latencies) -> str:
    return group.group or f"No {read.group_by.replace('_', ' ')}"
