"""The case: the one cohort, with one seed call, that the team debugs this week.

Flow: findings of an ended week -> `nominate` (a write job) -> `week_case`, `case_event` -> `case_of`,
`events_of` -> the first screen, the case's page, GET /v1/cases. What persons do about it is
`outliers.casework.case_actions`, whether the fix worked `outliers.casework.following`.
While a week still runs its leading cohort is shown as "so far" and nothing is nominated.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from critic.explaining.explanations import ask as ask_for_words
from ingest.tables import Call, columns
from outliers.casework.verification import Verdict
from outliers.cohorts.findings import Finding, finding_as_row, finding_from_row, findings_of
from outliers.tables import CaseEvent, WeekCase

_case, _call, _event = columns(WeekCase), columns(Call), columns(CaseEvent)

#: Who Lowlight itself is in a case's history.
LOWLIGHT = "lowlight"


@dataclass(frozen=True)
class Fix:
    """What was done about a case.

    Attributes:
        at_ms: since when it is live, milliseconds since 1970 (UTC).
        release, prompt_version: what it came with; None where it came with none.
        link: to the change, as it was given; None where it was not.
        by: who said so; "" where nobody is named.
    """

    at_ms: int
    release: str | None
    prompt_version: str | None
    link: str | None
    by: str


@dataclass(frozen=True)
class Proof:
    """Whether a fix worked, as far as is known.

    Attributes:
        verdict: the verdict with its figures; `verdict.verdict` is fixed, no_change, worse or too_early.
        at_ms: when the calls were looked at.
        not_comparable: calls since the fix that only another rubric version or critic has scored.
        followed_by: what took the place of a retired prompt version, release, model or provider.
    """

    verdict: Verdict
    at_ms: int
    not_comparable: int
    followed_by: tuple[str, ...]


@dataclass(frozen=True)
class Event:
    """One thing that happened to a case.

    Attributes:
        week: of the case.
        at_ms: when.
        who: a person's own name, "" where none was given; "lowlight" for what it did by itself.
        what: nominated, picked, root_cause, owner, fixed, verdict, verified, reopened or note.
        words: as it is told: the note, the root cause, the owner's name, the verdict's sentence.
    """

    week: str
    at_ms: int
    who: str
    what: str
    words: str


@dataclass(frozen=True)
class Case:
    """One week's case.

    Attributes:
        week: "2026-W47".
        status: nominated, picked, root_cause, fixed (its proof is awaited), verified (closed), reopened (the
            trouble came back, or a person said so); "so_far" while the week runs.
        sentence: the whole case with its condition: "Answers came in the wrong language for prompt faq@v7:
            118 of 130 calls, 64 users, since Tue 14:00".
        cohort: the finding it was nominated from, with its condition and figures.
        seed_call_id: the worst call of the cohort that shows what its sentence says.
        root_cause, owner: written by a person; None before.
        nominated_at_ms: milliseconds since 1970 (UTC); None while so far.
        fix: what was done about it; None before.
        proof: whether that worked; None before it was looked at.
        closed_at_ms: when it was verified; None while it is open.
    """

    week: str
    status: str
    sentence: str
    cohort: Finding
    seed_call_id: str
    root_cause: str | None
    owner: str | None
    nominated_at_ms: int | None
    fix: Fix | None = None
    proof: Proof | None = None
    closed_at_ms: int | None = None

    @property
    def so_far(self) -> bool:
        """Whether its week still runs."""
        return self.status == "so_far"


def case_of(connection: Connection, project_id: int, week_id: str) -> Case | None:
    """Return a week's case, or what leads so far; None where no cohort stands apart from the rest."""
    kept = kept_case(connection, project_id, week_id)
    if kept is not None:
        return kept
    leading = leading_cohort(findings_of(connection, project_id, week_id, "bad"))
    if leading is None:
        return None
    return Case(week_id, "so_far", leading.case_sentence, leading, leading.examples[0], None, None, None)


def kept_case(connection: Connection, project_id: int, week_id: str) -> Case | None:
    """Return a week's case if it was nominated or picked; what only leads so far is none."""
    row = (
        connection.execute(select(_case).where(_case.c.project_id == project_id, _case.c.week == week_id))
        .mappings()
        .one_or_none()
    )
    return None if row is None else _from_row(dict(row))


