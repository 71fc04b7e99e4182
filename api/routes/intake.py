"""POST /v1/calls, /v1/signals, /v1/labels: a body in, a receipt out.

Flow: `api.door.bodies` (room, body, `ingest.wire.parse_*` and `ingest.intake.prepare_*`) -> the writer ->
Receipt. The wait for the commit blocks no thread, so that slow disks and many clients cannot use all of them
up.

The handlers go the short way (`api.door.short_way`), without FastAPI's router and dependencies; that is why
they ask `request.app.state` themselves. Short bodies go past them too (`AT_ONCE`).
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from api.door.at_once import Taking
from api.door.gate import check_json, header
from api.door.short_way import JSON, Answer
from api.operating.metrics import Metrics
from ingest import wire
from ingest.checking import Sent
from ingest.intake import Intake, Prepared
from ingest.tables import DEFAULT_PROJECT
from rubrics import rubric_names

router = APIRouter(prefix="/v1", tags=["intake"])

Item = TypeVar("Item", bound=BaseModel)
Parse = Callable[[bytes], Sent[Item]]
Prepare = Callable[[Intake, int, Sent[Item]], Prepared]
Waiter = asyncio.Future[Any]


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


class Begun:
    """A body whose items are with the writer; see `api.door.at_once.Begun`."""

    __slots__ = ("_kind", "_metrics", "_prepared")

    def __init__(self, kind: str, prepared: Prepared, metrics: Metrics) -> None:
        self._kind, self._prepared, self._metrics = kind, prepared, metrics

    @property
    def waits(self) -> bool:
        """Whether there is a result of the writer's to wait for."""
        return self._prepared.job is not None

    def receipt(self, result: Any) -> bytes:
        """Return the receipt; count what became of the items."""
        counted, told = self._prepared.counted(result), self._prepared.told
        self._metrics.items(self._kind, counted.accepted, counted.duplicates, len(told.rejected))
        return told.receipt_json(counted)


def _ready(request: Request) -> Any:
    """Check a request's head; return the app's state."""
    state = request.app.state
    dropped = header(request, b"x-lowlight-dropped")
    if dropped:
        state.drops.note(dropped)
    check_json(request)
    return state


def _begin(
    state: Any, kind: str, parse: Parse[Item], prepare: Prepare[Item], body: bytes, waiter: Waiter
) -> Begun:
    prepared = prepare(state.intake, DEFAULT_PROJECT, parse(body))
    if prepared.job is not None:
        state.store.begin_for(prepared.job, waiter)
    return Begun(kind, prepared, state.metrics)


async def _receipt(request: Request, kind: str, parse: Parse[Item], prepare: Prepare[Item]) -> Response:
    state = _ready(request)
    waiter: Waiter = asyncio.get_running_loop().create_future()
    hold = state.bodies.hold()
    try:
        begun = await state.bodies.parsed(
            request, hold, lambda body: _begin(state, kind, parse, prepare, body, waiter)
        )
        result = await waiter if begun.waits else None
    finally:
        hold.leave()
    return Answer(begun.receipt(result), JSON)


def _taking(kind: str, parse: Parse[Item], prepare: Prepare[Item]) -> Taking:
    def take(request: Request, body: bytes, waiter: Waiter) -> Begun:
        return _begin(_ready(request), kind, parse, prepare, body, waiter)

    return take


#: Whose short bodies are taken at once (`api.door.at_once`), by path.
AT_ONCE: dict[str, Taking] = {
    "/v1/calls": _taking("calls", wire.parse_calls, Intake.prepare_calls),
    "/v1/signals": _taking("signals", wire.parse_signals, Intake.prepare_signals),
}
