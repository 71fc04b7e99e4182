"""One checked call as rows: what intake writes, computed before the writer's turn comes.

Flow: `ingest.wire.Call` -> `new_call` -> `ingest.call_writes`, which knows what is new and numbers it.

A call's outcome: failed where it has an error (or a finish_reason of FAILED); aborted where its finish_reason
says that somebody stopped it (ABORTED), so that its latency is only a lower bound; otherwise answered. A
missing output alone says nothing: tools are called without one, and an application may keep its texts.
"""

import os
import time
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

import orjson

from ingest.packing import PACKED_CHARS_MIN, packed
from ingest.texts import KeptText, kept_context, kept_messages, kept_text
from ingest.wire import Call, epoch_ms

#: finish_reasons, in lower case, of a response that somebody stopped before its end.
ABORTED = frozenset(("aborted", "abort", "cancelled", "canceled", "interrupted", "client_disconnected"))
FAILED = frozenset(("error", "failed"))

ERROR_TYPE_CHARS_MAX = 256
ERROR_MESSAGE_BYTES_MAX = 4096
#: A clock this far ahead of ours is wrong; the time of receipt is nearer the truth.
AHEAD_MS_MAX = 600_000

#: provider, model, prompt, prompt version, environment, release; '' where not given
SliceKey = tuple[str, str, str, str, str, str]


#: Columns of `call` in the order of `NewCall.row`; seq, project_id and slice_id come from the writer.
CALL_COLUMNS = (
    "id",
    "received_at_ms",
    "started_at_ms",
    "outcome",
    "latency_ms",
    "first_token_ms",
    "finish_reason",
    "error_type",
    "error_message",
    "retries",
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "reasoning_tokens",
    "cost_usd",
    "user_id",
    "session_id",
    "trace_id",
    "span_id",
    "response_id",
    "sample_rate",
    "input_chars",
    "output_chars",
    "context_chars",
    "tags",
    "tools",
)
#: Columns of `call` that most applications leave empty, by what makes a call have them.
RARE_COLUMNS = (
    frozenset(("error_type", "error_message", "retries")),
    frozenset(("trace_id", "span_id", "response_id")),
    frozenset(("cached_input_tokens", "reasoning_tokens", "cost_usd")),
    frozenset(("context_chars", "tags", "tools")),
)
#: Columns of `call_text` in the order of `NewCall.text`; call_seq comes from the writer.
TEXT_COLUMNS = (
    "input",
    "input_json",
    "input_sha256",
    "output",
    "output_json",
    "output_sha256",
    "context",
    "marks",
)
_INPUT, _OUTPUT = TEXT_COLUMNS.index("input"), TEXT_COLUMNS.index("output")


@dataclass(slots=True)
class NewCall:
    """A call ready to be written.

    Attributes:
        id: the caller's, `trace_id:span_id`, or a new UUIDv7.
        row: values of CALL_COLUMNS.
        text: values of TEXT_COLUMNS; None where no text was sent.
        seq, slice_id: given by the writer.
    """

    id: str
    slice_key: SliceKey
    started_at_ms: int
    outcome: str
    user_id: str | None
    session_id: str | None
    response_id: str | None
    trace_id: str | None
    span_id: str | None
    row: tuple[Any, ...]
    text: tuple[Any, ...] | None
    seq: int = 0
    slice_id: int = 0

    def plain(self) -> tuple[Any, ...]:
        """Return what is known before the writer's turn, as values that `marshal` can carry."""
        return _PLAIN(self)

    @classmethod
    def of_plain(cls, values: tuple[Any, ...]) -> "NewCall":
        """Return the call whose `plain` these values are."""
        return cls(*values)

    def pack(self) -> None:
        """Pack the texts for a SQLite file; once is enough."""
        if self.text is not None:
            sent, answer = self.text[_INPUT], self.text[_OUTPUT]
            if isinstance(sent, str) and len(sent) >= PACKED_CHARS_MIN:
                self.text = (packed(sent), *self.text[_INPUT + 1 :])
            if isinstance(answer, str) and len(answer) >= PACKED_CHARS_MIN:
                self.text = (*self.text[:_OUTPUT], packed(answer), *self.text[_OUTPUT + 1 :])


_PLAIN = attrgetter(*(field.name for field in fields(NewCall) if field.name not in ("seq", "slice_id")))


