"""A rubric: its question, seven levels and file, its versions, and how each was answered."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from dashboards.dateline import Dateline, dateline
from dashboards.filters import Window, WindowQuery, window_of
from dashboards.panels import Panel, panel
from dashboards.queries.rubrics import RubricUse, Version, uses, versions
from ingest.settings import Settings
from ingest.tables import DEFAULT_PROJECT


@dataclass(frozen=True)
class RubricPage:
    """Context of rubric.html.

    Attributes:
        headline: the question that critics are asked.
        dateline: how fresh the page is.
        window: the time that shares and means speak of.
        name: of the rubric: its file without `.jinja`.
        versions: newest first; at least one.
        uses: answers in the window, per version and critic.
    """

    headline: str
    dateline: Panel[Dateline]
    window: Window
    name: str
    versions: tuple[Version, ...]
    uses: Panel[tuple[RubricUse, ...]]


def build(
    connection: Connection, settings: Settings, name: str, asked: WindowQuery, now: datetime
) -> RubricPage | None:
    """Read the page; None where no critic has met a rubric of this name."""
    known = versions(connection, name)
    if not known:
        return None
    window = window_of(asked, settings.zone, now)
    used = panel("Answers", connection, lambda: uses(connection, DEFAULT_PROJECT, window, name))
    return RubricPage(
        headline=known[0].question,
        dateline=dateline(connection, now),
        window=window,
        name=name,
        versions=known,
        uses=used,
    )
