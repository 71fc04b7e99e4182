"""A group of fragments as one call. Pure.

Flow: `ingest.otlp.joining` -> `assemble` -> `ingest.otlp.rows` -> `ingest.otlp.closing` writes it.

Where two spans tell of one response, the outer one (the wrapper) says who asked what and how long they
waited; the client's own says what the provider answered: model, id, tokens, the end and the first token.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ingest.otlp.facts import FACTS, Facts, Part
from ingest.otlp.joining import Row, SpanKey
from ingest.otlp.messages import plain_text
from ingest.wire import LATENCY_MS_MAX, NAME_CHARS_MAX, TOOLS_MAX

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
    """A call as its fragments tell it; `ingest.otlp.rows` writes it down.

    Attributes:
        outer: the outermost part, whose ids are the call's.
        told: what all parts say together; its session and user are not the call's, which are beside it.
        started_ns: 0 where unknown.
        complete: whether nothing is known to be missing.
    """

    outer: Part
    told: Facts
    started_ns: int
    latency_ms: float | None
    first_token_ms: float | None
    retries: int | None
    session_id: str | None
    user_id: str | None
    complete: bool

    @property
    def finish_reason(self) -> str | None:
        """How the answer ended, in the provider's own word."""
        told = self.told
        if told.failed is True:
            return None
        # "error" is the conventions' word for a stream that was closed; nothing failed here.
        if told.aborted or told.finish_reason == "error":
            return "aborted"
        reason = told.finish_reason
        return reason and _OWN_WORDS.get(told.provider or "", {}).get(reason, reason)

    @property
    def output(self) -> str | list[dict[str, Any]] | None:
        """The first choice: its text, or the message where it is more than a text."""
        if not self.told.output:
            return None
        said = self.told.output[0]
        text = plain_text(said)
        return [said] if text is None else text

    @property
    def tools(self) -> list[str] | None:
        """Names of the tools that the answer calls."""
        if not self.told.output:
            return None
        calls = self.told.output[0].get("tool_calls") or ()
        names = dict.fromkeys(call["name"][:NAME_CHARS_MAX] for call in calls if call.get("name"))
        return list(names)[:TOOLS_MAX] or None


def assemble(group: Sequence[Row], scopes: Mapping[SpanKey, Part]) -> Assembled:
    """Return the call that a group's fragments tell.

    Args:
        group: rows of one call, at least one.
        scopes: spans of the same traces by their ids, from which session and user are inherited.
    """
    if len(group) == 1 and group[0].part.role == "whole":
        return assemble_one(group[0].part, scopes)
    spans = _spans(group)
    contents = [row.part for row in group if row.part.role == "content"]
    outer = spans[0] if spans else contents[0]
    clients = [part for part in spans if part.role == "client"]
    inner = next((part for part in reversed(clients) if not part.facts.failed), None)
    inner = inner or (clients[-1] if clients else outer)
    told = _merged(outer, inner, [*spans, *contents], contents)
    started_ns, latency_ms = _times(outer, spans)
    return Assembled(
        outer,
        told,
        started_ns,
        latency_ms,
        _first_token_ms(outer, inner, spans),
        len(clients) - 1 if len(clients) > 1 else None,
        *_who(outer, told, scopes),
        complete=bool(spans) and (outer.role not in ("head", "tail") or len(spans) > 1),
    )


def assemble_one(part: Part, scopes: Mapping[SpanKey, Part]) -> Assembled:
    """Return the call that one span tells whole; see `assemble`."""
    told = part.facts
    latency_ms = (part.ended_ns - part.started_ns) / 1e6
    first_ms = told.first_token_ms
    return Assembled(
        part,
        told,
        part.started_ns,
        latency_ms if 0 <= latency_ms <= LATENCY_MS_MAX else None,
        first_ms if first_ms is not None and 0 <= first_ms <= LATENCY_MS_MAX else None,
        None,
        *_who(part, told, scopes),
        complete=True,
    )


def _merged(outer: Part, inner: Part, parts: Sequence[Part], contents: Sequence[Part]) -> Facts:
    """Return what the parts of one call tell together.

    Args:
        parts: all of them, the outermost first.
        contents: those of them that are log records.
    """
    every = [part.facts for part in parts]
    told, asked = [inner.facts, *every], [outer.facts, *every]
    merged = Facts()
    for name in FACTS:
        setattr(merged, name, _first(told if name in _OF_THE_ANSWER else asked, name))
    merged.input = _input(asked, contents)
    merged.tags = _tags(asked)
    merged.aborted = any(facts.aborted for facts in told)
    merged.replaced = any(facts.replaced for facts in told)
    answered = any(facts.output for facts in told) or (inner is not outer and not inner.facts.failed)
    merged.failed = outer.facts.failed or (any(facts.failed for facts in told) and not answered)
    failures = [facts for facts in asked if facts.failed]
    merged.error_type = _first(failures, "error_type")
    merged.error_message = _first(failures, "error_message")
    return merged


#: What the client's own span knows better than the one around it.
_OF_THE_ANSWER = frozenset(
    (
        "model",
        "request_model",
        "finish_reason",
        "input_tokens",
        "output_tokens",
        "cached_input_tokens",
        "reasoning_tokens",
        "response_id",
    )
)


def _spans(group: Sequence[Row]) -> list[Part]:
    """Return the group's spans, the outermost first; of one sent twice the newer."""
    newest: dict[SpanKey, Part] = {}
    for row in group:
        if row.part.role != "content":
            newest[row.key] = row.part
    late = ("whole", "head", "client", "tail")

    def depth(part: Part) -> tuple[int, int, int, bool]:
        beneath = (part.trace_id, part.parent_span_id or "") in newest  # where a clock tells them not apart
        return late.index(part.role), part.started_ns, -part.ended_ns, beneath

    return sorted(newest.values(), key=depth)


def _first(told: Sequence[Facts], name: str) -> Any:
    for facts in told:
        value = getattr(facts, name)
        if value is not None:
            return value
    return None


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


def _tags(asked: Sequence[Facts]) -> dict[str, str] | None:
    tags: dict[str, str] = {}
    for facts in asked:
        tags = {**(facts.tags or {}), **tags}
    return tags or None


def _who(outer: Part, own: Facts, scopes: Mapping[SpanKey, Part]) -> tuple[str | None, str | None]:
    """Return session and user: the call's own, else those of the nearest span above that names one."""
    session_id, user_id = own.session_id, own.user_id
    if not scopes or (session_id is not None and user_id is not None):
        return session_id or own.conversation_id, user_id
    told = [own, *_above(outer, scopes)]
    return _first(told, "session_id") or _first(told, "conversation_id"), _first(told, "user_id")


def _above(part: Part, scopes: Mapping[SpanKey, Part]) -> Iterator[Facts]:
    for _step in range(ANCESTORS_MAX):
        above = scopes.get((part.trace_id, part.parent_span_id or ""))
        if above is None:
            return
        yield above.facts
        part = above
