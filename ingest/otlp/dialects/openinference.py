"""OpenInference (Arize, Phoenix; also LiteLLM's and LangChain's exporters): llm.*, input.value, output.value.

Messages are spelled out attribute by attribute, the prompt again in input.value. Span kind is INTERNAL; what
a span is says openinference.span.kind. The response id and the status of a Responses call stand only in the
JSON of output.value; the first token is an event; a closed stream has no finish reason and no status.
"""

from typing import Any

from ingest.otlp.dialects.genai import as_object, token_details
from ingest.otlp.facts import Facts, Role
from ingest.otlp.messages import messages_of
from ingest.otlp.reading.items import Span
from ingest.otlp.values import (
    Attributes,
    as_value,
    count_in,
    id_in,
    indexed,
    is_true,
    name_in,
    number_in,
    object_in,
    tags_of,
)

_KIND = "openinference.span.kind"
_FIRST_TOKEN = "First Token Stream Event"  # noqa: S105 - an event's name


def speaks(span: Span) -> bool:
    """Whether the span says what kind it is."""
    return _KIND in span.attributes


def read(span: Span) -> tuple[Role, Facts] | None:
    """Return the call of an LLM, EMBEDDING or DECISION span; None for the other kinds."""
    attributes = span.attributes
    kind = name_in(attributes, _KIND)
    if kind not in ("LLM", "EMBEDDING", "DECISION"):
        return None
    prefix = "decision" if kind == "DECISION" else "embedding" if kind == "EMBEDDING" else "llm"
    asked = {
        **object_in(attributes, "input.value"),
        **object_in(attributes, f"{prefix}.invocation_parameters"),
    }
    answered = object_in(attributes, "output.value")
    facts = Facts(
        operation={"DECISION": "decisions", "EMBEDDING": "embeddings"}.get(kind, ""),
        provider=name_in(attributes, f"{prefix}.provider", f"{prefix}.system", "llm.system"),
        model=name_in(attributes, f"{prefix}.response.model_name") or name_in(answered, "model"),
        request_model=name_in(asked, "model") or name_in(attributes, f"{prefix}.request.model_name"),
        input=_input(attributes, prefix),
        output=_output(attributes, prefix),
        finish_reason=name_in(attributes, "llm.finish_reason"),
        response_id=id_in(answered, "id"),
        user_id=id_in(attributes, "user.id") or id_in(asked, "user"),
        prompt_name=name_in(attributes, "llm.prompt_template.name", "prompt.id"),
        prompt_version=name_in(attributes, "llm.prompt_template.version"),
        cost_usd=number_in(attributes, "llm.cost.total"),
        tags=_tags(attributes) or None,
    )
    facts.model = facts.model or name_in(attributes, f"{prefix}.model_name")
    _add_usage(facts, attributes, answered)
    _add_ending(facts, span, asked, answered)
    return "whole", facts


def _add_usage(facts: Facts, attributes: Attributes, answered: dict[str, Any]) -> None:
    facts.input_tokens = count_in(attributes, "llm.token_count.prompt", "decision.token_count.input")
    facts.output_tokens = count_in(attributes, "llm.token_count.completion", "decision.token_count.output")
    facts.cached_input_tokens = count_in(attributes, "llm.token_count.prompt_details.cache_read")
    facts.reasoning_tokens = count_in(attributes, "llm.token_count.completion_details.reasoning")
    cached, reasoning = token_details(as_object(answered, "usage"))  # a decision's stand here alone
    if facts.cached_input_tokens is None:
        facts.cached_input_tokens = cached
    if facts.reasoning_tokens is None:
        facts.reasoning_tokens = reasoning


def _add_ending(facts: Facts, span: Span, asked: dict[str, Any], answered: dict[str, Any]) -> None:
    first = next((event for event in span.events if event.name == _FIRST_TOKEN), None)
    if first is not None and first.at_ns >= span.started_ns:
        facts.first_token_ms = (first.at_ns - span.started_ns) / 1e6
    status = answered.get("status")
    if facts.finish_reason is None and status == "completed":
        facts.finish_reason = "stop"
    streamed = first is not None or is_true(asked.get("stream"))
    if streamed and span.status == 0 and facts.finish_reason is None and status is None:
        facts.aborted = True


def _input(attributes: Attributes, prefix: str) -> list[dict[str, Any]] | None:
    spelled = _messages(attributes, "llm.input_messages", "user")
    if spelled is not None:
        return spelled
    if prefix == "embedding":
        texts = [found.get("embedding.text") for found in indexed(attributes, "embedding.embeddings")]
        return messages_of([text for text in texts if isinstance(text, str)], "user") if texts else None
    value = as_value(attributes.get("input.value"))
    if isinstance(value, dict) and prefix == "decision":
        value = value.get("input")
    return messages_of(value, "user")


def _output(attributes: Attributes, prefix: str) -> list[dict[str, Any]] | None:
    if prefix == "embedding":
        return None
    spelled = _messages(attributes, "llm.output_messages", "assistant")
    value = attributes.get("output.value")
    if spelled is not None or not isinstance(value, str):
        return spelled
    return [{"role": "assistant", "content": value}]


def _messages(attributes: Attributes, prefix: str, role: str) -> list[dict[str, Any]] | None:
    """Return messages spelled out as PREFIX.0.message.role, PREFIX.0.message.content ..."""
    messages = []
    for found in indexed(attributes, prefix):
        calls = [_tool_call(call) for call in indexed(found, "message.tool_calls")]
        content: Any = found.get("message.content")
        if content is None:
            parts = [_content_part(part) for part in indexed(found, "message.contents")]
            # Anthropic's tool calls are spelled out twice: as contents and as tool_calls.
            content = [part for part in parts if not (calls and part["type"] == "tool_use")]
        message = {"role": found.get("message.role", role), "content": content, "tool_calls": calls}
        if "message.tool_call_id" in found:
            message["tool_call_id"] = found["message.tool_call_id"]
        messages.append(message)
    return messages_of(messages, role) if messages else None


def _content_part(part: dict[str, Any]) -> dict[str, Any]:
    kind = part.get("message_content.type")
    if kind == "tool_use":
        return {"type": "tool_use", **_tool_call(part)}
    return {
        "type": kind if isinstance(kind, str) else "text",
        "text": part.get("message_content.text"),
        "url": part.get("message_content.image.image.url", part.get("message_content.audio.audio.url")),
    }


def _tool_call(call: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": call.get("tool_call.id"),
        "name": call.get("tool_call.function.name"),
        "arguments": call.get("tool_call.function.arguments"),
    }


def _tags(attributes: Attributes) -> dict[str, str]:
    labels = attributes.get("tag.tags")
    told = [(label, "true") for label in labels if isinstance(label, str)] if isinstance(labels, list) else []
    # Ids are no tags, and what LangChain notes about itself is no tag of the application's.
    metadata = [
        (key, value)
        for key, value in object_in(attributes, "metadata").items()
        if key not in ("session_id", "thread_id", "user_id") and not key.startswith(("ls_", "langgraph_"))
    ]
    return tags_of([*metadata, *told])
