"""POST /v1/calls, /v1/signals, /v1/labels: a body in, a receipt out.

Flow: `api.gate.read_json` -> `ingest.wire.parse_*` -> `ingest.intake` -> Receipt. A large body is checked in
a thread; a small one on the event loop, where it takes less time than handing it over. The wait for the
commit blocks no thread, so that slow disks and many clients cannot use all of them up.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from api.deps import IntakeDep
from api.gate import read_json
from ingest import wire
from ingest.intake import Pending
from ingest.tables import DEFAULT_PROJECT

router = APIRouter(prefix="/v1", tags=["intake"])

#: Bodies up to this are checked on the event loop, in about half a millisecond.
SMALL_BYTES = 64 * 1024

Item = TypeVar("Item", bound=BaseModel)


def _takes(batch: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI words for a body that we read ourselves, item by item."""
    schema = {"$ref": f"#/components/schemas/{batch.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.post("/calls", response_model=wire.Receipt, openapi_extra=_takes(wire.CallBatch))
async def post_calls(request: Request, intake: IntakeDep) -> Response:
    """Keep a batch of calls. The receipt means committed; a bad call never sinks its batch."""
    return await _receipt(request, "calls", wire.parse_calls, intake.begin_calls)


@router.post("/signals", response_model=wire.Receipt, openapi_extra=_takes(wire.SignalBatch))
async def post_signals(request: Request, intake: IntakeDep) -> Response:
    """Keep what users did about calls, also of calls that have not arrived yet."""
    return await _receipt(request, "signals", wire.parse_signals, intake.begin_signals)


@router.post("/labels", response_model=wire.Receipt, openapi_extra=_takes(wire.LabelBatch))
async def post_labels(request: Request, intake: IntakeDep) -> Response:
    """Keep people's levels for calls; a labeller's newer level replaces the old one."""
    return await _receipt(request, "labels", wire.parse_labels, intake.begin_labels)


async def _receipt(
    request: Request,
    kind: str,
    parse: Callable[[bytes], wire.Sent[Item]],
    begin: Callable[[int, wire.Sent[Item]], Pending],
) -> Response:
    dropped = request.headers.get("x-lowlight-dropped")
    if dropped is not None:
        request.app.state.drops.note(dropped)
    body = await read_json(request)
    if len(body) <= SMALL_BYTES:
        pending = begin(DEFAULT_PROJECT, parse(body))
    else:
        pending = await run_in_threadpool(lambda: begin(DEFAULT_PROJECT, parse(body)))
    kept = None if pending.future is None else await asyncio.wrap_future(pending.future)
    receipt = pending.receipt(kept)
    request.app.state.metrics.receipt(kind, receipt)
    return Response(orjson.dumps(receipt.model_dump()), media_type="application/json")
