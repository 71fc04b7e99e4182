"""Logfire: the GenAI conventions, finish reasons as a JSON text, and two spans for a streamed call.

The first span of a stream (`head`) ends when the headers are there. When the stream is read to its end, or
its iterator is collected, a span of no length of the type "log" (`tail`) follows, in a trace of its own, with
content, usage and `duration`. It knows no response id and repeats the model that was asked for.
"""

from ingest.otlp.dialects import genai
from ingest.otlp.facts import Facts, Role
from ingest.otlp.reading.items import Span
from ingest.otlp.values import name_in, number_in


def may_speak(scope: str) -> bool:
    """Whether logfire's own integrations write the spans of this scope (it also marks those of others)."""
    return scope.startswith("logfire")


def read(span: Span) -> tuple[Role, Facts] | None:
    """Return the call of a span, or the half of it that the span tells."""
    found = genai.read(span)
    if found is None:
        return None
    role, facts = found
    attributes = span.attributes
    if "gen_ai.operation.name" not in attributes:
        # A call of the API that logfire has no words for, such as /decisions.
        facts.operation = (name_in(attributes, "url") or "").strip("/")
    if attributes.get("logfire.span_type") == "log" and "duration" in attributes:
        duration_s = number_in(attributes, "duration")
        facts.duration_ms = None if duration_s is None else duration_s * 1000
        if facts.output and facts.finish_reason is None and facts.output_tokens is None:
            facts.aborted = True
        return "tail", facts
    told = (facts.output, facts.response_id, facts.output_tokens, facts.finish_reason, facts.input_tokens)
    if span.status != 2 and not any(fact is not None for fact in told):
        return "head", facts
    return role, facts
