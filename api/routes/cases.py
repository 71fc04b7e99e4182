"""POST /v1/cases/{week}/...: what persons do about a week's case.

Flow: JSON -> a body of `api.casework.doing` -> `do` -> the case as it is then, with its history.
Every one of them is idempotent: sent twice it changes nothing and is told once.
"""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from api.casework import doing as case_doing
from api.casework.doing import (
    FixedBody,
    LookBody,
    NoteBody,
    OwnerBody,
    PickBody,
    ReopenBody,
    RootCauseBody,
    VerifiedBody,
)
from api.deps import SettingsDep, StoreDep
from api.door.short_bodies import ShortJsonRoute
from api.errors import Refused
from dashboards.filters import WeekId
from dashboards.queries.cases import CaseShown, case_shown
from ingest.tables import DEFAULT_PROJECT
from outliers.casework.case_actions import BadPick, CannotDo, NoCase


class _CaseRoute(ShortJsonRoute):
    """A route whose errors from below become the one JSON shape."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def _answer(request: Request) -> Response:
            try:
                return await handler(request)
            except BadPick as error:
                raise Refused(422, "bad_pick", str(error), field=error.field) from None
            except NoCase as error:
                raise Refused(404, "no_case", str(error)) from None
            except CannotDo as error:
                raise Refused(409, "cannot_do", str(error), field=error.field) from None

        return _answer


router = APIRouter(prefix="/v1/cases/{week}", tags=["cases"], route_class=_CaseRoute)

Week = Annotated[WeekId, Path(description="ISO week of the case, 2026-W47.")]


@router.post("/pick")
def post_pick(week: Week, body: PickBody, store: StoreDep, settings: SettingsDep) -> CaseShown:
    """Take the case on: as nominated, with another cohort of the week (`rank`), or with that of a call."""
    return _done(store, settings, week, body)


@router.post("/root_cause")
def post_root_cause(week: Week, body: RootCauseBody, store: StoreDep, settings: SettingsDep) -> CaseShown:
    """Write down why it happened; a later one replaces it, the history keeps both."""
    return _done(store, settings, week, body)


@router.post("/owner")
def post_owner(week: Week, body: OwnerBody, store: StoreDep, settings: SettingsDep) -> CaseShown:
    """Say who takes care of it."""
    return _done(store, settings, week, body)


@router.post("/fixed")
def post_fixed(week: Week, body: FixedBody, store: StoreDep, settings: SettingsDep) -> CaseShown:
    """Say what was done about it; from then on its calls are compared, once a day, until a verdict."""
    return _done(store, settings, week, body)


@router.post("/note")
def post_note(week: Week, body: NoteBody, store: StoreDep, settings: SettingsDep) -> CaseShown:
    """Add a note to its history."""
    return _done(store, settings, week, body)


@router.post("/verified")
def post_verified(week: Week, body: VerifiedBody, store: StoreDep, settings: SettingsDep) -> CaseShown:
    """Close it. Lowlight does so itself once the calls prove the fix; before, say why in `because`."""
    return _done(store, settings, week, body)


@router.post("/look")
def post_look(week: Week, body: LookBody, store: StoreDep, settings: SettingsDep) -> CaseShown:
    """Have the calls since the fix looked at within seconds instead of after a day."""
    return _done(store, settings, week, body)


@router.post("/reopen")
def post_reopen(week: Week, body: ReopenBody, store: StoreDep, settings: SettingsDep) -> CaseShown:
    """Open a case again that has a fix; Lowlight does so itself when the rate returns."""
    return _done(store, settings, week, body)


def _done(store: StoreDep, settings: SettingsDep, week: str, body: Any) -> CaseShown:
    case_doing.do(store, settings, DEFAULT_PROJECT, week, body)
    with store.read() as connection:
        shown = case_shown(connection, DEFAULT_PROJECT, week, settings.critics)
    assert shown is not None
    return shown
