"""A group of fragments as one call of `ingest.wire`. Pure.

Flow: `ingest.otlp.joining` -> `assemble` -> `ingest.call_rows.new_call` -> `ingest.otlp.closing` writes it.

Where two spans tell of one response, the outer one (the wrapper) says who asked what and how long they
waited; the client's own says what the provider answered: model, id, tokens, the end and the first token.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from ingest.otlp.facts import Facts, Part
from ingest.otlp.joining import Row, SpanKey
from ingest.otlp.messages import plain_text
from ingest.wire import LATENCY_MS_MAX, TAGS_MAX, TOOLS_MAX, Call, Failure, Prompt, Usage

T = TypeVar("T")

#: Spans from a call up to the root of its trace.
ANCESTORS_MAX = 64
#: The providers' own words for how an answer ended, where an instrumentation has its own.
_OWN_WORDS = {
    "openai": {"tool_call": "tool_calls", "tool_use": "tool_calls"},
    "anthropic": {
        "stop": "end_turn",
        "tool_call": "tool_use",
        "tool_calls": "tool_use",
        "length": "max_tokens",
    },
}


@dataclass(slots=True)
class Assembled:
    """A call and where it came from.

    Attributes:
        complete: whether nothing is known to be missing.
        replaced: fields in which U+FFFD stands for what could not be kept.
    """

    call: Call
    complete: bool
    replaced: frozenset[str]


def assemble(group: Sequence[Row], scopes: Mapping[SpanKey, Part]) -> Assembled:
    """Return the call that a group's fragments tell.

    Args:
        group: rows of one call, at least one.
        scopes: spans of the same traces by their ids, from which session and user are inherited.
    """
    spans = _spans(group)
    contents = [row.part for row in group if row.part.role == "content"]
    outer = spans[0] if spans else contents[0]
    clients = [part for part in spans if part.role == "client"]
    inner = next((part for part in reversed(clients) if not part.facts.failed), None)
    inner = inner or (clients[-1] if clients else outer)
    told = [inner.facts, *(part.facts for part in (*spans, *contents))]
    asked = [outer.facts, *(part.facts for part in (*spans, *contents))]
    answered = any(facts.output for facts in told) or (inner is not outer and not inner.facts.failed)
    failed = outer.facts.failed or (any(facts.failed for facts in told) and not answered)
    started_ns, latency_ms = _times(outer, spans)
    output = _first(asked, "output")
    call = Call(
        id=f"{outer.trace_id}:{outer.span_id}",
        started_at=datetime.fromtimestamp(started_ns / 1e9, UTC) if started_ns else None,
        latency_ms=latency_ms,
        first_token_ms=_first_token_ms(outer, inner, spans),
        provider=_first(asked, "provider"),
        model=_first(told, "model") or _first(told, "request_model"),
        input=_input(asked, contents),
        output=_said(output),
        finish_reason=None if failed else _finish_reason(told, _first(asked, "provider")),
        error=_failure(asked) if failed else None,
        retries=len(clients) - 1 if len(clients) > 1 else None,
        tools=_tools(output),
        prompt=Prompt(name=_first(asked, "prompt_name"), version=_first(asked, "prompt_version")),
        usage=Usage(
            input_tokens=_first(told, "input_tokens"),
            output_tokens=_first(told, "output_tokens"),
            cached_input_tokens=_first(told, "cached_input_tokens"),
            reasoning_tokens=_first(told, "reasoning_tokens"),
        ),
        cost_usd=_cost(asked),
        environment=_first(asked, "environment"),
        release=_first(asked, "release"),
        tags=_tags(asked),
        trace_id=outer.trace_id,
        span_id=outer.span_id,
        response_id=_first(told, "response_id"),
    )
    call.session_id, call.user_id = _who(outer, [part.facts for part in (*spans, *contents)], scopes)
    complete = bool(spans) and (outer.role not in ("head", "tail") or len(spans) > 1)
    return Assembled(call, complete, _replaced(call, told))


def _spans(group: Sequence[Row]) -> list[Part]:
    """Return the group's spans, the outermost first; of one sent twice the newer."""
    newest: dict[SpanKey, Part] = {}
    for row in group:
        if row.part.role != "content":
            newest[row.key] = row.part
    late = ("whole", "head", "client", "tail")
    return sorted(newest.values(), key=lambda part: (late.index(part.role), part.started_ns, -part.ended_ns))


