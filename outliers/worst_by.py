"""Who had it worst by one thing alone: by what critics said, by what users did, or by how long they waited.

Flow: the parts of `experience` rows, or calls -> `worst_by` -> the Worst page and GET /v1/worst?by=... The
ranking by all of it together, P(bad), is `outliers.worst`.

No index holds a part. But P(bad) >= w * b * PRAISED_ODDS, so a call of which a part is that bad stands that
high in the index on P(bad): it is walked from its top only as far as a call could still belong to the rows
that are asked for (the bound of Fagin, Lotem and Naor's threshold algorithm, 2003).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select

from ingest.tables import Call, columns
from outliers.errors import BadCursor
from outliers.experience.parts import BAD_FROM, CONVICTION_MAX, PRAISED_ODDS, WEIGHTS
from outliers.tables import Experience, ExperienceFit
from outliers.weeks import week_by_id
from outliers.worst import LIMIT_MAX, SEQ_END, Page, RankedWindow, inside, ranked_window

_call, _experience, _fit = columns(Call), columns(Experience), columns(ExperienceFit)

By = Literal["score", "signal", "latency"]
#: Which part of the experience says how bad it was.
PART_OF = {"score": "critic", "signal": "signals"}
#: How far down the index on P(bad) is read, one after the other.
_FLOORS = (0.5, 0.2, 0.05, 0.0)
#: `Experience.parts` keeps b in four decimals.
_ROUNDED = 1e-4
#: Calls read at once while looking for the next persons, beyond two for each that is wanted.
_STRIDE = 20

#: What a row is ordered by, worst first: the value, P(bad) (0 by latency), the call's key.
_Place = tuple[float, float, int]


@dataclass(frozen=True)
class Placed:
    """One call, or one person or session with its worst call.

    Attributes:
        seq: the call's key inside the store.
        value: what it is ranked by. By score: the largest weighted P(level <= 2) over the rubrics that a
            critic answered, or what the guard saw, 0..1. By signal: how bad the worst signal is, 0..1. By
            latency: milliseconds.
        name: the user's or session's id; None per call.
        n: calls of that user or session in the window, 1 per call; `n_bad` of them with P(bad) >= .5.
    """

    seq: int
    value: float
    name: str | None
    n: int
    n_bad: int


@dataclass(frozen=True)
class _Ranking:
    """One way to rank: `top` reads the places strictly below one; `keys` are a place's columns."""

    top: Callable[[_Place | None, int], list[_Place]]
    keys: tuple[Any, ...]
    counts: ColumnElement[bool]


