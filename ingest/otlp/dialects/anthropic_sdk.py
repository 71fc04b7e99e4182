"""The spans that the `anthropic` package writes by itself (2.12 and later), also beneath another's span.

The GenAI conventions, with the provider's own stop reason and, without content capture switched on, no
texts. Its token counts are the response's: what was read from and written to the cache stands beside
input_tokens, not within.
"""

from ingest.otlp.dialects import genai
from ingest.otlp.facts import Facts, Role
from ingest.otlp.reading.items import Span
from ingest.otlp.values import name_in

SCOPE = "com.anthropic.sdk."
PROVIDER = "anthropic"


def may_speak(scope: str) -> bool:
    """Whether the package itself writes the spans of this scope."""
    return scope.startswith(SCOPE)


def speaks(_span: Span) -> bool:
    """Whether the span is in this dialect: all of the package's are."""
    return True


def read(span: Span) -> tuple[Role, Facts] | None:
    """Return the call of a span; None for those of other endpoints than messages."""
    found = genai.read(span)
    if found is None:
        return None
    _role, facts = found
    facts.finish_reason = name_in(span.attributes, "anthropic.message.stop_reason") or facts.finish_reason
    if facts.input_tokens is not None:
        facts.input_tokens += (facts.cached_input_tokens or 0) + genai.cache_written(span.attributes)
    return "client", facts
