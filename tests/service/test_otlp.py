"""OTLP/HTTP against a real server process: what an exporter meets, and what survives a kill -9."""

import gzip
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from api.background import start, stop
from ingest.settings import Settings
from tests import otlp_captures
from tests.conftest import short_waits
from tests.otlp_captures import captures, kept_calls
from tests.unit.test_otlp_closing import expected_calls
from tests.warm import background

PROTOBUF, JSON = "application/x-protobuf", "application/json"
RESPONSES: dict[str, Any] = {
    "traces": ExportTraceServiceResponse,
    "logs": ExportLogsServiceResponse,
    "metrics": ExportMetricsServiceResponse,
}


@pytest.fixture
def client(service_url: str) -> Iterator[httpx.Client]:
    """A client of the module's server."""
    with httpx.Client(base_url=service_url, timeout=60) as opened:
        yield opened


def path_of(settings: Settings) -> Path:
    """The server's file."""
    return Path(settings.database_url.removeprefix("sqlite:///"))


def wait_for(path: Path, expected: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The calls in a server's file once they are as expected, or after half a minute."""
    deadline = time.monotonic() + 30
    while (kept := kept_calls(path)) != expected and time.monotonic() < deadline:
        time.sleep(0.1)
    return kept


def test_every_capture_is_answered_and_becomes_its_call(tmp_path: Path, migrated_file: Path) -> None:
    """At the path its exporter chose, protobuf and JSON by turns, gzipped and not; none is an error."""
    shutil.copyfile(migrated_file, tmp_path / "lowlight.db")
    settings = short_waits(tmp_path / "lowlight.db").model_copy(update={"otlp_quiet_s": 2.0})
    with background(settings) as address, httpx.Client(base_url=address, timeout=60) as client:
        for number, capture in enumerate(captures()):
            is_json, zipped = number % 2 == 0, number % 3 == 0
            body = capture.body(is_json=is_json)
            headers = {"content-type": JSON if is_json else PROTOBUF}
            if zipped:
                body, headers["content-encoding"] = gzip.compress(body, 1), "gzip"
            answer = client.post(capture.path, content=body, headers=headers)
            assert answer.status_code == 200, (capture.name, answer.text)
            assert answer.headers["content-type"] == headers["content-type"]
            if is_json:
                assert answer.json() == {}
            else:
                assert RESPONSES[capture.signal].FromString(answer.content) == RESPONSES[capture.signal]()
        expected = expected_calls(captures())
        kept = wait_for(tmp_path / "lowlight.db", expected)
    # Parts of one response that came further apart than the quiet period meet late, and are whole then.
    assert kept == expected


@pytest.mark.parametrize("prefix", ["", "/api/public/otel"])
@pytest.mark.parametrize("signal", ["traces", "logs", "metrics"])
def test_an_empty_request_is_fine(client: httpx.Client, prefix: str, signal: str) -> None:
    answer = client.post(f"{prefix}/v1/{signal}", content=b"", headers={"content-type": PROTOBUF})
    assert (answer.status_code, answer.content) == (200, b"")
    answer = client.post(f"{prefix}/v1/{signal}", content=b"{}", headers={"content-type": JSON})
    assert (answer.status_code, answer.json()) == (200, {})


def test_a_partial_success_says_how_many_and_why(client: httpx.Client) -> None:
    (capture,) = otlp_captures.of("langfuse", "chat_stream")
    request = ExportTraceServiceRequest.FromString(capture.body())
    bad = request.resource_spans[0].scope_spans[0].spans.add()
    bad.trace_id = b"short"
    answer = client.post(
        "/v1/traces", content=request.SerializeToString(), headers={"content-type": PROTOBUF}
    )
    told = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert (answer.status_code, told.rejected_spans) == (200, 1)
    assert "trace id" in told.error_message

    in_json = json.loads(capture.body(is_json=True))
    in_json["resourceSpans"][0]["scopeSpans"][0]["spans"].append({"traceId": "short"})
    told_in_json = client.post("/v1/traces", json=in_json).json()["partialSuccess"]
    assert told_in_json["rejectedSpans"] == "1"
    assert "trace id" in told_in_json["errorMessage"]


def fields_of_status(content: bytes) -> tuple[int, str]:
    """Read a google.rpc.Status as any protobuf reader would: fields 1 and 2."""
    assert content[0] == 0x08
    assert content[2] == 0x12
    at, length, shift = 3, 0, 0
    while True:
        length |= (content[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not content[at - 1] & 0x80:
            break
    assert len(content) == at + length
    return content[1], content[at:].decode()


@pytest.mark.parametrize(
    ("content", "headers", "status", "words"),
    [
        (b"\xff\xff\xff", {"content-type": PROTOBUF}, 400, "ExportTraceServiceRequest"),
        (b"{", {"content-type": JSON}, 400, "JSON"),
        (b"{}", {"content-type": "text/plain"}, 415, "text/plain"),
        (b"{}", {"content-type": JSON, "content-encoding": "br"}, 415, "gzip"),
        (b"no gzip", {"content-type": PROTOBUF, "content-encoding": "gzip"}, 400, "gzip"),
        (
            gzip.compress(b"\0" * (65 << 20)),
            {"content-type": PROTOBUF, "content-encoding": "gzip"},
            413,
            "64 MiB",
        ),
        (b"0" * (17 << 20), {"content-type": PROTOBUF}, 413, "16 MiB"),
    ],
)
def test_an_error_is_a_status_in_the_type_of_the_request(
    client: httpx.Client, content: bytes, headers: dict[str, str], status: int, words: str
) -> None:
    answer = client.post("/v1/traces", content=content, headers=headers)
    assert answer.status_code == status
    if headers["content-type"] == JSON:
        code, message = answer.json()["code"], answer.json()["message"]
    else:
        assert answer.headers["content-type"] == PROTOBUF
        code, message = fields_of_status(answer.content)
    assert code == 3
    assert words in message


def test_too_many_spans_are_refused_as_a_whole(client: httpx.Client) -> None:
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [{}] * 10_001}]}]}
    answer = client.post("/v1/traces", json=body)
    assert (answer.status_code, "10000" in answer.json()["message"]) == (413, True)


