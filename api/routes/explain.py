"""POST /v1/calls/{id}/explain: ask for the words behind a call's scores, written afterwards by a critic.

Flow: the call's page or a client -> `critic.explaining.explanations.ask` through the writer -> the critic's
child writes them -> GET /calls/{id}.json shows them. Nothing is waited for here.
"""

import time
from functools import partial

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel

from api.deps import SettingsDep, StoreDep
from api.door.gate import check_json, check_own_page
from api.errors import Refused
from api.routes.read import call_not_found
from critic.drivers import wanted
from critic.explaining.explanations import Asked, ask
from dashboards.queries.call import seq_of
from dashboards.words import call_path
from ingest.settings import Settings
from ingest.store import Store
from ingest.tables import DEFAULT_PROJECT

router = APIRouter()


class ExplainReceipt(BaseModel):
    """How many explanations were asked for now, and how many had been asked for or written before.

    Attributes:
        why_none: where both are 0, why there is nothing to explain; else left out.
    """

    asked: int
    there: int
    why_none: str | None = None


@router.post(
    "/v1/calls/{call_id:path}/explain",
    status_code=202,
    response_model_exclude_none=True,
    tags=["critic"],
)
def post_explain(call_id: str, request: Request, store: StoreDep, settings: SettingsDep) -> ExplainReceipt:
    """Ask for an explanation of each score of a call; sent twice it asks once.

    A score of the local critic has none: its features are shown with it. `why_none` says so.
    """
    check_json(request)
    asked = _ask(call_id, store, settings)
    return ExplainReceipt(asked=asked.asked, there=asked.there, why_none=asked.why_none)


@router.post("/calls/{call_id:path}/explain", include_in_schema=False)
def post_explain_form(call_id: str, request: Request, store: StoreDep, settings: SettingsDep) -> Response:
    """The button on the call's page: ask, and back to the page. No foreign page can press it."""
    check_own_page(request)
    _ask(call_id, store, settings)
    return RedirectResponse(f"{call_path(call_id)}#scores-title", status_code=303)


def _ask(call_id: str, store: Store, settings: Settings) -> Asked:
    if not wanted(settings):
        raise Refused(409, "no_critic", "No critic is configured, so nobody can explain (LOWLIGHT_CRITIC).")
    with store.read() as connection:
        seq = seq_of(connection, DEFAULT_PROJECT, call_id)
    if seq is None:
        raise call_not_found(call_id)
    return store.write(partial(ask, call_seq=seq, asked_for="opened", now_ms=time.time_ns() // 1_000_000))
