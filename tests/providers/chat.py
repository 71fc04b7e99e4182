"""A loopback `POST /v1/chat/completions`: structured output, log-probabilities, or words, as asked for.

Flow: `critic.drivers.chat_logprobs` and `.chat_draws` over real HTTP, or the openai SDK -> `ChatProvider` ->
the next fault, else an answer in the SDK's own types. The default judge obeys what stands outside the fences.
"""

import json
import math
from collections.abc import Callable
from typing import Any

from openai.types.chat import ChatCompletion
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.providers.loopback import Fault, Provider, level_ordered_in, shaped, shares_of, without_fenced

KEY = "sk-chat-loopback-0123456789"
MODEL = "chat-loopback"


class _Sent(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Message(_Sent):
    role: str = Field(pattern="^(system|user)$")
    content: str = Field(min_length=1)


class NamedSchema(_Sent):
    name: str
    strict: bool
    schema_: dict[str, Any] = Field(alias="schema")


class ResponseFormat(_Sent):
    type: str = Field(pattern="^json_schema$")
    json_schema: NamedSchema


class ChatRequest(_Sent):
    """What the endpoint takes, as far as our drivers use it."""

    model: str
    messages: list[Message] = Field(min_length=2, max_length=2)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: ResponseFormat | None = None

    @property
    def case(self) -> str:
        """The rendered view, with the line before it."""
        return self.messages[-1].content

    @property
    def names(self) -> list[str]:
        """The questions asked for as one object; none for one digit or for words."""
        return list(self.response_format.json_schema.schema_["properties"]) if self.response_format else []


def obedient(request: ChatRequest, _name: str) -> float | list[float]:
    """Answer 1, unless something outside the fences orders another level."""
    return level_ordered_in(without_fenced(request.case, told=request.case))


class ChatProvider(Provider):
    """See the module; one per test.

    Attributes:
        refuses: whether every answer is a refusal.
        text: what is sent as the text instead of the object or the words.
        tokens: what is sent as log-probabilities instead of digits: {token: probability}, a dict a place.
        top_logprobs_max: more alternatives than this are a 400, as at servers that allow fewer.
        knows_logprobs: whether it has any; where not, it leaves them out without a word.
    """

    def __init__(self) -> None:
        super().__init__("/v1/chat/completions", base_path="")
        self.judge: Callable[[ChatRequest, str], Any] = obedient
        self.refuses = False
        self.finish_reason = "stop"
        self.text: str | None = None
        self.tokens: list[dict[str, float]] | None = None
        self.top_logprobs_max = 20
        self.knows_logprobs = True
        self.requests: list[ChatRequest] = []

    async def answer(self, request: Request) -> Response:
        """See `Provider.answer`."""
        if request.headers.get("authorization") != f"Bearer {KEY}":
            said = f"Incorrect API key provided: {request.headers.get('authorization')}."
            return self.error(Fault(401, "invalid_api_key", "invalid_request_error", said))
        try:
            sent = ChatRequest.model_validate_json(await request.body())
        except ValidationError as error:
            return self.error(Fault(400, None, "invalid_request_error", str(error)))
        self.requests.append(sent)
        if sent.model != MODEL:
            said = f"The model `{sent.model}` does not exist."
            return self.error(Fault(404, "model_not_found", "NotFoundError", said))
        if (sent.top_logprobs or 0) > self.top_logprobs_max:
            said = f"top_logprobs must be at most {self.top_logprobs_max}."
            return self.error(Fault(400, None, "invalid_request_error", said))
        return await self.respond(sent, lambda: self._completion(sent))

    def error(self, fault: Fault) -> Response:
        """See `Provider.error`."""
        body = {"message": fault.message, "type": fault.type, "param": fault.param, "code": fault.code}
        return JSONResponse({"error": body}, status_code=fault.status, headers=fault.headers)

    def _completion(self, sent: ChatRequest) -> bytes:
        tokens_in = sum(len(message.content) for message in sent.messages) // 4
        message = {"role": "assistant", "content": self._text(sent), "refusal": None}
        if self.refuses:
            message |= {"content": None, "refusal": "I can't help with that."}
        completion = {
            "id": "chatcmpl-loopback",
            "object": "chat.completion",
            "created": 1_790_000_000,
            "model": f"{sent.model}-2026-10-01",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": self.finish_reason,
                    "message": message,
                    "logprobs": self._logprobs(sent),
                }
            ],
            "usage": {
                "prompt_tokens": tokens_in,
                "completion_tokens": 1,
                "total_tokens": tokens_in + 1,
                "prompt_tokens_details": {"cached_tokens": tokens_in // 2},
            },
        }
        return TypeAdapter(ChatCompletion).dump_json(ChatCompletion.model_validate(completion))

    def _text(self, sent: ChatRequest) -> str:
        if self.text is not None:
            return self.text
        if sent.names:
            schema = sent.response_format.json_schema.schema_ if sent.response_format else {}
            levels = {name: _whole(self.judge(sent, name)) for name in sent.names}
            return json.dumps(shaped(levels, schema["properties"]))
        return "7" if sent.logprobs else "The answer never names the day."

    def _logprobs(self, sent: ChatRequest) -> dict[str, Any] | None:
        if not sent.logprobs or not self.knows_logprobs or self.refuses:
            return None
        places = self.tokens
        if places is None:
            shares = shares_of(self.judge(sent, ""))
            places = [{str(level): share for level, share in enumerate(shares, start=1)}]
        return {"content": [_place(place, sent.top_logprobs or 0) for place in places], "refusal": None}


def _whole(level: Any) -> Any:
    return int(level) if isinstance(level, float) and level.is_integer() else level


def _place(place: dict[str, float], top: int) -> dict[str, Any]:
    """Return one token's place; the likeliest is the one drawn, and `top` are named."""
    likeliest = sorted(place.items(), key=lambda entry: -entry[1])
    entries = [
        {"token": token, "bytes": list(token.encode()), "logprob": math.log(share) if share else -9999.0}
        for token, share in likeliest
    ]
    return {**entries[0], "top_logprobs": entries[:top]}
