"""A rubric: its question, seven levels and file, its versions, and how each was answered."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from dashboards.filters import Window, WindowQuery, window_of
from dashboards.pages.dateline import Dateline, dateline
from dashboards.panels import Panel, panel
from dashboards.queries.agreement import (
    BesidePeople,
    Drift,
    SeenDifferently,
    beside_people,
    drifts,
    seen_differently,
)
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
        people: each critic beside people's newest labels; empty where nobody labelled.
        drifts: each critic on the anchors, labelled calls that are scored again now and then.
        differently: calls of the window that two critics saw differently under the newest version.
    """

    headline: str
    dateline: Panel[Dateline]
    window: Window
    name: str
    versions: tuple[Version, ...]
    uses: Panel[tuple[RubricUse, ...]]
    people: Panel[tuple[BesidePeople, ...]]
    drifts: Panel[tuple[Drift, ...]]
    differently: Panel[tuple[SeenDifferently, ...]]


def build(
    connection: Connection, settings: Settings, name: str, asked: WindowQuery, now: datetime
) -> RubricPage | None:
    """Read the page; None where no critic has met a rubric of this name."""
    known = versions(connection, name)
    if not known:
        return None
    window = window_of(asked, settings.zone, now)
    used = panel("Answers", connection, lambda: uses(connection, DEFAULT_PROJECT, window, name))
    # Who answered lately may be configured no more, and whoever is configured may have answered earlier.
    answering = list(dict.fromkeys([*settings.critics, *(use.critic for use in used.data or ())]))
    return RubricPage(
        headline=known[0].question,
        dateline=dateline(connection, now),
        window=window,
        name=name,
        versions=known,
        uses=used,
        people=panel(
            "Agreement with people",
            connection,
            lambda: beside_people(connection, DEFAULT_PROJECT, name, answering),
        ),
        drifts=panel(
            "Drift",
            connection,
            lambda: drifts(connection, DEFAULT_PROJECT, name, known[0].blob, answering),
        ),
        differently=panel(
            "Critics that disagree",
            connection,
            lambda: seen_differently(connection, DEFAULT_PROJECT, window, known[0].blob),
        ),
    )
