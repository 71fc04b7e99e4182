"""A loopback `POST /v1/systemone`: checks requests as TypeSafe documents it, answers in its shape.

Flow: `critic.drivers.systemone` over real HTTP -> `SystemOneProvider` -> the next fault, else an answer whose
levels `judge` gives. The default judge obeys what stands outside the fences.
"""

import json
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.providers.loopback import Fault, Provider, level_ordered_in, shares_of, without_fenced

KEY = "ts-loopback-0123456789"
MODEL = "jev-loopback"


class _Sent(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ScoreQuestion(_Sent):
    type: str = Field(pattern="^score$")
    instructions: str = Field(min_length=1)
    criteria: list[str] = Field(min_length=2, max_length=10)


class SystemOneRequest(_Sent):
    """What the endpoint takes, as far as our driver uses it; 64 questions at most, a state of text."""

    model: str
    state: str = Field(min_length=1)
    questions: dict[str, ScoreQuestion] = Field(min_length=1, max_length=64)

    @property
    def case(self) -> str:
        """The rendered view, with the line before it."""
        return self.state


def obedient(request: SystemOneRequest, _name: str) -> float | list[float] | None:
    """Answer 1, unless something outside the fences orders another level."""
    return level_ordered_in(without_fenced(request.case, told=request.case))


class SystemOneProvider(Provider):
    """See the module; one per test. A `judge` that gives None refuses that question."""

    def __init__(self) -> None:
        super().__init__("/v1/systemone", base_path="")
        self.judge: Callable[[SystemOneRequest, str], float | list[float] | None] = obedient
        self.requests: list[SystemOneRequest] = []

    async def answer(self, request: Request) -> Response:
        """See `Provider.answer`."""
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return self.error(Fault(401, "authentication_error", message="Invalid API key"))
        try:
            sent = SystemOneRequest.model_validate_json(await request.body())
        except ValidationError as error:
            detail = [{"loc": list(one["loc"]), "msg": one["msg"]} for one in error.errors()]
            return JSONResponse({"detail": detail}, status_code=422)
        self.requests.append(sent)
        if sent.model != MODEL:
            return self.error(Fault(400, "invalid_request", message=f"Unknown model: {sent.model}"))
        return await self.respond(sent, lambda: self._decision(sent))

    def error(self, fault: Fault) -> Response:
        """See `Provider.error`."""
        detail = {"error_type": fault.code or "error", "message": fault.message}
        headers = {"x-typesafe-request-id": "req_loopback", **fault.headers}
        return JSONResponse({"detail": detail}, status_code=fault.status, headers=headers)

    def _decision(self, sent: SystemOneRequest) -> bytes:
        answers = {name: self._answer(sent, name) for name in sent.questions}
        usage = {"input_tokens": len(sent.state) // 4, "output_tokens": 7 * len(answers)}
        return json.dumps({"model": f"{sent.model}-1.13.0", "answers": answers, "usage": usage}).encode()

    def _answer(self, sent: SystemOneRequest, name: str) -> dict[str, Any]:
        verdict = self.judge(sent, name)
        if verdict is None:
            return {"type": "refusal"}
        shares = [round(share, 4) for share in shares_of(verdict)]
        return {
            "type": "score",
            "score": sum(place * share for place, share in enumerate(shares)),
            "legend": {str(place): text for place, text in enumerate(sent.questions[name].criteria)},
            "probabilities": {str(place): share for place, share in enumerate(shares)},
            "confidence": max(shares),
        }
