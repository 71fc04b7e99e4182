"""The gate every request passes: which hosts are answered, who may write, what a body may be.

Flow: uvicorn -> `Gate` (Host, Origin, security headers) -> the app -> `read_json` (type and size of a body).
While no key exists the server listens on loopback only; these checks keep the web pages that its user visits
from reaching it (a page of another origin, or a name that was rebound to 127.0.0.1).
"""

import asyncio
import logging
import time
import zlib
from collections.abc import Callable
from typing import Any, Protocol

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import Refused, bug, refusal_of

log = logging.getLogger(__name__)

#: A body as it travels, and as it unpacks.
WIRE_BYTES_MAX = 16 * 1024 * 1024
UNZIPPED_BYTES_MAX = 64 * 1024 * 1024
#: Longest wait for the next part of a body, and for all of it: 16 MiB at 2 Mbit/s.
STILL_S, BODY_S = 5.0, 67.0
#: After so long a pause a body is slow: room is set aside for what has come of it alone.
HASTE_S = 0.5
#: What is unpacked in one go.
GZIP_WINDOW_BYTES = 16 * 1024

SECURITY_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        b"connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_READING = frozenset(("GET", "HEAD", "OPTIONS"))
_METHODS = _READING | {"POST", "PUT", "PATCH", "DELETE"}

#: Told of every answer: method, route, status, seconds. A route is a template, "/v1/calls/{call_id:path}":
#: a path may name a user.
Answered = Callable[[str, str, int, float], None]


class Gate:
    """ASGI middleware: refuses strangers, puts the security headers on every response, times it."""

    def __init__(self, app: ASGIApp, allowed_hosts: frozenset[str], answered: Answered) -> None:
        """Args: allowed_hosts: in lower case, without port; an IPv6 address in brackets."""
        self._app = app
        self._allowed_hosts = allowed_hosts
        self._answered = answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        began_s = time.perf_counter()
        status = 0

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *SECURITY_HEADERS]
            await send(message)

        refusal = self.refusal(scope)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        if method == "HEAD":
            # Answered as GET; uvicorn, whose scope still says HEAD, sends the headers alone.
            scope = {**scope, "method": "GET"}
        app = self._app if refusal is None else refusal.response()
        try:
            await app(scope, receive, send_guarded)
        except Exception as error:
            answer = self.refused(scope, error)
            if status:
                raise
            await answer.response()(scope, receive, send_guarded)
        finally:
            self.note(scope, status, began_s, method)

    def refused(self, scope: Scope, error: Exception) -> Refused:
        """Return how to answer a request that raised; what is no refusal is a bug, and goes to the log."""
        known = refusal_of(error)
        if known is not None:
            return known
        log.error("%s %s failed", scope["method"], _route(scope), exc_info=error)
        return bug()

    def note(self, scope: Scope, status: int, began_s: float, method: str) -> None:
        """Tell of an answer; `began_s` is on the clock of `time.perf_counter`."""
        self._answered(method, _route(scope), status, time.perf_counter() - began_s)

    def refusal(self, scope: Scope) -> Refused | None:
        """Return why a request is not passed on; None where it is."""
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        host = hosts[0].decode("latin-1").lower() if len(hosts) == 1 else ""
        if _without_port(host) not in self._allowed_hosts:
            return Refused(
                400,
                "unknown_host",
                f"This server does not answer to the host {host[:200]!r}; "
                "name it in LOWLIGHT_ALLOWED_HOSTS if it should.",
            )
        if scope["method"] in _READING:
            return None
        for name, value in scope["headers"]:
            if name == b"origin" and not _same_host(origin := value.decode("latin-1").lower(), host):
                said = f"A page of another origin ({origin[:200]}) may not write here; send from your server."
                return Refused(403, "foreign_origin", said)
        return None


def allowed_hosts(setting: str) -> frozenset[str]:
    """Return the hosts of LOWLIGHT_ALLOWED_HOSTS."""
    return frozenset(host.strip().lower() for host in setting.split(",") if host.strip())


async def read_json(request: Request) -> bytes:
    """Return the request's JSON, unpacked, within its bounds.

    Raises:
        Refused: 415 for another type or encoding, 413 for too much, 400 for a broken gzip.
    """
    check_json(request)
    return await read_body(request)


def check_json(request: Request) -> None:
    """Refuse a body that does not say to be JSON: a form of any web page could send one without asking.

    Raises:
        Refused: 415.
    """
    kind = content_type(request)
    if kind != "application/json":
        raise Refused(415, "not_json", f"Content-Type is {kind[:100]!r}; send application/json.")


def check_own_page(request: Request) -> None:
    """Refuse a form that does not come from a page of this server, and say so.

    The gate has refused every foreign Origin. A browser names one with each form that it sends, so that a
    form without one was sent by no page of ours; a program posts JSON instead.

    Raises:
        Refused: 403.
    """
    site = request.headers.get("sec-fetch-site", "same-origin")
    if "origin" not in request.headers or site != "same-origin":
        raise Refused(403, "foreign_origin", "A form is taken from a page of this server only.")


def content_type(request: Request) -> str:
    """Return the type of the request's body, in lower case, without parameters."""
    return header(request, b"content-type").partition(";")[0].strip().lower()


def header(request: Request, name: bytes) -> str:
    """Return a header by its name in lower case, the first of several; "" where there is none.

    Past Starlette's Headers, which raise and catch a KeyError for each header that is missing.
    """
    for key, value in request.scope["headers"]:
        if key == name:
            return value.decode("latin-1")  # type: ignore[no-any-return]
    return ""


