"""POST /cases/{week}/...: the forms of a case's page, which work without a script.

Flow: a form of our own page -> `api.door.gate.check_own_page` -> a body of `api.casework.doing` -> `do` ->
303 back to the case; what cannot be done is the same page again, with the error at its field and all that was
written.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated
from urllib.parse import parse_qsl, quote
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from api.casework import doing as case_doing
from api.casework.doing import BODIES
from api.deps import SettingsDep, StoreDep
from api.door.gate import check_own_page, content_type, read_body
from api.door.short_bodies import check_short
from api.errors import Refused
from api.routes import page_answers, pages
from dashboards.filters import WeekId
from dashboards.forms import Said
from ingest.errors import StoreUnavailable, WriterBusy
from ingest.settings import Settings
from ingest.store import Store
from ingest.tables import DEFAULT_PROJECT
from outliers.casework.case_actions import BadPick, CannotDo, NoCase

FIELDS_MAX = 20
#: How long a browser keeps the reader's own name.
WHO_KEPT_S = 400 * 86_400

#: What pydantic finds wrong, as somebody who fills in a form reads it.
_REMEDIES = {
    "missing": "Write something here.",
    "string_too_short": "Write something here.",
    "string_too_long": "This is too long; put the rest behind a link.",
    "int_parsing": "Pick a cohort of the list.",
}
_TIME = "Write a time as 2026-11-20 14:00."
#: Fields that no reader sees: what is wrong with them leads the page.
_HIDDEN = ("by", "rank")
#: Where the page goes on after each form: to what has changed.
_LEADS_TO = {"note": "#history", "fixed": "#proof", "look": "#proof", "verified": "", "pick": ""}

router = APIRouter(route_class=page_answers.PageRoute, include_in_schema=False)

Week = Annotated[WeekId, Path()]


@router.get("/cases/{week}/{action}")
def get_form(week: Week, action: str) -> Response:
    """The address that a form was sent to, loaded by itself: to the case."""
    if action not in BODIES:
        raise Refused(404, "no_such_page", f"A case has no page {action!r}.")
    return RedirectResponse(f"/cases/{week}", status_code=303)


@router.post("/cases/{week}/{action}")
async def post_form(
    week: Week, action: str, request: Request, store: StoreDep, settings: SettingsDep
) -> Response:
    """Do what a form asks, then back to the case."""
    check_own_page(request)
    if action not in BODIES:
        raise Refused(404, "no_such_action", f"Nothing about a case is called {action!r}.")
    sent = await _fields(request)
    return await run_in_threadpool(_do, request, store, settings, week, action, sent)


async def _fields(request: Request) -> dict[str, str]:
    """Return what a form holds, by field.

    Raises:
        Refused: 415 for anything but a plain form, 413 where it is long, 400 where it cannot be read.
    """
    kind = content_type(request)
    if kind != "application/x-www-form-urlencoded":
        raise Refused(
            415, "not_a_form", f"Content-Type is {kind[:100]!r}; programs post JSON to /v1/cases/... instead."
        )
    check_short(request)
    body = await read_body(request)
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=FIELDS_MAX)
    except ValueError:
        raise Refused(400, "bad_form", "The form cannot be read; load the page and send it again.") from None
    # A browser ends the lines of a text with CR LF.
    return {name: value.replace("\r\n", "\n") for name, value in pairs}


def _do(
    request: Request, store: Store, settings: Settings, week: str, action: str, sent: dict[str, str]
) -> Response:
    def _again(error: str, field: str | None, status: int) -> Response:
        shown = field if field is not None and field in sent and field not in _HIDDEN else ""
        said = Said(sent.get("by", page_answers.who_of(request)), action, shown, error, sent)
        return pages.case_page(request, week, store, settings, said, status)

    try:
        body = BODIES[action].model_validate(_asked(action, sent, settings.zone))
        case_doing.do(store, settings, DEFAULT_PROJECT, week, body)
    except _BadTime as error:
        return _again(str(error), "at", 422)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        message = _REMEDIES.get(first["type"], str(first["msg"]).removeprefix("Value error, "))
        return _again(message[:1].upper() + message[1:], field, 422)
    except BadPick as error:
        return _again(str(error), error.field, 422)
    except CannotDo as error:
        return _again(str(error), error.field, 409)
    except NoCase as error:
        return _again(str(error), None, 409)
    except (WriterBusy, StoreUnavailable) as error:
        return _again(f"It was not kept: {error} Send it again in a moment.", None, 503)
    answer = RedirectResponse(f"/cases/{week}{_LEADS_TO.get(action, '#work')}", status_code=303)
    if sent.get("by", "").strip():
        # Quoted: a header holds no letters beyond Latin-1, and a name may.
        name = quote(sent["by"].strip()[:128])
        answer.set_cookie(page_answers.WHO_COOKIE, name, max_age=WHO_KEPT_S, httponly=True, samesite="strict")
    return answer


class _BadTime(ValueError):
    """What was written where a time belongs is none."""


def _asked(action: str, sent: Mapping[str, str], zone: ZoneInfo) -> dict[str, object]:
    """Return the body that a form means: an empty field is one that was left out."""
    asked: dict[str, object] = {name: value for name, value in sent.items() if value.strip()}
    if action == "owner":
        asked.setdefault("owner", "")
    if action == "fixed" and "at" in asked:
        try:
            at = datetime.fromisoformat(sent["at"].strip())
        except ValueError:
            raise _BadTime(_TIME) from None
        # The page shows times in the settings' zone, and is answered in it.
        asked["at"] = (at if at.tzinfo else at.replace(tzinfo=zone)).isoformat()
    return asked
