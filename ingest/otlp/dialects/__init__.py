"""One normaliser per dialect: a span or log record in, its facts out.

Flow: `ingest.otlp.reading` -> `part_of_span`, `part_of_record` -> Part -> `ingest.otlp.intake`. Which
dialect a span is in, its scope and attributes tell. Every dialect's file says what it looks like and what it
hides.
"""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

from ingest.otlp.dialects import (
    anthropic_sdk,
    genai,
    genai_events,
    langfuse,
    logfire,
    openinference,
    traceloop,
)
from ingest.otlp.facts import Facts, Part, Role
from ingest.otlp.reading import Record, Source, Span
from ingest.otlp.values import id_in, name_in, tags_of

NS_MS = 1_000_000

#: Operations of the GenAI conventions that are no response of a model.
_NOT_CALLS = frozenset(
    (
        "create_agent",
        "invoke_agent",
        "invoke_workflow",
        "execute_tool",
        "retrieval",
        "search_memory",
        "update_memory",
        "evaluate",
    )
)


class _Dialect(NamedTuple):
    speaks: Callable[[Span], bool]
    read: Callable[[Span], tuple[Role, Facts] | None]


#: The first that fits reads the span; None from it means that the span is no call.
_DIALECTS = (
    _Dialect(anthropic_sdk.speaks, anthropic_sdk.read),
    _Dialect(logfire.speaks, logfire.read),
    _Dialect(langfuse.speaks, langfuse.read),
    _Dialect(openinference.speaks, openinference.read),
    _Dialect(traceloop.speaks, traceloop.read),
    _Dialect(genai.speaks, genai.read),
)


def part_of_span(span: Span) -> Part:
    """Return what a span tells: of its call where it is one, of its session and user in any case."""
    role: Role = "scope"
    facts = Facts()
    if name_in(span.attributes, "gen_ai.operation.name") not in _NOT_CALLS:
        for dialect in _DIALECTS:
            if dialect.speaks(span):
                read = dialect.read(span)
                if read is not None:
                    role, facts = read
                break
    _add_scope(facts, span)
    if role != "scope":
        _add_failure(facts, span)
        _add_source(facts, span.source)
    part = Part(
        role,
        span.trace_id,
        span.span_id,
        span.parent_span_id,
        span.started_ns,
        span.ended_ns,
        _origin(span.source).instance,
        facts,
    )
    part.pair_key = _pair_key(part)
    return part


def part_of_record(record: Record) -> Part | None:
    """Return what a log record tells of its span's call; None where it tells nothing of one."""
    if not record.trace_id or not record.span_id:
        return None
    facts = genai_events.read(record)
    if facts is None:
        return None
    _add_source(facts, record.source)
    return Part(
        "content",
        record.trace_id,
        record.span_id,
        None,
        record.at_ns,
        record.at_ns,
        _origin(record.source).instance,
        facts,
    )


def _add_scope(facts: Facts, span: Span) -> None:
    """Whose call it is: any span may say so, for itself and for those beneath it."""
    attributes = span.attributes
    facts.session_id = facts.session_id or id_in(
        attributes,
        "session.id",
        "langfuse.session.id",
        "traceloop.association.properties.session_id",
        "session_id",
        "thread.id",
    )
    facts.conversation_id = facts.conversation_id or id_in(
        attributes, "gen_ai.conversation.id", "traceloop.association.properties.chat_id"
    )
    facts.user_id = facts.user_id or id_in(
        attributes,
        "user.id",
        "langfuse.user.id",
        "enduser.id",
        "traceloop.association.properties.user_id",
        "llm.user",
        "metadata.user_api_key_end_user_id",
        "user_id",
    )


def _add_failure(facts: Facts, span: Span) -> None:
    """What went wrong: error.type, the status, or an exception that left the span."""
    error_type = name_in(span.attributes, "error.type")
    message = span.status_message
    for event in span.events:
        if event.name == "exception" and span.status == 2:
            error_type = error_type or name_in(event.attributes, "exception.type")
            message = message or name_in(event.attributes, "exception.message") or ""
    if error_type is None and span.status != 2:
        return
    facts.failed = True
    facts.aborted = None
    if error_type is not None:
        # "openai.RateLimitError" and "RateLimitError" are one error, and some statuses begin with its name.
        facts.error_type = error_type.rpartition(".")[2] or error_type
        message = message.removeprefix(f"{facts.error_type}: ")
    facts.error_message = message or None


class _Origin(NamedTuple):
    """What the resource says of every call of its process."""

    environment: str | None
    release: str | None
    tags: dict[str, str]
    instance: str


def _origin(source: Source) -> _Origin:
    origin: _Origin | None = source.origin
    if origin is None:
        resource = source.resource
        service = name_in(resource, "service.name")
        if service is not None and service.startswith("unknown_service"):
            service = None  # what an SDK says where nobody named the service
        origin = source.origin = _Origin(
            name_in(resource, "deployment.environment.name", "deployment.environment"),
            name_in(resource, "service.version"),
            tags_of([("service", service)]),
            name_in(resource, "service.instance.id", "service.name", "host.name") or "",
        )
    return origin


def _add_source(facts: Facts, source: Source) -> None:
    origin = _origin(source)
    facts.told_by = name_in({"": source.scope}, "")
    facts.environment = facts.environment or origin.environment
    facts.release = facts.release or origin.release
    tags = {**origin.tags, "operation": facts.operation} if facts.operation else origin.tags
    facts.tags = {**tags, **(facts.tags or {})} or None


def _pair_key(part: Part) -> str | None:
    """Return what two parts of one call have in common where neither ids nor parents link them.

    The halves of logfire's streamed call share process, model and input. A call that failed has no response
    id; where its wrapper stands in another trace, process, provider and model are all that is left, and
    `ingest.otlp.joining` looks at the times.
    """
    facts = part.facts
    if part.role in ("head", "tail"):
        said: tuple[object, ...] = ("stream", part.instance, facts.request_model, facts.input)
    elif part.role in ("client", "whole") and facts.failed and facts.provider == anthropic_sdk.PROVIDER:
        said = ("failed", part.instance, facts.provider, facts.request_model)
    else:
        return None
    return hashlib.blake2b(repr(said).encode("utf-8", "replace"), digest_size=12).hexdigest()
