"""What changed since last week: a few figures, overall and by prompt, version and model; which moved.

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
        by: "prompt", "prompt_version" or "model"; None for all calls together.
        value: which one: "faq", "faq@v7", "large"; None for all calls together.
        before: the week before, or the same part of it while this week runs.
        now: this week.
        moved: whether they differ by more than noise, false discoveries held at 10 % over all figures.
        worse: whether the move is for the worse; None where it did not move or neither way is worse.
        p_value: of no difference; None where either week is unknown.
        noise: by how much the variance from week to week was found larger than within a week, at least 1; 1
            too where no earlier weeks could tell.
    """

    measure: str
    by: str | None
    value: str | None
    before: Estimate
    now: Estimate
    moved: bool
    worse: bool | None
    p_value: float | None
    noise: float = 1.0

    @property
    def filters(self) -> dict[str, str]:
        """The filters of GET /v1/calls and the pages that show its calls, the week aside."""
        return {} if self.by is None or self.value is None else filters_of(self.by, self.value)


def filters_of(field: str, value: str) -> dict[str, str]:
    """Return the filters of calls that have a value of a field; a version is "faq@v7"."""
    if field == "prompt_version":
        prompt, _, version = value.rpartition("@")
        return {"prompt": prompt, "version": version}
    return {field: value}


def changes_of(connection: Connection, project_id: int, week: Week) -> list[Change]:
    """Return what changed in a week: all calls first, then the busiest of each field; empty before a run."""
    kept = connection.execute(
        select(_changes.c.changes).where(_changes.c.project_id == project_id, _changes.c.week == week.id)
    ).scalar_one_or_none()
    return [_from_json(change) for change in kept or [] if change["measure"] in MEASURES]


def moved_most(changes: Sequence[Change], limit: int = 8) -> list[Change]:
    """Return the few that moved, those for the worse first, each by how sure that is.

    Of one move that a prompt, its version and its model all show, the one that is surest stays: where the
    figures are of nearly the same calls (95 % of their number), only one is told.
    """
    few: list[Change] = []
    order = sorted(
        (change for change in changes if change.moved),
        key=lambda change: (change.worse is not True, change.p_value or 0.0, change.by is not None),
    )
    for change in order:
        same = (one for one in few if one.measure == change.measure and one.worse == change.worse)
        if not any(
            _nearly(one.now.n, change.now.n) and _nearly(one.before.n, change.before.n) for one in same
        ):
            few.append(change)
    return few[:limit]


def _nearly(one: int, other: int) -> bool:
    return min(one, other) >= 0.95 * max(one, other)


def _from_json(kept: dict[str, Any]) -> Change:
    """Return a change as `keep_changes` or a version before it kept it."""
    change = {**kept, "before": Estimate(**kept["before"]), "now": Estimate(**kept["now"])}
    if "by" not in change:  # only prompts were told apart
        prompt = change.pop("prompt")
        change |= {"by": None if prompt is None else "prompt", "value": prompt}
    return Change(**change)


def keep_changes(connection: Connection, project_id: int, week_id: str, changes: Sequence[Change]) -> None:
    """Write job: replace what changed in a week."""
    connection.execute(
        delete(_changes).where(_changes.c.project_id == project_id, _changes.c.week == week_id)
    )
    rows: list[dict[str, Any]] = [asdict(change) for change in changes]
    connection.execute(insert(_changes).values(project_id=project_id, week=week_id, changes=rows))
