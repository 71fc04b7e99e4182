"""OpenTelemetry's GenAI conventions, new and old.

New: gen_ai.provider.name, gen_ai.input.messages and gen_ai.output.messages as JSON texts (or structured),
gen_ai.system_instructions. Old: gen_ai.system, usage in prompt_tokens and completion_tokens, content in span
events or in attributes gen_ai.prompt.N.* and gen_ai.completion.N.*. The other dialects that build upon these
conventions read them through `facts_of`.
"""

from typing import Any

from ingest.otlp.facts import Facts, Role
from ingest.otlp.messages import finish_reason_in, messages_of, system_of
from ingest.otlp.reading.items import Event, Span
from ingest.otlp.values import (
    Attributes,
    FactTable,
    as_value,
    count_in,
    count_of,
    first_of,
    id_of,
    indexed,
    is_true,
    json_in,
    name_in,
    name_of,
    number_in,
    number_of,
    object_in,
)

_MARKS = frozenset(("gen_ai.operation.name", "gen_ai.request.model", "gen_ai.provider.name", "gen_ai.system"))
#: Operations that are an answer in words; others are named in the call's tags.
_CHAT = frozenset(("chat", "generate_content", "text_completion", "completion"))
_OLD_MESSAGES = ("system", "user", "assistant", "tool")


def speaks(span: Span) -> bool:
    """Whether the span has any attribute that the conventions require."""
    return not _MARKS.isdisjoint(span.attributes)


def read(span: Span) -> tuple[Role, Facts] | None:
    """Return the call of a span; None where it names no model."""
    facts = facts_of(span.attributes)
    if facts.model is None and facts.request_model is None:
        return None
    for event in span.events:
        _read_event(facts, event)
    first_chunk_s = number_in(
        span.attributes, "gen_ai.response.time_to_first_chunk", "gen_ai.server.time_to_first_token"
    )
    if first_chunk_s is not None:
        facts.first_token_ms = first_chunk_s * 1000
    # Closing a stream early is told as finish reason "error" on a span that is none.
    if facts.finish_reason == "error" and span.status != 2 and "error.type" not in span.attributes:
        facts.aborted = True
    return "whole", facts


def facts_of(attributes: Attributes) -> Facts:
    """Return what attributes of the conventions say, be they a span's or a log record's."""
    told = _TABLE.read(attributes)
    told.setdefault("operation", "")
    raw_output = json_in(attributes, "gen_ai.output.messages", "gen_ai.completion")
    told["input"] = _input(attributes)
    told["output"] = messages_of(raw_output, "assistant") or _indexed(
        attributes, "gen_ai.completion", "assistant"
    )
    if "finish_reason" not in told:
        told["finish_reason"] = finish_reason_in(raw_output) or None
    if "gen_ai.usage.raw" in attributes:
        _add_raw_usage(told, object_in(attributes, "gen_ai.usage.raw"))
    return Facts.of(told)


def _operation_of(value: Any) -> str | None:
    operation = name_of(value)
    return "" if operation in _CHAT else operation


def _reason_of(value: Any) -> str | None:
    return first_of(value) or None


def _cost_of(value: Any) -> float | None:
    # A cost of nothing is what they write who know no price.
    return number_of(value) or None


