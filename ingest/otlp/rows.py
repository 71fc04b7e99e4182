"""An assembled call as rows, the same that `ingest.call_rows.new_call` makes of a call that was sent.

Flow: `ingest.otlp.assembling` -> `row_of` -> `ended`, `closing` -> `ingest.call_writes`.

Nothing is checked again here: `ingest.otlp.values` has bounded every fact, and checking all fields of a call
by `ingest.wire.Call` takes as long as making its rows. A test holds the two to the same rows.
"""

from collections.abc import Iterable
from typing import Any

import orjson

from ingest.call_rows import (
    ERROR_MESSAGE_BYTES_MAX,
    ERROR_TYPE_CHARS_MAX,
    BadText,
    NewCall,
    as_json,
    kept_of,
    not_ahead,
    outcome_of,
)
from ingest.otlp.assembling import Assembled
from ingest.otlp.facts import Facts
from ingest.otlp.messages import Message
from ingest.packing import PACKED_CHARS_MIN, packed, packed_bytes
from ingest.texts import KEPT_BYTES_MAX, kept_text, message_chars
from ingest.wire import COST_USD_MAX, TAGS_MAX


def row_of(
    assembled: Assembled, received_at_ms: int, *, packs: bool = False, is_clean: bool = True
) -> NewCall:
    """Return the rows of one call.

    Args:
        packs: pack the texts for a SQLite file.
        is_clean: there is no NUL and no lone surrogate in it, for the facts have been through their JSON.

    Raises:
        BadText: it may not be clean, or holds messages that JSON cannot say.
    """
    outer, told = assembled.outer, assembled.told
    text, input_chars, output_chars = _texts(told, assembled.output, packs, is_clean)
    reason = assembled.finish_reason
    outcome = "failed" if told.failed else outcome_of(reason)
    started_at_ms = (
        not_ahead(round(assembled.started_ns / 1e6), received_at_ms)
        if assembled.started_ns
        else received_at_ms - round(assembled.latency_ms or 0)
    )
    key = (
        told.provider or "",
        told.model or told.request_model or "",
        told.prompt_name or "",
        told.prompt_version or "",
        told.environment or "",
        told.release or "",
    )
    user_id, session_id, response_id = assembled.user_id, assembled.session_id, told.response_id
    error_type, error_message = _error(told) if told.failed else (None, None)
    tags, tools = as_json(_tags(told)), as_json(assembled.tools)
    if not is_clean:
        _check((*key, user_id, session_id, response_id, reason, error_type, error_message, tags, tools))
    call_id = f"{outer.trace_id}:{outer.span_id}"
    row = (
        *(call_id, received_at_ms, started_at_ms, outcome),
        *(assembled.latency_ms, assembled.first_token_ms),
        *(reason, error_type, error_message, assembled.retries),
        *(told.input_tokens, told.output_tokens, told.cached_input_tokens, told.reasoning_tokens),
        told.cost_usd if told.cost_usd is not None and told.cost_usd <= COST_USD_MAX else None,
        *(user_id, session_id, outer.trace_id, outer.span_id, response_id),
        1.0,
        *(input_chars, output_chars, None),
        *(tags, tools),
    )
    return NewCall(
        call_id,
        key,
        started_at_ms,
        outcome,
        user_id,
        session_id,
        response_id,
        outer.trace_id,
        outer.span_id,
        row,
        text,
    )


def _check(said: Iterable[str | None]) -> None:
    """Make sure that names, ids and the like can be kept as they are; JSON says NUL by its escape."""
    text = "\n".join(filter(None, said))
    if not text.isascii():
        _encoded(text)
    if "\0" in text or "\\u0000" in text:
        raise BadText("", "holds NUL")


def _error(told: Facts) -> tuple[str | None, str | None]:
    message = told.error_message and kept_text(told.error_message, ERROR_MESSAGE_BYTES_MAX).text
    return told.error_type and told.error_type[:ERROR_TYPE_CHARS_MAX], message


def _tags(told: Facts) -> dict[str, str] | None:
    tags = told.tags
    return tags if tags is None or len(tags) <= TAGS_MAX else dict(list(tags.items())[:TAGS_MAX])


def _texts(
    told: Facts, output: str | list[Message] | None, packs: bool, is_clean: bool
) -> tuple[tuple[Any, ...] | None, int | None, int | None]:
    """Return the values of `ingest.call_rows.TEXT_COLUMNS`, and the characters of input and output."""
    if told.input is None and output is None:
        return None, None, None
    sent, sent_json, sent_sha256, sent_chars = _kept(told.input, packs, is_clean)
    answer, answer_json, answer_sha256, answer_chars = _kept(output, packs, is_clean)
    marks = {}
    if told.replaced or sent_sha256 or answer_sha256:
        marks = {"input": _mark(told, told.input, sent_sha256), "output": _mark(told, output, answer_sha256)}
    text = (
        *(sent, sent_json, sent_sha256),
        *(answer, answer_json, answer_sha256),
        *(None, as_json({name: mark for name, mark in marks.items() if mark})),
    )
    return text, sent_chars, answer_chars


def _kept(
    said: str | list[Message] | None, packs: bool, is_clean: bool
) -> tuple[str | bytes | None, bool, str | None, int | None]:
    """Return a text as it is kept, whether it is JSON, its hash where it was cut, its characters.

    As `ingest.call_rows.kept_of`, but that it goes from the one set of bytes to what is kept: between texts
    and bytes a kilobyte takes a microsecond each way.
    """
    if said is None:
        return None, False, None, None
    if isinstance(said, str):
        encoded, nul, chars = _encoded(said), b"\0", len(said)
    else:
        try:
            encoded, nul, chars = orjson.dumps(said), b"\\u0000", sum(map(message_chars, said))
        except orjson.JSONEncodeError as error:
            raise BadText("", str(error)) from None
    if not is_clean and nul in encoded:
        raise BadText("", "holds NUL")
    if len(encoded) > KEPT_BYTES_MAX:
        kept = kept_of("", said)
        assert kept is not None
        return packed(kept.text) if packs else kept.text, kept.is_json, kept.sha256, kept.chars
    blob = packed_bytes(encoded) if packs and len(encoded) >= PACKED_CHARS_MIN else None
    if blob is not None:
        return blob, not isinstance(said, str), None, chars
    return said if isinstance(said, str) else encoded.decode(), not isinstance(said, str), None, chars


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise BadText("", "holds a lone surrogate") from None


def _mark(told: Facts, said: Any, sha256: str | None) -> str:
    """Say what was done to a text: "replaced" (U+FFFD stands for what could not be kept), "cut" or both."""
    replaced = "replaced" if told.replaced and "\ufffd" in str(said) else ""
    return ", ".join(filter(None, (replaced, "cut" if sha256 else "")))
