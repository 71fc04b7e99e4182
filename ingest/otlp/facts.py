"""What one span or log record tells about a call, whoever wrote it: the common tongue of the dialects.

Flow: `ingest.otlp.dialects` -> Part -> JSON in `otlp_fragment` -> `ingest.otlp.joining`, `assembling`.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Literal

import orjson

from ingest.texts import cleaned

#: What a part is to its call.
#: whole    a span around one response
#: client   the provider's package's own span, which another instrumentation's span may wrap
#: head     the first span of a streamed call that was written in two: it ends at the headers
#: tail     the second of the two: it carries the duration, content and usage, and no link to the first
#: content  a log record with content of its span's call
#: scope    any other span; it hands its session and user down to the calls beneath it
Role = Literal["whole", "client", "head", "tail", "content", "scope"]
ROLES: tuple[Role, ...] = ("whole", "client", "head", "tail", "content", "scope")


@dataclass
class Facts:
    """Each fact is None where it was not told. Durations in milliseconds.

    Most are not, most of the time: without slots, what `of` makes holds only those that were.

    Attributes:
        operation: '' for chat; otherwise its name, such as "embeddings".
        model: as the response names it; `request_model` as it was asked for.
        input: messages ({"role", "content", "tool_calls"?, "tool_call_id"?}), system instructions first.
        output: the choices, each one message.
        message: one message of the input, in a log record of its own (`content` parts).
        aborted: the stream was ended by the application.
        first_token_ms: since the span's start.
        duration_ms: what a `tail` says of its call.
        conversation_id: stands in for a session id where there is none.
        told_by: the instrumentation's scope.
    """

    operation: str | None = None
    provider: str | None = None
    model: str | None = None
    request_model: str | None = None
    input: list[dict[str, Any]] | None = None
    output: list[dict[str, Any]] | None = None
    message: dict[str, Any] | None = None
    finish_reason: str | None = None
    aborted: bool | None = None
    failed: bool | None = None
    error_type: str | None = None
    error_message: str | None = None
    first_token_ms: float | None = None
    duration_ms: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    session_id: str | None = None
    conversation_id: str | None = None
    user_id: str | None = None
    response_id: str | None = None
    prompt_name: str | None = None
    prompt_version: str | None = None
    environment: str | None = None
    release: str | None = None
    tags: dict[str, str] | None = None
    replaced: bool | None = None
    told_by: str | None = None

    @classmethod
    def of(cls, told: dict[str, Any]) -> "Facts":
        """Return facts by their names; a fifth of the constructor's time."""
        facts = cls.__new__(cls)
        facts.__dict__.update(told)
        return facts

    def as_json(self) -> bytes:
        """Return the facts that are known, as JSON without NUL and lone surrogates."""
        return _as_json(self._known(FACTS))

    def as_json_without_texts(self) -> bytes:
        """Return as JSON what may still find and complete the call once its texts are kept elsewhere."""
        return _as_json(self._known(_TIES))

    def _known(self, names: tuple[str, ...]) -> dict[str, Any]:
        told = self.__dict__
        return {name: told[name] for name in names if told.get(name) is not None}

    @classmethod
    def of_json(cls, text: str | bytes) -> "Facts":
        """Return facts as `as_json` wrote them."""
        return cls.of(orjson.loads(text))


def _as_json(known: dict[str, Any]) -> bytes:
    try:
        written = orjson.dumps(known)
    except orjson.JSONEncodeError:  # a lone surrogate: JSON can spell it, UTF-8 cannot
        written = b"\\u0000"
    if b"\\u0000" in written:
        known, changed = cleaned(known)
        if changed:
            known["replaced"] = True
        written = orjson.dumps(known)
    return written


#: The names of all facts, and of those that are no texts.
FACTS = tuple(fact.name for fact in fields(Facts))
_TIES = tuple(name for name in FACTS if name not in ("input", "output", "message", "error_message", "tags"))


@dataclass(slots=True)
class Part:
    """One span's or record's facts, and where it stands.

    Attributes:
        started_ns, ended_ns: of a span; of a record both are its time, 0 where unknown.
        instance: which process sent it, as far as its resource tells.
        pair_key: equal for the two halves of a call that nothing else links; see `ingest.otlp.joining`.
    """

    role: Role
    trace_id: str
    span_id: str
    parent_span_id: str | None
    started_ns: int
    ended_ns: int
    instance: str
    facts: Facts = field(default_factory=Facts)
    pair_key: str | None = None
