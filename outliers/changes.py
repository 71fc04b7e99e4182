"""What changed since last week: a few figures, overall and per prompt, and which moved beyond noise.

Flow: outliers.comparison (two weeks of calls) -> `keep_changes` (a write job) -> `week_changes` rows ->
`changes_of` -> the first screen. While a week runs it is compared with the same part of the week before.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from ingest.tables import columns
from outliers.tables import WeekChanges
from outliers.weeks import Week

_changes = columns(WeekChanges)

#: What is compared, and in which direction more is worse (None: neither).
MEASURES: dict[str, bool | None] = {
    "bad_rate": True,
    "thumbs_down_rate": True,
    "latency_p95_ms": True,
    "error_rate": True,
    "calls": None,
    "cost_per_call_usd": True,
}


@dataclass(frozen=True)
class Estimate:
    """One figure of one week.

    Attributes:
        value: shares 0..1, milliseconds, dollars or a count; None where unknown, which is not 0.
        low, high: its 95 % interval, a user's calls counted once; None where none exists.
        n: what it is computed from: calls, thumbs, or calls with a known cost.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Change:
    """One figure in two weeks.

    Attributes:
        measure: of `MEASURES`: bad_rate (calls with P(bad) >= .5), thumbs_down_rate (of all thumbs),
            latency_p95_ms (answered calls), error_rate (failed calls), calls,
            cost_per_call_usd (mean of the calls whose cost is known).
        prompt: None for all calls together.
        before: the week before, or the same part of it while this week runs.
        now: this week.
        moved: whether they differ by more than noise, false discoveries held at 10 % over all figures.
        worse: whether the move is for the worse; None where it did not move or neither way is worse.
        p_value: of no difference; None where either week is unknown.
    """

    measure: str
    prompt: str | None
    before: Estimate
    now: Estimate
    moved: bool
    worse: bool | None
    p_value: float | None


def changes_of(connection: Connection, project_id: int, week: Week) -> list[Change]:
    """Return what changed in a week: all calls first, then the busiest prompts; empty before a run."""
    kept = connection.execute(
        select(_changes.c.changes).where(_changes.c.project_id == project_id, _changes.c.week == week.id)
    ).scalar_one_or_none()
    return [
        Change(**{**change, "before": Estimate(**change["before"]), "now": Estimate(**change["now"])})
        for change in kept or []
        if change["measure"] in MEASURES  # rows may be of a version that compared something else
    ]


def keep_changes(connection: Connection, project_id: int, week_id: str, changes: Sequence[Change]) -> None:
    """Write job: replace what changed in a week."""
    connection.execute(
        delete(_changes).where(_changes.c.project_id == project_id, _changes.c.week == week_id)
    )
    rows: list[dict[str, Any]] = [asdict(change) for change in changes]
    connection.execute(insert(_changes).values(project_id=project_id, week=week_id, changes=rows))
