"""What a week's calls cost: in all, by field and by day, beside the week before, and for bad experiences.

Flow: outliers.frame.WeekCalls of a week and of the one before -> `week_costs` -> `keep_costs` (a write job)
-> `week_costs` rows -> `costs_of` -> the costs page. US dollars, as the application sent them (`cost_usd`).

A call whose cost is not known is counted, and in no sum: unknown is not zero. Calls count for those they
stand for (1 / sample_rate). While a week runs it is compared with the same part of the week before.
"""

from dataclasses import asdict, dataclass
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from sqlalchemy import Connection, delete, insert, select

from ingest.tables import columns
from outliers.changes import Estimate
from outliers.comparison import cost_per_call, weighted_share
from outliers.experience.parts import BAD_FROM
from outliers.frame import Mask, WeekCalls
from outliers.tables import WeekCosts
from outliers.weeks import Week, days_of

_costs = columns(WeekCosts)

#: Fields that costs are told apart by, and values of each that are kept, the most expensive first.
FIELDS = ("prompt", "prompt_version", "model", "provider", "environment", "release")
VALUES_MAX = 50


@dataclass(frozen=True)
class Cost:
    """What some calls cost.

    Attributes:
        n: calls kept, of which `n_unknown` with an unknown cost.
        calls: how many they stand for; more than n where the application samples.
        cost_usd: of the calls whose cost is known, times what they stand for; None where none is.
        per_call: their mean, its 95 % interval with a user's calls counted once, and how many they are.
        bad_share: of that money, the part that went into calls with P(bad) of at least one half.
        bad_usd: that part in US dollars; None where no cost is known, or nothing is ranked.
        n_bad: those calls, of which `n_bad_unknown` with an unknown cost.
    """

    n: int
    n_unknown: int
    calls: float
    cost_usd: float | None
    per_call: Estimate
    bad_share: Estimate
    bad_usd: float | None
    n_bad: int
    n_bad_unknown: int


@dataclass(frozen=True)
class CostOf:
    """What one value of a field cost; `value` is "" for calls that did not give it, or a rare one."""

    value: str
    now: Cost
    before: Cost


@dataclass(frozen=True)
class DayCost:
    """One day.

    Attributes:
        at_ms: its first instant.
        n, n_unknown, cost_usd: as of `Cost`.
        before_usd: the same day of the week before.
    """

    at_ms: int
    n: int
    n_unknown: int
    cost_usd: float | None
    before_usd: float | None


@dataclass(frozen=True)
class Costs:
    """What a week cost.

    Attributes:
        now, before: all calls of the week, and of the week before or the same part of it.
        by: field -> its values, the most expensive first, at most VALUES_MAX.
        n_values: field -> how many values there are.
        days: the seven days; those to come have n = 0.
    """

    now: Cost
    before: Cost
    by: dict[str, tuple[CostOf, ...]]
    n_values: dict[str, int]
    days: tuple[DayCost, ...]


def week_costs(calls: WeekCalls, before: WeekCalls, zone: ZoneInfo) -> Costs:
    """Return what a week cost, beside the week before."""
    lines = {field: _by(field, calls, before) for field in FIELDS}
    return Costs(
        now=_cost(calls, _all(calls)),
        before=_cost(before, _all(before)),
        by={field: of[:VALUES_MAX] for field, of in lines.items()},
        n_values={field: len(of) for field, of in lines.items()},
        days=_days(calls, before, zone),
    )


def keep_costs(connection: Connection, project_id: int, week_id: str, costs: Costs) -> None:
    """Write job: replace what a week cost."""
    connection.execute(delete(_costs).where(_costs.c.project_id == project_id, _costs.c.week == week_id))
    connection.execute(insert(_costs).values(project_id=project_id, week=week_id, costs=asdict(costs)))


