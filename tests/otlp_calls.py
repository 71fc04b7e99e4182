"""An assembled call as `ingest.wire.Call`, every field checked: what the fast way must agree with."""

from datetime import UTC, datetime, timedelta

from ingest.otlp.assembling import Assembled
from ingest.wire import COST_USD_MAX, TAGS_MAX, Call

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def call_of(assembled: Assembled) -> Call:
    """The call as an application would have sent it."""
    outer, told = assembled.outer, assembled.told
    started_at = _EPOCH + timedelta(milliseconds=round(assembled.started_ns / 1e6))
    return Call.model_validate(
        {
            "id": f"{outer.trace_id}:{outer.span_id}",
            "started_at": started_at if assembled.started_ns else None,
            "latency_ms": assembled.latency_ms,
            "first_token_ms": assembled.first_token_ms,
            "provider": told.provider,
            "model": told.model or told.request_model,
            "input": told.input,
            "output": assembled.output,
            "finish_reason": assembled.finish_reason,
            "error": {"type": told.error_type, "message": told.error_message} if told.failed else None,
            "retries": assembled.retries,
            "tools": assembled.tools,
            "prompt": {"name": told.prompt_name, "version": told.prompt_version},
            "usage": {
                "input_tokens": told.input_tokens,
                "output_tokens": told.output_tokens,
                "cached_input_tokens": told.cached_input_tokens,
                "reasoning_tokens": told.reasoning_tokens,
            },
            "cost_usd": None if (told.cost_usd or 0) > COST_USD_MAX else told.cost_usd,
            "user_id": assembled.user_id,
            "session_id": assembled.session_id,
            "environment": told.environment,
            "release": told.release,
            "tags": dict(list((told.tags or {}).items())[:TAGS_MAX]) or None,
            "trace_id": outer.trace_id,
            "span_id": outer.span_id,
            "response_id": told.response_id,
        }
    )


def replaced_in(assembled: Assembled) -> frozenset[str]:
    """Fields in which U+FFFD stands for what could not be kept."""
    texts = {"input": assembled.told.input, "output": assembled.output}
    if not assembled.told.replaced:
        return frozenset()
    return frozenset(name for name, text in texts.items() if "\ufffd" in str(text))
