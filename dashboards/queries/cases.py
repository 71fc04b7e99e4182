"""Cases and cohorts as pages and routes show them: times as times, the seed with its first words.

Flow: outliers.cases / outliers.findings -> `case_shown`, `cohorts` -> This week, Latency, GET /v1/cases.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from dashboards.queries.call import seq_of
from dashboards.queries.calls import CallLine, lines_by_seq
from dashboards.texts import passage
from dashboards.words import moment
from ingest.tables import CallText, columns
from outliers.cases import Case, case_of, cases_of
from outliers.findings import Finding, findings_of

TEXT = columns(CallText)


@dataclass(frozen=True)
class Cohort:
    """Calls that went wrong alike, and the condition that sets them apart from the rest of the week.

    Attributes:
        about: "bad" (P(bad) >= one half) or "tail" (the slowest calls).
        condition: {"field", "op", "value"}, on a field known before the answer.
        sentence: the condition with its shares, as a sentence.
        n: calls of the week for which the condition holds; `n_in` of them are bad (or slow).
        share_in, share_out: share of the bad (or slow) calls, and of the others, for which it holds.
        rate_in: share of the calls under the condition that are bad (or slow); 95 % interval
            `rate_low`..`rate_high`; `rate_out` is the same share among all other calls.
        lift: rate_in / rate_out; 95 % interval `lift_low`..`lift_high`.
        users: distinct users with a bad (or slow) call under the condition.
        first_seen_at: its first bad (or slow) call.
        case_sentence: what failed, where, how often, for how many, since when.
        what_failed: what most of these calls have in common ("wrong_language"); "" where nothing stands out.
        examples: ids of calls: first those that show `what_failed`, then others; each worst first.
    """

    about: str
    condition: dict[str, Any]
    sentence: str
    n: int
    n_in: int
    share_in: float
    share_out: float
    rate_in: float
    rate_low: float
    rate_high: float
    rate_out: float
    lift: float
    lift_low: float
    lift_high: float
    users: int
    first_seen_at: datetime
    case_sentence: str
    what_failed: str
    examples: tuple[str, ...]


@dataclass(frozen=True)
class CaseShown:
    """One week's case.

    Attributes:
        week: "2026-W47".
        status: nominated, picked, root_cause, fixed or verified; "so_far" while the week runs.
        sentence: the whole case, condition included.
        cohort: the calls that it speaks of.
        seed: the worst of them that shows it, with more of its texts than a list shows; None where it
            is not kept any more.
        root_cause, owner: written by a person; None before.
        nominated_at: None while so far.
    """

    week: str
    status: str
    sentence: str
    cohort: Cohort
    seed: CallLine | None
    root_cause: str | None
    owner: str | None
    nominated_at: datetime | None


def case_shown(connection: Connection, project_id: int, week_id: str, critics: list[str]) -> CaseShown | None:
    """A week's case, or what leads so far; None where no cohort stands apart from the rest."""
    case = case_of(connection, project_id, week_id)
    return None if case is None else _case(connection, project_id, case, critics)


def cases_shown(
    connection: Connection, project_id: int, critics: list[str], limit: int
) -> tuple[CaseShown, ...]:
    """The nominated cases, newest week first."""
    return tuple(
        _case(connection, project_id, case, critics) for case in cases_of(connection, project_id, limit)
    )


def cohorts(connection: Connection, project_id: int, week_id: str, about: str) -> tuple[Cohort, ...]:
    """A week's cohorts, the one that explains most first."""
    return tuple(_cohort(finding) for finding in findings_of(connection, project_id, week_id, about))


def _case(connection: Connection, project_id: int, case: Case, critics: list[str]) -> CaseShown:
    seq = seq_of(connection, project_id, case.seed_call_id)
    return CaseShown(
        week=case.week,
        status=case.status,
        sentence=case.sentence,
        cohort=_cohort(case.cohort),
        seed=None if seq is None else _seed(connection, seq, critics),
        root_cause=case.root_cause,
        owner=case.owner,
        nominated_at=None if case.nominated_at_ms is None else moment(case.nominated_at_ms),
    )


def _seed(connection: Connection, seq: int, critics: list[str]) -> CallLine:
    line = lines_by_seq(connection, [seq], critics)[seq]
    texts = connection.execute(select(TEXT).where(TEXT.c.call_seq == seq)).one_or_none()
    if texts is None:
        return line
    return replace(
        line,
        asked=passage(texts.input, texts.input_json),
        answered=passage(texts.output, texts.output_json),
    )


def _cohort(finding: Finding) -> Cohort:
    plain = {name: getattr(finding, name) for name in Cohort.__dataclass_fields__ if hasattr(finding, name)}
    return Cohort(
        **plain
        | {"condition": finding.condition.as_json(), "first_seen_at": moment(finding.first_seen_at_ms)}
    )
