"""This week: the first screen. The case, what changed, who had it worst, where the tail is; in this order."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from dashboards.filters import WeekQuery, Window, week_window
from dashboards.pages.dateline import Dateline, dateline
from dashboards.pages.worst import WorstRow, worst_rows
from dashboards.panels import Panel, panel
from dashboards.queries.calls import Newest, newest_call
from dashboards.queries.cases import CaseShown, Cohort, case_shown, cohorts
from dashboards.queries.latencies import Latencies, latencies
from dashboards.queries.volume import Volume, volume
from dashboards.words import many
from ingest.settings import Settings
from ingest.tables import DEFAULT_PROJECT
from outliers.casework.cases import case_of
from outliers.changes import Change, changes_of
from outliers.weeks import Week, last_ended, week_by_id, week_of
from outliers.worst import worst_users

USERS_SHOWN = 5
COHORTS_SHOWN = 4


@dataclass(frozen=True)
class WeekShown:
    """What a week's figures are.

    Attributes:
        volume: calls, the bad ones, and their share with interval.
        case: the case, or what leads so far; None where no cohort stands apart.
    """

    volume: Volume
    case: CaseShown | None


@dataclass(frozen=True)
class ThisWeekPage:
    """Context of this_week.html.

    Attributes:
        headline: the page's answer in one sentence: the case.
        dateline: how fresh the page is.
        window: the week that the page speaks of: the last ended one unless asked.
        current_week: the running week's id.
        running: whether that week still runs; its case is then "so far".
        week: its figures and its case.
        cohorts: other cohorts of its bad calls, the one that explains most first.
        so_far: the running week's figures and what leads in it; data None where `running`.
        changes: what changed since the week before: all calls first, then prompts.
        users: who had it worst.
        tail: latencies by service, a model at a provider.
        tail_conditions: what sets the slow tail apart, as sentences.
        newest: the newest call of all; data None in an empty store.
    """

    headline: str
    dateline: Panel[Dateline]
    window: Window
    current_week: str
    running: bool
    week: Panel[WeekShown]
    cohorts: Panel[tuple[Cohort, ...]]
    so_far: Panel[WeekShown | None]
    changes: Panel[list[Change]]
    users: Panel[tuple[WorstRow, ...]]
    tail: Panel[Latencies]
    tail_conditions: Panel[tuple[Cohort, ...]]
    newest: Panel[Newest | None]


def build(connection: Connection, settings: Settings, asked: WeekQuery, now: datetime) -> ThisWeekPage:
    """Read the page."""
    zone = settings.zone
    now_ms = round(now.timestamp() * 1000)
    current = week_of(now_ms, zone)
    week = week_by_id(asked.week, zone) if asked.week else last_ended(now_ms, zone)
    window = week_window(week, zone, now)

    def _week(of: Week) -> WeekShown:
        return WeekShown(
            volume(connection, DEFAULT_PROJECT, of),
            case_shown(connection, DEFAULT_PROJECT, of.id, settings.critics),
        )

    def _others() -> tuple[Cohort, ...]:
        case = case_of(connection, DEFAULT_PROJECT, week.id)
        found = cohorts(connection, DEFAULT_PROJECT, week.id, "bad")
        others = [c for c in found if case is None or c.condition != case.cohort.condition.as_json()]
        return tuple(others[:COHORTS_SHOWN])

    def _users() -> tuple[WorstRow, ...]:
        page = worst_users(
            connection, DEFAULT_PROJECT, week.since_ms, week.until_ms, zone=zone, limit=USERS_SHOWN
        )
        return worst_rows(connection, page.rows, settings.critics)

    shown = panel("The case", connection, lambda: _week(week))
    newest = panel("Newest call", connection, lambda: newest_call(connection, DEFAULT_PROJECT, zone))
    return ThisWeekPage(
        headline=_headline(week.id, shown.data, newest.data),
        dateline=dateline(connection, now),
        window=window,
        current_week=current.id,
        running=week.id == current.id,
        week=shown,
        cohorts=panel("Other cohorts", connection, _others),
        so_far=panel("So far", connection, lambda: None if week.id == current.id else _week(current)),
        changes=panel("What changed", connection, lambda: changes_of(connection, DEFAULT_PROJECT, week)),
        users=panel("Who had it worst", connection, _users),
        tail=panel(
            "The tail",
            connection,
            lambda: latencies(connection, DEFAULT_PROJECT, window, group_by="service", measure="total"),
        ),
        tail_conditions=panel(
            "What sets the tail apart",
            connection,
            lambda: cohorts(connection, DEFAULT_PROJECT, week.id, "tail"),
        ),
        newest=newest,
    )


def _headline(week_id: str, shown: WeekShown | None, newest: Newest | None) -> str:
    number = int(week_id[-2:])
    if shown is None:
        return f"Week {number}"
    if shown.case is not None:
        return f"{shown.case.sentence.rstrip('.')}."
    if shown.volume.n == 0:
        return "No calls yet." if newest is None else f"No calls in week {number}."
    if shown.volume.n_ranked == 0:
        return f"{many(shown.volume.n, 'call')}, none ranked yet."
    if shown.volume.n_bad == 0:
        return f"No case: none of {many(shown.volume.n_ranked, 'ranked call')} of week {number} was bad."
    return f"No case: nothing sets the bad calls of week {number} apart from the rest."
