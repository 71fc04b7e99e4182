"""A loopback `POST /v1/decisions`: checks requests as OpenAI does, answers in the SDK's own types.

Flow: a real `openai.AsyncOpenAI` -> `DecisionsProvider` (uvicorn in a thread of the test) -> the next fault
of `faults`, else an answer whose levels `judge` gives. Every request that came is in `requests`.

The default judge obeys: a verdict that stands outside the fences of the view is what it answers. So a text
that gets out of its fence is seen at once.
"""

from collections.abc import Callable
from typing import Any

from openai.types.decision import Decision
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.providers.loopback import Fault, Provider, level_ordered_in, shares_of, without_fenced

KEY = "sk-loopback-0123456789"
MODEL = "gpt-6-luna"


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


#: A level 1..7, seven probabilities, or None to refuse this question.
Verdict = float | list[float] | None


def obedient(request: DecisionRequest, question: ScoreQuestion) -> Verdict:
    """Answer 1, unless something outside the fences orders another level."""
    return level_ordered_in(outside_fences(request))


def outside_fences(request: DecisionRequest) -> str:
    """Return all of the case that is no fenced text, by the fence that the developer's message names."""
    assert isinstance(request.input, list)
    return without_fenced(request.case, told=request.input[0].content)


class DecisionsProvider(Provider):
    """See the module; one per test."""

    def __init__(self) -> None:
        super().__init__("/v1/decisions", base_path="/v1")
        self.judge: Callable[[DecisionRequest, ScoreQuestion], Verdict] = obedient
        self.requests: list[DecisionRequest] = []
        self.cache_write_tokens = 0
        self.model_reported = f"{MODEL}-2026-10-01"

    async def answer(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            said = f"Incorrect API key provided: {request.headers.get('authorization')}."
            return self.error(Fault(401, "invalid_api_key", "invalid_request_error", said))
        try:
            sent = DecisionRequest.model_validate_json(await request.body())
        except ValidationError as error:
            return self.error(Fault(400, None, "invalid_request_error", str(error)))
        self.requests.append(sent)
        if sent.model != MODEL:
            said = f"The model `{sent.model}` does not exist or you do not have access to it."
            return self.error(Fault(404, "model_not_found", "invalid_request_error", said))
        return await self.respond(sent, lambda: self._decision(sent))

    def error(self, fault: Fault) -> Response:
        """See `Provider.error`."""
        body = {"message": fault.message, "type": fault.type, "param": fault.param, "code": fault.code}
        headers = {"x-request-id": "req_loopback", **fault.headers}
        return JSONResponse({"error": body}, status_code=fault.status, headers=headers)

    def _decision(self, sent: DecisionRequest) -> bytes:
        tokens_in, tokens_out = len(sent.case) // 4, 7 * len(sent.questions)
        decision = {
            "answers": [score_answer(question, self.judge(sent, question)) for question in sent.questions],
            "model": self.model_reported,
            "usage": {
                "input_tokens": tokens_in,
                "input_tokens_details": {"cache_write_tokens": self.cache_write_tokens, "cached_tokens": 0},
                "output_tokens": tokens_out,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": tokens_in + tokens_out,
            },
        }
        return TypeAdapter(Decision).dump_json(Decision.model_validate(decision))


def score_answer(question: ScoreQuestion, verdict: Verdict) -> dict[str, Any]:
    """Return one answer in the SDK's shape; a fractional level is split between its neighbours."""
    if verdict is None:
        return {"type": "refusal", "name": question.name}
    shares = shares_of(verdict, len(question.levels))
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
