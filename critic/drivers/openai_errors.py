"""Errors as OpenAI words them, and those who speak like it: vLLM, Ollama, llama.cpp, TypeSafe, gateways.

Flow: status, body and headers -> `failure_of` -> `critic.drivers.statuses.verdict_on`.

    OpenAI, Ollama, llama.cpp   {"error": {"message", "type", "param", "code"}}
    vLLM (older)                {"object": "error", "message", "type", "code": 404}
    OpenRouter                  {"error": {"code": 402, "message"}}
    TypeSafe                    {"detail": {"error_type", "message"}}, 422: {"detail": [{"loc", "msg"}]}
"""

import re
from collections.abc import Mapping
from typing import Any

from critic.drivers.statuses import Failure

_QUOTA = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_credits"}
_TOO_LONG = {"context_length_exceeded", "string_above_max_length", "exceed_context_size_error"}
_DECLINED = {"content_policy_violation", "content_filter", "invalid_prompt"}
_WRONG_MODEL = {"model_not_found", "unknown_model"}

# Servers without codes say it in words only. These decide what to do about an error, never a score.
_SAYS_TOO_LONG = re.compile(
    r"context (?:length|window|size)|maximum (?:context|input|prompt)|prompt is too long|too many tokens",
    re.I,
)
_SAYS_WRONG_MODEL = re.compile(
    r"unknown model|model\W.{0,120}?(?:not found|does not exist|not available)", re.I
)


def failure_of(
    critic: str, status: int, body: Any, headers: Mapping[str, str], *, key_variable: str
) -> Failure:
    """Return what an error status means.

    Args:
        body: parsed JSON, or the text where it is none.
    """
    error = _error(body)
    codes = {str(error[name]) for name in ("code", "type", "error_type") if error.get(name) is not None}
    message = str(error.get("message") or error.get("msg") or body or "no word about why")
    told_model = error.get("param") == "model" or bool(codes & _WRONG_MODEL)
    return Failure(
        critic,
        status,
        message,
        headers,
        key_variable=key_variable,
        quota_spent=bool(codes & _QUOTA),
        wrong_model=status == 400 and (told_model or bool(_SAYS_WRONG_MODEL.search(message))),
        too_long=bool(codes & _TOO_LONG) or (status < 500 and bool(_SAYS_TOO_LONG.search(message))),
        declined=bool(codes & _DECLINED),
    )


def _error(body: Any) -> Mapping[str, Any]:
    """Return the object that tells about the error, whatever it is wrapped in."""
    for name in ("error", "detail"):
        if isinstance(body, Mapping) and body.get(name):
            body = body[name]
    if isinstance(body, list) and body:
        body = body[0]
    return body if isinstance(body, Mapping) else {"message": body if isinstance(body, str) else None}
