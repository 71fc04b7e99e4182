"""What persons and commands send: a few fields, never a batch. Refused by its length, before it is read.

Flow: `api.routes.{cases,experience,rescore}` are made of `ShortJsonRoute`, because FastAPI reads a body of
any size before it asks a dependency; `api.routes.case_forms` asks `check_short` itself.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from api.door.gate import check_json, packing
from api.errors import Refused

#: A root cause of ten thousand characters, each escaped as twelve, with room to spare.
SHORT_BYTES_MAX = 256 * 1024


class ShortJsonRoute(APIRoute):
    """A route whose body, where its method has one, is JSON of at most SHORT_BYTES_MAX."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler behind the checks."""
        handler = super().get_route_handler()
        if self.body_field is None:
            return handler

        async def _answer(request: Request) -> Response:
            check_json(request)
            check_short(request)
            return await handler(request)

        return _answer


def check_short(request: Request) -> None:
    """Refuse a body that is long, does not say how long it is, or is packed: a little gzip unpacks to much.

    Raises:
        Refused: 413, 415.
    """
    if packing(request) is not None:
        raise Refused(415, "packed", "Content-Encoding is gzip; send this as it is.")
    length = request.headers.get("content-length", "")
    if not length.isdigit() or int(length) > SHORT_BYTES_MAX:
        raise Refused(413, "too_large", f"Send at most {SHORT_BYTES_MAX >> 10} KiB, with their length.")
