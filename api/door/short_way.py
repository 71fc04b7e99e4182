"""The short way of what clients send all day: from the gate to the handler, past everything in between.

Flow: uvicorn -> `Gate` -> `ShortWay` -> the handler of a POST to intake or OpenTelemetry; every other request
goes on to FastAPI and its routers. Those layers took longer than all else about a request of one call. The
same handlers stand in the router, for the OpenAPI document and for every other method. Short bodies of intake
come no further than `api.door.at_once`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from api.door.at_once import Door, Path, Taking
from api.door.gate import Answered, Gate
from api.errors import refusal_of

JSON = b"application/json"


class Answer(Response):
    """A whole answer of bytes with status 200, made without Starlette's look at each header."""

    def __init__(self, body: bytes, media_type: bytes) -> None:
        self.body = body
        self.status_code = 200
        self.background = None
        self.raw_headers = [(b"content-length", b"%d" % len(body)), (b"content-type", media_type)]


class ShortWay:
    """ASGI app: POST to one of our paths goes straight to its handler, all else on to another app."""

    def __init__(self, app: ASGIApp, of: FastAPI, routers: Sequence[APIRouter]) -> None:
        """Take the routes of an app whose handlers ask for nothing but the request.

        Args:
            of: the app whose `state` the handlers use.
            routers: whose POSTs go the short way; none of their paths has parameters.
        """
        self._app = app
        self._of = of
        self.routes: dict[str, tuple[Any, Callable[[Request], Awaitable[Response]]]] = {
            route.path: (route, route.endpoint)
            for router in routers
            for route in router.routes
            if isinstance(route, Route)
        }
        # Addresses put together by hand end in a slash as often as not.
        self.routes |= {f"{path}/": found for path, found in self.routes.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        found = self.routes.get(scope["path"]) if scope["type"] == "http" else None
        if found is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["app"] = self._of
        scope["route"], handler = found
        try:
            response = await handler(Request(scope, receive))
        except Exception as error:
            refusal = refusal_of(error)
            if refusal is None:
                raise
            response = refusal.response()
        await response(scope, receive, send)


class BehindTheGate(FastAPI):
    """FastAPI as uvicorn sees it: gate and short way stand before all of its own layers."""

    def put_behind(
        self,
        allowed_hosts: frozenset[str],
        answered: Answered,
        short: Sequence[APIRouter],
        at_once: Mapping[str, Taking],
    ) -> None:
        """Put the gate up; call it once, when the routes are there. See `Gate`, `ShortWay` and `Door`."""
        short_way = ShortWay(super().__call__, self, short)
        self._gate = Gate(short_way, allowed_hosts, answered)
        paths = {
            path: Path(route, at_once[route.path])
            for path, (route, _handler) in short_way.routes.items()
            if route.path in at_once
        }
        #: for `api.door.at_once.HttpProtocol`; any other server of ASGI does without
        self.door = Door(self._gate, self.state.bodies, self, paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await self._gate(scope, receive, send)
