"""A user or a session: the worst of each week, what they did about it, and their calls in order."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from dashboards.drawing.reasons import why
from dashboards.filters import PersonQuery
from dashboards.pages.dateline import Dateline, dateline
from dashboards.panels import Panel, panel
from dashboards.queries.calls import CallList
from dashboards.queries.person import (
    Did,
    Per,
    Person,
    PersonWeek,
    person,
    person_calls,
    person_did,
    person_weeks,
)
from dashboards.words import many, share
from ingest.settings import Settings
from ingest.tables import DEFAULT_PROJECT


@dataclass(frozen=True)
class PersonPage:
    """Context of person.html.

    Attributes:
        headline: the worst that happened to them, in one sentence.
        dateline: how fresh the page is.
        asked: the filters, as they stand in the address.
        per: "user" or "session".
        id: the application's own id.
        person: how many calls, since when.
        weeks: the worst of each week, newest first.
        did: their signals, newest first.
        calls: a user's newest first, a session's oldest first, as a conversation is read.
    """

    headline: str
    dateline: Panel[Dateline]
    asked: PersonQuery
    per: Per
    id: str
    person: Person
    weeks: Panel[tuple[PersonWeek, ...]]
    did: Panel[tuple[Did, ...]]
    calls: Panel[CallList]


def build(
    connection: Connection, settings: Settings, per: Per, name: str, asked: PersonQuery, now: datetime
) -> PersonPage | None:
    """Read the page; None where no call names them.

    Raises:
        BadCursor: the cursor is not one of this list.
    """
    found = person(connection, DEFAULT_PROJECT, per, name)
    if found is None:
        return None

    def _calls() -> CallList:
        read = person_calls(
            connection, DEFAULT_PROJECT, per, name, settings.critics, asked.limit, asked.cursor
        )
        return read if per == "user" else CallList(read.calls[::-1], read.next_cursor)

    weeks = panel("Weeks", connection, lambda: person_weeks(connection, DEFAULT_PROJECT, per, name))
    return PersonPage(
        headline=_headline(per, found, weeks.data),
        dateline=dateline(connection, now),
        asked=asked,
        per=per,
        id=name,
        person=found,
        weeks=weeks,
        did=panel("Signals", connection, lambda: person_did(connection, DEFAULT_PROJECT, per, name)),
        calls=panel("Calls", connection, _calls),
    )


def _headline(per: Per, found: Person, weeks: tuple[PersonWeek, ...] | None) -> str:
    n = f"{'at least ' if found.at_least else ''}{many(found.n, 'call')}"
    if not weeks:
        return f"{n[0].upper()}{n[1:]}, none of them ranked yet."
    worst = max(weeks, key=lambda week: week.p_bad)
    bad = sum(week.n_bad for week in weeks)
    said = "None" if bad == 0 else f"{bad:,}".replace(",", "\u202f")
    because = why(worst.parts)
    when = f" in week {int(worst.week[-2:])}" if len(weeks) > 1 else ""
    of = "their" if per == "user" else "its"
    why_so = f": {because}" if because else ""
    if found.n == 1 and not found.at_least:
        return f"{of.capitalize()} one call was {'bad' if bad else 'not bad'}: {share(worst.p_bad)}{why_so}."
    return (
        f"{said} of {of} {n} {'was' if bad == 1 else 'were'} bad; the worst{when} with {share(worst.p_bad)}"
        f"{why_so}."
    )
