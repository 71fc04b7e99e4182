"""A Lowlight server of the receipt's contract alone, which can also misbehave on command.

It keeps each id once, rejects items whose model is "rejected", and answers each request with the next of its
`orders` (then with receipts). The real server is met in test_real_server.
"""

import gzip
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Request:
    """One request as it came in."""

    at_s: float
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    connection: int


@dataclass
class FakeServer:
    """What was sent to it, and what it shall answer next."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    calls: dict[str, dict[str, Any]] = field(default_factory=dict)
    signals: dict[str, dict[str, Any]] = field(default_factory=dict)
    orders: list[Callable[["Handler"], None]] = field(default_factory=list)
    body_bytes_max: int | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def wait_for(self, what: Callable[["FakeServer"], bool], timeout_s: float = 60.0) -> None:
        """Wait until `what` holds of this server; fail the test where it never does."""
        deadline_s = time.monotonic() + timeout_s
        while not what(self):
            assert time.monotonic() < deadline_s, f"it never came to that; {len(self.requests)} requests"
            time.sleep(0.005)

    def receipt(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Keep a batch; the receipt of the design's section 5."""
        kind = path.rsplit("/", 1)[-1]
        kept = self.calls if kind == "calls" else self.signals
        accepted = duplicates = 0
        rejected = []
        for index, item in enumerate(body[kind]):
            if item.get("model") == "rejected":
                rejected.append({"index": index, "field": "model", "error": "is not welcome"})
            elif item["id"] in kept:
                duplicates += 1
            else:
                kept[item["id"]] = item
                accepted += 1
        return {"accepted": accepted, "duplicates": duplicates, "rejected": rejected, "unknown_fields": []}


class Handler(BaseHTTPRequestHandler):
    """One connection of the SDK's."""

    protocol_version = "HTTP/1.1"
    fake: FakeServer

    def do_POST(self) -> None:
        """Take a batch and do as ordered."""
        size = int(self.headers["Content-Length"])
        if self.fake.body_bytes_max is not None and size > self.fake.body_bytes_max:
            # as proxies do: answer without reading the body, then close
            self.answer(
                413, {"error": {"code": "too_large", "message": "The body is too large."}}, close=True
            )
            return
        raw = self.rfile.read(size)
        if self.headers.get("Content-Encoding") == "gzip":
            raw = gzip.decompress(raw)
        self.sent = json.loads(raw)
        with self.fake.lock:
            self.fake.requests.append(
                Request(
                    time.monotonic(), self.path, dict(self.headers.items()), self.sent, self.client_address[1]
                )
            )
            order = self.fake.orders.pop(0) if self.fake.orders else keep
        order(self)

    def answer(
        self, status: int, body: Any, headers: dict[str, str] | None = None, *, close: bool = False
    ) -> None:
        """Answer with a JSON body."""
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if close:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def keep(handler: Handler) -> None:
    """Keep the batch and give the receipt."""
    with handler.fake.lock:
        receipt = handler.fake.receipt(handler.path, handler.sent)
    handler.answer(200, receipt)


def keep_and_hang_up(handler: Handler) -> None:
    """Keep the batch, then cut the connection before the receipt."""
    with handler.fake.lock:
        handler.fake.receipt(handler.path, handler.sent)
    reset(handler)


def keep_and_hang_up_in_the_middle(handler: Handler) -> None:
    """Keep the batch, then cut the connection in the middle of the receipt."""
    with handler.fake.lock:
        handler.fake.receipt(handler.path, handler.sent)
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 60\r\n\r\n")
    handler.wfile.write(b'{"accepted": 1')
    handler.close_connection = True


def reset(handler: Handler) -> None:
    """Cut the connection with a reset."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def refuse(status: int, message: str = "no", **headers: str) -> Callable[[Handler], None]:
    """Answer with a status, an error of the server's shape, and headers (Retry_After="1")."""

    def order(handler: Handler) -> None:
        body = {"error": {"code": "refused", "field": None, "message": message}}
        handler.answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})

    return order


def hang(seconds: float) -> Callable[[Handler], None]:
    """Answer nothing for a while, then cut the connection."""

    def order(handler: Handler) -> None:
        time.sleep(seconds)
        reset(handler)

    return order


@contextmanager
def running(port: int = 0) -> Iterator[FakeServer]:
    """A fake server on a free port of loopback."""
    fake = FakeServer()
    handler = type("BoundHandler", (Handler,), {"fake": fake})

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        allow_reuse_address = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A cut connection is part of the play."""

    server = Server(("127.0.0.1", port), handler)
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
