"""What the server refuses before it reads, each with its own status, code and remedy; and never a 500."""

import asyncio
import gzip
import http.client
import json
import socket
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as run_with
from hypothesis import strategies as st

from api.app import create_app
from api.door.gate import UNZIPPED_BYTES_MAX, WIRE_BYTES_MAX
from ingest.settings import Settings
from ingest.store import OpenStore
from ingest.wire import ITEMS_MAX

JSON = {"Content-Type": "application/json"}
EMPTY = b'{"calls": []}'


@pytest.fixture(scope="module")
def client(service_url: str) -> Iterator[httpx.Client]:
    """One client, for hypothesis runs many examples within a test."""
    with httpx.Client(base_url=service_url, timeout=60) as opened:
        yield opened


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of an error in the one shape we have."""
    error = answer.json()["error"]
    assert set(error) <= {"code", "message", "field"}
    assert len(error["message"]) > 10
    return answer.status_code, error["code"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::2]"])
def test_another_host_is_not_answered(client: httpx.Client, host: str) -> None:
    """A web page whose name was rebound to 127.0.0.1 still sends its own name."""
    assert refusal(client.get("/healthz", headers={"Host": host})) == (400, "unknown_host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9999", "[::1]:80"])
def test_our_own_hosts_are_answered_on_any_port(client: httpx.Client, host: str) -> None:
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/calls.json", "/healthz", "/v1/calls", "/static/mark.svg"])
def test_whoever_asks_for_the_headers_alone_gets_them(client: httpx.Client, path: str) -> None:
    """Watchers and link checkers do."""
    answer = client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1", "file://"])
def test_a_page_of_another_origin_may_not_write(client: httpx.Client, origin: str) -> None:
    answer = client.post("/v1/calls", content=EMPTY, headers={**JSON, "Origin": origin})
    assert refusal(answer) == (403, "foreign_origin")
    assert origin in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/calls/", EMPTY), ("/v1/signals/", b'{"signals": []}'), ("/v1/traces/", b"{}")],
)
def test_an_address_may_end_in_a_slash(client: httpx.Client, path: str, body: bytes) -> None:
    """Without a redirect, which many clients follow with a GET or not at all."""
    assert client.post(path, content=body, headers=JSON).status_code == 200


def test_our_own_pages_may_write(client: httpx.Client, service_url: str) -> None:
    answer = client.post("/v1/calls", content=EMPTY, headers={**JSON, "Origin": service_url})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_only_json_is_taken(client: httpx.Client, kind: str) -> None:
    """A form of any web page could send these without asking."""
    answer = client.post("/v1/calls", content=EMPTY, headers={"Content-Type": kind})
    assert refusal(answer) == (415, "not_json")


def test_an_encoding_we_cannot_unpack(client: httpx.Client) -> None:
    answer = client.post("/v1/calls", content=EMPTY, headers={**JSON, "Content-Encoding": "br"})
    assert refusal(answer) == (415, "unknown_encoding")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "bad_json"),
        (b"{", 400, "bad_json"),
        (b"\xff", 400, "bad_json"),
        (b"[" * 200_000, 400, "bad_json"),
        (b"[]", 422, "bad_body"),
        (b'{"calls": 3}', 422, "bad_body"),
        (json.dumps({"calls": [{}] * (ITEMS_MAX + 1)}).encode(), 413, "too_many_items"),
    ],
)
def test_a_body_that_is_no_batch(client: httpx.Client, body: bytes, status: int, code: str) -> None:
    assert refusal(client.post("/v1/calls", content=body, headers=JSON)) == (status, code)


def test_a_body_that_is_too_large_on_the_wire(service_url: str) -> None:
    """Refused by what it announces, before it is sent."""
    where = urlsplit(service_url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port)
    connection.putrequest("POST", "/v1/calls")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(WIRE_BYTES_MAX + 1))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert json.loads(answer.read())["error"]["code"] == "too_large"
    connection.close()


def test_a_client_that_sends_all_of_a_body_too_large_can_read_why(client: httpx.Client) -> None:
    """What it still sends is read and dropped; a connection that is reset would take the answer with it."""
    answer = client.post("/v1/calls", content=b" " * (2 * WIRE_BYTES_MAX), headers=JSON)
    assert refusal(answer) == (413, "too_large")
    assert client.get("/healthz").status_code == 200


def test_a_body_that_announces_nothing_is_bounded_too(client: httpx.Client) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(WIRE_BYTES_MAX // 65536 + 1):
            yield b" " * 65536

    assert refusal(client.post("/v1/calls", content=parts(), headers=JSON)) == (413, "too_large")
    assert client.get("/healthz").status_code == 200, "and the connection serves on"


def test_a_gzip_bomb_is_refused_without_unpacking_it(client: httpx.Client) -> None:
    """256 MiB of blanks are about 1 MiB of gzip."""
    packer = zlib.compressobj(1, wbits=31)
    bomb = b"".join(packer.compress(b" " * (1 << 20)) for _ in range(256)) + packer.flush()
    assert len(bomb) < WIRE_BYTES_MAX
    answer = client.post("/v1/calls", content=bomb, headers={**JSON, "Content-Encoding": "gzip"})
    assert refusal(answer) == (413, "too_large")


# Named: a gzip holds the time, and pytest's workers must agree on what a test is called.
@pytest.mark.parametrize(
    "body",
    [b"not gzip", gzip.compress(EMPTY)[:-6], gzip.compress(EMPTY) + b"tail"],
    ids=["no gzip", "cut", "followed"],
)
def test_a_broken_gzip(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/v1/calls", content=body, headers={**JSON, "Content-Encoding": "gzip"})
    assert refusal(answer) == (400, "bad_gzip")


def test_gzip_in_several_members_counts_together(client: httpx.Client) -> None:
    """Each member within the bound, all of them not."""
    member = gzip.compress(b" " * (UNZIPPED_BYTES_MAX // 2 + 1))
    headers = {**JSON, "Content-Encoding": "gzip"}
    assert refusal(client.post("/v1/calls", content=member * 2, headers=headers)) == (413, "too_large")
    halves = gzip.compress(EMPTY[:5]) + gzip.compress(EMPTY[5:])
    assert client.post("/v1/calls", content=halves, headers=headers).status_code == 200


SHORT = ["/v1/rescore", "/v1/experience", "/v1/cases/2026-W46/note", "/cases/2026-W46/note"]


@pytest.mark.parametrize("path", SHORT)
def test_what_persons_send_is_short(client: httpx.Client, service_url: str, path: str) -> None:
    """A body of 40 MB was read for a fit; a form of 64 KiB unpacked to 64 MiB, which came back as a page."""
    kind = JSON if path.startswith("/v1/") else {"Content-Type": "application/x-www-form-urlencoded"}
    headers = {**kind, "Origin": service_url, "Accept": "application/json"}
    bomb = gzip.compress(b"note=" + b"x" * (32 << 20))
    packed = {**headers, "Content-Encoding": "gzip"}
    assert client.post(path, content=b" " * (300 << 10), headers=headers).status_code == 413
    assert client.post(path, content=iter([b"{", b"}"]), headers=headers).status_code == 413
    assert client.post(path, content=bomb, headers=packed).status_code == 415
    assert (
        client.post(path, content=b"{}", headers={**headers, "Content-Type": "text/plain"}).status_code == 415
    )


def test_a_filter_that_is_no_number_of_milliseconds(client: httpx.Client) -> None:
    """As a float "9" times 400 is infinite, and the page could not write that in words."""
    for path in ("/calls", "/calls.json", "/v1/calls"):
        answer = client.get(path, params={"min_latency_ms": "9" * 400})
        assert answer.status_code == 422, path


def test_an_unknown_address_and_a_wrong_method(client: httpx.Client) -> None:
    """The answer names what is there, also where two routes share a path."""
    answer = client.get("/docs")
    assert refusal(answer)[0] == 404
    assert "/openapi.json" in answer.json()["error"]["message"]
    answer = client.put("/v1/calls", content=EMPTY, headers=JSON)
    assert (refusal(answer)[0], answer.headers["allow"]) == (405, "GET, HEAD, POST")
    assert client.delete("/v1/calls/some-id").headers["allow"] == "GET, HEAD"
    assert client.delete("/healthz").headers["allow"] == "GET"
    lost = client.post("/", content=b"", headers={"Content-Type": "application/x-protobuf"})
    assert "/v1/traces" in lost.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/api/public/scores", "/v1/traces"])
def test_a_bug_is_said_in_the_shape_of_every_error(
    settings: Settings, store: OpenStore, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Past FastAPI's layers and through them, the log has it, and its words quote nothing."""
    app: Any = create_app(settings, store)
    app.state.otlp = app.state.bodies = None  # nothing that any route could work with

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as opened:
            return await opened.post(path, content=b'{"name": "x"}', headers=JSON)

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "bug")
    assert f"POST {path} failed" in caplog.text


