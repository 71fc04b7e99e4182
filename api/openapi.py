"""The OpenAPI document: what FastAPI knows of the routes, and what we read and answer by ourselves.

Flow: `document(app)` -> /openapi.json: shapes of the bodies of intake and OpenTelemetry, and of every error.
tests/faults/test_openapi.py holds the server to it.
"""

from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from ingest import wire

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "string", "description": "A word for programs."},
                "message": {"type": "string", "description": "What was wrong, and what to do."},
                "field": {"type": "string", "description": "The field at fault, where there is one."},
            },
        }
    },
}
_STATUS = {
    "type": "object",
    "description": "A google.rpc.Status.",
    "required": ["code", "message"],
    "properties": {"code": {"type": "integer"}, "message": {"type": "string"}},
}
_OTLP = {
    "/v1/traces": "resourceSpans",
    "/v1/logs": "resourceLogs",
    "/v1/metrics": "resourceMetrics",
}
#: Nothing needs to be said there but that it is JSON, which a web page cannot say for another origin.
_EMPTY_BODY = ("/v1/restore", "/v1/calls/{call_id}/explain")
_WORDS = {
    400: "The host is not answered, or the body cannot be read.",
    403: "A page of another origin may not write.",
    404: "There is no such thing.",
    405: "Another method is answered here.",
    409: "It cannot be done in the state that this is in.",
    411: "The length of the body is missing.",
    413: "Too much at once.",
    415: "The body is of another type or packed in another way.",
    422: "Something in it cannot be taken; `field` names it.",
    501: "This server cannot do that.",
    503: "Not now; Retry-After says when to send the same again.",
}


def document(app: FastAPI) -> None:
    """Complete the document of an app; call it once, after its routes are there."""
    generated = app.openapi
    batches = (wire.CallBatch, wire.SignalBatch, wire.LabelBatch)
    _refs, shapes = models_json_schema(
        [(batch, "validation") for batch in batches], ref_template="#/components/schemas/{model}"
    )

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        whole = generated()
        whole["components"]["schemas"] |= {**shapes["$defs"], "Error": _ERROR, "RpcStatus": _STATUS}
        for path, operations in whole["paths"].items():
            for method, operation in operations.items():
                if path in _OTLP:
                    _complete_otlp(operation, _OTLP[path])
                else:
                    _complete(path, method, operation)
        return whole

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    if path in _EMPTY_BODY and method == "post":
        empty = {"application/json": {"schema": {"type": "object", "maxProperties": 0}}}
        operation["requestBody"] = {"required": True, "content": empty}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    statuses = {400}
    if path.startswith("/v1/"):
        statuses.add(503)
    if "{" in path:
        statuses |= {404, 422}
    if operation.get("parameters"):
        statuses.add(422)
    if method == "post":
        statuses |= {403, 413, 415, 422} if "requestBody" in operation else {403}
    if path.startswith("/v1/cases/") and method == "post":
        statuses.add(409)
    if path == "/v1/restore" and method == "post":
        statuses |= {409, 501}
    if path == "/v1/calls/{call_id}/explain":
        statuses.add(409)
    for status in sorted(statuses):
        responses[str(status)] = {"description": _WORDS[status], "content": error}
    if path == "/readyz":  # the same shape, with `problems` that say what to do
        responses["503"] = {**responses["200"], "description": "A call sent now would not be kept."}
    if path == "/metrics":
        responses["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}


def _complete_otlp(operation: dict[str, Any], items: str) -> None:
    binary = {"schema": {"type": "string", "format": "binary"}}
    sent = {"type": "object", "properties": {items: {"type": "array", "items": {"type": "object"}}}}
    operation["requestBody"] = {
        "required": True,
        "description": "An OTLP/HTTP export request; also packed with gzip.",
        "content": {"application/x-protobuf": binary, "application/json": {"schema": sent}},
    }
    answered = {"application/x-protobuf": binary, "application/json": {"schema": {"type": "object"}}}
    operation["responses"] = {
        "200": {"description": "Committed, all but what it names.", "content": answered}
    }
    failed = {
        "application/x-protobuf": binary,
        "application/json": {
            "schema": {
                "anyOf": [
                    {"$ref": "#/components/schemas/RpcStatus"},
                    {"$ref": "#/components/schemas/Error"},
                ]
            }
        },
    }
    for status in (400, 403, 413, 415, 503):
        operation["responses"][str(status)] = {"description": _WORDS[status], "content": failed}
