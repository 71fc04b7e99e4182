"""Short bodies of intake are answered by the HTTP protocol itself: no ASGI messages, no task, one write.

Flow: uvicorn's sockets -> `HttpProtocol` -> a POST of a short whole body to an address of intake -> `Door`
(the gate's checks, room, then the route's `Taking`: parse, rows, the writer) -> the receipt, in one piece,
once committed. Every other request, and one that cannot be taken without waiting, goes uvicorn's own way:
ASGI, `api.door.gate`, `api.door.short_way` and on; what is answered here is answered there alike.

Why: uvicorn sends an answer's head and body apart, which costs two system calls here and wakes the client
twice; with the task, the events and the messages between they took a third of what the server did about a
request of one call.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, cast

from starlette.requests import Request
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from api.door.bodies import SMALL_BYTES, Bodies, Hold
from api.door.gate import SECURITY_HEADERS, Gate

#: How long a connection made while the server stops is waited for to send something.
LATE_S = 0.5


class Begun(Protocol):
    """A body that has been read; what it holds is with the writer, if anything is."""

    @property
    def waits(self) -> bool:
        """Whether the writer will tell of a result."""

    def receipt(self, result: Any) -> bytes:
        """Return the answer's JSON.

        Args:
            result: what the writer's job returned; None where there was none.
        """


#: (the request without its body, the body, who is told of the commit) -> what was begun. Raises what
#: `api.errors.refusal_of` knows.
Taking = Callable[[Request, bytes, "asyncio.Future[Any]"], Begun]


class Path(NamedTuple):
    """An address of intake: its route, for whoever counts requests, and how its bodies are taken."""

    route: Any
    taking: Taking


class Door:
    """What all connections share."""

    def __init__(self, gate: Gate, bodies: Bodies, app: Any, paths: Mapping[str, Path]) -> None:
        """Args: app: whose `state` the takings use; paths: by the path that is asked for."""
        self.gate = gate
        self.bodies = bodies
        self.app = app
        #: set once the server stops or steps aside: each connection ends with its next answer
        self.stopping = False
        self.paths = {path.encode(): found for path, found in paths.items()}


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which keeps a short POST to intake to itself. Its app must have a `door`."""

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self._door: Door = config.app.door
        #: the body so far of a request that may be answered at once; None while there is none
        self._parts: list[bytes] | None = None
        self._default_headers: list[tuple[bytes, bytes]] = []
        self._common = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See uvicorn. It asks those connections to end that it knows; this one may come after that."""
        super().connection_made(transport)
        if self._door.stopping:
            self.timeout_keep_alive_task = self.loop.call_later(LATE_S, self.timeout_keep_alive_handler)

    def on_headers_complete(self) -> None:
        """See uvicorn."""
        if self._is_short():
            self._parts = []
        else:
            self._start_cycle()

    def on_body(self, body: bytes) -> None:
        """See uvicorn."""
        if self._parts is None:
            super().on_body(body)
        else:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        """See uvicorn."""
        if self._parts is None:
            super().on_message_complete()
            return
        body = b"".join(self._parts)
        hold = self._door.bodies.hold()
        if hold.take_at_once(len(body)):
            self._parts = None
            self.cycle = cast("RequestResponseCycle", Answering(self, self._door, self.scope, hold))
            cast("Answering", self.cycle).begin(body)
        else:
            self._go_the_long_way()
            super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """See uvicorn."""
        self._parts = None
        super().connection_lost(exc)

    def _start_cycle(self) -> None:
        super().on_headers_complete()
        if self._door.stopping and self.cycle is not None:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """See uvicorn. A body that is still coming is waited for where those of other requests are."""
        if self._parts is not None:
            self._go_the_long_way()
        super().shutdown()

    def write_answer(
        self, status: int, headers: list[tuple[bytes, bytes]], body: bytes, *, last: bool
    ) -> None:
        """Write a whole answer; end the connection where it is the `last`."""
        if self.server_state.default_headers is not self._default_headers:
            self._default_headers = self.server_state.default_headers
            self._common = _lines([*self._default_headers, *SECURITY_HEADERS]) + b"\r\n"
        close = b"connection: close\r\n" if last else b""
        self.transport.write(b"".join((STATUS_LINE[status], _lines(headers), close, self._common, body)))
        if last:
            self.transport.close()
        self.on_response_complete()

    def _is_short(self) -> bool:
        """Whether a request is one that can be answered at once, by its head."""
        if self.url not in self._door.paths or self.parser.get_method() != b"POST":
            return False
        if self.expect_100_continue or self.parser.get_http_version() != "1.1" or self.flow.write_paused:
            return False
        if self.cycle is not None and not self.cycle.response_complete:
            return False  # sent before the answer to the one before: it waits its turn
        length = None
        for name, value in self.headers:
            if name == b"content-length":
                length = value
            elif name in _LONG_WAY or (name == b"connection" and value.lower() != b"keep-alive"):
                return False
        return length is not None and len(length) <= _DIGITS and int(length) <= SMALL_BYTES

    def _go_the_long_way(self) -> None:
        parts, self._parts = self._parts or [], None
        self._start_cycle()
        for part in parts:
            super().on_body(part)


#: Bodies of unknown length, packed ones, and whatever is no plain HTTP/1.1.
_LONG_WAY = frozenset((b"transfer-encoding", b"content-encoding", b"upgrade"))
_DIGITS = len(str(SMALL_BYTES))


class Answering:
    """One request of a connection until it is answered; to uvicorn's protocol it is its cycle.

    Attributes:
        response_complete, disconnected, keep_alive, message_event: as uvicorn's cycle has them.
    """

    __slots__ = (
        *("_began_s", "_begun", "_door", "_hold", "_protocol", "_scope"),
        *("disconnected", "keep_alive", "response_complete"),
    )

    def __init__(self, protocol: HttpProtocol, door: Door, scope: Any, hold: Hold) -> None:
        self._began_s = time.perf_counter()
        self._protocol = protocol
        self._door = door
        self._scope: Scope = scope
        self._hold = hold
        self._begun: Begun | None = None
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = not door.stopping

    @property
    def message_event(self) -> "Answering":
        """Who waits to hear that the client is gone: nobody; what was begun is finished."""
        return self

    def set(self) -> None:
        """See `message_event`."""

    def begin(self, body: bytes) -> None:
        """Read the body and give it to the writer, or answer what is wrong with the request."""
        scope, door = self._scope, self._door
        path = door.paths[self._protocol.url]
        scope["method"] = "POST"
        try:
            refusal = door.gate.refusal(scope)
            if refusal is not None:
                raise refusal
            scope["app"], scope["route"] = door.app, path.route
            waiter: asyncio.Future[Any] = self._protocol.loop.create_future()
            self._begun = path.taking(Request(scope), body, waiter)
            if self._begun.waits:
                waiter.add_done_callback(self._committed)
            else:
                self._receipt(None)
        except Exception as error:
            self._refuse(error)

    def _committed(self, waiter: "asyncio.Future[Any]") -> None:
        try:
            self._receipt(waiter.result())
        except Exception as error:
            self._refuse(error)

    def _receipt(self, result: Any) -> None:
        assert self._begun is not None
        body = self._begun.receipt(result)
        headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
        self._answer(200, headers, body)

    def _refuse(self, error: Exception) -> None:
        refused = self._door.gate.refused(self._scope, error)
        response = refused.response()
        self._answer(response.status_code, response.raw_headers, bytes(response.body))

    def _answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self._hold.leave()
        self.response_complete = True
        self._door.gate.note(self._scope, status, self._began_s, "POST")
        if not self.disconnected:
            self._protocol.write_answer(status, headers, body, last=not self.keep_alive)


def _lines(headers: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%b: %b\r\n" % header for header in headers)
