"""What persons do about a case: pick, root cause, owner, fix, note, verify, reopen.

Flow: POST /v1/cases/{week}/... or `lowlight case` -> one write job of here -> `week_case`, `case_event`.
Every job is idempotent: doing the same twice changes nothing and is told once in the history.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import Connection, select, update

from ingest.tables import columns
from outliers.casework.cases import Case, Event, Fix, case_of, kept_case, note_event, put_case
from outliers.cohorts.findings import Finding
from outliers.errors import OutliersError
from outliers.tables import CaseEvent, WeekCase

_case, _event = columns(WeekCase), columns(CaseEvent)

#: Statuses in which a case has a fix.
HAS_FIX = ("fixed", "verified")
#: As it is told where a person closes a case by hand.
_CLOSED = {
    "fixed": "Fixed, as the calls since show.",
    "no_change": "Closed although no change is seen",
    "worse": "Closed although it is worse",
    "too_early": "Closed before the calls could tell",
}


class NoCase(OutliersError):
    """The week has no case yet: pick one, or wait until the week ends."""


class CannotDo(OutliersError):
    """The case is not in a state for that; the message says in which it is and what comes first.

    Attributes:
        field: of the request, where one is at fault: at or because.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class BadPick(OutliersError):
    """The cohort or call that was picked is none of this week's.

    Attributes:
        field: of the request: rank or call_id.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class By:
    """Who does something, and when.

    Attributes:
        who: as they name themselves; "" where they do not.
        at_ms: milliseconds since 1970 (UTC).
    """

    who: str
    at_ms: int


def pick(connection: Connection, project_id: int, week_id: str, by: By, cohort: Finding | None) -> Case:
    """Write job: take on the week's case, with another cohort than the nominated one where one is given.

    Args:
        cohort: its first example becomes the seed; None keeps the nominated (or so far leading) one.

    Raises:
        NoCase: nothing is nominated and none was given.
        CannotDo: the case has a fix, which belongs to its cohort.
    """
    case = kept_case(connection, project_id, week_id)
    if cohort is None:
        leading = case or case_of(connection, project_id, week_id)
        if leading is None:
            raise NoCase(
                f"Week {week_id} has no case: nothing set its bad calls apart. Name a cohort or a call of it."
            )
        cohort = leading.cohort
    if case is not None and case.status != "nominated" and case.cohort == cohort:
        return case
    if case is not None and case.status in HAS_FIX:
        raise CannotDo(
            f"The case of {week_id} is {case.status}, and its fix belongs to its cohort; reopen it first."
        )
    if case is not None and case.cohort == cohort:
        _set(connection, project_id, week_id, status="picked")
    else:
        kept = {} if case is None else {"root_cause": case.root_cause, "owner": case.owner}
        nominated_at_ms = by.at_ms if case is None or case.nominated_at_ms is None else case.nominated_at_ms
        connection.execute(_case.delete().where(*_mine(project_id, week_id)))
        put_case(connection, project_id, week_id, "picked", cohort, nominated_at_ms)
        if kept:
            _set(connection, project_id, week_id, **kept)
    return _told(connection, project_id, week_id, by, "picked", cohort.case_sentence)


def write_root_cause(connection: Connection, project_id: int, week_id: str, by: By, words: str) -> Case:
    """Write job: write down why it happened; a later one replaces it.

    Raises:
        NoCase: see class.
    """
    case = _needed(connection, project_id, week_id)
    if case.root_cause == words:
        return case
    status = "root_cause" if case.status in ("nominated", "picked", "reopened") else case.status
    _set(connection, project_id, week_id, root_cause=words, status=status)
    return _told(connection, project_id, week_id, by, "root_cause", words)


def set_owner(connection: Connection, project_id: int, week_id: str, by: By, owner: str) -> Case:
    """Write job: say who takes care of it; "" says that nobody does.

    Raises:
        NoCase: see class.
    """
    case = _needed(connection, project_id, week_id)
    if (case.owner or "") == owner:
        return case
    # to take a nominated case on is to pick it: a nomination may still change by itself
    status = "picked" if case.status == "nominated" and owner else case.status
    _set(connection, project_id, week_id, owner=owner or None, status=status)
    return _told(connection, project_id, week_id, by, "owner", owner)


def enter_fix(connection: Connection, project_id: int, week_id: str, by: By, fix: Fix) -> Case:
    """Write job: say what was done about it; from then on the calls are watched for the proof.

    Raises:
        NoCase: see class.
        CannotDo: the case is closed, or the fix is older than the case's trouble.
    """
    case = _needed(connection, project_id, week_id)
    if case.fix is not None and replace(case.fix, by=fix.by) == fix:
        return case
    if case.status == "verified":
        raise CannotDo(f"The case of {week_id} is closed; reopen it before you enter another fix.")
    if fix.at_ms <= case.cohort.first_seen_at_ms:
        raise CannotDo(
            "The fix is older than the first bad call of the case; give the time it went live.", "at"
        )
    _set(
        connection,
        project_id,
        week_id,
        status="fixed",
        fix=asdict(fix),
        verdict=None,
        watch=None,
        followed_at_ms=None,
        closed_at_ms=None,
    )
    named = [
        f"prompt version {fix.prompt_version}" if fix.prompt_version else "",
        f"release {fix.release}" if fix.release else "",
        fix.link or "",
    ]
    words = ", ".join(one for one in named if one)
    return _told(connection, project_id, week_id, by, "fixed", words, asdict(fix))


def verify(connection: Connection, project_id: int, week_id: str, by: By, because: str) -> Case:
    """Write job: close the case. Lowlight does so itself where the calls since the fix show that it worked.

    Args:
        because: why it is closed although the calls do not show that; may be "" where they do.

    Raises:
        NoCase: see class.
        CannotDo: there is no fix, or the calls do not show it and no reason was given.
    """
    case = _needed(connection, project_id, week_id)
    if case.status == "verified":
        return case
    if case.status != "fixed":
        raise CannotDo(f"The case of {week_id} has no fix yet; enter it first, then its calls can prove it.")
    verdict = "too_early" if case.proof is None else case.proof.verdict.verdict
    if verdict != "fixed" and not because:
        said = "its calls were not looked at yet." if case.proof is None else case.proof.verdict.sentence
        raise CannotDo(
            f"The fix is not proven: {said} To close the case all the same, say why in `because`.", "because"
        )
    _set(connection, project_id, week_id, status="verified", closed_at_ms=by.at_ms)
    words = _CLOSED[verdict] if not because else f"{_CLOSED[verdict].rstrip('.')}: {because}"
    return _told(connection, project_id, week_id, by, "verified", words)


def look_again(connection: Connection, project_id: int, week_id: str, _by: By, _what: None) -> Case:
    """Write job: have the calls since the fix looked at with the next refresh instead of after a day.

    The verdict's interval holds at every look, so that looking more often proves nothing too early.

    Raises:
        NoCase: see class.
        CannotDo: the case has no fix.
    """
    case = _needed(connection, project_id, week_id)
    if case.status not in HAS_FIX:
        raise CannotDo(f"The case of {week_id} has no fix yet; enter it first, then its calls can prove it.")
    _set(connection, project_id, week_id, followed_at_ms=None)
    return case


def reopen(connection: Connection, project_id: int, week_id: str, by: By, because: str) -> Case:
    """Write job: say that the trouble is still there, or back; the fix stays in the history only.

    Raises:
        NoCase: see class.
        CannotDo: the case has no fix, so that it is open.
    """
    case = _needed(connection, project_id, week_id)
    if case.status == "reopened":
        return case
    if case.status not in HAS_FIX:
        raise CannotDo(f"The case of {week_id} is open: it is {case.status.replace('_', ' ')}.")
    _set(
        connection,
        project_id,
        week_id,
        status="reopened",
        fix=None,
        watch=None,
        followed_at_ms=None,
        closed_at_ms=None,
    )
    return _told(connection, project_id, week_id, by, "reopened", because)


def add_note(connection: Connection, project_id: int, week_id: str, by: By, words: str) -> Case:
    """Write job: add a note; the same words of the same person are kept once.

    Raises:
        NoCase: see class.
    """
    case = _needed(connection, project_id, week_id)
    same = select(_event.c.seq).where(
        _event.c.project_id == project_id,
        _event.c.week == week_id,
        _event.c.what == "note",
        _event.c.who == by.who,
        _event.c.words == words,
    )
    if connection.execute(same.limit(1)).scalar() is not None:
        return case
    return _told(connection, project_id, week_id, by, "note", words)


def _needed(connection: Connection, project_id: int, week_id: str) -> Case:
    case = kept_case(connection, project_id, week_id)
    if case is None:
        raise NoCase(f"Week {week_id} has no case yet; pick one, or wait until the week ends.")
    return case


def _mine(project_id: int, week_id: str) -> tuple[Any, Any]:
    return _case.c.project_id == project_id, _case.c.week == week_id


def _set(connection: Connection, project_id: int, week_id: str, **values: Any) -> None:
    connection.execute(update(_case).where(*_mine(project_id, week_id)).values(**values))


def _told(
    connection: Connection,
    project_id: int,
    week_id: str,
    by: By,
    what: str,
    words: str,
    detail: dict[str, Any] | None = None,
) -> Case:
    """Add to the history and return the case as it is now."""
    note_event(connection, project_id, Event(week_id, by.at_ms, by.who, what, words), detail)
    return _needed(connection, project_id, week_id)
