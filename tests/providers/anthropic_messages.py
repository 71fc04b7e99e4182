"""A loopback `POST /v1/messages`: checks requests as Anthropic does, answers in the SDK's own types.

Flow: a real `anthropic.AsyncAnthropic` -> `MessagesProvider` -> one text block that is an object of the
schema asked for, whose levels `judge` gives. The default judge obeys what stands outside the fences.
"""

import json
from collections.abc import Callable
from typing import Any

from anthropic.types import Message
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.providers.loopback import Fault, Provider, level_ordered_in, shaped, without_fenced

KEY = "sk-ant-loopback-0123456789"
MODEL = "claude-loopback"

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class _Sent(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class CacheControl(_Sent):
    type: str = Field(pattern="^ephemeral$")


class SystemBlock(_Sent):
    type: str = Field(pattern="^text$")
    text: str = Field(min_length=1)
    cache_control: CacheControl | None = None


class UserMessage(_Sent):
    role: str = Field(pattern="^user$")
    content: str = Field(min_length=1)


class Schema(_Sent):
    type: str = Field(pattern="^object$")
    properties: dict[str, dict[str, Any]]
    required: list[str]
    additionalProperties: bool  # the API insists that it is false


class Format(_Sent):
    type: str = Field(pattern="^json_schema$")
    schema_: Schema = Field(alias="schema")


class OutputConfig(_Sent):
    format: Format


class MessagesRequest(_Sent):
    """What the endpoint takes, as far as our driver uses it; sampling arguments are refused as there."""

    model: str
    max_tokens: int = Field(ge=1)
    system: list[SystemBlock] | str
    messages: list[UserMessage] = Field(min_length=1)
    output_config: OutputConfig | None = None

    @property
    def case(self) -> str:
        """The rendered view, with the line before it."""
        return self.messages[-1].content

    @property
    def names(self) -> list[str]:
        """The questions asked for as one object; none where words are asked for."""
        return list(self.output_config.format.schema_.properties) if self.output_config else []


def obedient(request: MessagesRequest, _name: str) -> int:
    """Answer 1, unless something outside the fences orders another level."""
    return int(level_ordered_in(without_fenced(request.case, told=request.case)))


class MessagesProvider(Provider):
    """See the module; one per test. `stop_reason` other than end_turn leaves the text out."""

    def __init__(self) -> None:
        super().__init__("/v1/messages", base_path="")
        self.judge: Callable[[MessagesRequest, str], Any] = obedient
        self.stop_reason = "end_turn"
        #: what is sent as the text instead of the object
        self.text: str | None = None
        self.requests: list[MessagesRequest] = []

    async def answer(self, request: Request) -> Response:
        """See `Provider.answer`."""
        # This SDK sends its key as a bearer token; older ones as x-api-key. The API takes either.
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        if KEY not in (key, request.headers.get("x-api-key")):
            return self.error(Fault(401, message="invalid x-api-key"))
        try:
            sent = MessagesRequest.model_validate_json(await request.body())
        except ValidationError as error:
            return self.error(Fault(400, message=str(error)))
        self.requests.append(sent)
        if sent.model != MODEL:
            return self.error(Fault(404, message=f"model: {sent.model}"))
        return await self.respond(sent, lambda: self._message(sent))

    def error(self, fault: Fault) -> Response:
        """See `Provider.error`."""
        error: dict[str, Any] = {
            "type": fault.type or _TYPES.get(fault.status, "api_error"),
            "message": fault.message,
        }
        if fault.code:
            error["details"] = {"error_code": fault.code}
        body = {"type": "error", "error": error, "request_id": "req_loopback"}
        return JSONResponse(body, status_code=fault.status, headers=fault.headers)

    def _message(self, sent: MessagesRequest) -> bytes:
        levels = {name: self.judge(sent, name) for name in sent.names}
        properties = sent.output_config.format.schema_.properties if sent.output_config else {}
        text = json.dumps(shaped(levels, properties)) if levels else "The answer never names the day."
        text = text if self.text is None else self.text
        content = [{"type": "text", "text": text}] if self.stop_reason == "end_turn" else []
        message = {
            "id": "msg_loopback",
            "type": "message",
            "role": "assistant",
            "model": f"{sent.model}-20261001",
            "content": content,
            "stop_reason": self.stop_reason,
            "stop_sequence": None,
            "usage": {"input_tokens": 11, "cache_read_input_tokens": 90, "output_tokens": 5},
        }
        return TypeAdapter(Message).dump_json(Message.model_validate(message))
