"""Cases: a year of them as a history, a line a week; weeks without one are counted between."""

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from sqlalchemy import Connection

from dashboards.drawing.case_words import verdict_words
from dashboards.filters import CasesQuery
from dashboards.pages.dateline import Dateline, dateline
from dashboards.panels import Panel, panel
from dashboards.queries.calls import Newest, newest_call
from dashboards.queries.cases import CaseLine, CaseShown, case_lines, case_shown
from dashboards.words import many
from ingest.settings import Settings
from ingest.tables import DEFAULT_PROJECT
from outliers.weeks import last_ended, week_by_id, week_of


@dataclass(frozen=True)
class CaseRow:
    """One line of the history.

    Attributes:
        case: the week's case in short.
        verdict: fixed, no change seen, worse, too early; "" where no fix is out.
        quiet_weeks: weeks without a case between this one and the row above it, the newer one.
    """

    case: CaseLine
    verdict: str
    quiet_weeks: int


@dataclass(frozen=True)
class History:
    """One page of the history; `next_before` is None after the last row, else the week to go on before."""

    rows: tuple[CaseRow, ...]
    next_before: str | None


@dataclass(frozen=True)
class CasesPage:
    """Context of cases.html.

    Attributes:
        headline: how many cases are open, closed and back, in one sentence.
        dateline: how fresh the page is.
        asked: the filters, as they stand in the address.
        history: the cases, newest week first.
        so_far: what leads in the running week; data None where nothing does, or on a further page.
        newest: the newest call of all; data None in an empty store.
    """

    headline: str
    dateline: Panel[Dateline]
    asked: CasesQuery
    history: Panel[History]
    so_far: Panel[CaseShown | None]
    newest: Panel[Newest | None]


def build(connection: Connection, settings: Settings, asked: CasesQuery, now: datetime) -> CasesPage:
    """Read the page."""
    zone = settings.zone
    now_ms = round(now.timestamp() * 1000)

    def _history() -> History:
        lines = case_lines(connection, DEFAULT_PROJECT, asked.limit + 1, asked.before)
        more = len(lines) > asked.limit
        kept = lines[: asked.limit]
        newer = [asked.before or week_of(now_ms, zone).id, *(line.week for line in kept)]
        starts = [week_by_id(one, zone).since_ms for one in newer]
        # a week with a clock change has 167 or 169 hours
        between = [max(0, round((new - old) / (7 * 86_400_000)) - 1) for new, old in pairwise(starts)]
        rows = [CaseRow(line, verdict_words(line), quiet) for line, quiet in zip(kept, between, strict=True)]
        return History(tuple(rows), kept[-1].week if more else None)

    def _so_far() -> CaseShown | None:
        week = week_of(now_ms, zone)
        case = case_shown(connection, DEFAULT_PROJECT, week.id, settings.critics)
        return case if case is not None and case.status == "so_far" and asked.before is None else None

    history = panel("Cases", connection, _history)
    return CasesPage(
        headline=_headline(history.data, last_ended(now_ms, zone).id),
        dateline=dateline(connection, now),
        asked=asked,
        history=history,
        so_far=panel("So far", connection, _so_far),
        newest=panel("Newest call", connection, lambda: newest_call(connection, DEFAULT_PROJECT, zone)),
    )


def _headline(history: History | None, last_week: str) -> str:
    if history is None:
        return "Cases"
    if not history.rows:
        return "No case yet."
    statuses = [row.case.status for row in history.rows]
    closed = statuses.count("verified")
    waits = statuses.count("fixed")
    still_open = len(statuses) - closed - waits
    said = [
        f"{still_open} open" if still_open else "",
        f"{waits} with a fix out" if waits else "",
        f"{closed} closed" if closed else "",
    ]
    newest = history.rows[0].case
    ended = "" if newest.week >= last_week else f" None in week {int(last_week[-2:])}."
    return f"{many(len(statuses), 'case')}: {', '.join(one for one in said if one)}.{ended}"