def costs_of(connection: Connection, project_id: int, week: Week) -> Costs | None:
    """Return what a week cost, as computed last; None before."""
    kept: dict[str, Any] | None = connection.execute(
        select(_costs.c.costs).where(_costs.c.project_id == project_id, _costs.c.week == week.id)
    ).scalar_one_or_none()
    if kept is None:
        return None
    return Costs(
        now=_from_json(kept["now"]),
        before=_from_json(kept["before"]),
        by={
            field: tuple(
                CostOf(line["value"], _from_json(line["now"]), _from_json(line["before"])) for line in lines
            )
            for field, lines in kept["by"].items()
        },
        n_values=kept["n_values"],
        days=tuple(DayCost(**day) for day in kept["days"]),
    )


def _cost(calls: WeekCalls, among: Mask) -> Cost:
    known = among & np.isfinite(calls.cost_usd)
    ranked = np.isfinite(calls.p_bad)
    bad = np.where(ranked, calls.p_bad >= BAD_FROM, np.nan)
    is_bad = among & ranked & (calls.p_bad >= BAD_FROM)
    cost = float((calls.weight * calls.cost_usd)[known].sum()) if known.any() else None
    money = np.where(known, calls.weight * calls.judged_for * calls.cost_usd, 0.0)
    bad_share, _variance = weighted_share(calls, bad, known, money)
    return Cost(
        n=int(among.sum()),
        n_unknown=int((among & ~known).sum()),
        calls=float(calls.weight[among].sum()),
        cost_usd=cost,
        per_call=cost_per_call(calls, among)[0],
        bad_share=bad_share,
        bad_usd=None if cost is None or bad_share.value is None else bad_share.value * cost,
        n_bad=int(is_bad.sum()),
        n_bad_unknown=int((is_bad & ~known).sum()),
    )


def _by(field: str, calls: WeekCalls, before: WeekCalls) -> tuple[CostOf, ...]:
    names = {name for of in (calls, before) for name in _values(of, field)}
    lines = [
        CostOf(
            name, _cost(calls, _of_value(calls, field, name)), _cost(before, _of_value(before, field, name))
        )
        for name in names
    ]
    kept = [line for line in lines if line.now.n or line.before.n]
    kept.sort(
        key=lambda line: (line.now.cost_usd is None, -(line.now.cost_usd or 0.0), -line.now.n, line.value)
    )
    return tuple(kept)


def _values(calls: WeekCalls, field: str) -> tuple[str, ...]:
    column = calls.named.get((field, ""))
    return () if column is None else ("", *column.names)


def _of_value(calls: WeekCalls, field: str, name: str) -> Mask:
    column = calls.named.get((field, ""))
    if column is None:
        return np.zeros(len(calls), dtype=np.bool_)
    # a call without the field has the code -1, or names it ""
    codes = [place for place, one in enumerate(column.names) if one == name] + ([] if name else [-1])
    return np.isin(column.codes, codes)


def _days(calls: WeekCalls, before: WeekCalls, zone: ZoneInfo) -> tuple[DayCost, ...]:
    found = []
    days, days_before = days_of(calls.week, zone), days_of(before.week, zone)
    for (since_ms, until_ms), then in zip(days, days_before, strict=True):
        mine = _cost(calls, _between(calls, since_ms, until_ms))
        theirs = _cost(before, _between(before, *then))
        found.append(DayCost(since_ms, mine.n, mine.n_unknown, mine.cost_usd, theirs.cost_usd))
    return tuple(found)


def _between(calls: WeekCalls, since_ms: int, until_ms: int) -> Mask:
    return (calls.started_at_ms >= since_ms) & (calls.started_at_ms < until_ms)


def _all(calls: WeekCalls) -> Mask:
    return np.ones(len(calls), dtype=np.bool_)


def _from_json(kept: dict[str, Any]) -> Cost:
    estimates = {name: Estimate(**kept[name]) for name in ("per_call", "bad_share")}
    return Cost(**{**kept, **estimates})
