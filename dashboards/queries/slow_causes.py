"""Why calls were slow, and where in a call its time goes: causes by week, and the three latencies together.

Flow: outliers.causes.tail_causes (kept by the weekly computation), outliers.latency.tails
-> `causes_by_week`, `side_by_side` -> the latency page, GET /v1/latency/causes. Milliseconds.
"""

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from dashboards.filters import Window
from dashboards.memory import remembered
from dashboards.queries.latencies import GROUPS_MAX, tails_of
from outliers.causes.tail_causes import TailCauses, causes_of
from outliers.latency.tails import HOUR_MS, MEASURES, Tail
from outliers.weeks import weeks_between

#: Quantiles that stand side by side.
BESIDE = (0.5, 0.95, 0.99)


@dataclass(frozen=True)
class WeekTails:
    """One week's slow tails: the project's first, then each service's; `week` is "2026-W47"."""

    week: str
    tails: tuple[TailCauses, ...]


@dataclass(frozen=True)
class MeasureOf:
    """One latency of one group.

    Attributes:
        measure: total, first_token or per_output_token.
        n: calls that came with it.
        p50_ms, p95_ms, p99_ms: None where no 95 % interval exists, or so many calls failed.
    """

    measure: str
    n: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True)
class SideBySide:
    """One group's three latencies; one that no call came with has n = 0."""

    group: str
    measures: tuple[MeasureOf, ...]


def causes_by_week(
    connection: Connection, project_id: int, window: Window, zone: ZoneInfo, weeks_max: int
) -> tuple[WeekTails, ...]:
    """Causes of the window's newest weeks as computed last, newest first; a week without any is left out."""
    weeks = weeks_between(window.since_ms, window.until_ms, zone)[-weeks_max:]
    found = (WeekTails(week.id, causes_of(connection, project_id, week.id)) for week in reversed(weeks))
    return tuple(week for week in found if week.tails)


def side_by_side(
    connection: Connection, project_id: int, window: Window, *, group_by: str
) -> tuple[SideBySide, ...]:
    """The whole answer, its first token and the time per output token of each group, as of the last ranking.

    Empty where groups are by hour: there would be too many.
    """
    if "hour" in group_by.split(","):
        return ()
    until = window.until_ms if window.asked else -(-window.until_ms // HOUR_MS)
    return remembered(
        connection,
        ("side by side", project_id, window.since_ms, until, group_by),
        lambda: _side_by_side(connection, project_id, window, group_by),
        of_calls=(project_id, window),
    )


def _side_by_side(
    connection: Connection, project_id: int, window: Window, group_by: str
) -> tuple[SideBySide, ...]:
    by_measure: dict[str, dict[str, Tail]] = {}
    for measure in MEASURES:
        found = tails_of(connection, project_id, window, group_by=group_by, measure=measure)
        by_measure[measure] = {tail.group: tail for tail in found}
    groups = list(by_measure["total"])[:GROUPS_MAX]
    return tuple(
        SideBySide(group, tuple(_measure(measure, by_measure[measure].get(group)) for measure in MEASURES))
        for group in groups
    )


def _measure(measure: str, tail: Tail | None) -> MeasureOf:
    if tail is None:
        return MeasureOf(measure, 0, None, None, None)
    by_q = {quantile.q: quantile.value_ms for quantile in tail.quantiles}
    return MeasureOf(measure, tail.n, *(by_q[q] for q in BESIDE))
