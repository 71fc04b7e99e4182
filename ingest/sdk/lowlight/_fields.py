"""The fields of a queued call and of a queued signal, in their order, and what typed code may pass.

An entry is a plain tuple of values: it is built sooner than a dict of as many names, and is a fifth its size.
"""

from typing import TYPE_CHECKING, Any, Mapping, Optional, Sequence, Tuple, TypedDict, Union

CALL_FIELDS = (
    *("entry_kind", "entry_bytes"),
    *("id", "recorded_at_s", "response", "input", "output", "model", "provider", "latency_ms"),
    *("first_token_ms", "started_at", "prompt", "context", "user_id", "session_id", "environment"),
    *("release", "tags", "tools", "usage", "cost_usd", "error", "finish_reason", "retries"),
    *("trace_id", "span_id", "response_id", "sample_rate"),
)
SIGNAL_FIELDS = (
    *("entry_kind", "entry_bytes"),
    *("id", "recorded_at_s", "kind", "call_id", "response_id", "trace_id", "span_id", "session_id"),
    *("value", "value_min", "value_max", "comment", "at"),
)

Prompt = Union[str, Tuple[str, Any], Mapping[str, Any]]
Text = Union[str, Sequence[Any]]

if TYPE_CHECKING:

    class ScopeFields(TypedDict, total=False):
        """What `Client.context` takes."""

        user_id: Union[str, int, None]
        session_id: Union[str, int, None]
        prompt: Optional[Prompt]
        tags: Optional[Mapping[str, Any]]
        context: Optional[Text]
        environment: Optional[str]
        release: Optional[str]

    class AnswerFields(ScopeFields, total=False):
        """What `OpenCall.set` takes: the arguments of `Client.record`, less those that make another call."""

        input: Optional[Text]
        output: Optional[Text]
        model: Optional[str]
        provider: Optional[str]
        latency_ms: Optional[float]
        first_token_ms: Optional[float]
        tools: Optional[Sequence[Any]]
        usage: Any
        cost_usd: Optional[float]
        error: Any
        finish_reason: Optional[str]
        retries: Optional[int]
        trace_id: Optional[str]
        span_id: Optional[str]
        response_id: Optional[str]
        sample_rate: Optional[float]

    class CallFields(AnswerFields, total=False):
        """What `Client.call` takes: the arguments of `Client.record`, less the answer."""

        id: Optional[str]
