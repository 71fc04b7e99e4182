"""Worst experiences: calls, users or sessions of a window, by P(bad); a person is ranked by their worst."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from dashboards.dateline import Dateline, dateline
from dashboards.filters import Window, WorstQuery, window_of
from dashboards.panels import Panel, panel
from dashboards.queries.calls import CallLine, Newest, lines_by_seq, newest_call
from dashboards.reasons import why
from dashboards.words import many, moment, share
from ingest.settings import Settings
from ingest.tables import DEFAULT_PROJECT
from outliers.experience.parts import BAD_FROM, Part
from outliers.worst import Page, WorstCall, WorstSession, WorstUser, worst_calls, worst_sessions, worst_users


@dataclass(frozen=True)
class WorstRow:
    """One call, user or session.

    Attributes:
        p_bad: of the call, or of the worst call of the user or session.
        parts: of that call, the largest share first.
        call: that call.
        who: the user's or session's id; None per call.
        n: calls of the user or session in the window; 1 per call.
        n_bad: of these, with P(bad) of at least one half.
        first_seen_at: when the user first came; None where unknown or not per user.
    """

    p_bad: float
    parts: tuple[Part, ...]
    call: CallLine
    who: str | None
    n: int
    n_bad: int
    first_seen_at: datetime | None


@dataclass(frozen=True)
class WorstList:
    """One page of the ranking; `next_cursor` is None after the last row."""

    rows: tuple[WorstRow, ...]
    next_cursor: str | None


@dataclass(frozen=True)
class WorstPage:
    """Context of worst.html.

    Attributes:
        headline: who or what was worst, in one sentence.
        dateline: how fresh the page is.
        asked: the filters, as they stand in the address.
        window: the time that the ranking speaks of.
        list: the ranking.
        newest: the newest call of all; data None in an empty store.
    """

    headline: str
    dateline: Panel[Dateline]
    asked: WorstQuery
    window: Window
    list: Panel[WorstList]
    newest: Panel[Newest | None]


def build(connection: Connection, settings: Settings, asked: WorstQuery, now: datetime) -> WorstPage:
    """Read the page.

    Raises:
        BadCursor: the cursor is not one of this list.
    """
    window = window_of(asked, settings.zone, now)
    ranking = panel("Worst", connection, lambda: worst_list(connection, settings, window, asked))
    return WorstPage(
        headline=_headline(asked, ranking.data),
        dateline=dateline(connection, now),
        asked=asked,
        window=window,
        list=ranking,
        newest=panel(
            "Newest call", connection, lambda: newest_call(connection, DEFAULT_PROJECT, settings.zone)
        ),
    )


def worst_list(connection: Connection, settings: Settings, window: Window, asked: WorstQuery) -> WorstList:
    """Return one page of the ranking.

    Raises:
        BadCursor: the cursor is not one of this list.
    """
    rankings: dict[str, Callable[..., Page[Any]]] = {
        "call": worst_calls,
        "user": worst_users,
        "session": worst_sessions,
    }
    page = rankings[asked.per](
        connection,
        DEFAULT_PROJECT,
        window.since_ms,
        window.until_ms,
        zone=settings.zone,
        limit=asked.limit,
        cursor=asked.cursor,
    )
    return WorstList(worst_rows(connection, page.rows, settings.critics), page.cursor)


def worst_rows(
    connection: Connection, ranked: Iterable[WorstCall | WorstUser | WorstSession], critics: list[str]
) -> tuple[WorstRow, ...]:
    """Add to each ranked call, user or session what a row shows of its worst call."""
    kept = list(ranked)
    worst = [row if isinstance(row, WorstCall) else row.worst for row in kept]
    lines = lines_by_seq(connection, [call.seq for call in worst], critics)
    return tuple(
        _row(row, call, lines[call.seq]) for row, call in zip(kept, worst, strict=True) if call.seq in lines
    )


def _row(row: WorstCall | WorstUser | WorstSession, worst: WorstCall, line: CallLine) -> WorstRow:
    who, n, n_bad, first_seen_at = None, 1, int(worst.p_bad >= BAD_FROM), None
    if isinstance(row, WorstUser):
        who, n, n_bad = row.user_id, row.n, row.n_bad
        first_seen_at = None if row.first_seen_at_ms is None else moment(row.first_seen_at_ms)
    elif isinstance(row, WorstSession):
        who, n, n_bad = row.session_id, row.n, row.n_bad
    return WorstRow(worst.p_bad, worst.parts, line, who, n, n_bad, first_seen_at)


def _headline(asked: WorstQuery, ranking: WorstList | None) -> str:
    if ranking is None:
        return f"Worst {asked.per}s"
    if not ranking.rows:
        return "No more rows." if asked.cursor else "Nothing ranked in this window."
    first = ranking.rows[0]
    if asked.cursor:
        return f"Further down: from {share(first.p_bad)} on."
    if first.who:
        return (
            f"{first.who} had it worst: {first.n_bad} of {many(first.n, 'call')} bad, "
            f"the worst with {share(first.p_bad)}."
        )
    because = why(first.parts)
    return f"The worst call was bad with {share(first.p_bad)}{f': {because}' if because else ''}."