async def read_body(request: Request) -> bytes:
    """Return a body of any type, unpacked, within its bounds. See `read_json`."""
    packed = packing(request)
    body = await read_packed(request)
    return body if packed is None else await run_in_threadpool(gunzip, body)


def packing(request: Request) -> str | None:
    """Return how the body is packed: "gzip", or None.

    Raises:
        Refused: 415, in a way that we cannot unpack.
    """
    encoding = header(request, b"content-encoding").strip().lower()
    if encoding in ("gzip", "x-gzip"):
        return "gzip"
    if encoding not in ("", "identity"):
        raise Refused(415, "unknown_encoding", f"Content-Encoding is {encoding[:100]!r}; send gzip or none.")
    return None


def gunzip(packed: bytes, bytes_max: int = UNZIPPED_BYTES_MAX) -> bytes:
    """Unpack gzip, one member or several, never holding more than `bytes_max` of it.

    The work grows with the body alone, however many members it has: what follows a member is handed back as
    a copy, and the rest of a body copied for each of 800,000 members took minutes.

    Raises:
        Refused: 413 where there is more, 400 where it is broken or cut short.
    """
    parts: list[bytes] = []
    left = bytes_max
    at = 0
    member = None
    while at < len(packed):
        window = packed[at : at + GZIP_WINDOW_BYTES]
        at += len(window)
        if member is None:
            if parts:
                # Zeros between members, and behind the last one, are padding.
                window = window.lstrip(b"\0")
                if not window:
                    continue
            member = zlib.decompressobj(wbits=31)
        try:
            part = member.decompress(window, left + 1)
        except zlib.error as error:
            raise Refused(400, "bad_gzip", f"The body is not gzip: {error}.") from None
        left -= len(part)
        if left < 0:
            raise Refused(
                413, "too_large", f"The body unpacks to more than {bytes_max >> 20} MiB; send fewer at once."
            )
        parts.append(part)
        if member.eof:
            at -= len(member.unused_data)
            member = None
    if member is not None:
        raise Refused(400, "bad_gzip", "The gzip body is cut short.")
    return b"".join(parts)


class Held(Protocol):
    """The bytes that are set aside for a body while it comes."""

    @property
    def bytes(self) -> int:
        """How many those are."""

    def keep(self, n: int) -> None:
        """Give back all but `n`."""

    async def reach(self, n: int) -> None:
        """Wait until they are `n` at least. Raises Refused where they cannot be."""


async def read_packed(request: Request, held: Held | None = None) -> bytes:
    """Return a body as it travels, at most WIRE_BYTES_MAX of it, within BODY_S. See `read_json`.

    A client whose network went away sends neither the rest nor an end: two of them would hold all the room
    for bodies until the server is started anew.

    Args:
        held: gives back what has not come after HASTE_S, and is asked for more when more comes: who sends
            slowly, over a bad line, would keep all others out.
    """
    deadline = asyncio.timeout(BODY_S)
    try:
        async with deadline:
            return await _parts_together(request, deadline, held)
    except TimeoutError:
        raise Refused(
            503,
            "too_slow",
            f"The body did not come: nothing for {STILL_S:g} s, or not all within {BODY_S:g} s; "
            "send the same again, or less at once.",
            retry_after_s=1,
            close=True,
        ) from None


async def read_small(request: Request) -> bytes:
    """Return a body of a few KiB, which nothing is held for while it comes; nearly always it is here already.

    For as long as the client stays: a deadline costs more than all else about the reading of one.
    """
    return await _parts_together(request, None)


async def _parts_together(
    request: Request, deadline: asyncio.Timeout | None, held: Held | None = None
) -> bytes:
    too_large = Refused(
        413, "too_large", f"The body is larger than {WIRE_BYTES_MAX >> 20} MiB; send fewer at once."
    )
    announced = header(request, b"content-length")
    if announced.isdigit() and int(announced) > WIRE_BYTES_MAX:
        raise too_large
    parts: list[bytes] = []
    size = 0
    ends_at_s = (deadline.when() if deadline is not None else None) or 0.0
    loop = asyncio.get_running_loop()
    # The messages themselves, and not Request.stream(): for most bodies it is one.
    while True:
        if deadline is not None:
            deadline.reschedule(min(ends_at_s, loop.time() + STILL_S))
        slow = None if held is None else loop.call_later(HASTE_S, held.keep, size)
        try:
            message = await request.receive()
        except asyncio.CancelledError:
            if deadline is not None and deadline.expired():
                raise
            # The server is stopping, or steps aside for a restore, and has waited long enough for this body.
            raise Refused(
                503,
                "stopping",
                "The server is stopping and this body has not come; send the same again.",
                retry_after_s=1,
            ) from None
        finally:
            if slow is not None:
                slow.cancel()
        if message["type"] == "http.disconnect":
            raise Refused(400, "gone", "The client went away before its body was complete.")
        part = message.get("body", b"")
        size += len(part)
        if size > WIRE_BYTES_MAX:
            raise too_large
        if held is not None and deadline is not None and size > held.bytes:
            deadline.reschedule(None)  # whoever waits for room has a time limit of its own
            await held.reach(size)
        parts.append(part)
        if not message.get("more_body", False):
            break
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _route(scope: Scope) -> str:
    """Return the template of the route that answered; "none" where none did."""
    return getattr(scope.get("route"), "path", None) or "none"


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _same_host(origin: str, host: str) -> bool:
    scheme, _, netloc = origin.partition("://")
    default: dict[str, Any] = {"http": ":80", "https": ":443"}
    port = default.get(scheme)
    if port is None:
        return False
    return netloc.removesuffix(port) == host.removesuffix(port)
