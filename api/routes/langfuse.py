"""What Langfuse's SDK sends beside OTLP: scores become signals; media is not kept.

Flow: `api.door.gate.read_json` -> `ingest.otlp.intake` -> the answers that the SDK reads. Its spans arrive at
/api/public/otel (`api.routes.otlp`).
"""

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from api.deps import OtlpDep
from api.door.gate import read_json
from ingest.tables import DEFAULT_PROJECT
from ingest.wire import ITEMS_MAX, BadBody, lenient_json

router = APIRouter(prefix="/api/public", include_in_schema=False)

#: Langfuse's ids of media: the first characters of the hash that the SDK sends.
_MEDIA_ID_CHARS = 22


@router.post("/scores")
async def post_scores(request: Request, otlp: OtlpDep) -> Response:
    """Keep one score or a list of them."""
    sent = _json(await read_json(request))
    scores = sent if isinstance(sent, list) else [sent]
    if len(scores) > ITEMS_MAX:
        raise BadBody("too_many_items", f"{len(scores)} scores; send at most {ITEMS_MAX} at once.")
    accepted = await run_in_threadpool(otlp.accept_scores, DEFAULT_PROJECT, scores)
    rejected = len(scores) - accepted
    why = "A score needs a name, a value or a comment that says something, and a traceId or sessionId."
    if not isinstance(sent, list):
        if rejected:
            raise BadBody("bad_body", why)
        return Response(orjson.dumps({"id": sent.get("id")}), media_type="application/json")
    told: dict[str, Any] = {"message": "Accepted"}
    if rejected:
        told = {"accepted": accepted, "rejected": rejected, "errors": [{"message": why}]}
    return Response(orjson.dumps(told), 207 if rejected else 202, media_type="application/json")


@router.post("/media")
async def post_media(request: Request) -> Response:
    """Say that nothing needs to be uploaded: images and files of calls are not kept."""
    sent = _json(await read_json(request))
    digest = sent.get("sha256Hash") if isinstance(sent, dict) else None
    media_id = digest.replace("+", "-").replace("/", "_")[:_MEDIA_ID_CHARS] if isinstance(digest, str) else ""
    return Response(
        orjson.dumps({"mediaId": media_id, "uploadUrl": None}), 201, media_type="application/json"
    )


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return lenient_json(body)
