"""The weekly computation: one week's findings, what changed in it, and its case.

Flow: marks in `outlier_progress` (outliers.experience.refresh) -> `compute_week` -> `keep_week` (one write
job).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, delete, select

from ingest.settings import Settings
from ingest.store import Store, read_counted
from ingest.tables import Project, columns
from outliers.casework.cases import leading_cohort, nominate
from outliers.causes.tail_causes import TailCauses, find_causes, keep_causes
from outliers.changes import Change, keep_changes
from outliers.cohorts.describing import describe
from outliers.cohorts.discovery import Tested, always_so, discover
from outliers.cohorts.findings import Finding, keep_findings
from outliers.cohorts.questions import about_bad, about_failures, about_slow, about_tail
from outliers.cohorts.text_groups import text_groups
from outliers.comparison import compare
from outliers.costs import Costs, keep_costs, week_costs
from outliers.experience.refresh import keep_progress, week_mark
from outliers.frame import WeekCalls, calls_before, week_calls
from outliers.latency.past import read_counts
from outliers.latency.spells import Spell, find_spells, keep_spells
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
    """What was computed for one week of one project; `bad` ends with what was always so (`lasting`)."""

    week: Week
    bad: list[Finding]
    tail: list[Finding]
    changes: list[Change]
    costs: Costs
    causes: list[TailCauses] = field(default_factory=list)
    spells: list[Spell] = field(default_factory=list)


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
    """Compute one week from its calls and those of the 28 days before; writes nothing."""
    zone = settings.zone
    last = week_before(week, zone)
    before = calls_before(store, project_id, week, at_least_since_ms=last.since_ms)
    calls = week_calls(store, project_id, week)
    # a week that still runs is compared with the same part of the weeks before
    part_ms = now_ms - week.since_ms if week.holds(now_ms) else None
    week_before_it, earlier = _weeks_before(before, last, part_ms, zone)
    changes = compare(calls, week_before_it, earlier)
    costs = week_costs(calls, week_before_it, zone)
    about = about_bad(calls, before)
    axes = about.ground.axes
    slow = [about_slow(calls, before, for_its_answer=which, axes=axes) for which in (True, False)]
    found = discover(calls, about, *slow, *about_failures(calls, about))
    found += text_groups(store, project_id, about, found)
    found.sort(key=lambda one: -one.excess)
    lasting = always_so(calls, about, found)
    bad = [
        replace(one, lasting=one.rank > len(found))
        for one in _described(store, settings, calls, [*found, *lasting])
    ]
    tail = _described(store, settings, calls, discover(calls, about_tail(calls)))
    with read_counted(store) as connection:
        counts = read_counts(connection, project_id, week)
    causes = find_causes(store, project_id, calls, zone)
    return WeekResults(week, bad, tail, changes, costs, causes, find_spells(counts, week, zone))


def _weeks_before(
    before: WeekCalls, last: Week, part_ms: int | None, zone: ZoneInfo
) -> tuple[WeekCalls, list[WeekCalls]]:
    """Return the week before, and those before it whose noise is known, newest first; or their same parts."""
    weeks = [last]
    while len(weeks) < 4:
        weeks.append(week_before(weeks[-1], zone))
    parts = [before.within(week, None if part_ms is None else week.since_ms + part_ms) for week in weeks]
    return parts[0], [part for part in parts[1:] if len(part)]


def _described(store: Store, settings: Settings, calls: WeekCalls, found: Sequence[Tested]) -> list[Finding]:
    return [describe(store, calls, tested, place, settings.zone) for place, tested in enumerate(found, 1)]


def keep_week(connection: Connection, project_id: int, found: WeekResults, mark: int, now_ms: int) -> None:
    """Write job: replace a week's findings and changes; nominate its case anew where the week is over."""
    week = found.week
    keep_findings(connection, project_id, week.id, "bad", found.bad)
    keep_findings(connection, project_id, week.id, "tail", found.tail)
    keep_changes(connection, project_id, week.id, found.changes)
    keep_costs(connection, project_id, week.id, found.costs)
    keep_causes(connection, project_id, week.id, found.causes)
    keep_spells(connection, project_id, week.id, found.spells)
    if week.until_ms <= now_ms:
        nominate(
            connection,
            project_id,
            week.id,
            leading_cohort([one for one in found.bad if not one.lasting]),
            now_ms,
        )
    # Calls ranked while we computed have set a newer mark, which stays.
    connection.execute(
        delete(_progress).where(_progress.c.name == week_mark(project_id, week.id), _progress.c.value <= mark)
    )