@pytest.mark.parametrize("path", ["/healthz", "/v1/nothing", "/openapi.json"])
def test_security_headers_are_on_every_response(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Referrer-Policy" in headers


def test_a_client_that_hangs_up_in_the_middle_harms_nobody(service_url: str, client: httpx.Client) -> None:
    where = urlsplit(service_url)
    for _ in range(3):
        with socket.create_connection((where.hostname or "", where.port or 0)) as half:
            half.sendall(
                b"POST /v1/calls HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b'Content-Length: 1000\r\n\r\n{"calls"'
            )
    assert client.get("/healthz").status_code == 200


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@run_with(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["calls", "signals", "labels"]), body=anything)
def test_no_json_gives_a_500(client: httpx.Client, kind: str, body: Any) -> None:
    for sent in (body, {kind: body}, {kind: [body]}):
        answer = client.post(f"/v1/{kind}", content=json.dumps(sent).encode(), headers=JSON)
        assert answer.status_code in (200, 400, 413, 422), answer.text


@run_with(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200))
def test_no_bytes_give_a_500(client: httpx.Client, body: bytes) -> None:
    for headers in (JSON, {**JSON, "Content-Encoding": "gzip"}):
        assert client.post("/v1/calls", content=body, headers=headers).status_code in (400, 422)
