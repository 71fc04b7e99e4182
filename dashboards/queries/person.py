"""One user or one session: the worst of each week, what they did, and their calls.

Flow: call, experience and signal rows of the newest CALLS_READ calls -> `person_weeks`, `person_did`,
`person_calls`. A bot's user can have millions of calls; nothing here grows with them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, Select, select

from dashboards.queries.calls import CallList, lines_by_seq
from dashboards.words import moment
from ingest.tables import Call, EndUser, Signal, columns
from outliers.errors import BadCursor
from outliers.experience.parts import BAD_FROM, Part
from outliers.tables import Experience
from outliers.worst import calls_by_seq

CALL, SIGNAL, USER, EXPERIENCE = columns(Call), columns(Signal), columns(EndUser), columns(Experience)

#: Newest calls that weeks and signals are told from, and weeks and signals that are shown.
CALLS_READ, WEEKS_MAX, SIGNALS_MAX = 2_000, 26, 50

Per = Literal["user", "session"]


@dataclass(frozen=True)
class Person:
    """Who it is.

    Attributes:
        n: calls, counted to CALLS_READ; `at_least` where there are more.
        first_seen_at: when a user first came; of a session its first call among those read.
        users: of a session, the users its calls name.
        sessions: of a user, how many sessions these calls are in.
    """

    n: int
    at_least: bool
    first_seen_at: datetime | None
    last_seen_at: datetime
    users: tuple[str, ...]
    sessions: int


@dataclass(frozen=True)
class PersonWeek:
    """One ISO week, and the worst that happened in it.

    Attributes:
        week: "2026-W47".
        n: ranked calls, of which n_bad with P(bad) of at least one half.
        p_bad, parts: of the worst call, the largest share first.
        call_id: the worst call.
    """

    week: str
    n: int
    n_bad: int
    p_bad: float
    parts: tuple[Part, ...]
    call_id: str


@dataclass(frozen=True)
class Did:
    """One thing a user did about a call: a signal; `value` lies in `value_min`..`value_max` for a rating."""

    call_id: str
    kind: str
    value: float | None
    value_max: float | None
    comment: str | None
    at: datetime


def person(connection: Connection, project_id: int, per: Per, name: str) -> Person | None:
    """Who it is; None where no call names them."""
    inner = _newest(project_id, per, name, CALLS_READ + 1).subquery()
    rows = connection.execute(
        select(CALL.c.started_at_ms, CALL.c.user_id, CALL.c.session_id).join(inner, inner.c.seq == CALL.c.seq)
    ).all()
    if not rows:
        return None
    started = [row.started_at_ms for row in rows]
    first_ms: int | None = min(started)
    if per == "user":
        first_ms = connection.execute(
            select(USER.c.first_seen_at_ms).where(USER.c.project_id == project_id, USER.c.user_id == name)
        ).scalar()
    return Person(
        n=min(len(rows), CALLS_READ),
        at_least=len(rows) > CALLS_READ,
        first_seen_at=None if first_ms is None else moment(first_ms),
        last_seen_at=moment(max(started)),
        users=tuple(sorted({row.user_id for row in rows if row.user_id is not None})),
        sessions=len({row.session_id for row in rows if row.session_id is not None}),
    )


def person_weeks(connection: Connection, project_id: int, per: Per, name: str) -> tuple[PersonWeek, ...]:
    """The worst of each week, the newest week first; weeks without a ranked call are left out."""
    inner = _newest(project_id, per, name, CALLS_READ).subquery()
    rows = connection.execute(
        select(EXPERIENCE.c.week, EXPERIENCE.c.p_bad, EXPERIENCE.c.call_seq).join(
            inner, inner.c.seq == EXPERIENCE.c.call_seq
        )
    ).all()
    weeks: dict[str, list[tuple[float, int]]] = {}
    for week, p_bad, seq in rows:
        weeks.setdefault(week, []).append((p_bad, seq))
    newest = sorted(weeks, reverse=True)[:WEEKS_MAX]
    worst = {week: max(weeks[week]) for week in newest}
    calls = {call.seq: call for call in calls_by_seq(connection, [seq for _p, seq in worst.values()])}
    return tuple(
        PersonWeek(
            week=week,
            n=len(weeks[week]),
            n_bad=sum(p_bad >= BAD_FROM for p_bad, _seq in weeks[week]),
            p_bad=worst[week][0],
            parts=calls[worst[week][1]].parts,
            call_id=calls[worst[week][1]].id,
        )
        for week in newest
        if worst[week][1] in calls
    )


def person_did(connection: Connection, project_id: int, per: Per, name: str) -> tuple[Did, ...]:
    """What they did about their newest calls, newest first; at most SIGNALS_MAX things."""
    inner = _newest(project_id, per, name, CALLS_READ).subquery()
    rows = connection.execute(
        select(CALL.c.id, SIGNAL.c.kind, SIGNAL.c.value, SIGNAL.c.value_max, SIGNAL.c.comment, SIGNAL.c.at_ms)
        .select_from(
            inner.join(SIGNAL, SIGNAL.c.call_seq == inner.c.seq).join(CALL, CALL.c.seq == inner.c.seq)
        )
        .order_by(SIGNAL.c.at_ms.desc(), SIGNAL.c.seq.desc())
        .limit(SIGNALS_MAX)
    )
    return tuple(
        Did(row.id, row.kind, row.value, row.value_max, row.comment, moment(row.at_ms)) for row in rows
    )


def person_calls(
    connection: Connection,
    project_id: int,
    per: Per,
    name: str,
    critics: Sequence[str],
    limit: int,
    cursor: str | None,
) -> CallList:
    """Their calls as they arrived, newest first.

    Raises:
        BadCursor: the cursor is not one of this list.
    """
    statement = _newest(project_id, per, name, limit + 1)
    if cursor is not None:
        if not re.fullmatch(r"\d{1,18}", cursor):
            raise BadCursor("Not a cursor that this list gave; leave it out to start at the newest call.")
        statement = statement.where(CALL.c.seq < int(cursor))
    seqs = list(connection.execute(statement).scalars())
    lines = lines_by_seq(connection, seqs[:limit], list(critics))
    more = str(seqs[limit - 1]) if len(seqs) > limit else None
    return CallList(tuple(lines[seq] for seq in seqs[:limit] if seq in lines), more)


def _newest(project_id: int, per: Per, name: str, limit: int) -> Select[Any]:
    """Keys of their newest calls: an index holds each one's calls in the order they arrived."""
    column = CALL.c.user_id if per == "user" else CALL.c.session_id
    return (
        select(CALL.c.seq)
        .where(CALL.c.project_id == project_id, column == name)
        .order_by(CALL.c.seq.desc())
        .limit(limit)
    )
