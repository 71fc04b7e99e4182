"""Who had it worst: calls, users and sessions of a window, ranked by P(bad).

Flow: `experience` rows (outliers.experience.refresh) -> `worst_calls`, `worst_users`, `worst_sessions` -> the
Worst page and GET /v1/worst. A user or session is ranked by the worst that happened to it, never by an
average.

The index (project, week, p_bad) is walked from its top, a week at a time, so a page reads little more than
it shows. A person's other calls are then counted through the index on users.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import merge
from typing import Any, Generic, TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, func, or_, select

from ingest.tables import Call, EndUser, Slice, columns
from outliers.errors import BadCursor
from outliers.experience.parts import BAD_FROM, Part, parts_from_json
from outliers.tables import Experience
from outliers.weeks import week_by_id, weeks_between

_call, _slice, _experience, _user = columns(Call), columns(Slice), columns(Experience), columns(EndUser)

#: Most rows of one page.
LIMIT_MAX = 1000
#: Keys of rows are below it: a database refuses larger integers.
SEQ_END = 2**63
#: Calls read at once while looking for the next persons, beyond two for each that is wanted.
_STRIDE = 20

T = TypeVar("T")


@dataclass(frozen=True)
class Page(Generic[T]):
    """Rows, worst first; `cursor` asks for the next page, None after the last."""

    rows: tuple[T, ...]
    cursor: str | None


@dataclass(frozen=True)
class WorstCall:
    """One call and why it was bad.

    Attributes:
        p_bad: P(this was a bad experience), 0..1.
        parts: the four parts, the largest share first.
        latency_ms: None where unknown.
    """

    id: str
    seq: int
    started_at_ms: int
    p_bad: float
    parts: tuple[Part, ...]
    outcome: str
    latency_ms: float | None
    provider: str
    model: str
    prompt: str
    prompt_version: str
    user_id: str | None
    session_id: str | None


@dataclass(frozen=True)
class WorstUser:
    """One person (the application's own id) and the worst that happened to them in the window.

    Attributes:
        p_bad: of the worst call.
        n: the person's calls in the window, of which `n_bad` with P(bad) >= .5.
        first_seen_at_ms: when they first used the application; None where unknown.
    """

    user_id: str
    p_bad: float
    n: int
    n_bad: int
    worst: WorstCall
    first_seen_at_ms: int | None


@dataclass(frozen=True)
class WorstSession:
    """One session and the worst call in it; fields as in `WorstUser`."""

    session_id: str
    p_bad: float
    n: int
    n_bad: int
    worst: WorstCall
    user_id: str | None


@dataclass(frozen=True)
class RankedWindow:
    """A window [since, until) of one project, and the ISO weeks of it that hold ranked calls."""

    project_id: int
    since_ms: int
    until_ms: int
    weeks: tuple[str, ...]


def worst_calls(
    connection: Connection,
    project_id: int,
    since_ms: int,
    until_ms: int,
    *,
    zone: ZoneInfo,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[WorstCall]:
    """Return the calls of a window [since, until) by P(bad), worst first.

    Raises:
        BadCursor: not one of ours.
    """
    limit = max(1, min(limit, LIMIT_MAX))
    window = ranked_window(connection, project_id, since_ms, until_ms, zone)
    rows = _top(connection, window, _read_cursor(cursor), limit + 1)
    shown = rows[:limit]
    more = _cursor_at(shown[-1].p_bad, shown[-1].seq) if len(rows) > limit else None
    return Page(tuple(shown), more)


def worst_users(
    connection: Connection,
    project_id: int,
    since_ms: int,
    until_ms: int,
    *,
    zone: ZoneInfo,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[WorstUser]:
    """Return the users of a window by their worst call, worst first.

    Raises:
        BadCursor: not one of ours.
    """
    window = ranked_window(connection, project_id, since_ms, until_ms, zone)
    found, more = _worst_of(connection, window, "user_id", limit, cursor)
    since = first_seen(connection, project_id, [worst.user_id or "" for worst, _n, _n_bad in found])
    rows = (
        WorstUser(worst.user_id or "", worst.p_bad, n, n_bad, worst, since.get(worst.user_id or ""))
        for worst, n, n_bad in found
    )
    return Page(tuple(rows), more)


def worst_sessions(
    connection: Connection,
    project_id: int,
    since_ms: int,
    until_ms: int,
    *,
    zone: ZoneInfo,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[WorstSession]:
    """Return the sessions of a window by their worst call, worst first.

    Raises:
        BadCursor: not one of ours.
    """
    window = ranked_window(connection, project_id, since_ms, until_ms, zone)
    found, more = _worst_of(connection, window, "session_id", limit, cursor)
    rows = (
        WorstSession(worst.session_id or "", worst.p_bad, n, n_bad, worst, worst.user_id)
        for worst, n, n_bad in found
    )
    return Page(tuple(rows), more)


def first_seen(connection: Connection, project_id: int, users: Sequence[str]) -> dict[str, int]:
    """Return when each of these users first came, milliseconds since 1970; without those never seen."""
    rows = connection.execute(
        select(_user.c.user_id, _user.c.first_seen_at_ms).where(
            _user.c.project_id == project_id, _user.c.user_id.in_(users)
        )
    )
    return dict(rows.all())


def experience_of(connection: Connection, project_id: int, call_id: str) -> WorstCall | None:
    """Return one call's experience; None where it is not ranked yet, or no such call is kept."""
    row = connection.execute(
        _with_experience().where(_call.c.project_id == project_id, _call.c.id == call_id)
    ).one_or_none()
    return _as_call(row) if row else None


def calls_by_seq(connection: Connection, seqs: Sequence[int]) -> list[WorstCall]:
    """Return these calls (keys inside the store) with their experience, worst first; at most 1,000."""
    rows = connection.execute(_with_experience().where(_call.c.seq.in_(seqs[:LIMIT_MAX]))).all()
    return sorted((_as_call(row) for row in rows), key=lambda call: (-call.p_bad, -call.seq))


def _worst_of(
    connection: Connection, window: RankedWindow, key: str, limit: int, cursor: str | None
) -> tuple[list[tuple[WorstCall, int, int]], str | None]:
    """Walk down the calls until `limit` persons or sessions are found: (worst call, n, n bad) each.

    One whose worst call stands above the cursor was on an earlier page and is passed over.
    """
    limit = max(1, min(limit, LIMIT_MAX))
    stride = 2 * limit + 20
    start = at = _read_cursor(cursor)
    found: list[tuple[tuple[float, int], int, int]] = []
    met: set[str] = set()
    ended = False
    while not ended and len(found) <= limit:
        calls = _top_of(connection, window, at, stride, key)
        ended = len(calls) < stride
        worst: dict[str, tuple[float, int]] = {}
        for p_bad, seq, name in calls:
            at = (p_bad, seq)
            if name not in met:
                met.add(name)
                worst[name] = at
        names = list(worst)
        while names and len(found) <= limit:
            taken, names = names[: limit + 1 - len(found)], names[limit + 1 - len(found) :]
            counted = _counts(connection, window, key, taken)
            for name in taken:
                p_bad, n, n_bad = counted[name]
                if p_bad == worst[name][0] and not _shown_before(connection, window, key, name, p_bad, start):
                    found.append((worst[name], n, n_bad))
    more = _cursor_at(*found[limit - 1][0]) if len(found) > limit else None
    shown = {call.seq: call for call in calls_by_seq(connection, [at[1] for at, _n, _n_bad in found[:limit]])}
    return [(shown[at[1]], n, n_bad) for at, n, n_bad in found[:limit]], more


def _counts(
    connection: Connection, window: RankedWindow, key: str, names: Sequence[str]
) -> dict[str, tuple[float, int, int]]:
    """Return for each person or session its worst P(bad) in the window, its calls, the bad ones."""
    column = _call.c[key]
    bad = func.sum(case((_experience.c.p_bad >= BAD_FROM, 1), else_=0))
    rows = connection.execute(
        select(column, func.max(_experience.c.p_bad), func.count(), bad)
        .join(_experience, _experience.c.call_seq == _call.c.seq)
        .where(inside(window), column.in_(names))
        .group_by(column)
    )
    return {name: (p_bad, n, n_bad) for name, p_bad, n, n_bad in rows}


def _shown_before(
    connection: Connection,
    window: RankedWindow,
    key: str,
    name: str,
    p_bad: float,
    start: tuple[float, int] | None,
) -> bool:
    """Whether one whose worst call is as bad as where this page begins was on the page before."""
    if start is None or p_bad != start[0]:
        return False
    latest = connection.execute(
        select(func.max(_call.c.seq))
        .join(_experience, _experience.c.call_seq == _call.c.seq)
        .where(inside(window), _call.c[key] == name, _experience.c.p_bad == p_bad)
    ).scalar_one()
    return bool(latest >= start[1])


def inside(window: RankedWindow) -> ColumnElement[bool]:
    """Return the condition that a call lies in the window, for a statement led by another index."""
    # A sum is in no index: without it SQLite walks every call of the window instead of the worst ones, or
    # instead of a person's (ten times slower at 100,000 calls).
    started_at_ms = _call.c.started_at_ms + 0
    return and_(
        _call.c.project_id == window.project_id,
        started_at_ms >= window.since_ms,
        started_at_ms < window.until_ms,
    )


def _top(
    connection: Connection, window: RankedWindow, below: tuple[float, int] | None, limit: int
) -> list[WorstCall]:
    """Return the worst calls strictly below a (p_bad, seq)."""
    by_week = [
        [
            _as_call(row)
            for row in connection.execute(_of_week(_with_experience(), window, week, below, limit))
        ]
        for week in window.weeks
    ]
    return list(merge(*by_week, key=lambda call: (-call.p_bad, -call.seq)))[:limit]


def _top_of(
    connection: Connection, window: RankedWindow, below: tuple[float, int] | None, limit: int, key: str
) -> list[tuple[float, int, str]]:
    """Return (p_bad, seq, name) of the worst calls strictly below a (p_bad, seq) that name one."""
    named = (
        select(_experience.c.p_bad, _call.c.seq, _call.c[key])
        .join(_call, _call.c.seq == _experience.c.call_seq)
        .where(_call.c[key].is_not(None))
    )
    by_week = [
        [(row[0], row[1], row[2]) for row in connection.execute(_of_week(named, window, week, below, limit))]
        for week in window.weeks
    ]
    return list(merge(*by_week, key=lambda row: (-row[0], -row[1])))[:limit]


def _of_week(
    wanted: Select[Any], window: RankedWindow, week: str, below: tuple[float, int] | None, limit: int
) -> Select[Any]:
    """Cut a selection of ranked calls to a week's worst, in the order of the index."""
    wanted = (
        wanted.where(
            _experience.c.project_id == window.project_id,
            _experience.c.week == week,
            inside(window),
        )
        .order_by(_experience.c.p_bad.desc(), _experience.c.call_seq.desc())
        .limit(limit)
    )
    if below is None:
        return wanted
    p_bad, seq = below
    lower = or_(_experience.c.p_bad < p_bad, _experience.c.call_seq < seq)
    return wanted.where(_experience.c.p_bad <= p_bad, lower)


def _with_experience() -> Select[Any]:
    return (
        select(
            _call.c.id,
            _call.c.seq,
            _call.c.started_at_ms,
            _experience.c.p_bad,
            _experience.c.parts,
            _call.c.outcome,
            _call.c.latency_ms,
            _slice.c.provider,
            _slice.c.model,
            _slice.c.prompt,
            _slice.c.prompt_version,
            _call.c.user_id,
            _call.c.session_id,
        )
        .select_from(_experience)
        .join(_call, _call.c.seq == _experience.c.call_seq)
        .join(_slice, _slice.c.id == _call.c.slice_id)
    )


def _as_call(row: Row[Any]) -> WorstCall:
    fields = dict(row._mapping)
    fields["parts"] = parts_from_json(fields["parts"])
    return WorstCall(**fields)


def ranked_window(
    connection: Connection, project_id: int, since_ms: int, until_ms: int, zone: ZoneInfo
) -> RankedWindow:
    """Name the weeks of a window that may hold ranked calls, so that one of decades costs no more."""
    ranked = _experience.c.project_id == project_id
    first, last = (
        connection.execute(select(end(_experience.c.week)).where(ranked)).scalar_one()
        for end in (func.min, func.max)
    )
    if first is None or last is None:
        return RankedWindow(project_id, since_ms, until_ms, ())
    began_ms, ended_ms = week_by_id(first, zone).since_ms, week_by_id(last, zone).until_ms
    weeks = weeks_between(max(since_ms, began_ms), min(until_ms, ended_ms), zone)
    return RankedWindow(project_id, since_ms, until_ms, tuple(week.id for week in weeks))


def _cursor_at(p_bad: float, seq: int) -> str:
    return f"{p_bad!r}_{seq}"


def _read_cursor(cursor: str | None) -> tuple[float, int] | None:
    if cursor is None:
        return None
    p_bad, _, seq = cursor.partition("_")
    try:
        place = float(p_bad), int(seq)
    except ValueError:
        place = (math.nan, 0)
    if not (math.isfinite(place[0]) and 0 <= place[1] < SEQ_END):
        raise BadCursor(f"{cursor!r} is no cursor of this list; start again without one.")
    return place
