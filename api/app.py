"""The HTTP app: intake, reads, pages, and what an operator asks.

Flow: uvicorn -> `api.door` (gate, short way) -> routers. Everything the routes need lies in `app.state`:
store, settings, intake, what clients dropped, and the child processes where this process started any.
"""

import logging
import platform
import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from api.door.bodies import Bodies
from api.door.drops import ClientDrops
from api.door.gate import allowed_hosts
from api.door.short_way import BehindTheGate
from api.errors import Refused, bug, refusal_of, refusal_of_fields
from api.openapi import document
from api.operating.metrics import CONTENT_TYPE, metrics_of
from api.operating.readiness import Running, readiness
from api.operating.restoring import Restores
from api.routes import (
    case_forms,
    cases,
    experience,
    explain,
    intake,
    langfuse,
    otlp,
    pages,
    read,
    reports,
    rescore,
    restore,
)
from api.routes.page_answers import error_page, wants_page
from api.schema import newest_revision, remedy
from ingest import wire
from ingest.errors import StoreUnavailable, WriterBusy
from ingest.intake import Intake
from ingest.otlp.intake import OtlpIntake
from ingest.probe import WriteProbe
from ingest.reader.process import Reader
from ingest.settings import Settings
from ingest.store import OpenStore

log = logging.getLogger(__name__)

#: In the order in which they are asked whether a request is theirs.
_ROUTES = (
    intake,
    otlp,
    langfuse,
    reports,
    rescore,
    explain,
    read,
    cases,
    experience,
    restore,
    case_forms,
    pages,
)


def create_app(
    settings: Settings,
    store: OpenStore,
    children: Mapping[str, Running] | None = None,
    restores: Restores | None = None,
    reader: Reader | None = None,
) -> FastAPI:
    """Return the app.

    Args:
        children: the server's child processes by name, for /readyz; none are started here.
        restores: the server's; without them it cannot be asked to restore.
        reader: the reading process; without one every body is read here.
    """
    app = BehindTheGate(
        title="Lowlight",
        version=version("lowlight-server"),
        description="Takes LLM calls and signals; answers with the worst of them.",
        # The interactive pages load scripts from elsewhere; the document itself is at /openapi.json.
        docs_url=None,
        redoc_url=None,
        # An exporter that the environment names may be this very server; and asking costs each request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.store = store
    app.state.settings = settings
    app.state.intake = Intake(store, settings)
    app.state.otlp = OtlpIntake(store, settings, app.state.intake)
    app.state.children = dict(children or {})
    app.state.drops = ClientDrops()
    app.state.restores = restores or Restores(None)
    app.state.probe = WriteProbe(store)
    app.state.metrics = metrics_of(store, app.state.children, app.state.drops)
    app.state.reader = reader
    app.state.bodies = Bodies(reader)
    _say_errors_in_one_shape(app)
    for routes in _ROUTES:
        app.include_router(routes.router)
    _add_operations(app)
    document(app)
    app.put_behind(
        allowed_hosts(settings.allowed_hosts),
        app.state.metrics.request,
        short=[intake.router, otlp.router],
        at_once=intake.AT_ONCE,
    )
    return app


def _methods_by_path() -> dict[str, str]:
    """Return what is answered at each path, as the header Allow says it: several routes may share a path."""
    methods: dict[str, set[str]] = defaultdict(set)
    for routes in _ROUTES:
        for route in routes.router.routes:
            if isinstance(route, APIRoute):
                methods[route.path] |= route.methods or set()
    # The gate answers HEAD wherever GET is answered.
    heads = {path: {"HEAD"} if "GET" in found else set() for path, found in methods.items()}
    return {path: ", ".join(sorted(found | heads[path])) for path, found in methods.items()}


def _add_operations(app: FastAPI) -> None:
    about = {
        "version": version("lowlight-server"),
        "schema": newest_revision(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }

    @app.get("/healthz", tags=["operations"])
    async def healthz() -> dict[str, str]:
        """Whether the process answers at all."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["operations"])
    def readyz(response: Response) -> dict[str, Any]:
        """Whether calls are kept now (200 or 503) and what to do if not; how far critic and outliers are."""
        now = app.state
        state = readiness(now.store, now.children, now.drops, now.probe, now.reader)
        response.status_code = 200 if state["ready"] else 503
        return state

    @app.get("/metrics", tags=["operations"], response_class=Response)
    def metrics() -> Response:
        """Figures in Prometheus' text format."""
        return Response(app.state.metrics.text(), media_type=CONTENT_TYPE)

    @app.get("/version", tags=["operations"])
    async def version_() -> dict[str, str]:
        """What runs here."""
        return about


def _say_errors_in_one_shape(app: FastAPI) -> None:
    async def _ours(_request: Request, error: Exception) -> Response:
        refusal = refusal_of(error)
        if refusal is None:
            raise error
        return refusal.response()

    for kind in (Refused, wire.BadBody, WriterBusy, StoreUnavailable):
        app.add_exception_handler(kind, _ours)

    @app.exception_handler(Exception)
    async def _unforeseen(_request: Request, _error: Exception) -> Response:
        return bug().response()  # Starlette raises it again then, and the gate logs it

    @app.exception_handler(SQLAlchemyError)
    async def _unreadable(request: Request, error: SQLAlchemyError) -> Response:
        log.error("%s: the database could not be read", request.scope["route"].path, exc_info=error)
        said = f"The database could not be read: {remedy(error)}"
        return Refused(503, "store_unavailable", said, retry_after_s=5).response()

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> Response:
        return refusal_of_fields(error.errors()).response()

    methods = _methods_by_path()

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        words = {
            404: f"There is nothing at {request.url.path}.",
            405: f"{request.method} is not answered at {request.url.path}.",
        }
        message = words.get(error.status_code, error.detail)
        if request.method == "GET" and error.status_code == 404 and not wants_page(request):
            message += " /openapi.json describes what is."
        elif request.method == "POST" and error.status_code in words:
            message += (
                " Calls are sent to /v1/calls, OpenTelemetry's spans and logs to /v1/traces and /v1/logs."
            )
        refused = Refused(error.status_code, f"http_{error.status_code}", message)
        response = error_page(request, refused) if wants_page(request) else refused.response()
        for name, value in (error.headers or {}).items():
            response.headers[name] = value
        if error.status_code == 405:
            path = getattr(request.scope.get("route"), "path", "")
            response.headers["Allow"] = methods.get(path) or response.headers.get("Allow", "GET, HEAD")
        return response
