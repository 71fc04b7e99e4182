"""The weekly computation: one week's findings, what changed in it, and its case.

Flow: marks in `outlier_progress` (outliers.refresh) -> `compute_week` -> `keep_week` (one write job).
"""

import logging
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, delete, select

from ingest.settings import Settings
from ingest.store import Store
from ingest.tables import Project, columns
from outliers.cases import leading_cohort, nominate
from outliers.changes import Change, keep_changes
from outliers.comparison import compare
from outliers.describing import describe
from outliers.discovery import Question, about_bad, about_tail, discover
from outliers.findings import Finding, keep_findings
from outliers.frame import WeekCalls, week_calls
from outliers.refresh import keep_progress, week_mark
from outliers.tables import Progress
from outliers.weeks import Week, last_ended, week_before, week_by_id

_progress, _project = columns(Progress), columns(Project)

#: Weeks computed in one run, newest first; an import of a year is worked off over several.
WEEKS_MAX = 8
#: The newest week whose end was noticed, by its first instant.
ENDED = "ended_since_ms"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WeekResults:
    """What was computed for one week of one project."""

    week: Week
    bad: list[Finding]
    tail: list[Finding]
    changes: list[Change]


def weeks_to_compute(connection: Connection, settings: Settings, now_ms: int) -> list[tuple[int, Week, int]]:
    """Return (project, week, mark) of the weeks whose calls were ranked anew since, newest first.

    A week that has just ended is among them for every project, whether or not a late score reached it.
    """
    marks: dict[str, int] = dict(
        connection.execute(
            select(_progress.c.name, _progress.c.value).where(_progress.c.name.like("week/%"))
        ).all()
    )
    ended = last_ended(now_ms, settings.zone)
    noticed = connection.execute(select(_progress.c.value).where(_progress.c.name == ENDED)).scalar()
    if noticed != ended.since_ms:
        for project_id in connection.execute(select(_project.c.seq)).scalars():
            marks.setdefault(week_mark(project_id, ended.id), 0)
    found = []
    for name, mark in marks.items():
        _week, project_id, week_id = name.split("/")
        found.append((int(project_id), week_by_id(week_id, settings.zone), mark))
    return sorted(found, key=lambda one: -one[1].since_ms)


def compute_weeks(store: Store, settings: Settings, now_ms: int) -> list[WeekResults]:
    """Compute and keep the newest weeks that need it; return what was found."""
    with store.read() as connection:
        waiting = weeks_to_compute(connection, settings, now_ms)
    results = []
    for project_id, week, mark in waiting[:WEEKS_MAX]:
        found = compute_week(store, settings, project_id, week, now_ms)
        store.write(partial(keep_week, project_id=project_id, found=found, mark=mark, now_ms=now_ms))
        results.append(found)
    ended = last_ended(now_ms, settings.zone)
    store.write(partial(keep_progress, progress={ENDED: ended.since_ms, "ran_at_ms": now_ms}))
    return results


def compute_week(store: Store, settings: Settings, project_id: int, week: Week, now_ms: int) -> WeekResults:
    """Compute one week from its calls and those of the week before; writes nothing."""
    zone = settings.zone
    before = week_calls(store, project_id, week_before(week, zone))
    if week.holds(now_ms):
        before = before.up_to(before.week.since_ms + now_ms - week.since_ms)
    calls = week_calls(store, project_id, week)
    changes = compare(calls, before)
    del before
    bad, tail = (
        _findings(store, settings, calls, question) for question in (about_bad(calls), about_tail(calls))
    )
    return WeekResults(week, bad, tail, changes)


def _findings(store: Store, settings: Settings, calls: WeekCalls, question: Question) -> list[Finding]:
    return [
        describe(store, calls, question, tested, place, settings.zone)
        for place, tested in enumerate(discover(calls, question), 1)
    ]


def keep_week(connection: Connection, project_id: int, found: WeekResults, mark: int, now_ms: int) -> None:
    """Write job: replace a week's findings and changes; nominate its case anew where the week is over."""
    week = found.week
    keep_findings(connection, project_id, week.id, "bad", found.bad)
    keep_findings(connection, project_id, week.id, "tail", found.tail)
    keep_changes(connection, project_id, week.id, found.changes)
    if week.until_ms <= now_ms:
        nominate(connection, project_id, week.id, leading_cohort(found.bad), now_ms)
    # Calls ranked while we computed have set a newer mark, which stays.
    connection.execute(
        delete(_progress).where(_progress.c.name == week_mark(project_id, week.id), _progress.c.value <= mark)
    )
