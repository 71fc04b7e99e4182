"""What can be done about a case, by HTTP or in the terminal: one body each, checked, and one way to do it.

Flow: JSON or options -> a body -> `do` -> a write job of `outliers.casework.case_actions` -> the case as it
is then.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from ingest.settings import Settings
from ingest.store import Store
from ingest.texts import cleaned
from ingest.wire import Name, Time
from outliers.casework import case_actions
from outliers.casework.case_actions import By
from outliers.casework.cases import Case, Fix, kept_case
from outliers.casework.following import first_used_ms
from outliers.casework.picking import cohort_by_rank, cohort_of_call
from outliers.weeks import week_by_id

WORDS_CHARS_MAX = 10_000


def _kept(text: str) -> str:
    """NUL and lone surrogates can be kept by no database; as intake does, they become U+FFFD."""
    return str(cleaned(text)[0])


def _a_link(text: str) -> str:
    if not text.startswith(("https://", "http://")):
        raise ValueError("a link begins with https:// or http://")
    return text


_Words = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=WORDS_CHARS_MAX),
    AfterValidator(_kept),
]
_MaybeWords = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=WORDS_CHARS_MAX), AfterValidator(_kept)
]
_Who = Annotated[str, StringConstraints(strip_whitespace=True, max_length=128), AfterValidator(_kept)]
_Version = Annotated[Name, StringConstraints(min_length=1), AfterValidator(_kept)]


class _Body(BaseModel):
    # A field that is misspelt must not vanish: a fix without its version would be proven by other calls.
    model_config = ConfigDict(extra="forbid")

    by: _Who = Field("", description="Who does it, as the team knows them.")


class PickBody(_Body):
    """Take a case on: the nominated one, another cohort of the week, or the cohort of a call."""

    rank: int | None = Field(None, ge=1, description="Rank of another cohort of the week.")
    call_id: str | None = Field(
        None, min_length=1, max_length=128, description="A call that becomes the seed."
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> "PickBody":
        if self.rank is not None and self.call_id is not None:
            raise ValueError("give rank or call_id, not both")
        return self


class RootCauseBody(_Body):
    """Write down why it happened."""

    root_cause: _Words


class OwnerBody(_Body):
    """Say who takes care of it."""

    owner: _Who = Field(description="A name; empty for nobody.")


class FixedBody(_Body):
    """Say what was done about it."""

    at: Time | None = Field(
        None,
        description="When it went live; without it, the first call of the version or release, else now.",
    )
    prompt_version: _Version | None = Field(None, description='What the fix came with: "v8" or "faq@v8".')
    release: _Version | None = Field(None, description="What the fix came with.")
    link: (
        Annotated[str, StringConstraints(max_length=2000), AfterValidator(_kept), AfterValidator(_a_link)]
        | None
    ) = Field(None, description="The change itself.")


class NoteBody(_Body):
    """Add a note to its history."""

    note: _Words


class VerifiedBody(_Body):
    """Close it."""

    because: _MaybeWords = Field("", description="Why, where the calls since the fix do not show it.")


class LookBody(_Body):
    """Look at the calls since the fix now instead of after a day."""


class ReopenBody(_Body):
    """Open it again."""

    because: _MaybeWords = Field("", description="Why.")


BODIES: dict[str, type[_Body]] = {
    "pick": PickBody,
    "root_cause": RootCauseBody,
    "owner": OwnerBody,
    "fixed": FixedBody,
    "note": NoteBody,
    "verified": VerifiedBody,
    "look": LookBody,
    "reopen": ReopenBody,
}


def do(store: Store, settings: Settings, project_id: int, week_id: str, body: _Body) -> Case:
    """Do it, and return the case as it is then.

    Raises:
        OutliersError: NoCase, CannotDo, BadPick or UnknownWeek; nothing was changed.
        WriterBusy, StoreUnavailable: see `ingest.store.Store`.
    """
    week = week_by_id(week_id, settings.zone)
    by = By(body.by, round(datetime.now(UTC).timestamp() * 1000))
    write = partial(_write, store, project_id, week.id, by)
    match body:
        case PickBody():
            cohort = None
            if body.call_id is not None:
                cohort = cohort_of_call(store, project_id, week, body.call_id, settings.zone)
            elif body.rank is not None:
                with store.read() as connection:
                    cohort = cohort_by_rank(connection, project_id, week, body.rank)
            return write(case_actions.pick, cohort)
        case RootCauseBody():
            return write(case_actions.write_root_cause, body.root_cause)
        case OwnerBody():
            return write(case_actions.set_owner, body.owner)
        case FixedBody():
            fix = _fix(store, project_id, week.id, body, by)
            return write(case_actions.enter_fix, fix)
        case NoteBody():
            return write(case_actions.add_note, body.note)
        case VerifiedBody():
            return write(case_actions.verify, body.because)
        case LookBody():
            return write(case_actions.look_again, None)
        case ReopenBody():
            return write(case_actions.reopen, body.because)
    raise TypeError(f"nothing is done with a {type(body).__name__}")


def _write(
    store: Store, project_id: int, week_id: str, by: By, action: Callable[..., Case], what: Any
) -> Case:
    return store.write(lambda connection: action(connection, project_id, week_id, by, what))


def _fix(store: Store, project_id: int, week_id: str, body: FixedBody, by: By) -> Fix:
    """Return the fix with the time since when it is live."""
    with store.read() as connection:
        case = kept_case(connection, project_id, week_id)
        live_ms = None
        if body.at is not None:
            at = body.at if body.at.tzinfo else body.at.replace(tzinfo=UTC)
            live_ms = round(at.timestamp() * 1000)
        elif case is not None:
            # entered twice it is the same fix: what was found the first time stays
            same = case.fix
            if same is not None and (same.release, same.prompt_version) == (
                body.release,
                body.prompt_version,
            ):
                live_ms = same.at_ms
            else:
                live_ms = first_used_ms(connection, project_id, case, body.prompt_version, body.release)
    if live_ms is not None and live_ms > by.at_ms:
        raise case_actions.CannotDo("The fix lies in the future; enter it when it is live.", "at")
    return Fix(live_ms or by.at_ms, body.release, body.prompt_version, body.link, by.who)
