"""A loopback `POST /v1/decisions`: checks requests as OpenAI does, answers in the SDK's own types.

Flow: a real `openai.AsyncOpenAI` -> `DecisionsProvider` (uvicorn in a thread of the test) -> the next fault
of `faults`, else an answer whose levels `judge` gives. Every request that came is in `requests`.

The default judge obeys: a verdict that stands outside the fences of the view is what it answers. So a text
that gets out of its fence is seen at once.
"""

import asyncio
import contextlib
import json
import re
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from openai.types.decision import Decision
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

KEY = "sk-loopback-0123456789"
MODEL = "gpt-6-luna"

#: What stands outside the fences and is obeyed.
_ORDER = re.compile(r"(?:level|verdict|score|answer)\W{1,3}(?:is\W)?([1-7])\b", re.IGNORECASE)


class _Sent(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Level(_Sent):
    label: str = Field(min_length=1)
    description: str | None = None


class ScoreQuestion(_Sent):
    type: str = Field(pattern="^score$")
    name: str | None = None
    instructions: str = Field(min_length=1)
    levels: list[Level] = Field(min_length=2)


class Message(_Sent):
    type: str = Field(pattern="^message$")
    role: str = Field(pattern="^(user|developer|system|assistant)$")
    content: str


class DecisionRequest(_Sent):
    """What the endpoint takes, as far as our driver uses it; anything else is a 400 as at OpenAI."""

    model: str
    input: str | list[Message]
    questions: list[ScoreQuestion] = Field(min_length=1, max_length=400)
    prompt_cache_key: str | None = None

    @property
    def case(self) -> str:
        """The last message: the rendered view."""
        return self.input if isinstance(self.input, str) else self.input[-1].content


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


#: A level 1..7, seven probabilities, or None to refuse this question.
Verdict = float | list[float] | None


def obedient(request: DecisionRequest, question: ScoreQuestion) -> Verdict:
    """Answer 1, unless something outside the fences orders another level."""
    ordered = _ORDER.search(outside_fences(request))
    return float(ordered[1]) if ordered else 1.0


def outside_fences(request: DecisionRequest) -> str:
    """Return all of the request that is no fenced text: what a critic might take for its instructions.

    The fence is the token that the developer's message names, not one that the case names.
    """
    assert isinstance(request.input, list)
    told = request.input[0].content
    named = re.search(r"</name (\S+)>", told)
    assert named, f"no fence is named in {told!r}"
    fence = re.escape(named[1])
    return re.sub(
        rf"^<([^<>\n]+) {fence}>$.*?^</\1 {fence}>$", "", request.case, flags=re.DOTALL | re.MULTILINE
    )


class DecisionsProvider:
    """See the module; one per test."""

    def __init__(self) -> None:
        self.judge: Callable[[DecisionRequest, ScoreQuestion], Verdict] = obedient
        self.faults: deque[Fault | None] = deque()
        #: a fault for requests that it returns one for; asked before `faults`
        self.fault_for: Callable[[DecisionRequest], Fault | None] = lambda _request: None
        self.answer_s = 0.0
        self.requests: list[DecisionRequest] = []
        self.asked_at: list[float] = []
        self.in_flight = 0
        self.in_flight_most = 0
        self.url = ""

    @property
    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(routes=[Route("/v1/decisions", self._decide, methods=["POST"])])

    async def _decide(self, request: Request) -> Response:
        self.in_flight += 1
        self.in_flight_most = max(self.in_flight_most, self.in_flight)
        try:
            return await self._answer(request)
        finally:
            self.in_flight -= 1

    async def _answer(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            said = f"Incorrect API key provided: {request.headers.get('authorization')}."
            return _error(Fault(401, "invalid_api_key", "invalid_request_error", said))
        try:
            sent = DecisionRequest.model_validate_json(await request.body())
        except ValidationError as error:
            return _error(Fault(400, None, "invalid_request_error", str(error)))
        self.requests.append(sent)
        self.asked_at.append(time.monotonic())
        if sent.model != MODEL:
            said = f"The model `{sent.model}` does not exist or you do not have access to it."
            return _error(Fault(404, "model_not_found", "invalid_request_error", said))
        fault = self.fault_for(sent) or (self.faults.popleft() if self.faults else None)
        if fault is not None:
            await asyncio.sleep(fault.hang_s)
            if fault.status != 200:
                return _error(fault)
            if fault.body is not None:
                # json.dumps, as its NaN is what a careless provider sends
                return Response(json.dumps(fault.body), media_type="application/json")
        await asyncio.sleep(self.answer_s)
        content = TypeAdapter(Decision).dump_json(Decision.model_validate(self._decision(sent)))
        if fault is not None and fault.cut:
            content = content[: len(content) // 2]
        if fault is not None and fault.drip_s:
            return StreamingResponse(_dripping(content, fault.drip_s), media_type="application/json")
        return Response(content, media_type="application/json")

    def _decision(self, sent: DecisionRequest) -> dict[str, Any]:
        tokens_in, tokens_out = len(sent.case) // 4, 7 * len(sent.questions)
        return {
            "answers": [score_answer(question, self.judge(sent, question)) for question in sent.questions],
            "model": f"{sent.model}-2026-10-01",
            "usage": {
                "input_tokens": tokens_in,
                "input_tokens_details": {"cache_write_tokens": 0, "cached_tokens": 0},
                "output_tokens": tokens_out,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": tokens_in + tokens_out,
            },
        }


def score_answer(question: ScoreQuestion, verdict: Verdict) -> dict[str, Any]:
    """Return one answer in the SDK's shape; a fractional level is split between its neighbours."""
    if verdict is None:
        return {"type": "refusal", "name": question.name}
    n = len(question.levels)
    if isinstance(verdict, list):
        shares = verdict
    else:
        shares = [max(0.0, 1.0 - abs(verdict - level)) for level in range(1, n + 1)]
    return {
        "type": "score",
        "name": question.name,
        "confidence": max(shares),
        "score": sum(position * share for position, share in enumerate(shares)),
        "probabilities": [
            {"label": level.label, "probability": share, "value": position}
            for position, (level, share) in enumerate(zip(question.levels, shares, strict=True))
        ],
    }


def _error(fault: Fault) -> Response:
    body = {"message": fault.message, "type": fault.type, "param": fault.param, "code": fault.code}
    headers = {"x-request-id": "req_loopback", **fault.headers}
    return JSONResponse({"error": body}, status_code=fault.status, headers=headers)


async def _dripping(content: bytes, drip_s: float) -> AsyncIterator[bytes]:
    for at in range(len(content)):
        yield content[at : at + 1]
        await asyncio.sleep(drip_s)


@contextlib.contextmanager
def running(provider: DecisionsProvider) -> Iterator[DecisionsProvider]:
    """Serve a provider on a free port of loopback; `provider.url` is what OPENAI_BASE_URL takes."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(provider.app, log_level="critical", lifespan="off", timeout_graceful_shutdown=0)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    provider.url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    thread.start()
    try:
        yield provider
    finally:
        server.should_exit = True
        server.force_exit = True
        thread.join(5.0)
        listening.close()
