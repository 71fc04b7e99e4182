"""The case: the one cohort, with one seed call, that the team debugs this week.

Flow: findings of an ended week -> `nominate` (a write job) -> `week_case` -> `case_of` -> the first screen.
While a week still runs its leading cohort is shown as "so far" and nothing is nominated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from ingest.tables import Call, columns
from outliers.findings import Finding, finding_as_row, finding_from_row, findings_of
from outliers.tables import WeekCase

_case, _call = columns(WeekCase), columns(Call)


@dataclass(frozen=True)
class Case:
    """One week's case.

    Attributes:
        week: "2026-W47".
        status: nominated, picked, root_cause, fixed or verified; "so_far" while the week runs.
        sentence: the whole case with its condition: "Answers came in the wrong language for prompt faq@v7:
            118 of 130 calls, 64 users, since Tue 14:00".
        cohort: the finding it was nominated from, with its condition and figures.
        seed_call_id: the worst call of the cohort that shows what its sentence says.
        root_cause, owner: written by a person; None before.
        nominated_at_ms: milliseconds since 1970 (UTC); None while so far.
    """

    week: str
    status: str
    sentence: str
    cohort: Finding
    seed_call_id: str
    root_cause: str | None
    owner: str | None
    nominated_at_ms: int | None

    @property
    def so_far(self) -> bool:
        """Whether its week still runs."""
        return self.status == "so_far"


def case_of(connection: Connection, project_id: int, week_id: str) -> Case | None:
    """Return a week's case, or what leads so far; None where no cohort stands apart from the rest."""
    row = (
        connection.execute(select(_case).where(_case.c.project_id == project_id, _case.c.week == week_id))
        .mappings()
        .one_or_none()
    )
    if row is not None:
        return _from_row(dict(row))
    leading = leading_cohort(findings_of(connection, project_id, week_id, "bad"))
    if leading is None:
        return None
    return Case(week_id, "so_far", leading.case_sentence, leading, leading.examples[0], None, None, None)


def cases_of(connection: Connection, project_id: int, limit: int = 52) -> list[Case]:
    """Return the nominated cases, newest week first."""
    rows = connection.execute(
        select(_case).where(_case.c.project_id == project_id).order_by(_case.c.week.desc()).limit(limit)
    ).mappings()
    return [_from_row(dict(row)) for row in rows]


def leading_cohort(findings: Sequence[Finding]) -> Finding | None:
    """Return the finding with most severity times users: how bad its calls were, and to how many people.

    Only findings about bad calls are asked: that a large model is slower than a small one is no incident, and
    a latency that is one has raised P(bad) by its own part. Severity is the mean P(bad) under the condition;
    where calls name no user, each bad call counts as one.
    """
    return max(findings, key=lambda finding: finding.severity * (finding.users or finding.n_in), default=None)


def nominate(
    connection: Connection, project_id: int, week_id: str, leading: Finding | None, now_ms: int
) -> str:
    """Write job: nominate an ended week's case anew, unless a person has taken it on.

    Returns:
        "kept" (a picked case is never overwritten), "nominated", or "none" (no cohort stands apart).
    """
    mine = (_case.c.project_id == project_id, _case.c.week == week_id)
    status = connection.execute(select(_case.c.status).where(*mine)).scalar_one_or_none()
    if status not in (None, "nominated"):
        return "kept"
    connection.execute(delete(_case).where(*mine))
    if leading is None:
        return "none"
    seed = connection.execute(
        select(_call.c.seq).where(_call.c.project_id == project_id, _call.c.id == leading.examples[0])
    ).scalar_one()
    cohort = finding_as_row(project_id, week_id, leading)
    connection.execute(
        insert(_case).values(
            project_id=project_id,
            week=week_id,
            status="nominated",
            sentence=leading.case_sentence,
            condition=leading.condition.as_json(),
            figures=cohort,
            seed_call_seq=seed,
            nominated_at_ms=now_ms,
        )
    )
    return "nominated"


def _from_row(row: dict[str, Any]) -> Case:
    cohort = finding_from_row(row["figures"])
    return Case(
        week=row["week"],
        status=row["status"],
        sentence=row["sentence"],
        cohort=cohort,
        seed_call_id=cohort.examples[0],
        root_cause=row["root_cause"],
        owner=row["owner"],
        nominated_at_ms=row["nominated_at_ms"],
    )