def test_langfuses_requests_beside_otlp_are_answered_as_its_sdk_expects(client: httpx.Client) -> None:
    """Scores become signals; of media nothing is to be uploaded. The bodies are those of the captures."""
    trace_id = "8b9eda863c99b85b316d1578364bed98"
    scores = [
        {
            "id": "64ef0be0f185c203",
            "traceId": trace_id,
            "observationId": "6765738d8e4ef123",
            "name": "helpfulness",
            "value": 6.0,
            "comment": "Answers the question.",
            "timestamp": "2026-11-21T22:25:05.564736Z",
        },
        {
            "id": "48ec92bbd348d08f",
            "traceId": trace_id,
            "name": "user_feedback",
            "value": 0.0,
            "comment": "thumbs down",
            "dataType": "BOOLEAN",
            "timestamp": "2026-11-21T22:25:05.564966Z",
        },
        "no score",
    ]
    answer = client.post("/api/public/scores", json=scores)
    assert (answer.status_code, answer.json()["accepted"], answer.json()["rejected"]) == (207, 2, 1)
    answer = client.post("/api/public/scores", json=scores[:2])
    assert (answer.status_code, answer.json()) == (202, {"message": "Accepted"})
    answer = client.post("/api/public/scores", json=scores[0])
    assert (answer.status_code, answer.json()) == (200, {"id": "64ef0be0f185c203"})
    assert client.post("/api/public/scores", json={"name": "x"}).status_code == 422
    events = [
        {"id": "e1", "type": "score-create", "timestamp": "2026-11-21T22:25:05.564Z", "body": scores[0]},
        {"id": "e2", "type": "score-create", "timestamp": "2026-11-21T22:25:05.564Z", "body": {"name": "x"}},
        {"id": "e3", "type": "generation-create", "timestamp": "2026-11-21T22:25:05.564Z", "body": {}},
        {"id": "e4", "type": "sdk-log", "body": {"log": "x"}},
        "no event",
    ]
    answer = client.post("/api/public/ingestion", json={"batch": events, "metadata": {}})
    assert answer.status_code == 207
    assert [(told["id"], told["status"]) for told in answer.json()["successes"]] == [("e1", 201), ("e4", 201)]
    wrong = {told["id"]: told["message"] for told in answer.json()["errors"]}
    assert ("traceId or sessionId" in wrong["e2"], "version 3" in wrong["e3"], None in wrong) == (True,) * 3
    assert client.post("/api/public/ingestion", json=[]).status_code == 422
    lone = b'{"id": "\\ud800", "name": "x", "value": 1, "traceId": "t"}'
    told = client.post("/api/public/scores", content=lone, headers={"content-type": JSON})
    assert (told.status_code, told.json()) == (200, {"id": "\ufffd"})
    assert len(client.get("/api/public/projects").json()["data"]) == 1
    media = {
        "traceId": trace_id,
        "sha256Hash": "a3+kNPkqi4CqsC2b8aEuSf/K5CTkATocT2i2fj0rvNA=",
        "field": "input",
    }
    answer = client.post("/api/public/media", json=media)
    assert (answer.status_code, answer.json()) == (
        201,
        {"mediaId": "a3-kNPkqi4CqsC2b8aEuSf", "uploadUrl": None},
    )


def test_a_page_of_another_origin_cannot_send(client: httpx.Client) -> None:
    answer = client.post("/v1/traces", json={}, headers={"origin": "https://elsewhere.example"})
    assert answer.status_code == 403


def test_what_was_acknowledged_survives_kill_9_and_closes_after_the_restart(
    tmp_path: Path, migrated_file: Path
) -> None:
    """Spans before the kill, their logs after it: the call is whole, once."""
    path = tmp_path / "lowlight.db"
    shutil.copyfile(migrated_file, path)
    settings = short_waits(path).model_copy(update={"otlp_quiet_s": 1.5})
    requests = otlp_captures.of("otel-genai-events", "chat_basic")
    headers = {"content-type": PROTOBUF}
    process, address = start(settings, tmp_path / "server.log")
    try:
        for request in requests:
            if request.signal == "traces":
                assert httpx.post(f"{address}/v1/traces", content=request.body(), headers=headers).is_success
    finally:
        process.kill()
        stop(process)
    process, address = start(settings, tmp_path / "server.log")
    try:
        for request in requests:
            if request.signal == "logs":
                assert httpx.post(f"{address}/v1/logs", content=request.body(), headers=headers).is_success
        expected = expected_calls(tuple(requests))
        assert wait_for(path, expected) == expected
    finally:
        stop(process)
