"""Cases and cohorts as pages and routes show them: times as times, the seed with its first words.

Flow: outliers.casework.cases / outliers.cohorts.findings -> `case_shown`, `case_lines`, `cohorts` -> This
week, Case, Cases, Cohorts, Latency, GET /v1/cases and /v1/cohorts.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from dashboards.queries.call import seq_of
from dashboards.queries.calls import CallLine, lines_by_seq
from dashboards.texts import passage
from dashboards.words import moment
from ingest.tables import CallText, columns
from outliers.casework.cases import Case, Event, case_of, cases_of, events_of
from outliers.cohorts.findings import Finding, Point, findings_of

TEXT = columns(CallText)


@dataclass(frozen=True)
class PointShown:
    """One day or week of a cohort: from `at` on, `n` calls under its condition, `bad` of them bad or slow.

    `bad` is a sum of P(bad), so no whole number.
    """

    at: datetime
    n: int
    bad: float


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
        rank: its place in the week's list, by which it is picked; 0 for the cohort of a call of one's own.
        measure: what set it apart: "p_bad", or "latency" (then n_in, rates and users count the slow calls).
        failed_as: the one way to fail that its rates, lift, users and n_in count alone; "" where they count
            every bad call.
        excess: calls that went wrong beyond what the 28 days before let expect.
        share_of_traffic: share of the week's calls for which the condition holds.
        rate_before, n_before: `rate_in` over the 28 days before, of so many calls; null and 0 without any.
        lasting: whether the rate was no lower in the 28 days before: no incident.
        days: each day of the week; `weeks_before`: each of up to four weeks before.
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
    rank: int
    measure: str
    failed_as: str
    excess: float
    share_of_traffic: float
    rate_before: float | None
    n_before: int
    lasting: bool
    days: tuple[PointShown, ...]
    weeks_before: tuple[PointShown, ...]


@dataclass(frozen=True)
class FixShown:
    """What was done about a case; `at` is since when it is live, `by` who said so ("": nobody named)."""

    at: datetime
    release: str | None
    prompt_version: str | None
    link: str | None
    by: str


@dataclass(frozen=True)
class ProofShown:
    """Whether the fix worked.

    Attributes:
        verdict: fixed, no_change, worse or too_early.
        sentence: the verdict with its figures.
        before, after: mean badness of the calls under the condition, 0..1, before the fix (the people that
            did not nominate it, weighed to the kinds of input that came after) and since; 95 % interval
            `after_low`..`after_high`, which holds at every daily look.
        rest_before, rest_after: the same of all other calls.
        n_before, n_after, people_before, people_after: calls and persons compared.
        calls_needed: about so many more calls until a verdict; null with one, or where none can come.
        not_comparable: calls since the fix that were judged by another rubric version or critic, or not yet.
        followed_by: what took the place of a retired prompt version, release, model or provider.
        at: when the calls were looked at.
    """

    verdict: str
    sentence: str
    before: float | None
    after: float | None
    after_low: float | None
    after_high: float | None
    rest_before: float | None
    rest_after: float | None
    n_before: int
    n_after: int
    people_before: int
    people_after: int
    calls_needed: int | None
    not_comparable: int
    followed_by: tuple[str, ...]
    at: datetime


@dataclass(frozen=True)
class EventShown:
    """One thing that happened to a case.

    Attributes:
        who: a person's own name, "" where none was given; "lowlight" for what it did by itself.
        what: nominated, picked, root_cause, owner, fixed, verdict, verified, reopened or note.
        words: the note, the root cause, the owner's name, the verdict's sentence.
    """

    at: datetime
    who: str
    what: str
    words: str


@dataclass(frozen=True)
class CaseShown:
    """One week's case.

    Attributes:
        week: "2026-W47".
        status: nominated, picked, root_cause, fixed (its proof is awaited), verified (closed) or reopened;
            "so_far" while the week runs.
        sentence: the whole case, condition included.
        cohort: the calls that it speaks of.
        seed: the worst of them that shows it, with more of its texts than a list shows; None where it
            is not kept any more.
        root_cause, owner: written by a person; None before.
        nominated_at: None while so far.
        fix: what was done about it; None before.
        proof: whether that worked; None before its calls were looked at.
        closed_at: when it was verified; None while it is open.
        history: what happened to it, oldest first.
    """

    week: str
    status: str
    sentence: str
    cohort: Cohort
    seed: CallLine | None
    root_cause: str | None
    owner: str | None
    nominated_at: datetime | None
    fix: FixShown | None
    proof: ProofShown | None
    closed_at: datetime | None
    history: tuple[EventShown, ...]


@dataclass(frozen=True)
class CaseLine:
    """One week's case in one line of the history.

    Attributes:
        week, status, sentence, root_cause, owner, fix, proof, closed_at: see `CaseShown`.
        users: people it happened to; `n_in` of `n` calls under its condition were bad (or slow).
        reopened: how often it came back, or was opened again by a person.
    """

    week: str
    status: str
    sentence: str
    root_cause: str | None
    owner: str | None
    fix: FixShown | None
    proof: ProofShown | None
    closed_at: datetime | None
    users: int
    n: int
    n_in: int
    reopened: int


def case_shown(connection: Connection, project_id: int, week_id: str, critics: list[str]) -> CaseShown | None:
    """A week's case, or what leads so far; None where no cohort stands apart from the rest."""
    case = case_of(connection, project_id, week_id)
    if case is None:
        return None
    return _case(connection, project_id, case, critics, events_of(connection, project_id, [week_id]))


