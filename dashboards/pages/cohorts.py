"""Cohorts: everything that set a week's bad or slow calls apart, the new ones before those always there."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from dashboards.filters import WeekQuery, Window, week_window
from dashboards.pages.dateline import Dateline, dateline
from dashboards.panels import Panel, panel
from dashboards.queries.calls import Newest, newest_call
from dashboards.queries.cases import Cohort, cohorts
from dashboards.queries.volume import Volume, volume
from dashboards.words import many
from ingest.settings import Settings
from ingest.tables import DEFAULT_PROJECT
from outliers.casework.cases import Case, case_of
from outliers.weeks import last_ended, week_by_id


@dataclass(frozen=True)
class CaseNow:
    """The week's case as the list marks it: its status, and its cohort's condition."""

    status: str
    condition: dict[str, object]


@dataclass(frozen=True)
class CohortsPage:
    """Context of cohorts.html.

    Attributes:
        headline: how many cohorts stand apart, in one sentence.
        dateline: how fresh the page is.
        window: the week: the last ended one unless asked.
        bad: cohorts of bad calls that are new, the one that explains most first.
        lasting: those whose rate was no lower in the 28 days before: always so, no incident.
        tail: conditions that set the slowest calls apart.
        case: the week's case; data None where there is none.
        volume: the week's calls.
        newest: the newest call of all; data None in an empty store.
    """

    headline: str
    dateline: Panel[Dateline]
    window: Window
    bad: Panel[tuple[Cohort, ...]]
    lasting: Panel[tuple[Cohort, ...]]
    tail: Panel[tuple[Cohort, ...]]
    case: Panel[CaseNow | None]
    volume: Panel[Volume]
    newest: Panel[Newest | None]


def build(connection: Connection, settings: Settings, asked: WeekQuery, now: datetime) -> CohortsPage:
    """Read the page."""
    zone = settings.zone
    now_ms = round(now.timestamp() * 1000)
    week = week_by_id(asked.week, zone) if asked.week else last_ended(now_ms, zone)

    def _found(about: str, *, lasting: bool = False) -> tuple[Cohort, ...]:
        return cohorts(connection, DEFAULT_PROJECT, week.id, about, lasting=lasting)

    bad = panel("New this week", connection, lambda: _found("bad"))
    counted = panel("The week", connection, lambda: volume(connection, DEFAULT_PROJECT, week))
    return CohortsPage(
        headline=_headline(week.id, bad.data, counted.data),
        dateline=dateline(connection, now),
        window=week_window(week, zone, now),
        bad=bad,
        lasting=panel("Always so", connection, lambda: _found("bad", lasting=True)),
        tail=panel("The slow tail", connection, lambda: _found("tail")),
        case=panel("The case", connection, lambda: _case_now(case_of(connection, DEFAULT_PROJECT, week.id))),
        volume=counted,
        newest=panel("Newest call", connection, lambda: newest_call(connection, DEFAULT_PROJECT, zone)),
    )


def _case_now(case: Case | None) -> CaseNow | None:
    return None if case is None else CaseNow(case.status, case.cohort.condition.as_json())


def _headline(week_id: str, bad: tuple[Cohort, ...] | None, counted: Volume | None) -> str:
    number = int(week_id[-2:])
    if bad is None:
        return f"Cohorts of week {number}"
    if bad:
        return f"{many(len(bad), 'cohort')} of calls went wrong in week {number} beyond what is usual."
    if counted is not None and not counted.n:
        return f"No calls in week {number}."
    if counted is not None and not counted.n_ranked:
        return f"The calls of week {number} are not ranked yet."
    return f"Nothing new sets the bad calls of week {number} apart from the rest."
