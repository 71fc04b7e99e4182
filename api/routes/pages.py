"""The web view's addresses: pages, their JSON twins (address + ".json"), static files.

Flow: request -> query model (`dashboards.filters`) -> `dashboards.pages.*.build` on a read-only connection
-> `api.routes.page_answers`: the template, or the same context as JSON.
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from api.deps import SettingsDep, StoreDep
from api.errors import Refused
from api.routes.page_answers import (
    PageRoute,
    as_twin,
    frame_of,
    html,
    is_twin,
    page_or_twin,
    twin_of,
    who_of,
)
from api.routes.read import call_not_found
from dashboards.drawing.render import static_files
from dashboards.filters import (
    Asked,
    CallsQuery,
    CasesQuery,
    LatencyQuery,
    PersonQuery,
    WeekCostsQuery,
    WeekId,
    WeekQuery,
    WindowQuery,
    WorstQuery,
)
from dashboards.forms import Said
from dashboards.pages import (
    alike,
    call,
    calls,
    case,
    cases,
    changes,
    cohorts,
    costs,
    critic,
    glossary,
    latency,
    person,
    rubric,
    rubrics,
    score,
    this_week,
    worst,
)
from dashboards.queries.call import seq_of
from dashboards.queries.person import Per
from ingest.settings import Settings
from ingest.store import Store, read_counted
from ingest.tables import DEFAULT_PROJECT

_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}


router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get("/")
@router.get("/.json")
def get_this_week(
    request: Request, asked: Annotated[WeekQuery, Query()], store: StoreDep, settings: SettingsDep
) -> Response:
    """This week: the case, what changed, who had it worst, where the tail is."""
    return _page(request, store, settings, "week", this_week, asked)


@router.get("/cases")
@router.get("/cases.json")
def get_cases(
    request: Request, asked: Annotated[CasesQuery, Query()], store: StoreDep, settings: SettingsDep
) -> Response:
    """A year of cases as a history."""
    return _page(request, store, settings, "cases", cases, asked)


@router.get("/cases/{week}")
@router.get("/cases/{week}.json")  # decorators apply from below: this one is tried first
def get_case(
    request: Request, week: Annotated[WeekId, Path()], store: StoreDep, settings: SettingsDep
) -> Response:
    """A week's case, with the forms that work on it (api.routes.case_forms)."""
    return case_page(request, week, store, settings, Said(who_of(request)))


@router.get("/cohorts")
@router.get("/cohorts.json")
def get_cohorts(
    request: Request, asked: Annotated[WeekQuery, Query()], store: StoreDep, settings: SettingsDep
) -> Response:
    """Everything that set a week's bad or slow calls apart."""
    return _page(request, store, settings, "cases", cohorts, asked)


@router.get("/changes")
@router.get("/changes.json")
def get_changes(
    request: Request, asked: Annotated[WeekQuery, Query()], store: StoreDep, settings: SettingsDep
) -> Response:
    """What changed since the week before: every figure that is compared."""
    return _page(request, store, settings, "week", changes, asked)


@router.get("/worst")
@router.get("/worst.json")
def get_worst(
    request: Request, asked: Annotated[WorstQuery, Query()], store: StoreDep, settings: SettingsDep
) -> Response:
    """Worst experiences per call, user or session."""
    return _page(request, store, settings, "worst", worst, asked)


@router.get("/calls")
@router.get("/calls.json")
def get_calls(
    request: Request, asked: Annotated[CallsQuery, Query()], store: StoreDep, settings: SettingsDep
) -> Response:
    """Calls, filtered and searched."""
    return _page(request, store, settings, "calls", calls, asked, search=asked.q or "")


@router.get("/calls/{call_id:path}/alike")
@router.get("/calls/{call_id:path}/alike.json")
def get_alike(
    request: Request,
    call_id: str,
    asked: Annotated[WindowQuery, Query()],
    store: StoreDep,
    settings: SettingsDep,
) -> Response:
    """What else went wrong like a call. An id may itself end in "/alike": then it is that call's page."""
    end = "/alike.json" if is_twin(request) else "/alike"
    with store.read() as connection:
        whole = seq_of(connection, DEFAULT_PROJECT, f"{call_id}/alike")
        page = None if whole else alike.build(connection, settings, call_id, asked, datetime.now(UTC))
    if page is None:
        return get_call(request, call_id + end, store, settings)
    return page_or_twin(request, settings, "alike.html", page, "calls")


@router.get("/calls/{call_id:path}/scores/{rubric}")
@router.get("/calls/{call_id:path}/scores/{rubric}.json")  # decorators apply from below
def get_score(
    request: Request,
    call_id: str,
    rubric: str,
    store: StoreDep,
    settings: SettingsDep,
    critic: str | None = None,
    version: str | None = None,
) -> Response:
    """One answer of a critic. An id may itself hold "/scores/": then it is that call's page."""
    with store.read() as connection:
        whole = seq_of(connection, DEFAULT_PROJECT, f"{call_id}/scores/{rubric}")
        page = (
            None
            if whole
            else score.build(
                connection, settings, call_id, rubric, datetime.now(UTC), critic=critic, version=version
            )
        )
    if page is None:
        end = f"/scores/{rubric}{'.json' if is_twin(request) else ''}"
        return get_call(request, call_id + end, store, settings)
    return page_or_twin(request, settings, "score.html", page, "calls")


@router.get("/calls/{call_id:path}")
def get_call(request: Request, call_id: str, store: StoreDep, settings: SettingsDep) -> Response:
    """A call. An id may itself end in ".json": then its twin ends in it twice."""
    now = datetime.now(UTC)
    twin = call_id.endswith(".json")
    with store.read() as connection:
        page = call.build(connection, settings, call_id.removesuffix(".json"), now)
        if page is None and twin:
            page, twin = call.build(connection, settings, call_id, now), False
    if page is None:
        raise call_not_found(call_id.removesuffix(".json") if twin else call_id)
    if twin:
        return as_twin(page)
    return html("call.html", page, frame_of(request, settings, "calls", f"{request.url.path}.json"))


