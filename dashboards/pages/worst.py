"""Worst experiences: calls, users or sessions of a window, by P(bad) or by one thing alone.

A person is ranked by the worst that happened to them, never by an average.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from dashboards.drawing.reasons import why
from dashboards.filters import Window, WorstQuery, window_of
from dashboards.memory import remembered
from dashboards.pages.dateline import Dateline, dateline
from dashboards.panels import Panel, panel
from dashboards.queries.calls import CallLine, Newest, lines_by_seq, newest_call
from dashboards.words import duration, many, moment, share
from ingest.settings import Settings
from ingest.tables import DEFAULT_PROJECT
from outliers.experience.parts import BAD_FROM, Part
from outliers.latency.tails import HOUR_MS
from outliers.worst import (
    Page,
    WorstCall,
    WorstSession,
    WorstUser,
    calls_by_seq,
    first_seen,
    worst_calls,
    worst_sessions,
    worst_users,
)
from outliers.worst_by import Placed, worst_by


@dataclass(frozen=True)
class WorstRow:
    """One call, user or session.

    Attributes:
        value: what it is ranked by. By experience: P(bad), 0..1. By score: the largest weighted
            P(level 1 or 2) over the rubrics that critics answered, or what the guard saw, 0..1. By signal:
            how bad the worst signal is, 0..1. By latency: milliseconds.
        p_bad: of the call, or of the worst call of the user or session; None while it is not ranked.
        parts: of that call, the largest share first; empty while it is not ranked.
        call: that call.
        who: the user's or session's id; None per call.
        n: calls of the user or session in the window; 1 per call.
        n_bad: of these, with P(bad) of at least one half.
        first_seen_at: when the user first came; None where unknown or not per user.
    """

    value: float
    p_bad: float | None
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
    if asked.by != "experience":
        by = asked.by
        # A window that nobody asked for ends now: the same one until the next ranking, or the hour is over.
        until = window.until_ms if window.asked else -(-window.until_ms // HOUR_MS)
        placed = remembered(
            connection,
            ("worst", DEFAULT_PROJECT, window.since_ms, until, by, asked.per, asked.limit, asked.cursor),
            lambda: worst_by(
                connection,
                DEFAULT_PROJECT,
                window.since_ms,
                window.until_ms,
                by=by,
                per=asked.per,
                zone=settings.zone,
                limit=asked.limit,
                cursor=asked.cursor,
            ),
        )
        return WorstList(_placed_rows(connection, placed.rows, asked.per, settings.critics), placed.cursor)
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


def _placed_rows(
    connection: Connection, placed: tuple[Placed, ...], per: str, critics: list[str]
) -> tuple[WorstRow, ...]:
    """Add to each row of a ranking by one thing alone what is shown of its worst call."""
    seqs = [row.seq for row in placed]
    lines = lines_by_seq(connection, seqs, critics)
    parts = {call.seq: call.parts for call in calls_by_seq(connection, seqs)}
    first = (
        first_seen(connection, DEFAULT_PROJECT, [row.name or "" for row in placed]) if per == "user" else {}
    )
    return tuple(
        WorstRow(
            value=row.value,
            p_bad=lines[row.seq].p_bad,
            parts=parts.get(row.seq, ()),
            call=lines[row.seq],
            who=row.name,
            n=row.n,
            n_bad=row.n_bad,
            first_seen_at=moment(first[row.name]) if row.name in first else None,
        )
        for row in placed
        if row.seq in lines
    )


def _row(row: WorstCall | WorstUser | WorstSession, worst: WorstCall, line: CallLine) -> WorstRow:
    who, n, n_bad, first_seen_at = None, 1, int(worst.p_bad >= BAD_FROM), None
    if isinstance(row, WorstUser):
        who, n, n_bad = row.user_id, row.n, row.n_bad
        first_seen_at = None if row.first_seen_at_ms is None else moment(row.first_seen_at_ms)
    elif isinstance(row, WorstSession):
        who, n, n_bad = row.session_id, row.n, row.n_bad
    return WorstRow(worst.p_bad, worst.p_bad, worst.parts, line, who, n, n_bad, first_seen_at)


#: What a row is bad with, by what it is ranked.
_BAD_WITH = {
    "experience": "was bad with {}",
    "score": "was bad by what critics saw with {}",
    "signal": "got a signal that is {} bad",
    "latency": "took {}",
}


def _headline(asked: WorstQuery, ranking: WorstList | None) -> str:
    if ranking is None:
        return f"Worst {asked.per}s"
    if not ranking.rows:
        if asked.cursor:
            return "No more rows."
        return {
            "experience": "Nothing ranked in this window.",
            "score": "No critic has scored a call of this window.",
            "signal": "No user complained in this window.",
            "latency": "No call of this window has a latency.",
        }[asked.by]
    first = ranking.rows[0]
    value = duration(first.value) if asked.by == "latency" else share(first.value)
    if asked.cursor:
        return f"Further down: from {value} on."
    said = _BAD_WITH[asked.by].format(value)
    if first.who:
        return f"{first.who} had it worst: {first.n_bad} of {many(first.n, 'call')} bad, the worst {said}."
    because = why(first.parts)
    return f"The worst call {said}{f': {because}' if because else ''}."
