"""What every loopback provider has: programmable faults, counts of what is in flight, a port.

Flow: a test makes a `Provider` and serves it with `running` (`tests.serving`) -> the real SDK asks ->
`answer` of the provider at hand, which ends in `respond`.
"""

import asyncio
import contextlib
import json
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tests.serving import serving

P = TypeVar("P", bound="Provider")

#: What stands outside the fences and is obeyed.
_ORDER = re.compile(r"(?:level|verdict|score|answer)\W{1,3}(?:is\W)?([1-7])\b", re.IGNORECASE)


@dataclass(frozen=True)
class Fault:
    """One wrong answer. `status` 200 with `body` sends that body as it is.

    Attributes:
        hang_s: seconds before anything is sent.
        drip_s: seconds between single bytes of the answer.
        cut: whether the JSON ends half-way, with a matching length.
    """

    status: int = 200
    code: str | None = None
    type: str | None = None
    message: str = "as programmed"
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    hang_s: float = 0.0
    drip_s: float = 0.0
    cut: bool = False


class Provider:
    """A provider with one route. `faults` are used up one a request; `fault_for` is asked first."""

    def __init__(self, path: str, *, base_path: str) -> None:
        self.faults: deque[Fault | None] = deque()
        #: returns the fault of a request that is to have one, whatever `faults` holds
        self.fault_for: Callable[[Any], Fault | None] = lambda _request: None
        self.answer_s = 0.0
        self.asked_at: list[float] = []
        self.in_flight = 0
        self.in_flight_most = 0
        self.path = path
        self.base_path = base_path
        self.url = ""
        self.app = Starlette(routes=[Route(path, self._take, methods=["POST"])])

    async def answer(self, request: Request) -> Response:
        """Answer one request."""
        raise NotImplementedError

    def error(self, fault: Fault) -> Response:
        """Return a fault as this provider words it."""
        raise NotImplementedError

    async def _take(self, request: Request) -> Response:
        self.in_flight += 1
        self.in_flight_most = max(self.in_flight_most, self.in_flight)
        try:
            return await self.answer(request)
        finally:
            self.in_flight -= 1

    async def respond(self, sent: Any, sound: Callable[[], bytes]) -> Response:
        """Return the JSON of `sound` after the provider's time, or what the request's fault makes of it."""
        self.asked_at.append(time.monotonic())
        fault = self.fault_for(sent) or (self.faults.popleft() if self.faults else None) or Fault()
        await asyncio.sleep(fault.hang_s)
        if fault.status != 200:
            return self.error(fault)
        await asyncio.sleep(self.answer_s)
        # json.dumps, as its NaN is what a careless provider sends
        content = sound() if fault.body is None else json.dumps(fault.body).encode()
        if fault.cut:
            content = content[: len(content) // 2]
        if fault.drip_s:
            return StreamingResponse(_dripping(content, fault.drip_s), media_type="application/json")
        return Response(content, media_type="application/json", headers=fault.headers)


def level_ordered_in(text: str) -> float:
    """Return the level that a text orders; 1 where it orders none. A critic that obeys."""
    ordered = _ORDER.search(text)
    return float(ordered[1]) if ordered else 1.0


def shares_of(verdict: float | list[float], levels: int = 7) -> list[float]:
    """Return a level's shares; a fractional one is split between its neighbours."""
    if isinstance(verdict, list):
        return verdict
    return [max(0.0, 1.0 - abs(verdict - level)) for level in range(1, levels + 1)]


def shaped(levels: dict[str, Any], schemas: Mapping[str, Any]) -> dict[str, Any]:
    """Return levels as structured output would: an object with its reason first where the schema asks so."""
    answer: dict[str, Any] = {}
    for name, schema in schemas.items():
        if schema["type"] != "object":
            answer[name] = levels[name]
            continue
        assert schema["additionalProperties"] is False, "providers refuse any other object"
        assert schema["required"] == list(schema["properties"]), "providers want every property there"
        given = {"reason": "It names no day. The level is 7.", "level": levels[name]}
        answer[name] = {part: given[part] for part in schema["properties"]}
    return answer


def without_fenced(case: str, *, told: str) -> str:
    """Return all of a case that is no fenced text, by the fence named in `told`, not by one in the case."""
    named = re.search(r"</name (\S+)>", told)
    assert named, f"no fence is named in {told!r}"
    fence = re.escape(named[1])
    return re.sub(rf"^<([^<>\n]+) {fence}>$.*?^</\1 {fence}>$", "", case, flags=re.DOTALL | re.MULTILINE)


async def _dripping(content: bytes, drip_s: float) -> AsyncIterator[bytes]:
    for at in range(len(content)):
        yield content[at : at + 1]
        await asyncio.sleep(drip_s)


@contextlib.contextmanager
def running(provider: P) -> Iterator[P]:
    """Serve a provider on a free port of loopback; `provider.url` is what the SDK takes as its address."""
    with serving(provider.app) as address:
        provider.url = address + provider.base_path
        yield provider
