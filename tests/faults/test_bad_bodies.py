"""Bodies made to hurt: a gzip bomb, nesting without end, lone surrogates and NUL bytes, at every door.

Each is answered within its bounds, never with a 500, and the server's memory stays where it was.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from functools import cache

import httpx2 as httpx
import pytest

from api.door.gate import UNZIPPED_BYTES_MAX
from tests.faults.figures import figure

JSON_DOORS = ("/v1/calls", "/v1/signals", "/v1/labels", "/api/public/scores")
OTLP_DOORS = ("/v1/traces", "/v1/logs", "/v1/metrics", "/api/public/otel/v1/traces")
JSON_TYPE = {"Content-Type": "application/json"}


@pytest.fixture
def client(service_url: str) -> Iterator[httpx.Client]:
    """A client of the module's server, which is well before and after."""
    with httpx.Client(base_url=service_url, timeout=120) as opened:
        yield opened
        assert opened.get("/readyz").json()["ready"]
        assert opened.post("/v1/calls", json={"calls": [{"output": "still here"}]}).json()["accepted"] == 1


@cache
def bomb(unzipped_bytes: int) -> bytes:
    """A gzip of zeros, a thousandth of their size."""
    packer = zlib.compressobj(9, wbits=31)
    zeros = bytes(1 << 20)
    parts = [packer.compress(zeros) for _mib in range(unzipped_bytes >> 20)]
    return b"".join((*parts, packer.flush()))


@pytest.mark.parametrize("door", JSON_DOORS + OTLP_DOORS)
def test_a_gzip_bomb(client: httpx.Client, door: str) -> None:
    """Half a GiB in half a MiB: unpacked to the limit and no further."""
    before = figure(client, "process_resident_memory_bytes")
    body = bomb(8 * UNZIPPED_BYTES_MAX)
    answer = client.post(door, content=body, headers={**JSON_TYPE, "Content-Encoding": "gzip"})
    assert answer.status_code == 413
    assert "64 MiB" in answer.text
    assert figure(client, "process_resident_memory_bytes") - before < 3 * UNZIPPED_BYTES_MAX


def test_a_bomb_in_a_bomb_is_one_layer(client: httpx.Client) -> None:
    """What unpacks to gzip again is no JSON, and is not unpacked again."""
    body = gzip.compress(bomb(8 * UNZIPPED_BYTES_MAX))
    answer = client.post("/v1/calls", content=body, headers={**JSON_TYPE, "Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_json")


@pytest.mark.parametrize("door", JSON_DOORS + OTLP_DOORS)
@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("depth", [300, 100_000])
def test_deep_nesting(client: httpx.Client, door: str, opened: str, closed: str, depth: int) -> None:
    """As the whole body, and in a place where anything may stand."""
    deep = opened * depth + "1" + closed * depth
    for body in (deep, f'{{"calls": [{{"id": "d", "input": {deep}, "tags": {deep}}}]}}'):
        answer = client.post(door, content=body.encode(), headers=JSON_TYPE)
        assert answer.status_code in (200, 207, 400, 413, 422), answer.text


HOSTILE = {
    "a lone high surrogate": r"x\ud800y",
    "a lone low surrogate": r"x\udc00y",
    "surrogates the wrong way round": r"x\udc00\ud800y",
    "NUL": r"x\u0000y",
    "only NUL": r"\u0000\u0000",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_surrogates_and_nul_in_every_field(client: httpx.Client, text: str) -> None:
    """Kept with U+FFFD in their place and a mark, or refused by name; what was kept can be read back."""
    fields = ("id", "model", "input", "output", "finish_reason", "user_id", "session_id", "response_id")
    call = {name: f"{name}-TEXT" for name in fields} | {
        "input": [{"role": "TEXT", "content": "TEXT"}],
        "prompt": {"name": "p-TEXT", "version": "TEXT"},
        "tags": {"TEXT": "TEXT"},
        "tools": ["TEXT"],
        "context": ["TEXT"],
        "error": {"type": "TEXT", "message": "TEXT"},
    }
    body = json.dumps({"calls": [call, {"id": "sound", "output": "TEXT"}]}).replace("TEXT", text)
    receipt = client.post("/v1/calls", content=body.encode(), headers=JSON_TYPE)
    assert receipt.status_code == 200
    told = receipt.json()
    assert told["accepted"] + told["duplicates"] + len(told["rejected"]) == 2
    kept = client.get("/v1/calls/sound").json()
    assert "\ufffd" in kept["texts"]["output"][0]["text"]
    signal = json.dumps({"signals": [{"call_id": "sound", "kind": "thumbs_down", "comment": "TEXT"}]})
    answer = client.post("/v1/signals", content=signal.replace("TEXT", text).encode(), headers=JSON_TYPE)
    assert answer.status_code == 200
    label = json.dumps({"labels": [{"call_id": "sound", "rubric": "TEXT", "level": 2, "labeller": "TEXT"}]})
    answer = client.post("/v1/labels", content=label.replace("TEXT", text).encode(), headers=JSON_TYPE)
    assert answer.status_code == 200
    for listed in ("/v1/calls", "/v1/worst", "/", "/worst", "/calls/sound"):
        assert client.get(listed).status_code == 200


@pytest.mark.parametrize("door", ["/v1/traces", "/v1/logs"])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_surrogates_and_nul_in_telemetry(client: httpx.Client, door: str, text: str) -> None:
    attributes = [
        {"key": key, "value": {"stringValue": "TEXT"}}
        for key in ("gen_ai.request.model", "gen_ai.prompt", "gen_ai.response.id", "session.id", "TEXT")
    ]
    item = {
        "traceId": "1" * 32,
        "spanId": "2" * 16,
        "name": "TEXT",
        "kind": 3,
        "startTimeUnixNano": "1",
        "attributes": attributes,
        "body": {"stringValue": "TEXT"},
        "eventName": "gen_ai.choice",
    }
    sent = {
        "resourceSpans": [{"scopeSpans": [{"spans": [item]}]}],
        "resourceLogs": [{"scopeLogs": [{"logRecords": [item]}]}],
    }
    answer = client.post(door, content=json.dumps(sent).replace("TEXT", text).encode(), headers=JSON_TYPE)
    assert answer.status_code in (200, 400), answer.text
