"""Short bodies are answered by the protocol itself, long and odd ones by ASGI: nobody can tell which."""

import asyncio
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest
import uvicorn
from uvicorn.server import ServerState

from api.app import create_app
from api.door.at_once import LATE_S, HttpProtocol
from api.door.bodies import SMALL_BYTES
from ingest.settings import Settings
from ingest.store import OpenStore

JSON = {"Content-Type": "application/json"}


def request(body: bytes, path: str = "/v1/calls", **headers: str) -> bytes:
    """A POST as it travels; it asks to keep the connection unless told otherwise."""
    said = {"Host": "127.0.0.1", **JSON, "Content-Length": str(len(body)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in said.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def calls(*ids: str) -> bytes:
    """A batch."""
    return json.dumps({"calls": [{"id": call_id, "output": "x"} for call_id in ids]}).encode()


class Line:
    """One connection, and what comes over it."""

    def __init__(self, url: str) -> None:
        where = urlsplit(url)
        self.socket = socket.create_connection((where.hostname or "", where.port or 0), timeout=30)
        self._come = b""

    def send(self, *parts: bytes) -> None:
        """Send parts as they are, each in a segment of its own."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            self.socket.sendall(part)
            time.sleep(0.05)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read one answer: status, headers, body."""
        while b"\r\n\r\n" not in self._come:
            self._more()
        head, _, self._come = self._come.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        n = int(headers["content-length"])
        while len(self._come) < n:
            self._more()
        body, self._come = self._come[:n], self._come[n:]
        return int(first.split()[1]), headers, body

    def ended(self) -> bool:
        """Whether the server hangs up, and says no more."""
        return self._come == b"" and self.socket.recv(1000) == b""

    def _more(self) -> None:
        got = self.socket.recv(65536)
        assert got, f"the server hung up after {self._come!r}"
        self._come += got


@contextmanager
def line_to(url: str) -> Iterator[Line]:
    """A connection for the block."""
    line = Line(url)
    try:
        yield line
    finally:
        line.socket.close()


def test_a_receipt_comes_in_one_piece_and_the_connection_stays(service_url: str) -> None:
    with line_to(service_url) as line:
        for name in ("one", "two"):
            line.send(request(calls(name)))
            piece = line.socket.recv(65536)
            assert piece.startswith(b"HTTP/1.1 200 OK\r\n")
            assert piece.endswith(b'{"accepted":1,"duplicates":0,"rejected":[],"unknown_fields":[]}')


ODD = {
    "a repeated call": (calls("odd", "odd"), {}),
    "nothing sound": (b'{"calls": [{"latency_ms": -1}]}', {}),
    "an unknown field": (b'{"calls": [{"id": "u", "colour": 1}]}', {}),
    "no JSON": (b'{"calls": ', {}),
    "no batch": (b'{"call": []}', {}),
    "another type": (calls("t"), {"Content_Type": "text/plain"}),
    "another host": (calls("h"), {"Host": "evil.example"}),
    "a foreign page": (calls("o"), {"Origin": "https://evil.example"}),
    "drops": (calls("d"), {"X_Lowlight_Dropped": "queue_full=3"}),
}


@pytest.mark.parametrize(("body", "headers"), ODD.values(), ids=ODD)
@pytest.mark.parametrize("path", ["/v1/calls", "/v1/calls/", "/v1/signals"])
def test_either_way_answers_alike(service_url: str, path: str, body: bytes, headers: dict[str, str]) -> None:
    """The same status, headers and body; a query sends a request the long way round."""
    with line_to(service_url) as line:
        line.send(request(body, path, **headers))
        line.answer()
        answers = []
        for way in (path, f"{path}?x=1"):
            line.send(request(body, way, **headers))
            status, said, told = line.answer()
            answers.append((status, {**said, "date": ""}, re.sub(rb"[0-9a-f]{32}", b"", told)))
    assert answers[0] == answers[1]


def test_requests_sent_without_waiting_are_answered_in_their_order(service_url: str) -> None:
    chunked = b"POST /v1/calls HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    chunked += b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(calls("p2")), calls("p2"))
    get = b"GET /v1/calls/p1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with line_to(service_url) as line:
        line.send(request(calls("p1")) + get + chunked + request(calls("p2", "p3")) + request(b"{"))
        receipt, read, second, third, bad = (line.answer() for _answer in range(5))
    assert json.loads(receipt[2])["accepted"] == 1
    assert json.loads(read[2])["call"]["id"] == "p1"
    assert json.loads(second[2])["accepted"] == 1
    assert (json.loads(third[2])["accepted"], json.loads(third[2])["duplicates"]) == (1, 1)
    assert bad[0] == 400


def test_a_body_may_come_in_pieces(service_url: str) -> None:
    whole = request(calls("pieces"))
    with line_to(service_url) as line:
        line.send(*(whole[at : at + 60] for at in range(0, len(whole), 60)))
        assert json.loads(line.answer()[2])["accepted"] == 1


@pytest.mark.parametrize("end", ["in the body", "before the answer"])
def test_a_client_that_goes_away_is_not_missed(service_url: str, end: str) -> None:
    whole = request(calls(f"gone {end}"))
    with line_to(service_url) as line:
        line.send(whole if end == "before the answer" else whole[:-5])
    with httpx.Client(base_url=service_url) as client:
        assert client.post("/v1/calls", json={"calls": [{"id": f"after {end}"}]}).json()["accepted"] == 1


def test_a_client_that_asks_for_it_is_hung_up_on_after_the_answer(service_url: str) -> None:
    with line_to(service_url) as line:
        line.send(request(calls("close"), Connection="close"))
        status, headers, _body = line.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert line.ended()


def test_both_ways_are_counted_under_the_routes_own_name(service_url: str) -> None:
    with httpx.Client(base_url=service_url) as client:

        def answered() -> float:
            found = re.search(
                r'lowlight_request_seconds_count\{method="POST",route="/v1/calls",status="200"\} (\S+)',
                client.get("/metrics").text,
            )
            return float(found[1]) if found else 0.0

        before = answered()
        client.post("/v1/calls", content=calls("m1"), headers=JSON)
        client.post("/v1/calls?x=1", content=calls("m2"), headers=JSON)
        assert answered() == before + 2


class Wire(asyncio.Transport):
    """A connection without a network."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.sent = b""
        self.closed = False

    def write(self, data: Any) -> None:
        """See asyncio."""
        self.sent += data

    def close(self) -> None:
        """See asyncio."""
        self.closed = True

    def is_closing(self) -> bool:
        """See asyncio."""
        return self.closed

    def pause_reading(self) -> None:
        """See asyncio."""

    def resume_reading(self) -> None:
        """See asyncio."""


class Inside:
    """The app behind its protocol, and no server."""

    def __init__(self, settings: Settings, store: OpenStore) -> None:
        self.app: Any = create_app(settings, store)
        self._config = uvicorn.Config(self.app, http=HttpProtocol, lifespan="off")
        self._config.load()

    def connect(self) -> tuple[HttpProtocol, Wire]:
        """A new connection."""
        protocol = HttpProtocol(self._config, ServerState(), {}, _loop=asyncio.get_running_loop())
        wire = Wire()
        protocol.connection_made(wire)
        return protocol, wire


async def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("size", [10, SMALL_BYTES])
def test_a_body_that_is_coming_when_the_server_stops_is_answered(
    settings: Settings, store: OpenStore, size: int
) -> None:
    """However short it is; the connection ends with the answer."""
    whole = request(json.dumps({"calls": [{"id": "late", "output": "x" * size}]}).encode())

    async def scenario() -> None:
        inside = Inside(settings, store)
        protocol, wire = inside.connect()
        protocol.data_received(whole[:-5])
        inside.app.door.stopping = True
        protocol.shutdown()
        assert not wire.closed
        protocol.data_received(whole[-5:])
        await until(lambda: wire.closed)
        assert b"200 OK" in wire.sent
        assert b"connection: close" in wire.sent
        assert b'"accepted":1' in wire.sent

    asyncio.run(scenario())


@pytest.mark.parametrize("path", ["/v1/calls", "/v1/calls?x=1"])
def test_a_connection_made_while_the_server_stops_gets_one_answer(
    settings: Settings, store: OpenStore, path: str
) -> None:
    """uvicorn asks those connections to end that it knows by then. A client that kept a later one busy held
    the server up until its grace was over, and the body that was coming then was refused."""

    async def scenario() -> None:
        inside = Inside(settings, store)
        inside.app.door.stopping = True
        protocol, wire = inside.connect()
        protocol.data_received(request(calls("once"), path))
        await until(lambda: wire.closed)
        assert b'"accepted":1' in wire.sent
        assert b"connection: close" in wire.sent
        _protocol, silent = inside.connect()
        await asyncio.sleep(LATE_S)
        await until(lambda: silent.closed)

    asyncio.run(scenario())


def test_a_body_that_finds_no_room_waits_for_it(settings: Settings, store: OpenStore) -> None:
    async def scenario() -> None:
        inside = Inside(settings, store)
        protocol, wire = inside.connect()
        full = inside.app.state.bodies.hold()
        assert full.take_at_once(1 << 30)
        protocol.data_received(request(calls("waits")))
        await asyncio.sleep(0.05)
        assert wire.sent == b""
        full.leave()
        await until(lambda: b'"accepted":1' in wire.sent)

    asyncio.run(scenario())
