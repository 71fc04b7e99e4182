"""POST /v1/traces, /v1/logs, /v1/metrics: OTLP/HTTP, protobuf and JSON; also under /api/public/otel.

Flow: `api.door.bodies` -> `ingest.otlp.telling`, here or in the reading process -> `ingest.otlp.intake` ->
the writer -> an Export...ServiceResponse in the type of the request, with partial_success where some items
were not kept. An error is a google.rpc.Status, as OTLP asks; only the gate's own refusals (host, origin) are
said in the shape of the other routes. The wait for the commit blocks no thread; the handlers go the short way
of `api.door.short_way`.
"""

import asyncio
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from api.door.gate import content_type
from api.errors import Refused
from ingest.errors import StoreUnavailable, WriterBusy
from ingest.otlp.intake import Accepted, OtlpIntake, Prepared
from ingest.otlp.telling import Rows, Summary
from ingest.reader.process import Reader
from ingest.store import OpenStore
from ingest.tables import DEFAULT_PROJECT
from ingest.wire import BadBody

router = APIRouter(tags=["opentelemetry"])

PROTOBUF, JSON = "application/x-protobuf", "application/json"
#: google.rpc.Code by HTTP status; an exporter looks at the HTTP status only.
_INVALID_ARGUMENT, _RESOURCE_EXHAUSTED, _UNAVAILABLE = 3, 8, 14
_RESPONSES: dict[str, tuple[Any, str, str]] = {
    "traces": (ExportTraceServiceResponse, "rejected_spans", "rejectedSpans"),
    "logs": (ExportLogsServiceResponse, "rejected_log_records", "rejectedLogRecords"),
    "metrics": (ExportMetricsServiceResponse, "rejected_data_points", "rejectedDataPoints"),
}
_COUNTED_AS = {"traces": "otlp_spans", "logs": "otlp_log_records"}


@router.post("/v1/traces")
@router.post("/api/public/otel/v1/traces", include_in_schema=False)
async def post_traces(request: Request) -> Response:
    """Keep spans. The response means committed; a call that did not come whole appears a little later."""
    return await _answer(request, "traces")


@router.post("/v1/logs")
@router.post("/api/public/otel/v1/logs", include_in_schema=False)
async def post_logs(request: Request) -> Response:
    """Keep the log records that hold a call's content or say how good it was; take and drop all others."""
    return await _answer(request, "logs")


@router.post("/v1/metrics")
@router.post("/api/public/otel/v1/metrics", include_in_schema=False)
async def post_metrics(request: Request) -> Response:
    """Take metrics and drop them: latencies and tokens are counted from the calls themselves."""
    return await _answer(request, "metrics")


async def _answer(request: Request, signal: str) -> Response:
    state = request.app.state
    kind = content_type(request)
    is_json = kind == JSON
    store: OpenStore = state.store
    otlp: OtlpIntake = state.otlp
    waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def begin(body: bytes) -> Prepared:
        return begun(otlp.prepare(body, otlp.asked(signal, DEFAULT_PROJECT, is_json=is_json)))

    async def begin_apart(reader: Reader, body: bytes) -> Prepared:
        asked = otlp.asked(signal, DEFAULT_PROJECT, is_json=is_json)
        summary, rows = await reader.read("otlp", body, tuple(asked))
        return begun(otlp.prepared(body, asked, Summary(*summary), Rows(*rows) if rows else None))

    def begun(prepared: Prepared) -> Prepared:
        if prepared.job is not None:
            store.begin_for(prepared.job, waiter)
        return prepared

    hold = state.bodies.hold()
    try:
        if kind not in (PROTOBUF, JSON):
            raise Refused(415, "not_otlp", f"Content-Type is {kind[:100]!r}; send {PROTOBUF} or {JSON}.")
        prepared = await state.bodies.parsed(request, hold, begin, begin_apart)
        accepted = prepared.done(None if prepared.job is None else await waiter)
    except Refused as error:
        code = _INVALID_ARGUMENT if error.status < 500 else _RESOURCE_EXHAUSTED
        return _failure(error.status, code, str(error), is_json, error.retry_after_s)
    except BadBody as error:
        status = 413 if error.code == "too_many_items" else 400
        return _failure(status, _INVALID_ARGUMENT, str(error), is_json)
    except WriterBusy as error:
        return _failure(503, _RESOURCE_EXHAUSTED, str(error), is_json, error.retry_after_s)
    except StoreUnavailable as error:
        return _failure(503, _UNAVAILABLE, str(error), is_json, 5)
    finally:
        hold.leave()
    if signal in _COUNTED_AS:
        state.metrics.items(_COUNTED_AS[signal], accepted.kept, 0, accepted.rejected)
    return _success(signal, accepted, is_json)


def _success(signal: str, accepted: Accepted, is_json: bool) -> Response:
    message, rejected, rejected_in_json = _RESPONSES[signal]
    why = "; ".join(accepted.reasons)
    if is_json:
        told = {rejected_in_json: str(accepted.rejected), "errorMessage": why}
        answer = {"partialSuccess": told} if accepted.rejected else {}
        return Response(orjson.dumps(answer), media_type=JSON)
    response = message()
    if accepted.rejected:
        setattr(response.partial_success, rejected, accepted.rejected)
        response.partial_success.error_message = why
    return Response(response.SerializeToString(), media_type=PROTOBUF)


def _failure(
    status: int, code: int, message: str, is_json: bool, retry_after_s: int | None = None
) -> Response:
    """Return a google.rpc.Status: {"code", "message"}."""
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    if is_json:
        return Response(orjson.dumps({"code": code, "message": message}), status, headers, JSON)
    said = message.encode()
    # Two fields: a varint (1) and a string (2); no package of ours has the generated class.
    body = b"\x08" + bytes([code]) + b"\x12" + _varint(len(said)) + said
    return Response(body, status, headers, PROTOBUF)


def _varint(number: int) -> bytes:
    encoded = b""
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])
