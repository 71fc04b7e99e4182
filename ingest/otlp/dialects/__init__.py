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
    vercel_ai,
)
from ingest.otlp.facts import Facts, Part, Role
from ingest.otlp.reading.items import STATUS_ERROR, Record, Source, Span
from ingest.otlp.values import FactTable, id_of, name_in, name_of, tags_of
from ingest.texts import cleaned

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
    """One normaliser.

    Attributes:
        may_speak: whether spans of an instrumentation's scope can be in this dialect; asked once for each.
        speaks: whether a span is.
        read: its role and facts; None where it is no call.
    """

    may_speak: Callable[[str], bool]
    speaks: Callable[[Span], bool]
    read: Callable[[Span], tuple[Role, Facts] | None]


def _anybody(_scope: str) -> bool:
    return True


#: The first that fits reads the span.
_DIALECTS = (
    _Dialect(anthropic_sdk.may_speak, anthropic_sdk.speaks, anthropic_sdk.read),
    _Dialect(logfire.may_speak, genai.speaks, logfire.read),
    _Dialect(_anybody, langfuse.speaks, langfuse.read),
    _Dialect(_anybody, openinference.speaks, openinference.read),
    _Dialect(_anybody, vercel_ai.speaks, vercel_ai.read),
    _Dialect(traceloop.may_speak, genai.speaks, traceloop.read),
    _Dialect(_anybody, genai.speaks, genai.read),
)


def part_of_span(span: Span) -> Part:
    """Return what a span tells: of its call where it is one, of its session and user in any case."""
    origin = _origin(span.source)
    read: tuple[Role, Facts] | None = None
    if name_of(span.attributes.get("gen_ai.operation.name")) not in _NOT_CALLS:
        for dialect in origin.dialects:
            if dialect.speaks(span):
                read = dialect.read(span)
                break
    role, facts = read or ("scope", Facts.of({}))
    for name, value in _SCOPE.read(span.attributes).items():
        if getattr(facts, name) is None:
            setattr(facts, name, value)
    if role != "scope":
        _add_failure(facts, span)
        _add_origin(facts, origin)
    part = Part(
        role,
        span.trace_id,
        span.span_id,
        span.parent_span_id,
        span.started_ns,
        span.ended_ns,
        origin.instance,
        facts,
    )
    part.pair_key = _pair_key(part)
    return part


def tells_of_a_call(record: Record) -> bool:
    """Whether a log record holds content of a call, its own span's."""
    return genai_events.speaks(record)


def part_of_record(record: Record) -> Part | None:
    """Return what a log record tells of its span's call; None where it tells nothing of one."""
    if not record.trace_id or not record.span_id:
        return None
    facts = genai_events.read(record)
    if facts is None:
        return None
    origin = _origin(record.source)
    _add_origin(facts, origin)
    return Part(
        "content",
        record.trace_id,
        record.span_id,
        None,
        record.at_ns,
        record.at_ns,
        origin.instance,
        facts,
    )


#: Whose call it is: any span may say so, for itself and for those beneath it.
_SCOPE = FactTable(
    session_id=(
        id_of,
        (
            "session.id",
            "langfuse.session.id",
            "traceloop.association.properties.session_id",
            "session_id",
            "thread.id",
        ),
    ),
    conversation_id=(id_of, ("gen_ai.conversation.id", "traceloop.association.properties.chat_id")),
    user_id=(
        id_of,
        (
            "user.id",
            "langfuse.user.id",
            "enduser.id",
            "traceloop.association.properties.user_id",
            "llm.user",
            "metadata.user_api_key_end_user_id",
            "user_id",
        ),
    ),
)


def _add_failure(facts: Facts, span: Span) -> None:
    """What went wrong: error.type, the status, or an exception that left the span."""
    if span.status != STATUS_ERROR and "error.type" not in span.attributes:
        return
    error_type = name_of(span.attributes.get("error.type"))
    message = span.status_message
    for event in span.events:
        if event.name == "exception" and span.status == STATUS_ERROR:
            error_type = error_type or name_in(event.attributes, "exception.type")
            message = message or name_in(event.attributes, "exception.message") or ""
    if error_type is None and span.status != STATUS_ERROR:
        return
    facts.failed = True
    facts.aborted = None
    if error_type is not None:
        # "openai.RateLimitError" and "RateLimitError" are one error, and some statuses begin with its name.
        facts.error_type = error_type.rpartition(".")[2] or error_type
        message = message.removeprefix(f"{facts.error_type}: ")
    facts.error_message = message or None


class _Origin(NamedTuple):
    """What the scope and the resource say of every call of theirs, worked out once for all of them."""

    told_by: str | None
    dialects: tuple[_Dialect, ...]
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
            name_of(source.scope),
            tuple(dialect for dialect in _DIALECTS if dialect.may_speak(source.scope)),
            name_in(resource, "deployment.environment.name", "deployment.environment"),
            name_in(resource, "service.version"),
            tags_of([("service", service)]),
            cleaned(name_in(resource, "service.instance.id", "service.name", "host.name") or "")[0],
        )
    return origin


def _add_origin(facts: Facts, origin: _Origin) -> None:
    facts.told_by = origin.told_by
    facts.environment = facts.environment or origin.environment
    facts.release = facts.release or origin.release
    tags = {**origin.tags, "operation": facts.operation} if facts.operation else origin.tags
    facts.tags = ({**tags, **facts.tags} if facts.tags else tags) or None


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
