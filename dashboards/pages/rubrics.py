"""Rubrics: what critics are asked, and how far they could answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from dashboards.filters import Window, WindowQuery, window_of
from dashboards.pages.dateline import Dateline, dateline
from dashboards.panels import Panel, panel
from dashboards.queries.rubrics import RubricUse, Version, uses, versions
from dashboards.words import many, share
from ingest.settings import Settings
from ingest.tables import DEFAULT_PROJECT
from rubrics import Rubric, read_folder


@dataclass(frozen=True)
class RubricLine:
    """One rubric in its newest version, and how each critic answered that version.

    Attributes:
        newest: the version in use.
        n_versions: versions that critics have met.
        uses: answers in the window, per critic.
    """

    newest: Version
    n_versions: int
    uses: tuple[RubricUse, ...]


@dataclass(frozen=True)
class UnaskedRubric:
    """A file of the folder that no call has met in this version: none came, or none is what it applies to.

    Attributes:
        name: of the rubric: its file without `.jinja`.
        blob: git blob id of the file's bytes.
        applies_to: in words, such as "prompts support-*"; "every call" where it sets nothing.
    """

    name: str
    blob: str
    applies_to: str


@dataclass(frozen=True)
class RubricsPage:
    """Context of rubrics.html.

    Attributes:
        headline: how many rubrics are in use and how far they could be answered.
        dateline: how fresh the page is.
        window: the time that shares and means speak of.
        rubrics: by name; empty before the critic first ran.
        unasked: files as they are now that were asked about no call so far.
        problems: what is wrong with the files as they are now; with any, the versions of before are in force.
    """

    headline: str
    dateline: Panel[Dateline]
    window: Window
    rubrics: Panel[tuple[RubricLine, ...]]
    unasked: Panel[tuple[UnaskedRubric, ...]]
    problems: tuple[str, ...]


def build(connection: Connection, settings: Settings, asked: WindowQuery, now: datetime) -> RubricsPage:
    """Read the page."""
    window = window_of(asked, settings.zone, now)
    lines = panel("Rubrics", connection, lambda: rubric_lines(connection, window))
    files, problems = read_folder(settings.rubrics_dir, ask_git=False)
    return RubricsPage(
        headline=_headline(lines.data),
        dateline=dateline(connection, now),
        window=window,
        rubrics=lines,
        unasked=panel("Files of rubrics", connection, lambda: unasked(connection, files)),
        problems=tuple(str(problem) for problem in problems),
    )


def rubric_lines(connection: Connection, window: Window) -> tuple[RubricLine, ...]:
    """Return every rubric in its newest version, and how that was answered in the window."""
    by_name: dict[str, list[Version]] = {}
    for version in versions(connection):
        by_name.setdefault(version.name, []).append(version)
    used = uses(connection, DEFAULT_PROJECT, window)
    return tuple(
        RubricLine(known[0], len(known), tuple(use for use in used if use.blob == known[0].blob))
        for known in by_name.values()
    )


def unasked(connection: Connection, files: Sequence[Rubric]) -> tuple[UnaskedRubric, ...]:
    """Return those of these rubrics that no call has met, by name."""
    met = {version.blob for version in versions(connection)}
    return tuple(
        UnaskedRubric(file.name, file.blob, str(file.applies_to)) for file in files if file.blob not in met
    )


def _headline(lines: tuple[RubricLine, ...] | None) -> str:
    if lines is None:
        return "Rubrics"
    if not lines:
        return "No critic has met a rubric yet."
    asked = sum(use.n for line in lines for use in line.uses)
    if not asked:
        return f"{many(len(lines), 'rubric')}; nothing was asked in this window."
    scored = sum(use.scored for line in lines for use in line.uses)
    return f"{many(len(lines), 'rubric')}; {share(scored / asked)} of {many(asked, 'answer')} are scores."
