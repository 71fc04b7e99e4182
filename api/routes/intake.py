"""POST /v1/calls, /v1/signals, /v1/labels: a body in, a receipt out.

Flow: `api.door.bodies` (room, body, `ingest.wire.parse_*` and `ingest.intake.prepare_*`) -> the writer ->
Receipt. The wait for the commit blocks no thread, so that slow disks and many clients cannot use all of them
up.

The handlers go the short way (`api.door.short_way`), without FastAPI's router and dependencies; that is why
they ask `request.app.state` themselves.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from api.door.gate import check_json, header
from api.door.short_way import JSON, Answer
from ingest import wire
from ingest.checking import Sent
from ingest.intake import Intake, Prepared
from ingest.store import OpenStore
from ingest.tables import DEFAULT_PROJECT
from rubrics import rubric_names

router = APIRouter(prefix="/v1", tags=["intake"])

Item = TypeVar("Item", bound=BaseModel)


def _takes(batch: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI words for a body that we read ourselves, item by item."""
    schema = {"$ref": f"#/components/schemas/{batch.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.post("/calls", response_model=wire.Receipt, openapi_extra=_takes(wire.CallBatch))
async def post_calls(request: Request) -> Response:
    """Keep a batch of calls. The receipt means committed; a bad call never sinks its batch."""
    return await _receipt(request, "calls", wire.parse_calls, Intake.prepare_calls)


@router.post("/signals", response_model=wire.Receipt, openapi_extra=_takes(wire.SignalBatch))
async def post_signals(request: Request) -> Response:
    """Keep what users did about calls, also of calls that have not arrived yet."""
    return await _receipt(request, "signals", wire.parse_signals, Intake.prepare_signals)


@router.post("/labels", response_model=wire.Receipt, openapi_extra=_takes(wire.LabelBatch))
async def post_labels(request: Request) -> Response:
    """Keep people's levels for calls; a labeller's newer level replaces the old one."""
    # Asked of the folder each time: rubrics come and go in git while the server runs.
    rubrics = rubric_names(request.app.state.settings.rubrics_dir)

    def prepare(intake: Intake, project_id: int, sent: Sent[wire.Label]) -> Prepared:
        return intake.prepare_labels(project_id, sent, rubrics)

    return await _receipt(request, "labels", wire.parse_labels, prepare)


async def _receipt(
    request: Request,
    kind: str,
    parse: Callable[[bytes], Sent[Item]],
    prepare: Callable[[Intake, int, Sent[Item]], Prepared],
) -> Response:
    state = request.app.state
    dropped = header(request, b"x-lowlight-dropped")
    if dropped:
        state.drops.note(dropped)
    check_json(request)
    intake: Intake = state.intake
    store: OpenStore = state.store
    waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def begin(body: bytes) -> Prepared:
        prepared = prepare(intake, DEFAULT_PROJECT, parse(body))
        if prepared.job is not None:
            store.begin_for(prepared.job, waiter)
        return prepared

    hold = state.bodies.hold()
    try:
        prepared = await state.bodies.parsed(request, hold, begin)
        counted = prepared.counted(None if prepared.job is None else await waiter)
    finally:
        hold.leave()
    state.metrics.items(kind, counted.accepted, counted.duplicates, len(prepared.told.rejected))
    return Answer(prepared.told.receipt_json(counted), JSON)
