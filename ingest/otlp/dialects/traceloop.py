"""Traceloop's OpenLLMetry: the GenAI conventions, and what it adds to them.

It tells no time to the first chunk but marks each chunk by an event; a stream that the application closed
has finish reason "" and status OK. Association properties name session and user. Its span of a streamed
answer is not the parent of the client's own: they share only the response id.
"""

from ingest.otlp.dialects import genai
from ingest.otlp.facts import Facts, Role
from ingest.otlp.messages import finish_reason_in
from ingest.otlp.reading.items import Span
from ingest.otlp.values import json_in, name_in

_SCOPE = "opentelemetry.instrumentation."
#: Packages of OpenTelemetry's own under the same prefix.
_OTHERS = (f"{_SCOPE}genai.", f"{_SCOPE}openai_v2", f"{_SCOPE}vertexai_v2", f"{_SCOPE}google_genai")
_CHUNK = "gen_ai.content.completion.chunk"


def may_speak(scope: str) -> bool:
    """Whether the spans of this scope come from one of Traceloop's packages."""
    return scope.startswith(_SCOPE) and not scope.startswith(_OTHERS)


def read(span: Span) -> tuple[Role, Facts] | None:
    """Return the call of a span; None for its workflows, tasks and tools."""
    if "traceloop.span.kind" in span.attributes and "gen_ai.request.model" not in span.attributes:
        return None
    found = genai.read(span)
    if found is None:
        return None
    role, facts = found
    chunk = next((event for event in span.events if event.name == _CHUNK), None)
    if chunk is not None and facts.first_token_ms is None and chunk.at_ns >= span.started_ns:
        facts.first_token_ms = (chunk.at_ns - span.started_ns) / 1e6
    if genai.streamed(span.attributes) and facts.finish_reason is None:
        said = finish_reason_in(json_in(span.attributes, "gen_ai.output.messages"))
        facts.aborted = True if said == "" else None
    facts.prompt_name = facts.prompt_name or name_in(span.attributes, "traceloop.prompt.key")
    facts.prompt_version = facts.prompt_version or name_in(span.attributes, "traceloop.prompt.version")
    return role, facts
