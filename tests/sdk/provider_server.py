"""A provider on loopback: answers each POST with what is set for its path, JSON or server-sent events."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Events:
    """A streamed answer: each event's data, then how it ends.

    Attributes:
        data: JSON objects; one with a "type" is sent under that event name too, as both providers do.
        ending: what stands after them: OpenAI's "[DONE]", or nothing.
        pause_s: before the event at index `pause_at`.
        is_cut: whether the connection breaks instead of ending.
    """

    data: list[dict[str, Any]]
    ending: str = ""
    pause_s: float = 0.0
    pause_at: int = 1
    is_cut: bool = False


@dataclass
class Asked:
    """The requests that came in, in order: path, headers, body."""

    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)


@contextmanager
def provider(answers: dict[str, tuple[int, Any]], asked: Asked | None = None) -> Iterator[str]:
    """Yield the base URL of a provider whose answers (path -> status and body) the test may change."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            if asked is not None:
                asked.requests.append((self.path, dict(self.headers.items()), json.loads(sent)))
            status, body = answers[self.path]
            if isinstance(body, Events):
                self.stream(body)
                return
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def stream(self, events: Events) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream; charset=utf-8")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for i, data in enumerate(events.data):
                if i == events.pause_at and events.pause_s:
                    time.sleep(events.pause_s)
                name = f"event: {data['type']}\n" if "type" in data else ""
                self.chunk(f"{name}data: {json.dumps(data)}\n\n")
            if events.is_cut:
                self.connection.close()
                self.close_connection = True
                return
            if events.ending:
                self.chunk(f"data: {events.ending}\n\n")
            self.wfile.write(b"0\r\n\r\n")

        def chunk(self, text: str) -> None:
            content = text.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
            self.wfile.flush()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that hangs up is part of the play."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
