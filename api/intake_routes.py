"""POST /v1/calls, /v1/signals, /v1/labels: a body in, a receipt out.

Flow: `api.gate.read_json` -> `ingest.wire.parse_*` -> `ingest.intake` -> Receipt. The body is read on the
event loop; checking it and waiting for the commit happen in a thread.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from api.deps import IntakeDep
from api.gate import read_json
from ingest import wire
from ingest.tables import DEFAULT_PROJECT

router = APIRouter(prefix="/v1", tags=["intake"])

Item = TypeVar("Item", bound=BaseModel)


def _takes(batch: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI words for a body that we read ourselves, item by item."""
    schema = {"$ref": f"#/components/schemas/{batch.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.post("/calls", response_model=wire.Receipt, openapi_extra=_takes(wire.CallBatch))
async def post_calls(request: Request, intake: IntakeDep) -> Response:
    """Keep a batch of calls. The receipt means committed; a bad call never sinks its batch."""
    return await _receipt(request, wire.parse_calls, intake.accept_calls)


@router.post("/signals", response_model=wire.Receipt, openapi_extra=_takes(wire.SignalBatch))
async def post_signals(request: Request, intake: IntakeDep) -> Response:
    """Keep what users did about calls, also of calls that have not arrived yet."""
    return await _receipt(request, wire.parse_signals, intake.accept_signals)


@router.post("/labels", response_model=wire.Receipt, openapi_extra=_takes(wire.LabelBatch))
async def post_labels(request: Request, intake: IntakeDep) -> Response:
    """Keep people's levels for calls; a labeller's newer level replaces the old one."""
    return await _receipt(request, wire.parse_labels, intake.accept_labels)


async def _receipt(
    request: Request,
    parse: Callable[[bytes], wire.Sent[Item]],
    accept: Callable[[int, wire.Sent[Item]], wire.Receipt],
) -> Response:
    dropped = request.headers.get("x-lowlight-dropped")
    if dropped is not None:
        request.app.state.drops.note(dropped)
    body = await read_json(request)
    receipt = await run_in_threadpool(lambda: accept(DEFAULT_PROJECT, parse(body)))
    return Response(orjson.dumps(receipt.model_dump()), media_type="application/json")
