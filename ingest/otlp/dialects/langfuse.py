"""Langfuse's SDKs from version 3 on: OpenTelemetry spans with langfuse.observation.*.

Input and output are JSON texts of whatever was passed; the model is the response's; there is no response id
(but for streamed answers of the Responses API) and no provider but the span's name. The first token is an
ISO time, quoted. Attributes of the trace stand on every span.
"""

from datetime import datetime
from typing import Any

from ingest.otlp.dialects.genai import as_object
from ingest.otlp.facts import Facts, Role
from ingest.otlp.messages import messages_of
from ingest.otlp.reading.items import Span
from ingest.otlp.values import (
    Attributes,
    as_value,
    count_in,
    id_in,
    name_in,
    number_in,
    object_in,
    tags_of,
)
from ingest.wire import epoch_ms

_AT = "langfuse.observation."
_METADATA = f"{_AT}metadata."
_TRACE_METADATA = "langfuse.trace.metadata."


def speaks(span: Span) -> bool:
    """Whether the span is an observation."""
    return f"{_AT}type" in span.attributes


def read(span: Span) -> tuple[Role, Facts] | None:
    """Return the call of a generation or an embedding; None for the other kinds of observation."""
    attributes = span.attributes
    kind = attributes.get(f"{_AT}type")
    if kind not in ("generation", "embedding"):
        return None
    metadata = {
        name.removeprefix(_METADATA): as_value(value)
        for name, value in attributes.items()
        if name.startswith(_METADATA)
    }
    by_openai = span.name.startswith("OpenAI-")
    facts = Facts(
        operation="embeddings" if kind == "embedding" else "",
        provider="openai" if by_openai else None,
        model=name_in(attributes, f"{_AT}model.name"),
        input=messages_of(attributes.get(f"{_AT}input"), "user"),
        output=messages_of(attributes.get(f"{_AT}output"), "assistant") if kind == "generation" else None,
        finish_reason=name_in(metadata, "finish_reason"),
        first_token_ms=_first_token_ms(span),
        cost_usd=_cost_usd(attributes),
        response_id=id_in(metadata, "id"),
        prompt_name=name_in(attributes, f"{_AT}prompt.name"),
        prompt_version=name_in(attributes, f"{_AT}prompt.version"),
        environment=name_in(attributes, "langfuse.environment"),
        release=name_in(attributes, "langfuse.release"),
        tags=_tags(attributes, metadata) or None,
    )
    _add_usage(facts, object_in(attributes, f"{_AT}usage_details"))
    status = metadata.get("status") or _status_of(attributes.get(f"{_AT}output"))
    if facts.finish_reason is None and status == "completed":
        facts.finish_reason = "stop"
    failed = attributes.get(f"{_AT}level") == "ERROR"
    if failed:
        facts.failed = True
        facts.error_message = name_in(attributes, f"{_AT}status_message")
    # A stream of chat completions that was read to its end says how it ended.
    streamed = facts.first_token_ms is not None and status is None
    if by_openai and streamed and facts.finish_reason is None and not failed:
        facts.aborted = True
    return "whole", facts


def _first_token_ms(span: Span) -> float | None:
    told = as_value(span.attributes.get(f"{_AT}completion_start_time"))
    if not isinstance(told, str):
        return None
    try:
        since_start_ms = epoch_ms_exact(told) - span.started_ns / 1e6
    except (ValueError, OverflowError):
        return None
    return since_start_ms if since_start_ms >= 0 else None


def epoch_ms_exact(text: str) -> float:
    """Return an ISO time in milliseconds since 1970 with its microseconds."""
    at = datetime.fromisoformat(text)
    return epoch_ms(at.replace(microsecond=0)) + at.microsecond / 1000


def _add_usage(facts: Facts, usage: dict[str, Any]) -> None:
    details = {**as_object(usage, "prompt_tokens_details"), **as_object(usage, "input_tokens_details")}
    told = {**as_object(usage, "completion_tokens_details"), **as_object(usage, "output_tokens_details")}
    facts.input_tokens = count_in(usage, "input_tokens", "prompt_tokens", "input")
    facts.output_tokens = count_in(usage, "output_tokens", "completion_tokens", "output")
    facts.cached_input_tokens = count_in(
        {**usage, **details}, "cached_tokens", "cache_read_input_tokens", "input_cached_tokens"
    )
    facts.reasoning_tokens = count_in({**usage, **told}, "reasoning_tokens", "output_reasoning_tokens")


def _cost_usd(attributes: Attributes) -> float | None:
    # A cost of nothing is what it writes where it knows none.
    return number_in(object_in(attributes, f"{_AT}cost_details"), "total") or None


def _status_of(output: Any) -> Any:
    output = as_value(output)
    return output.get("status") if isinstance(output, dict) else None


def _tags(attributes: Attributes, metadata: dict[str, Any]) -> dict[str, str]:
    told = [
        (name.removeprefix(_TRACE_METADATA), as_value(value))
        for name, value in attributes.items()
        if name.startswith(_TRACE_METADATA)
    ]
    labels = attributes.get("langfuse.trace.tags")
    told += (
        [(label, "true") for label in labels if isinstance(label, str)] if isinstance(labels, list) else []
    )
    # What the SDK itself puts there describes the response, not the call.
    own = ("finish_reason", "id", "object", "status", "service_tier", "temperature", "top_p", "tool_choice")
    told += [(key, value) for key, value in metadata.items() if key not in (*own, "parallel_tool_calls")]
    return tags_of(told)