#: `input_tokens` is everything the model read, its cache included.
_TABLE = FactTable(
    operation=(_operation_of, ("gen_ai.operation.name", "llm.request.type")),
    provider=(name_of, ("gen_ai.provider.name", "gen_ai.system")),
    model=(name_of, ("gen_ai.response.model",)),
    request_model=(name_of, ("gen_ai.request.model",)),
    finish_reason=(_reason_of, ("gen_ai.response.finish_reasons", "gen_ai.completion.0.finish_reason")),
    response_id=(id_of, ("gen_ai.response.id",)),
    conversation_id=(id_of, ("gen_ai.conversation.id",)),
    user_id=(id_of, ("gen_ai.user",)),
    prompt_name=(name_of, ("gen_ai.prompt.name",)),
    prompt_version=(name_of, ("gen_ai.prompt.version",)),
    cost_usd=(_cost_of, ("gen_ai.usage.cost", "gen_ai.cost.total_cost")),
    input_tokens=(count_of, ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")),
    output_tokens=(count_of, ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")),
    cached_input_tokens=(
        count_of,
        ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens"),
    ),
    reasoning_tokens=(
        count_of,
        (
            "gen_ai.usage.reasoning.output_tokens",
            "gen_ai.usage.reasoning_tokens",
            "gen_ai.usage.details.reasoning_tokens",
        ),
    ),
)


def _add_raw_usage(told: dict[str, Any], raw: dict[str, Any]) -> None:
    """Read what logfire's copy of the provider's own object knows beyond the conventions."""
    cached, reasoning = token_details(raw)
    told.setdefault("cached_input_tokens", cached)
    told.setdefault("reasoning_tokens", reasoning)


def token_details(usage: dict[str, Any]) -> tuple[int | None, int | None]:
    """Return the cached input tokens and the reasoning tokens of a provider's own usage object."""
    asked = {**as_object(usage, "prompt_tokens_details"), **as_object(usage, "input_tokens_details")}
    answered = {**as_object(usage, "completion_tokens_details"), **as_object(usage, "output_tokens_details")}
    cached = count_in(usage, "cache_read_input_tokens")
    if cached is None:
        cached = count_in(asked, "cached_tokens")
    return cached, count_in(answered, "reasoning_tokens")


def cache_written(attributes: Attributes) -> int:
    """Return the tokens written to the provider's cache, which two dialects name differently."""
    return (
        count_in(
            attributes,
            "gen_ai.usage.cache_creation.input_tokens",
            "gen_ai.usage.cache_write.input_tokens",
            "gen_ai.usage.cache_creation_input_tokens",
        )
        or 0
    )


def as_object(value: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a member that is an object; {} where it is none."""
    inner = value.get(name)
    return inner if isinstance(inner, dict) else {}


def _input(attributes: Attributes) -> list[dict[str, Any]] | None:
    system = system_of(attributes.get("gen_ai.system_instructions"))
    said = messages_of(json_in(attributes, "gen_ai.input.messages", "gen_ai.prompt"), "user")
    if said is None:
        said = _indexed(attributes, "gen_ai.prompt", "user")
    return [*system, *(said or [])] or None


def _indexed(attributes: Attributes, prefix: str, role: str) -> list[dict[str, Any]] | None:
    """Return messages spelled out as PREFIX.0.role, PREFIX.0.content, PREFIX.0.tool_calls.0.name ..."""
    messages = []
    for found in indexed(attributes, prefix):
        message = {"role": found.get("role", role), "content": as_value(found.get("content"))}
        calls = [
            {"id": call.get("id"), "name": call.get("name"), "arguments": call.get("arguments")}
            for call in indexed(found, "tool_calls")
        ]
        if calls:
            message["tool_calls"] = calls
        if "tool_call_id" in found:
            message["tool_call_id"] = found["tool_call_id"]
        messages.append(message)
    return messages_of(messages, role) if messages else None


def _read_event(facts: Facts, event: Event) -> None:
    """Read content that the old convention put into span events."""
    if event.name == "gen_ai.content.prompt" and facts.input is None:
        facts.input = messages_of(json_in(event.attributes, "gen_ai.prompt"), "user")
    elif event.name == "gen_ai.content.completion" and facts.output is None:
        facts.output = messages_of(json_in(event.attributes, "gen_ai.completion"), "assistant")
    elif event.name in OLD_EVENTS or event.name == CHOICE_EVENT:
        content = event.attributes.get("gen_ai.event.content")
        body = object_in(event.attributes, "gen_ai.event.content") if content else dict(event.attributes)
        read_old_event(facts, event.name, body)
        if facts.message is not None:
            facts.input = [*(facts.input or []), facts.message]
            facts.message = None


CHOICE_EVENT = "gen_ai.choice"
OLD_EVENTS = {f"gen_ai.{role}.message": role for role in _OLD_MESSAGES}


def read_old_event(facts: Facts, name: str, body: Attributes) -> None:
    """Read one message, or one choice, of the old convention (1.28 to 1.36)."""
    if name != CHOICE_EVENT:
        messages = messages_of([{"role": OLD_EVENTS[name], **body}], OLD_EVENTS[name])
        facts.message = messages[0] if messages else None
        return
    if count_in(body, "index") not in (0, None):
        return
    message = as_value(body.get("message", body.get("content")))
    facts.output = messages_of([message] if isinstance(message, dict) else message, "assistant")
    facts.finish_reason = name_in(body, "finish_reason") or facts.finish_reason


def streamed(attributes: Attributes) -> bool:
    """Whether the answer was asked for as a stream."""
    return any(
        is_true(attributes.get(name))
        for name in ("gen_ai.request.stream", "gen_ai.is_streaming", "llm.is_streaming")
    )
