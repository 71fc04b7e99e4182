"""What the application's calls cost, by any field they are counted by, and what their critics spent.

Flow: calls of a window, summed per group and user in the database -> `costs` -> GET /v1/costs; `critic_day`
rows beside them, which the costs page shows too. US dollars. A call whose cost is not known is counted, and
in no sum: unknown is not zero.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, case, func, select

from critic.spending.budget import DAY_MS
from critic.tables import CriticDay
from dashboards.filters import Window
from dashboards.memory import remembered
from ingest.tables import Call, Slice, columns
from outliers.latency.tails import HOUR_MS, group_namer, slices_of

CALL, SLICE, CRITIC_DAY = columns(Call), columns(Slice), columns(CriticDay)

#: Columns of a slice by which a group is told from others, where it is not the one of its name.
_COLUMNS = {"none": (), "service": ("provider", "model"), "prompt_version": ("prompt", "prompt_version")}
#: Of a two-sided 95 % interval.
Z = 1.959964
#: Fewer users than these, and the spread between them says nothing.
USERS_MIN = 5


@dataclass(frozen=True)
class CostLine:
    """What the calls of one group cost.

    Attributes:
        group: the field's value, "" where calls did not give it, "all" without grouping.
        n: calls kept, of which `n_unknown` with an unknown cost.
        calls: how many these stand for; more than n where the application samples.
        cost_usd: of the calls whose cost is known, times what they stand for; None where none is.
        cost_per_call_usd: their mean; its 95 % interval `low_usd`..`high_usd` counts a user's calls once, and
            is None with fewer than 5 users.
        input_tokens, output_tokens: of the calls that say, times what they stand for; None where none does.
    """

    group: str
    n: int
    n_unknown: int
    calls: float
    cost_usd: float | None
    cost_per_call_usd: float | None
    low_usd: float | None
    high_usd: float | None
    input_tokens: float | None
    output_tokens: float | None


@dataclass(frozen=True)
class CriticCost:
    """What one critic spent in the window's UTC days.

    Attributes:
        spent_usd: paid for, as far as prices are known; what ended in doubt is in it whole.
        in_doubt_usd: the most of it that crashes and missing answers can have doubled.
        requests: settled, of which `requests_unpriced` at an unknown price and in no sum.
    """

    critic: str
    spent_usd: float
    in_doubt_usd: float
    requests: int
    requests_unpriced: int


@dataclass(frozen=True)
class Costs:
    """A window's costs.

    Attributes:
        since, until: the window, UTC; half open.
        group_by: the field that groups are of.
        total: all calls together.
        groups: the most expensive first, those of unknown cost last; at most as many as asked for.
        n_groups: how many there are.
        critics: what the critics spent, by their names.
    """

    since: datetime
    until: datetime
    group_by: str
    total: CostLine
    groups: tuple[CostLine, ...]
    n_groups: int
    critics: tuple[CriticCost, ...]


def costs(connection: Connection, project_id: int, window: Window, *, group_by: str, limit: int) -> Costs:
    """Sum a window's costs, as of the last ranking."""
    # A window that nobody asked for ends now: the same one until the next ranking, or the hour is over.
    until = window.until_ms if window.asked else -(-window.until_ms // HOUR_MS)
    return remembered(
        connection,
        ("costs", project_id, window.since_ms, until, group_by, limit),
        lambda: _costs(connection, project_id, window, group_by, limit),
    )


def _costs(connection: Connection, project_id: int, window: Window, group_by: str, limit: int) -> Costs:
    named = group_namer(slices_of(connection, project_id), group_by)
    total = connection.execute(_summed(project_id, window, "none")).one()
    rows = connection.execute(_summed(project_id, window, group_by)).all() if total.n else []
    lines = [_line(named(row.slice_id, row.hour), row) for row in rows]
    lines.sort(key=lambda line: (line.cost_usd is None, -(line.cost_usd or 0.0), -line.calls, line.group))
    return Costs(
        since=window.since,
        until=window.until,
        group_by=group_by,
        total=_line("all", total),
        groups=tuple(lines[:limit]),
        n_groups=len(lines),
        critics=critic_costs(connection, project_id, window),
    )


def _summed(project_id: int, window: Window, group_by: str) -> Select[Any]:
    """Select one row a group: first summed by user, so that the spread is that between users."""
    hour = CALL.c.started_at_ms // HOUR_MS
    keys: list[ColumnElement[Any]] = []
    for field in group_by.split(","):
        keys += [hour] if field == "hour" else [SLICE.c[name] for name in _COLUMNS.get(field, (field,))]
    stands_for = 1.0 / CALL.c.sample_rate
    known = case((CALL.c.cost_usd.is_not(None), stands_for), else_=0.0)
    # A call that names no user is one of its own.
    person = (CALL.c.user_id, case((CALL.c.user_id.is_(None), CALL.c.seq)))
    named = [key.label(f"key_{place}") for place, key in enumerate(keys)]
    people = (
        select(
            *named,
            func.min(CALL.c.slice_id).label("slice_id"),
            func.min(hour).label("hour"),
            func.count().label("n"),
            func.sum(case((CALL.c.cost_usd.is_(None), 1), else_=0)).label("n_unknown"),
            func.sum(stands_for).label("calls"),
            func.sum(known).label("known"),
            func.coalesce(func.sum(CALL.c.cost_usd * stands_for), 0.0).label("cost"),
            func.sum(CALL.c.input_tokens * stands_for).label("input_tokens"),
            func.sum(CALL.c.output_tokens * stands_for).label("output_tokens"),
        )
        .join(SLICE, SLICE.c.id == CALL.c.slice_id)
        .where(
            CALL.c.project_id == project_id,
            CALL.c.started_at_ms >= window.since_ms,
            CALL.c.started_at_ms < window.until_ms,
        )
        .group_by(*keys, *person)
        .subquery()
    )
    each = people.c
    return select(
        func.min(each.slice_id).label("slice_id"),
        func.min(each.hour).label("hour"),
        func.coalesce(func.sum(each.n), 0).label("n"),
        func.coalesce(func.sum(each.n_unknown), 0).label("n_unknown"),
        func.coalesce(func.sum(each.calls), 0.0).label("calls"),
        func.coalesce(func.sum(case((each.known > 0, 1), else_=0)), 0).label("users"),
        func.coalesce(func.sum(each.known), 0.0).label("known"),
        func.sum(each.cost).label("cost"),
        func.sum(each.cost * each.cost).label("cost_cost"),
        func.sum(each.cost * each.known).label("cost_known"),
        func.sum(each.known * each.known).label("known_known"),
        func.sum(each.input_tokens).label("input_tokens"),
        func.sum(each.output_tokens).label("output_tokens"),
    ).group_by(*(each[key.name] for key in named))


def _line(group: str, row: Row[Any]) -> CostLine:
    """Make a group's line: the mean is a ratio of sums over users, with the spread of such a ratio (Cochran
    1977, 6.13)."""
    mean = low = high = None
    if row.known > 0:
        mean = row.cost / row.known
        if row.users >= USERS_MIN:
            squares = row.cost_cost - 2 * mean * row.cost_known + mean * mean * row.known_known
            error = math.sqrt(max(0.0, squares) * row.users / (row.users - 1)) / row.known
            low, high = max(0.0, mean - Z * error), mean + Z * error
    return CostLine(
        group=group,
        n=row.n,
        n_unknown=row.n_unknown,
        calls=row.calls,
        cost_usd=row.cost if row.known > 0 else None,
        cost_per_call_usd=mean,
        low_usd=low,
        high_usd=high,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
    )


def critic_costs(connection: Connection, project_id: int, window: Window) -> tuple[CriticCost, ...]:
    """Return what critics spent in the UTC days that a window touches, by their names."""
    rows = connection.execute(
        select(
            CRITIC_DAY.c.critic,
            func.sum(CRITIC_DAY.c.spent_usd),
            func.sum(CRITIC_DAY.c.in_doubt_usd),
            func.sum(CRITIC_DAY.c.requests),
            func.sum(CRITIC_DAY.c.requests_unpriced),
        )
        .where(
            CRITIC_DAY.c.project_id == project_id,
            CRITIC_DAY.c.day.between(window.since_ms // DAY_MS, (window.until_ms - 1) // DAY_MS),
        )
        .group_by(CRITIC_DAY.c.critic)
        .order_by(CRITIC_DAY.c.critic)
    )
    return tuple(CriticCost(*row) for row in rows)
