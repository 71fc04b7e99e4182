"""Vercel's AI SDK for TypeScript (`experimental_telemetry`): spans ai.generateText, ai.streamText ...

Each answer of a model is a span of its own, ...doGenerate, ...doStream or ...doEmbed, beneath the one of the
function that the application called, which repeats the last answer and sums up the tokens of all. Content
stands in ai.prompt.messages and ai.response.*, beside gen_ai.* without content. The provider's name has the
name of its API behind it ("openai.chat"), finish reasons are the SDK's own words with hyphens.
"""

from typing import Any

from ingest.otlp.facts import Facts, Role
from ingest.otlp.messages import Message, messages_of
from ingest.otlp.reading.items import Span
from ingest.otlp.values import (
    Attributes,
    as_value,
    count_in,
    id_in,
    json_in,
    name_in,
    number_in,
    tags_of,
    text_in,
)

_OPERATION = "ai.operationId"
_METADATA = "ai.telemetry.metadata."
_USER = (f"{_METADATA}userId", f"{_METADATA}user_id")
_SESSION = (f"{_METADATA}sessionId", f"{_METADATA}session_id")


def speaks(span: Span) -> bool:
    """Whether the SDK wrote the span."""
    return _OPERATION in span.attributes


def read(span: Span) -> tuple[Role, Facts] | None:
    """Return the call of a span that asked a provider; None for the functions around it and for tools."""
    attributes = span.attributes
    asked = (name_in(attributes, _OPERATION) or "").rpartition(".")[2]
    if asked not in ("doGenerate", "doStream", "doEmbed"):
        return None
    provider = name_in(attributes, "ai.model.provider", "gen_ai.system") or ""
    reason = name_in(attributes, "ai.response.finishReason")
    return "whole", Facts(
        operation="embeddings" if asked == "doEmbed" else "",
        provider=provider.partition(".")[0] or None,
        model=name_in(attributes, "ai.response.model", "gen_ai.response.model"),
        request_model=name_in(attributes, "ai.model.id", "gen_ai.request.model"),
        input=_input(attributes),
        output=_output(attributes),
        finish_reason=reason and reason.replace("-", "_"),
        first_token_ms=number_in(attributes, "ai.response.msToFirstChunk"),
        input_tokens=count_in(attributes, "ai.usage.inputTokens", "ai.usage.promptTokens", "ai.usage.tokens"),
        output_tokens=count_in(attributes, "ai.usage.outputTokens", "ai.usage.completionTokens"),
        cached_input_tokens=count_in(attributes, "ai.usage.cachedInputTokens"),
        reasoning_tokens=count_in(attributes, "ai.usage.reasoningTokens"),
        response_id=id_in(attributes, "ai.response.id", "gen_ai.response.id"),
        user_id=id_in(attributes, *_USER),
        session_id=id_in(attributes, *_SESSION),
        # Which part of the application asked: the nearest that the SDK has to a prompt's name.
        prompt_name=name_in(attributes, "ai.telemetry.functionId"),
        tags=_tags(attributes) or None,
    )


def _input(attributes: Attributes) -> list[Message] | None:
    values = attributes.get("ai.values")
    if isinstance(values, list):
        return messages_of([as_value(value) for value in values], "user")
    said = json_in(attributes, "ai.prompt.messages", "ai.prompt")
    if isinstance(said, list):
        said = [_in_common_words(message) for message in said]
    return messages_of(said, "user")


def _output(attributes: Attributes) -> list[Message] | None:
    text = text_in(attributes, "ai.response.text", "ai.response.object")
    calls = json_in(attributes, "ai.response.toolCalls")
    parts = [_part(call | {"type": "tool-call"}) for call in _objects(calls)]
    if text is None and not parts:
        return None
    content = [{"type": "text", "text": text}] if text else []
    return messages_of([{"role": "assistant", "content": [*content, *parts] or ""}], "assistant")


def _in_common_words(message: Any) -> Any:
    """Return a message with its parts in the words that `ingest.otlp.messages` knows."""
    if isinstance(message, dict) and isinstance(message.get("content"), list):
        return {**message, "content": [_part(part) for part in _objects(message["content"])]}
    return message


def _part(part: dict[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    if kind == "tool-call":
        return {
            "type": "tool_call",
            "id": part.get("toolCallId"),
            "name": part.get("toolName"),
            "arguments": part.get("input", part.get("args")),
        }
    if kind == "tool-result":
        found = part.get("output", part.get("result"))
        if isinstance(found, dict) and "value" in found:  # since SDK 5: {"type": "text" or "json", "value"}
            found = found["value"]
        return {"type": "tool_call_response", "id": part.get("toolCallId"), "response": found}
    if isinstance(part.get("mediaType"), str):
        return {**part, "media_type": part["mediaType"]}
    return part


def _objects(values: Any) -> list[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _tags(attributes: Attributes) -> dict[str, str]:
    return tags_of(
        (name.removeprefix(_METADATA), value)
        for name, value in attributes.items()
        if name.startswith(_METADATA) and name not in (*_USER, *_SESSION)
    )
