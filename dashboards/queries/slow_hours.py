"""When a group was slower than it mostly is: hour by hour, and spells of hours far from its own past.

Flow: outliers.latency.heat, outliers.latency.spells -> `slow_hours`, `spells_shown` -> the latency page.
Milliseconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from dashboards.filters import Window
from dashboards.memory import remembered
from dashboards.words import moment
from outliers.latency.heat import HeatCell, latency_by_hour
from outliers.latency.spells import spells_of
from outliers.latency.tails import HOUR_MS

#: The p95 of an hour with fewer calls moves by a quarter from chance alone: hours then compare by their p50.
P95_CALLS = 500
#: Groups of the strip, and spells, that a page shows at most.
ROWS_MAX, SPELLS_MAX = 8, 12


@dataclass(frozen=True)
class HourShown:
    """Some hours of one group.

    Attributes:
        at: the first instant.
        n: calls, of which n_failed.
        p50_ms, p95_ms: None where too few calls were made, or too many of them failed.
        times: how many times as slow as the group mostly is; None where unknown.
    """

    at: datetime
    n: int
    n_failed: int
    p50_ms: float | None
    p95_ms: float | None
    times: float | None


@dataclass(frozen=True)
class HoursOf:
    """One group's hours, oldest first; hours without calls are left out.

    Attributes:
        usual_ms: the median of its hours' quantiles; None where none is known.
    """

    group: str
    n: int
    usual_ms: float | None
    hours: tuple[HourShown, ...]


@dataclass(frozen=True)
class SlowHours:
    """A window's hours.

    Attributes:
        step_hours: hours of a cell: 1, 3, 6 or 24, the shortest at which half of the calls are in hours with
            a median.
        quantile: the one that hours are compared by: .95 where most have P95_CALLS calls, else .5.
        rows: the group with most calls first; at most ROWS_MAX.
        n_groups: how many groups there are.
    """

    step_hours: int
    quantile: float
    rows: tuple[HoursOf, ...]
    n_groups: int


@dataclass(frozen=True)
class SpellShown:
    """Hours in which a provider or service was slower than its own past; as `outliers.latency.spells.Spell`.

    `model` is "" where several models of the provider were slow at once.
    """

    provider: str
    model: str
    since: datetime
    until: datetime
    n: int
    p50_ms: float
    usual_p50_ms: float
    times: float
    sentence: str


def slow_hours(
    connection: Connection, project_id: int, window: Window, *, group_by: str, measure: str
) -> SlowHours:
    """Each group's hours, as of the last ranking; grouping by hour means all calls together here."""
    fields = ",".join(field for field in group_by.split(",") if field != "hour") or "none"
    until = window.until_ms if window.asked else -(-window.until_ms // HOUR_MS)
    return remembered(
        connection,
        ("slow hours", project_id, window.since_ms, until, fields, measure),
        lambda: _slow_hours(connection, project_id, window, fields, measure),
        of_calls=(project_id, window),
    )


def _slow_hours(
    connection: Connection, project_id: int, window: Window, group_by: str, measure: str
) -> SlowHours:
    found = latency_by_hour(
        connection,
        project_id,
        window.since_ms,
        window.until_ms,
        group_by=group_by,
        measure=measure,
        coarsen=True,
    )
    rows = found.rows[:ROWS_MAX]
    calls = [cell.n for row in rows for cell in row.cells]
    quantile = 0.95 if 2 * sum(n for n in calls if n >= P95_CALLS) >= sum(calls) else 0.5
    return SlowHours(
        step_hours=found.step_hours,
        quantile=quantile,
        rows=tuple(_hours(row.group, row.n, row.cells, quantile) for row in rows),
        n_groups=len(found.rows),
    )


def _hours(group: str, n: int, cells: Sequence[HeatCell], quantile: float) -> HoursOf:
    values = [cell.p95_ms if quantile == 0.95 else cell.p50_ms for cell in cells]
    known = sorted(value for value in values if value is not None)
    usual = known[len(known) // 2] if known else None
    return HoursOf(
        group=group,
        n=n,
        usual_ms=usual,
        hours=tuple(
            HourShown(
                moment(cell.since_ms),
                cell.n,
                cell.n_failed,
                cell.p50_ms,
                cell.p95_ms,
                round(value / usual, 3) if value is not None and usual else None,
            )
            for cell, value in zip(cells, values, strict=True)
        ),
    )


def spells_shown(connection: Connection, project_id: int, window: Window) -> tuple[SpellShown, ...]:
    """The window's spells as the weekly computation kept them, newest first."""
    found = spells_of(connection, project_id, window.since_ms, window.until_ms)
    return tuple(
        SpellShown(
            provider=one.provider,
            model=one.model,
            since=moment(one.since_ms),
            until=moment(one.until_ms),
            n=one.n,
            p50_ms=one.p50_ms,
            usual_p50_ms=one.usual_p50_ms,
            times=one.times,
            sentence=one.sentence,
        )
        for one in found[:SPELLS_MAX]
    )