@router.get("/users/{user_id:path}")
def get_user(
    request: Request,
    user_id: str,
    asked: Annotated[PersonQuery, Query()],
    store: StoreDep,
    settings: SettingsDep,
) -> Response:
    """A user: the worst of each week, what they did, their calls."""
    return _person(request, "user", user_id, asked, store, settings)


@router.get("/sessions/{session_id:path}")
def get_session(
    request: Request,
    session_id: str,
    asked: Annotated[PersonQuery, Query()],
    store: StoreDep,
    settings: SettingsDep,
) -> Response:
    """A session: the worst in it, what users did, its calls in order."""
    return _person(request, "session", session_id, asked, store, settings)


@router.get("/latency")
@router.get("/latency.json")
def get_latency(
    request: Request, asked: Annotated[LatencyQuery, Query()], store: StoreDep, settings: SettingsDep
) -> Response:
    """Where the tail is."""
    return _page(request, store, settings, "latency", latency, asked)


@router.get("/costs")
@router.get("/costs.json")
def get_costs(
    request: Request, asked: Annotated[WeekCostsQuery, Query()], store: StoreDep, settings: SettingsDep
) -> Response:
    """What a week's answers cost, what changed, and what of it bought bad experiences."""
    return _page(request, store, settings, "costs", costs, asked)


@router.get("/rubrics")
@router.get("/rubrics.json")
def get_rubrics(
    request: Request, asked: Annotated[WindowQuery, Query()], store: StoreDep, settings: SettingsDep
) -> Response:
    """Rubrics in use."""
    return _page(request, store, settings, "rubrics", rubrics, asked)


@router.get("/rubrics/{name}")
@router.get("/rubrics/{name}.json")  # decorators apply from below: this one is tried first
def get_rubric(
    request: Request,
    name: str,
    asked: Annotated[WindowQuery, Query()],
    store: StoreDep,
    settings: SettingsDep,
) -> Response:
    """One rubric: question, levels, versions, and how it was answered."""
    now = datetime.now(UTC)
    with store.read() as connection:
        page = rubric.build(connection, settings, name, asked, now)
    if page is None:
        raise Refused(
            404, "no_such_rubric", f"No critic has met a rubric {name!r}; `lowlight rubric check` lists them."
        )
    return page_or_twin(request, settings, "rubric.html", page, "rubrics")


@router.get("/critic")
@router.get("/critic.json")
def get_critic(
    request: Request, asked: Annotated[WindowQuery, Query()], store: StoreDep, settings: SettingsDep
) -> Response:
    """The critic: how far it got, what it costs, why answers are missing."""
    return _page(request, store, settings, "critic", critic, asked)


@router.get("/words")
@router.get("/words.json")
def get_words(
    request: Request, asked: Annotated[Asked, Query()], store: StoreDep, settings: SettingsDep
) -> Response:
    """What the pages' words and figures mean."""
    return _page(request, store, settings, "", glossary, asked)


@router.get("/static/{name:path}")
async def get_static(request: Request, name: str) -> Response:
    """A static file; asked for by its digest, a browser keeps it for good."""
    found = static_files().get(name)
    if found is None:
        raise Refused(404, "no_such_file", f"There is no static file {name!r}.")
    content, digest = found
    kind = _KINDS.get(name[name.rfind(".") :], "application/octet-stream")
    by_digest = request.query_params.get("v") == digest
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable" if by_digest else "no-cache",
        "ETag": f'"{digest}"',
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=kind)


@router.get("/favicon.ico")
async def get_favicon(request: Request) -> Response:
    """Browsers ask for it whatever a page says."""
    return await get_static(request, "mark.svg")


def case_page(
    request: Request, week: str, store: Store, settings: Settings, said: Said, status: int = 200
) -> Response:
    """Answer with a week's case, as HTML or as its twin; `said` fills in its forms."""
    with read_counted(store) as connection:
        page = case.build(connection, settings, week, datetime.now(UTC))
    if is_twin(request):
        return as_twin(page)
    frame = replace(frame_of(request, settings, "cases", f"/cases/{week}.json"), said=said)
    response = html("case.html", page, frame)
    response.status_code = status
    return response


def _person(
    request: Request, per: Per, name: str, asked: PersonQuery, store: Store, settings: Settings
) -> Response:
    """Answer with a user or a session. An id may itself end in ".json": then its twin ends in it twice."""
    now = datetime.now(UTC)
    twin = name.endswith(".json")
    with store.read() as connection:
        page = person.build(connection, settings, per, name.removesuffix(".json"), asked, now)
        if page is None and twin:
            page, twin = person.build(connection, settings, per, name, asked, now), False
    if page is None:
        shown = name.removesuffix(".json") if twin else name
        raise Refused(
            404,
            f"no_such_{per}",
            f"No call names the {per} {shown!r}; they may not have come yet, or were erased.",
        )
    if twin:
        return as_twin(page)
    return html("person.html", page, frame_of(request, settings, "worst", twin_of(request)))


def _page(
    request: Request, store: Store, settings: Settings, section: str, of: Any, asked: Any, search: str = ""
) -> Response:
    """Build one page's context and answer with it as HTML, or as JSON where its twin was asked for."""
    with read_counted(store) as connection:
        page = of.build(connection, settings, asked, datetime.now(UTC))
    template = f"{of.__name__.rpartition('.')[2]}.html"
    return page_or_twin(request, settings, template, page, section, search)
