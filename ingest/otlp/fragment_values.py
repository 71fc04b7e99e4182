"""Fragments as rows of `otlp_fragment`: those that wait for their call, and what is left of the others.

Flow: `ingest.otlp.telling` (in whichever process reads a request) -> `open_values`, `ended_values` ->
`ingest.otlp.fragment_writes`. No SQL here: the reading process does without.
"""

import hashlib
from typing import Any

from ingest.otlp.facts import Part

Values = tuple[Any, ...]
#: Columns of an open fragment, in the order of `open_values`; a closed one has `call_seq` beside them.
KEPT = (
    "project_id",
    "trace_id",
    "span_id",
    "digest",
    "role",
    "parent_span_id",
    "started_ns",
    "ended_ns",
    "instance",
    "response_id",
    "pair_key",
    "facts",
    "received_at_ms",
    "due_at_ms",
)
REMEMBERED = (*KEPT, "call_seq")
#: Stands for the digest of a span that came in a whole trace: sent again, it is compared as any late one.
_ENDED = "ended"


def open_values(project_id: int, part: Part, received_at_ms: int, due_at_ms: int) -> Values:
    """Return the values of KEPT for a fragment that waits."""
    facts = part.facts.as_json()
    digest = hashlib.blake2b(f"{part.role} {part.started_ns} {part.ended_ns} ".encode(), digest_size=12)
    digest.update(facts)
    return values_of(project_id, part, digest.hexdigest(), facts, received_at_ms, due_at_ms)


def ended_values(project_id: int, part: Part, received_at_ms: int) -> Values:
    """Return the values of KEPT for a span that is told to the end; its texts are the call's."""
    return values_of(project_id, part, _ENDED, part.facts.as_json_without_texts(), received_at_ms, None)


def span_of(values: Values) -> tuple[str, str]:
    """Return trace id and span id of values of KEPT."""
    _project_id, trace_id, span_id, *_rest = values
    return trace_id, span_id


def values_of(
    project_id: int, part: Part, digest: str, facts: bytes, received_at_ms: int, due_at_ms: int | None
) -> Values:
    """Return the values of KEPT."""
    return (
        project_id,
        part.trace_id,
        part.span_id,
        digest,
        part.role,
        part.parent_span_id,
        part.started_ns,
        part.ended_ns,
        part.instance,
        part.facts.response_id if part.role != "content" else None,
        part.pair_key,
        facts.decode(),
        received_at_ms,
        due_at_ms,
    )
