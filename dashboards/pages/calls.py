"""Calls: what came in, newest first, filtered; with a bounded search in the texts."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from dashboards.filters import CallsQuery, Window, window_of
from dashboards.pages.dateline import Dateline, dateline
from dashboards.panels import Panel, panel
from dashboards.queries.calls import CallList, Newest, count_calls, list_calls, newest_call
from dashboards.queries.facets import Facets, facets
from dashboards.queries.slices import Choices, choices
from dashboards.words import count, duration, many, shorten
from ingest.settings import Settings
from ingest.tables import DEFAULT_PROJECT


@dataclass(frozen=True)
class CallsPage:
    """Context of calls.html.

    Attributes:
        headline: what the list is, in one sentence.
        dateline: how fresh the page is.
        asked: the filters, as they stand in the address.
        window: the time that the list speaks of.
        list: the calls.
        n_window: calls in the window, whatever the filters.
        facets: what the list can be narrowed by, counted among the window's newest calls.
        choices: what prompt, version and model can be filtered by.
        newest: the newest call of all; data None in an empty store.
    """

    headline: str
    dateline: Panel[Dateline]
    asked: CallsQuery
    window: Window
    list: Panel[CallList]
    n_window: Panel[int]
    facets: Panel[Facets]
    choices: Panel[Choices]
    newest: Panel[Newest | None]


def build(connection: Connection, settings: Settings, asked: CallsQuery, now: datetime) -> CallsPage:
    """Read the page.

    Raises:
        BadCursor: the cursor is not one of this list.
    """
    window = window_of(asked, settings.zone, now)
    found = panel(
        "Calls", connection, lambda: list_calls(connection, DEFAULT_PROJECT, window, asked, settings.critics)
    )
    n_window = panel("Count", connection, lambda: count_calls(connection, DEFAULT_PROJECT, window))
    return CallsPage(
        headline=_headline(asked, found.data, n_window.data),
        dateline=dateline(connection, now),
        asked=asked,
        window=window,
        list=found,
        n_window=n_window,
        facets=panel("Counts", connection, lambda: facets(connection, DEFAULT_PROJECT, window, asked)),
        choices=panel("Filters", connection, lambda: choices(connection, DEFAULT_PROJECT)),
        newest=panel(
            "Newest call", connection, lambda: newest_call(connection, DEFAULT_PROJECT, settings.zone)
        ),
    )


def _headline(asked: CallsQuery, found: CallList | None, n_window: int | None) -> str:
    if found is None:
        return "Calls"
    filters = asked.model_dump(exclude_none=True, exclude={"week", "since", "until", "limit", "cursor", "q"})
    n = len(found.calls)
    said = " with ".join(
        [
            "call" if n == 1 else "calls",
            *([", ".join(_said(*item) for item in filters.items())] if filters else []),
        ]
    )
    holding = f" that {'says' if n == 1 else 'say'} “{shorten(asked.q, 60)}”" if asked.q else ""
    if n == 0:
        further = " so far" if found.next_cursor else " in this window"
        return f"No {said}{holding}{further}."
    if not filters and not holding and n_window is not None and not asked.cursor:
        return f"{'The newest ' if n < n_window else ''}{count(n)} of {many(n_window, 'call')}."
    newest = "The newest " if found.next_cursor and not asked.cursor else ""
    return f"{newest}{'' if newest and n == 1 else f'{count(n)} '}{said}{holding}."


def _said(name: str, value: Any) -> str:
    if name == "min_latency_ms":
        return f"at least {duration(value)}"
    return f"{name} {shorten(str(value), 60)}"