def cases_of(
    connection: Connection,
    project_id: int,
    limit: int = 52,
    statuses: Sequence[str] = (),
    before: str | None = None,
) -> list[Case]:
    """Return the nominated cases, newest week first.

    Args:
        statuses: only those in one of them; () for all.
        before: only those of weeks before this one.
    """
    wanted = select(_case).where(_case.c.project_id == project_id)
    if before is not None:
        wanted = wanted.where(_case.c.week < before)
    if statuses:
        wanted = wanted.where(_case.c.status.in_(statuses))
    rows = connection.execute(wanted.order_by(_case.c.week.desc()).limit(limit)).mappings()
    return [_from_row(dict(row)) for row in rows]


def events_of(
    connection: Connection, project_id: int, week_ids: Sequence[str], limit: int = 1000
) -> list[Event]:
    """Return what happened to these weeks' cases, oldest first; of more than `limit` the newest."""
    rows = connection.execute(
        select(_event.c.week, _event.c.at_ms, _event.c.who, _event.c.what, _event.c.words)
        .where(_event.c.project_id == project_id, _event.c.week.in_(list(week_ids)))
        .order_by(_event.c.seq.desc())
        .limit(limit)
    ).all()
    return [Event(*row) for row in reversed(rows)]


def note_event(
    connection: Connection,
    project_id: int,
    event: Event,
    detail: dict[str, Any] | None = None,
) -> None:
    """Part of a write job: add to a case's history."""
    connection.execute(
        insert(_event).values(
            project_id=project_id,
            week=event.week,
            at_ms=event.at_ms,
            who=event.who,
            what=event.what,
            words=event.words,
            detail=detail,
        )
    )


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
    before = connection.execute(select(_case.c.status, _case.c.sentence).where(*mine)).one_or_none()
    if before is not None and before.status != "nominated":
        return "kept"
    connection.execute(delete(_case).where(*mine))
    if leading is None:
        return "none"
    put_case(connection, project_id, week_id, "nominated", leading, now_ms)
    if before is None or before.sentence != leading.case_sentence:
        _tell_nomination(connection, project_id, week_id, leading.case_sentence, now_ms)
    return "nominated"


def _tell_nomination(
    connection: Connection, project_id: int, week_id: str, sentence: str, now_ms: int
) -> None:
    """Part of a write job: tell it in the case's history, in place of a nomination nobody has acted on.

    While late scores come in, a week is nominated anew every few minutes.
    """
    last = connection.execute(
        select(_event.c.seq, _event.c.what)
        .where(_event.c.project_id == project_id, _event.c.week == week_id)
        .order_by(_event.c.seq.desc())
        .limit(1)
    ).one_or_none()
    if last is not None and last.what == "nominated":
        connection.execute(
            update(_event).where(_event.c.seq == last.seq).values(at_ms=now_ms, words=sentence)
        )
        return
    note_event(connection, project_id, Event(week_id, now_ms, LOWLIGHT, "nominated", sentence))


def put_case(
    connection: Connection, project_id: int, week_id: str, status: str, cohort: Finding, now_ms: int
) -> None:
    """Part of a write job: make a week's case of a cohort whose first example is the seed."""
    seed = connection.execute(
        select(_call.c.seq).where(_call.c.project_id == project_id, _call.c.id == cohort.examples[0])
    ).scalar_one()
    connection.execute(
        insert(_case).values(
            project_id=project_id,
            week=week_id,
            status=status,
            sentence=cohort.case_sentence,
            condition=cohort.condition.as_json(),
            figures=finding_as_row(project_id, week_id, cohort),
            seed_call_seq=seed,
            nominated_at_ms=now_ms,
        )
    )
    # The seed is what the team will read: its scores come with words, where a critic can write any.
    ask_for_words(connection, seed, asked_for="nominated", now_ms=now_ms)


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
        fix=None if row["fix"] is None else Fix(**row["fix"]),
        proof=None if row["verdict"] is None else proof_from_json(row["verdict"]),
        closed_at_ms=row["closed_at_ms"],
    )


def proof_from_json(kept: dict[str, Any]) -> Proof:
    """Return a proof as `week_case.verdict` keeps it (dataclasses.asdict)."""
    names = {one.name for one in fields(Verdict)}
    verdict = Verdict(**{name: value for name, value in kept["verdict"].items() if name in names})
    return Proof(verdict, kept["at_ms"], kept["not_comparable"], tuple(kept["followed_by"]))