def _first(told: Sequence[Facts], name: str) -> Any:
    return next((value for facts in told if (value := getattr(facts, name)) is not None), None)


def _times(outer: Part, spans: Sequence[Part]) -> tuple[int, float | None]:
    """Return when the call began (ns) and how long its user waited."""
    if not spans:
        return outer.started_ns, None
    started_ns, ended_ns = outer.started_ns, outer.ended_ns
    if outer.role == "tail":
        if outer.facts.duration_ms is None:
            return started_ns, None
        started_ns = outer.ended_ns - round(outer.facts.duration_ms * 1e6)
    elif outer.role == "head":
        # It ended with the headers; how long the answer took, only the others know.
        ends = [part.ended_ns for part in spans if part is not outer]
        if not ends:
            return started_ns, None
        ended_ns = max(ends)
    latency_ms = (ended_ns - started_ns) / 1e6
    return started_ns, latency_ms if 0 <= latency_ms <= LATENCY_MS_MAX else None


def _first_token_ms(outer: Part, inner: Part, spans: Sequence[Part]) -> float | None:
    """Return the wait for the first token since the outermost span began."""
    for part in (inner, *spans):
        first_ms = part.facts.first_token_ms
        if first_ms is not None:
            first_ms += (part.started_ns - outer.started_ns) / 1e6
            return first_ms if 0 <= first_ms <= LATENCY_MS_MAX else None
    return None


def _input(asked: Sequence[Facts], contents: Sequence[Part]) -> list[dict[str, Any]] | None:
    whole: list[dict[str, Any]] | None = _first(asked, "input")
    if whole is not None:
        return whole
    # One record a message; they may have come in any order.
    apart = sorted((part for part in contents if part.facts.message), key=lambda part: part.started_ns)
    return [part.facts.message for part in apart if part.facts.message] or None


def _said(output: list[dict[str, Any]] | None) -> str | list[dict[str, Any]] | None:
    """Return the first choice: its text, or the message where it is more than a text."""
    if not output:
        return None
    text = plain_text(output[0])
    return [output[0]] if text is None else text


def _tools(output: list[dict[str, Any]] | None) -> list[str] | None:
    calls = output[0].get("tool_calls") or [] if output else []
    names = dict.fromkeys(call["name"][:256] for call in calls if call.get("name"))
    return list(names)[:TOOLS_MAX] or None


def _finish_reason(told: Sequence[Facts], provider: str | None) -> str | None:
    if any(facts.aborted for facts in told):
        return "aborted"
    reason: str | None = _first(told, "finish_reason")
    if reason == "error":
        return "aborted"  # the conventions' word for a stream that was closed; nothing failed here
    return reason and _OWN_WORDS.get(provider or "", {}).get(reason, reason)


def _failure(asked: Sequence[Facts]) -> Failure:
    failed = [facts for facts in asked if facts.failed]
    return Failure(type=_first(failed, "error_type"), message=_first(failed, "error_message"))


def _cost(asked: Sequence[Facts]) -> float | None:
    cost: float | None = _first(asked, "cost_usd")
    return cost if cost is not None and cost <= 1e6 else None


def _tags(asked: Sequence[Facts]) -> dict[str, str] | None:
    tags: dict[str, str] = {}
    for facts in asked:
        tags = {**(facts.tags or {}), **tags}
    return dict(list(tags.items())[:TAGS_MAX]) or None


def _who(outer: Part, own: Sequence[Facts], scopes: Mapping[SpanKey, Part]) -> tuple[str | None, str | None]:
    """Return session and user: the call's own, else those of the nearest span above that names one."""
    told = [*own, *_above(outer, scopes)]
    session_id = _first(told, "session_id") or _first(told, "conversation_id")
    return session_id, _first(told, "user_id")


def _above(part: Part, scopes: Mapping[SpanKey, Part]) -> Iterator[Facts]:
    for _step in range(ANCESTORS_MAX):
        above = scopes.get((part.trace_id, part.parent_span_id or ""))
        if above is None:
            return
        yield above.facts
        part = above


def _replaced(call: Call, told: Sequence[Facts]) -> frozenset[str]:
    if not any(facts.replaced for facts in told):
        return frozenset()
    return frozenset(name for name in ("input", "output") if "\ufffd" in str(getattr(call, name)))