def worst_by(
    connection: Connection,
    project_id: int,
    since_ms: int,
    until_ms: int,
    *,
    by: By,
    per: str,
    zone: ZoneInfo,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[Placed]:
    """Return the calls, users or sessions of a window [since, until), worst first.

    A call without the thing is left out: unknown is neither good nor bad. A signal that is not negative does
    not rank. Calls alike stand by P(bad), then newest first.

    Args:
        per: "call", "user" or "session"; a user or session stands where its worst call does.

    Raises:
        BadCursor: not one of ours.
    """
    limit = max(1, min(limit, LIMIT_MAX))
    window = ranked_window(connection, project_id, since_ms, until_ms, zone)
    ranking = _by_latency(connection, window) if by == "latency" else _by_part(connection, window, by, zone)
    start = _read_cursor(cursor)
    if per == "call":
        found = ranking.top(start, limit + 1)
        bad = _bad_of(connection, [seq for _value, _p_bad, seq in found[:limit]])
        rows = [Placed(seq, value, None, 1, int(seq in bad)) for value, _p_bad, seq in found[:limit]]
        return Page(tuple(rows), _cursor_at(found[limit - 1]) if len(found) > limit else None)
    places = _persons(connection, window, ranking, f"{per}_id", limit, start)
    counted = _counts(connection, window, f"{per}_id", [name for _place, name in places[:limit]])
    rows = [Placed(place[2], place[0], name, *counted[name]) for place, name in places[:limit]]
    return Page(tuple(rows), _cursor_at(places[limit - 1][0]) if len(places) > limit else None)


def _persons(
    connection: Connection,
    window: RankedWindow,
    ranking: _Ranking,
    key: str,
    limit: int,
    start: _Place | None,
) -> list[tuple[_Place, str]]:
    """Walk down the calls until one more than `limit` users or sessions are met, each at its worst call.

    One that has a call at or above `start` was on an earlier page and is passed over.
    """
    column, stride, at = _call.c[key], 2 * limit + _STRIDE, start
    found: list[tuple[_Place, str]] = []
    met: set[str] = set()
    while len(found) <= limit:
        places = ranking.top(at, stride)
        named = _names(connection, column, [seq for _value, _p_bad, seq in places])
        first: dict[str, _Place] = {}
        for at in places:
            name = named.get(at[2])
            if name is not None and name not in met:
                met.add(name)
                first[name] = at
        before = _met_before(connection, window, ranking, column, list(first), start)
        found += [(place, name) for name, place in first.items() if name not in before]
        if len(places) < stride:
            break
    return found[: limit + 1]


def _by_part(connection: Connection, window: RankedWindow, by: By, zone: ZoneInfo) -> _Ranking:
    """Rank by a part of the experience, of the calls of which it is known."""
    # One path each: a step at a time, SQLite would write the part out and read it again.
    b = _experience.c.parts[(PART_OF[by], "b")].as_float()
    keys = (b, _experience.c.p_bad, _experience.c.call_seq)
    ranks = and_(_experience.c.parts[(PART_OF[by], "known")].as_boolean(), b > 0)
    # Every call of a week that lies inside the window does too; of the others the call itself is asked.
    whole = [
        week
        for week in window.weeks
        if week_by_id(week, zone).since_ms >= window.since_ms
        and week_by_id(week, zone).until_ms <= window.until_ms
    ]
    cut = [week for week in window.weeks if week not in whole]
    weight = _smallest_weight(connection, window.project_id, PART_OF[by])

    def _top(below: _Place | None, limit: int) -> list[_Place]:
        found: list[_Place] = []
        for floor in _FLOORS:
            found = _above(floor, below, limit)
            # One below the floor has w * b * PRAISED_ODDS <= P(bad) < floor; and at b alike, P(bad) decides.
            reach = floor / (weight * CONVICTION_MAX * PRAISED_ODDS) + _ROUNDED if weight else 1.0
            if len(found) == limit and found[-1][0] >= min(1.0, reach):
                break
        return found

    def _above(floor: float, below: _Place | None, limit: int) -> list[_Place]:
        ranked = select(*keys).where(
            _experience.c.project_id == window.project_id, _experience.c.p_bad >= floor, ranks
        )
        found = _ordered(connection, ranked.where(_experience.c.week.in_(whole)), keys, below, limit)
        if cut:
            wanted = (
                ranked.where(_experience.c.week.in_(cut))
                .join(_call, _call.c.seq == _experience.c.call_seq)
                .where(inside(window))
            )
            found += _ordered(connection, wanted, keys, below, limit)
        return sorted(found, reverse=True)[:limit]

    return _Ranking(_top, keys, ranks)


def _by_latency(connection: Connection, window: RankedWindow) -> _Ranking:
    """Rank by the whole time that a call took, however it ended; the index has all that this reads."""
    keys = (_call.c.latency_ms, _call.c.seq)
    ranks = _call.c.latency_ms.is_not(None)

    def _top(below: _Place | None, limit: int) -> list[_Place]:
        wanted = select(*keys).where(
            _call.c.project_id == window.project_id,
            _call.c.started_at_ms >= window.since_ms,
            _call.c.started_at_ms < window.until_ms,
            ranks,
        )
        return _ordered(connection, wanted, keys, below, limit)

    return _Ranking(_top, keys, ranks)


def _ordered(
    connection: Connection, wanted: Any, keys: Sequence[Any], below: _Place | None, limit: int
) -> list[_Place]:
    wanted = wanted.order_by(*(key.desc() for key in keys)).limit(limit)
    if below is not None:
        at = below if len(keys) == len(below) else (below[0], below[-1])
        wanted = wanted.where(keys[0] <= at[0], ~_at_or_above(keys, at))
    return [(row[0], row[1] if len(row) > 2 else 0.0, row[-1]) for row in connection.execute(wanted)]


def _at_or_above(keys: Sequence[Any], at: Sequence[float]) -> ColumnElement[bool]:
    """Return the condition that a row's keys are at or above a place, compared from the first on."""
    condition = keys[-1] >= at[-1]
    for key, value in zip(reversed(keys[:-1]), reversed(at[:-1]), strict=True):
        condition = or_(key > value, and_(key == value, condition))
    return condition  # type: ignore[no-any-return]


def _met_before(
    connection: Connection,
    window: RankedWindow,
    ranking: _Ranking,
    column: Any,
    names: Sequence[str],
    start: _Place | None,
) -> set[str]:
    """Return those of the names that have a call at or above where this page begins."""
    if start is None or not names:
        return set()
    at = start if len(ranking.keys) == len(start) else (start[0], start[-1])
    rows = connection.execute(
        select(column)
        .join(_experience, _experience.c.call_seq == _call.c.seq, isouter=True)
        .where(inside(window), column.in_(names), ranking.counts, _at_or_above(ranking.keys, at))
        .distinct()
    )
    return set(rows.scalars())


def _names(connection: Connection, column: Any, seqs: Sequence[int]) -> dict[int, str]:
    """Return the user or session of each of these calls that names one."""
    rows = connection.execute(select(_call.c.seq, column).where(_call.c.seq.in_(seqs), column.is_not(None)))
    return dict(rows.all())


def _counts(
    connection: Connection, window: RankedWindow, key: str, names: Sequence[str]
) -> dict[str, tuple[int, int]]:
    """Return for each user or session its calls in the window, and the bad ones."""
    column = _call.c[key]
    rows = connection.execute(
        select(column, func.count(), func.sum(case((_experience.c.p_bad >= BAD_FROM, 1), else_=0)))
        .join(_experience, _experience.c.call_seq == _call.c.seq, isouter=True)
        .where(inside(window), column.in_(names))
        .group_by(column)
    )
    return {name: (n, n_bad) for name, n, n_bad in rows}


def _bad_of(connection: Connection, seqs: Sequence[int]) -> set[int]:
    rows = connection.execute(
        select(_experience.c.call_seq).where(
            _experience.c.call_seq.in_(seqs), _experience.c.p_bad >= BAD_FROM
        )
    )
    return set(rows.scalars())


def _smallest_weight(connection: Connection, project_id: int, part: str) -> float:
    """Return the smallest weight the part was ever given: a call keeps those it was ranked with."""
    fits = connection.execute(select(_fit.c.weights).where(_fit.c.project_id == project_id)).scalars()
    return min([WEIGHTS[part], *(float(weights.get(part, WEIGHTS[part])) for weights in fits if weights)])


def _cursor_at(place: _Place) -> str:
    value, p_bad, seq = place
    return f"{value!r}_{p_bad!r}_{seq}"


def _read_cursor(cursor: str | None) -> _Place | None:
    if cursor is None:
        return None
    try:
        value, p_bad, seq = cursor.split("_")
        place = float(value), float(p_bad), int(seq)
    except ValueError:
        place = (math.nan, math.nan, 0)
    if not (math.isfinite(place[0]) and math.isfinite(place[1]) and 0 <= place[2] < SEQ_END):
        raise BadCursor(f"{cursor!r} is no cursor of this list; start again without one.")
    return place