class BadText(ValueError):
    """A field's messages cannot be kept as JSON.

    Attributes:
        field: input or output.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def new_call(call: Call, received_at_ms: int, replaced: frozenset[str] = frozenset()) -> NewCall:
    """Return the rows of one call.

    Args:
        replaced: fields in which U+FFFD stands for what could not be kept.

    Raises:
        BadText: messages are nested too deeply, or hold a number outside 64 bits.
    """
    text, lengths = _text_row(call, replaced)
    prompt, usage, error = call.prompt, call.usage, call.error
    call_id = call.id or id_of(call.trace_id, call.span_id)
    outcome = "failed" if error is not None else outcome_of(call.finish_reason)
    started_at_ms = (
        received_at_ms - round(call.latency_ms or 0)
        if call.started_at is None
        else not_ahead(epoch_ms(call.started_at), received_at_ms)
    )
    row = (
        call_id,
        received_at_ms,
        started_at_ms,
        outcome,
        call.latency_ms,
        call.first_token_ms,
        call.finish_reason,
        error and error.type and error.type[:ERROR_TYPE_CHARS_MAX],
        error and error.message and kept_text(error.message, ERROR_MESSAGE_BYTES_MAX).text,
        call.retries,
        usage and usage.input_tokens,
        usage and usage.output_tokens,
        usage and usage.cached_input_tokens,
        usage and usage.reasoning_tokens,
        call.cost_usd,
        call.user_id,
        call.session_id,
        call.trace_id,
        call.span_id,
        call.response_id,
        call.sample_rate,
        *lengths,
        as_json(call.tags),
        as_json(call.tools),
    )
    return NewCall(
        id=call_id,
        slice_key=(
            call.provider or "",
            call.model or "",
            (prompt and prompt.name) or "",
            (prompt and prompt.version) or "",
            call.environment or "",
            call.release or "",
        ),
        started_at_ms=started_at_ms,
        outcome=outcome,
        user_id=call.user_id,
        session_id=call.session_id,
        response_id=call.response_id,
        trace_id=call.trace_id,
        span_id=call.span_id,
        row=row,
        text=text,
    )


def uuid7() -> str:
    """Return a new UUID version 7 (RFC 9562): its first 48 bits are the time, so rows arrive in order."""
    number = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(os.urandom(10))
    number = number & ~(0xF << 76) | (0x7 << 76)
    number = number & ~(0x3 << 62) | (0x2 << 62)
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def id_of(trace_id: str | None, span_id: str | None) -> str:
    """Return the id of a call that was sent without one."""
    # A span is sent again under the same ids, so they name it better than a new number would.
    if trace_id and span_id and len(trace_id) + len(span_id) < 128:
        return f"{trace_id}:{span_id}"
    return uuid7()


def not_ahead(started_at_ms: int, received_at_ms: int) -> int:
    """Return when a call began, clamped to its receipt where the sender's clock is wrong."""
    return received_at_ms if started_at_ms > received_at_ms + AHEAD_MS_MAX else started_at_ms


def outcome_of(finish_reason: str | None) -> str:
    """Return the outcome of a call without an error."""
    if finish_reason is None:
        return "answered"
    reason = finish_reason.lower()
    return "aborted" if reason in ABORTED else "failed" if reason in FAILED else "answered"


def as_json(value: Any) -> str | None:
    """Return a value as a JSON column keeps it; an empty one is none."""
    return orjson.dumps(value).decode() if value else None


def _text_row(
    call: Call, replaced: frozenset[str]
) -> tuple[tuple[Any, ...] | None, tuple[int | None, int | None, int | None]]:
    """Return the values of TEXT_COLUMNS, and the whole lengths of input, output and context in characters."""
    sent, answer = kept_of("input", call.input), kept_of("output", call.output)
    context, context_chars, context_cut = None, None, False
    if call.context is not None:
        texts = [call.context] if isinstance(call.context, str) else call.context
        context, context_chars, context_cut = kept_context(texts)
    # The application's own count wins only where it kept the text to itself or shortened it first.
    lengths = (
        _longer(call.input_chars, sent and sent.chars),
        _longer(call.output_chars, answer and answer.chars),
        context_chars,
    )
    if sent is None and answer is None and context is None and not (call.input_sha256 or call.output_sha256):
        return None, lengths
    cut = [
        name
        for name, was_cut in (
            ("input", sent and sent.sha256),
            ("output", answer and answer.sha256),
            ("context", context_cut),
        )
        if was_cut
    ]
    text = (
        sent and sent.text,
        sent is not None and sent.is_json,
        call.input_sha256 or (sent and sent.sha256),
        answer and answer.text,
        answer is not None and answer.is_json,
        call.output_sha256 or (answer and answer.sha256),
        as_json(context),
        as_json(_marks(replaced, cut)) if replaced or cut else None,
    )
    return text, lengths


def _marks(replaced: frozenset[str], cut: list[str]) -> dict[str, str]:
    """Say of each text what was done to it: "replaced", "cut", or both."""
    marks = {name: "replaced" for name in ("input", "output", "context") if name in replaced}
    return marks | {name: "replaced, cut" if name in marks else "cut" for name in cut}


def kept_of(field: str, value: str | list[dict[str, Any]] | None) -> KeptText | None:
    """Return a text or messages as they are kept.

    Raises:
        BadText: messages are nested too deeply, or hold a number outside 64 bits.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return kept_text(value)
    try:
        return kept_messages(value)
    except ValueError as error:
        raise BadText(field, str(error)) from None


def _longer(sent: int | None, counted: int | None) -> int | None:
    if sent is None or counted is None:
        return counted if sent is None else sent
    return max(sent, counted)
