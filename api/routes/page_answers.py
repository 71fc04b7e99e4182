"""How a page is answered: as HTML or as its JSON twin (address + ".json"), and errors as pages too.

Flow: a route's context -> `html` with its `Frame`, or `as_twin`; what was raised -> `PageRoute`, as either.
The Content-Security-Policy is the gate's (`api.door.gate`).
"""

import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from sqlalchemy.exc import SQLAlchemyError

from api.errors import Refused, bug, refusal_of_fields
from dashboards.drawing.render import Frame, as_json, render
from dashboards.forms import Said
from ingest.settings import Settings
from outliers.errors import BadCursor

log = logging.getLogger(__name__)

#: The reader's own name, kept by their browser and shown nowhere but in their forms.
WHO_COOKIE = "lowlight_who"


class PageRoute(APIRoute):
    """A route whose errors are pages too, or JSON for a twin."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def _answer(request: Request) -> Response:
            try:
                return await handler(request)
            except Refused as error:
                refused = error
            except BadCursor as error:
                refused = Refused(422, "bad_cursor", str(error), field="cursor")
            except RequestValidationError as error:
                refused = refusal_of_fields(error.errors())
            except SQLAlchemyError as error:
                log.exception("GET %s: the database could not be read", self.path)
                cause = str(getattr(error, "orig", None) or error).splitlines()[0]
                refused = Refused(503, "store_unavailable", f"The database could not be read: {cause}.")
            except Exception:
                log.exception("GET %s failed", self.path)
                refused = bug()
            return refused.response() if is_twin(request) else error_page(request, refused)

        return _answer


@dataclass(frozen=True)
class ErrorShown:
    """Context of error.html: what was wrong, with which field of the address, and on which page."""

    status: int
    message: str
    field: str | None
    path: str


def who_of(request: Request) -> str:
    """Return what the reader called themselves when they last sent a form; "" before."""
    return unquote(request.cookies.get(WHO_COOKIE, ""))[:128]


def wants_page(request: Request) -> bool:
    """Whether a person in a browser asks, not a program: errors are then pages."""
    path = request.url.path
    return (
        request.method in ("GET", "HEAD")
        and "text/html" in request.headers.get("accept", "")
        and not path.startswith("/v1/")
        and not path.endswith(".json")
    )


def error_page(request: Request, error: Refused) -> Response:
    """Return an error in the design of the pages, with what to do about it."""
    settings: Settings = request.app.state.settings
    shown = ErrorShown(error.status, str(error), error.field, request.url.path)
    response = html("error.html", shown, frame_of(request, settings, "", ""))
    response.status_code = error.status
    return response


def frame_of(request: Request, settings: Settings, section: str, twin: str, search: str = "") -> Frame:
    """Return what the page has around its content."""
    base_url = str(request.base_url).rstrip("/")
    return Frame(section, base_url, twin, settings.zone, search, Said(who_of(request)))


def html(template: str, page: Any, frame: Frame) -> Response:
    """Answer with a page."""
    return Response(
        render(template, page, frame), headers={"Cache-Control": "no-store"}, media_type="text/html"
    )


def as_twin(page: Any) -> Response:
    """Answer with a page's context as JSON."""
    return Response(as_json(page), headers={"Cache-Control": "no-store"}, media_type="application/json")


def is_twin(request: Request) -> bool:
    """Whether the address asks for a page's JSON."""
    return request.url.path.endswith(".json")


def twin_of(request: Request) -> str:
    """Return the address of a page's JSON, its query included."""
    query = f"?{request.url.query}" if request.url.query else ""
    return f"{request.url.path}.json{query}"


def page_or_twin(
    request: Request, settings: Settings, template: str, page: Any, section: str, search: str = ""
) -> Response:
    """Answer with a context as HTML, or as JSON where the address asks for its twin."""
    if is_twin(request):
        return as_twin(page)
    return html(template, page, frame_of(request, settings, section, twin_of(request), search))
