"""What Langfuse's SDKs send beside OTLP: scores become signals; media is not kept.

Flow: `api.door.gate.read_json` -> `ingest.otlp.intake` -> the answers that the SDKs read. Scores come to
/scores or, from SDK 3, to /ingestion as events. Spans arrive at /api/public/otel (`api.routes.otlp`).
"""

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from api.deps import OtlpDep
from api.door.gate import read_json
from ingest.otlp.evaluations import signals_of_scores
from ingest.tables import DEFAULT_PROJECT
from ingest.texts import cleaned
from ingest.wire import ITEMS_MAX, BadBody, json_of

router = APIRouter(prefix="/api/public", include_in_schema=False)

#: Langfuse's ids of media: the first characters of the hash that the SDK sends.
_MEDIA_ID_CHARS = 22
_NO_SIGNAL = "A score needs a name, a value or a comment that says something, and a traceId or sessionId."
_NOT_OVER_OTLP = (
    "Traces and generations are taken over OpenTelemetry, as Langfuse's SDKs send them from version 3 on; "
    "update the package langfuse."
)


@router.post("/scores")
async def post_scores(request: Request, otlp: OtlpDep) -> Response:
    """Keep one score or a list of them."""
    sent = json_of(await read_json(request))
    scores = sent if isinstance(sent, list) else [sent]
    if len(scores) > ITEMS_MAX:
        raise BadBody("too_many_items", f"{len(scores)} scores; send at most {ITEMS_MAX} at once.")
    accepted = await run_in_threadpool(otlp.accept_scores, DEFAULT_PROJECT, scores)
    rejected = len(scores) - accepted
    if not isinstance(sent, list):
        if rejected:
            raise BadBody("bad_body", _NO_SIGNAL)
        return Response(orjson.dumps({"id": _id_in(sent)}), media_type="application/json")
    told: dict[str, Any] = {"message": "Accepted"}
    if rejected:
        told = {"accepted": accepted, "rejected": rejected, "errors": [{"message": _NO_SIGNAL}]}
    return Response(orjson.dumps(told), 207 if rejected else 202, media_type="application/json")


@router.post("/ingestion")
async def post_ingestion(request: Request, otlp: OtlpDep) -> Response:
    """Keep the scores among a batch of events, and say of each other event what becomes of it."""
    sent = json_of(await read_json(request))
    events = sent.get("batch") if isinstance(sent, dict) else None
    if not isinstance(events, list):
        raise BadBody("bad_body", 'The body must be {"batch": [...]}.', "batch")
    if len(events) > ITEMS_MAX:
        raise BadBody("too_many_items", f"{len(events)} events; send at most {ITEMS_MAX} at once.", "batch")
    scores: list[Any] = []
    told: dict[str, list[dict[str, Any]]] = {"successes": [], "errors": []}
    for event in events:
        score, wrong = _score_of(event)
        scores += [] if score is None else [score]
        event_id = _id_in(event)
        if wrong is None:
            told["successes"].append({"id": event_id, "status": 201})
        else:
            told["errors"].append({"id": event_id, "status": 400, "message": wrong, "error": "Bad Request"})
    if scores:
        await run_in_threadpool(otlp.accept_scores, DEFAULT_PROJECT, scores)
    return Response(orjson.dumps(told), 207, media_type="application/json")


def _score_of(event: Any) -> tuple[dict[str, Any] | None, str | None]:
    """Return the score that an event holds, and why nothing is kept of it."""
    kind = event.get("type") if isinstance(event, dict) else None
    body = event.get("body") if isinstance(event, dict) else None
    if kind == "sdk-log":
        return None, None
    if kind != "score-create" or not isinstance(body, dict):
        return None, _NOT_OVER_OTLP
    score = {"timestamp": event.get("timestamp"), **body}
    return (score, None) if signals_of_scores([score]) else (None, _NO_SIGNAL)


@router.get("/projects")
async def get_projects() -> Response:
    """Say that the keys are good, which `auth_check()` asks: this server has none of its own yet."""
    project = {"id": "lowlight", "name": "Lowlight", "organization": {"id": "lowlight", "name": "Lowlight"}}
    return Response(
        orjson.dumps({"data": [{**project, "metadata": {}, "retentionDays": None}]}),
        media_type="application/json",
    )


@router.post("/media")
async def post_media(request: Request) -> Response:
    """Say that nothing needs to be uploaded: images and files of calls are not kept."""
    sent = json_of(await read_json(request))
    digest = sent.get("sha256Hash") if isinstance(sent, dict) else None
    media_id = digest.replace("+", "-").replace("/", "_")[:_MEDIA_ID_CHARS] if isinstance(digest, str) else ""
    return Response(
        orjson.dumps({"mediaId": media_id, "uploadUrl": None}), 201, media_type="application/json"
    )


def _id_in(sent: Any) -> str | None:
    """Return the client's own id of what it sent; a lone surrogate in it cannot be said back."""
    told = sent.get("id") if isinstance(sent, dict) else None
    return str(cleaned(told)[0]) if isinstance(told, str) else None