def cases_shown(
    connection: Connection, project_id: int, critics: list[str], limit: int, before: str | None = None
) -> tuple[CaseShown, ...]:
    """The nominated cases, newest week first; with `before` those of earlier weeks only."""
    cases = cases_of(connection, project_id, limit, before=before)
    events = events_of(connection, project_id, [case.week for case in cases], limit=100 * limit)
    return tuple(_case(connection, project_id, case, critics, events) for case in cases)


def case_lines(
    connection: Connection, project_id: int, limit: int, before: str | None = None
) -> tuple[CaseLine, ...]:
    """The nominated cases in short, newest week first; with `before` those of earlier weeks only."""
    cases = cases_of(connection, project_id, limit, before=before)
    events = events_of(connection, project_id, [case.week for case in cases], limit=100 * limit)
    again = Counter(event.week for event in events if event.what == "reopened")
    return tuple(
        CaseLine(
            week=case.week,
            status=case.status,
            sentence=case.sentence,
            root_cause=case.root_cause,
            owner=case.owner,
            fix=_fix(case),
            proof=_proof(case),
            closed_at=None if case.closed_at_ms is None else moment(case.closed_at_ms),
            users=case.cohort.users,
            n=case.cohort.n,
            n_in=case.cohort.n_in,
            reopened=again[case.week],
        )
        for case in cases
    )


def cohorts(
    connection: Connection, project_id: int, week_id: str, about: str, *, lasting: bool = False
) -> tuple[Cohort, ...]:
    """A week's cohorts, the one that explains most first; with `lasting` those that are always there."""
    found = findings_of(connection, project_id, week_id, about, lasting=lasting)
    return tuple(_cohort(finding) for finding in found)


def _case(
    connection: Connection, project_id: int, case: Case, critics: list[str], events: Sequence[Event]
) -> CaseShown:
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
        fix=_fix(case),
        proof=_proof(case),
        closed_at=None if case.closed_at_ms is None else moment(case.closed_at_ms),
        history=tuple(
            EventShown(moment(event.at_ms), event.who, event.what, event.words)
            for event in events
            if event.week == case.week
        ),
    )


def _fix(case: Case) -> FixShown | None:
    if case.fix is None:
        return None
    kept = asdict(case.fix)
    return FixShown(at=moment(kept.pop("at_ms")), **kept)


def _proof(case: Case) -> ProofShown | None:
    proof = case.proof
    if proof is None:
        return None
    return ProofShown(
        **asdict(proof.verdict),
        not_comparable=proof.not_comparable,
        followed_by=proof.followed_by,
        at=moment(proof.at_ms),
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
        | {
            "condition": finding.condition.as_json(),
            "first_seen_at": moment(finding.first_seen_at_ms),
            "days": _points(finding.days),
            "weeks_before": _points(finding.weeks_before),
        }
    )


def _points(points: Sequence[Point]) -> tuple[PointShown, ...]:
    return tuple(PointShown(moment(point.since_ms), point.n, point.bad) for point in points)
