"""What changed since the week before: every figure that is compared, those that moved first."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from dashboards.filters import WeekQuery, Window, week_window
from dashboards.pages.dateline import Dateline, dateline
from dashboards.panels import Panel, panel
from dashboards.queries.calls import Newest, newest_call
from dashboards.words import many
from ingest.settings import Settings
from ingest.tables import DEFAULT_PROJECT
from outliers.changes import Change, changes_of
from outliers.weeks import last_ended, week_by_id, week_of


@dataclass(frozen=True)
class ChangesPage:
    """Context of changes.html.

    Attributes:
        headline: how many figures moved, in one sentence.
        dateline: how fresh the page is.
        window: the week: the last ended one unless asked.
        running: whether that week still runs; it is then compared with the same part of the week before.
        changes: all calls first, then the busiest prompts, versions and models.
        newest: the newest call of all; data None in an empty store.
    """

    headline: str
    dateline: Panel[Dateline]
    window: Window
    running: bool
    changes: Panel[list[Change]]
    newest: Panel[Newest | None]


def build(connection: Connection, settings: Settings, asked: WeekQuery, now: datetime) -> ChangesPage:
    """Read the page."""
    zone = settings.zone
    now_ms = round(now.timestamp() * 1000)
    week = week_by_id(asked.week, zone) if asked.week else last_ended(now_ms, zone)
    changes = panel("What changed", connection, lambda: changes_of(connection, DEFAULT_PROJECT, week))
    return ChangesPage(
        headline=_headline(week.id, changes.data),
        dateline=dateline(connection, now),
        window=week_window(week, zone, now),
        running=week.id == week_of(now_ms, zone).id,
        changes=changes,
        newest=panel("Newest call", connection, lambda: newest_call(connection, DEFAULT_PROJECT, zone)),
    )


def _headline(week_id: str, changes: list[Change] | None) -> str:
    number = int(week_id[-2:])
    if changes is None:
        return f"What changed in week {number}"
    if not changes:
        return f"Week {number} is not compared with the week before."
    moved = [change for change in changes if change.moved]
    worse = sum(change.worse is True for change in moved)
    if not moved:
        return f"None of {many(len(changes), 'figure')} moved beyond noise."
    return (
        f"{len(moved)} of {many(len(changes), 'figure')} moved beyond noise, {worse or 'none'} for the worse."
    )
