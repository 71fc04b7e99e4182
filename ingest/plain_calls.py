"""Well-formed calls straight to rows: what nearly every client sends, without the checks that find words.

Flow: one object of a batch -> `plain_call` -> `NewCall`, or None. None says nothing against the call: it has
a rare field, an error, a number written as text ... and goes through `ingest.wire.Call` and
`ingest.call_rows.new_call`, which say what is wrong where something is.

Why: made into a model and read out again, a call took 20 us of the server's time; plain types in plain fields
need a third of it. Nothing here may be more lenient than `Call`, and what is taken must come out as it would
there: property tests hold both (tests/unit/test_plain_calls.py).
"""

from datetime import datetime
from typing import Any

from ingest.call_rows import (
    BadText,
    NewCall,
    as_json,
    id_of,
    kept_of,
    not_ahead,
    outcome_of,
)
from ingest.texts import KEPT_BYTES_MAX
from ingest.wire import (
    COST_USD_MAX,
    COUNT_MAX,
    ID_CHARS_MAX,
    LATENCY_MS_MAX,
    NAME_CHARS_MAX,
    SAMPLE_RATE_MIN,
    TAGS_MAX,
    TOOLS_MAX,
    epoch_ms,
)

#: The fields that are read here; a call with any other takes the long way.
PLAIN = frozenset(
    (
        *("id", "started_at", "latency_ms", "first_token_ms", "provider", "model", "input", "output"),
        *("finish_reason", "retries", "tools", "prompt", "usage", "cost_usd", "user_id", "session_id"),
        *("environment", "release", "tags", "sample_rate", "trace_id", "span_id", "response_id"),
    )
)
_PROMPT = frozenset(("name", "version"))
_USAGE = frozenset(("input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens"))
#: A text of so many characters is kept whole, whichever they are.
_WHOLE_CHARS = KEPT_BYTES_MAX // 4


class _NotPlain(Exception):
    """A field must be judged by those who have words for it."""


def plain_call(call: dict[str, Any], received_at_ms: int) -> NewCall | None:
    """Return the rows of one call; None where it must take the long way to be judged.

    Args:
        call: its strings hold no NUL and no lone surrogate.
    """
    if not call.keys() <= PLAIN:
        return None
    try:
        return _new_call(call, received_at_ms)
    except (_NotPlain, BadText):
        return None


def _new_call(call: dict[str, Any], received_at_ms: int) -> NewCall:
    get = call.get
    prompt, usage = _inner(get("prompt"), _PROMPT), _inner(get("usage"), _USAGE)
    call_id, user_id, session_id, trace_id, span_id, response_id = _ids(
        (get("id"), get("user_id"), get("session_id"), get("trace_id"), get("span_id"), get("response_id"))
    )
    if not _in_small_letters(trace_id) or not _in_small_letters(span_id):
        raise _NotPlain  # a span's ids in capitals are written anew there
    key = _names(
        (
            get("provider"),
            get("model"),
            prompt.get("name"),
            prompt.get("version"),
            get("environment"),
            get("release"),
            get("finish_reason"),
        )
    )
    counts = _counts(
        (
            get("retries"),
            usage.get("input_tokens"),
            usage.get("output_tokens"),
            usage.get("cached_input_tokens"),
            usage.get("reasoning_tokens"),
        )
    )
    latency_ms = _number(get("latency_ms"), LATENCY_MS_MAX)
    first_token_ms = _number(get("first_token_ms"), LATENCY_MS_MAX)
    sample_rate = get("sample_rate", 1.0)
    if not (type(sample_rate) in _NUMBER and SAMPLE_RATE_MIN <= sample_rate <= 1):
        raise _NotPlain
    call_id = call_id or id_of(trace_id, span_id)
    outcome = outcome_of(key[6])
    began = get("started_at")
    started_at_ms = (
        received_at_ms - round(latency_ms or 0) if began is None else not_ahead(_ms(began), received_at_ms)
    )
    text, input_chars, output_chars = _texts(get("input"), get("output"))
    row = (
        *(call_id, received_at_ms, started_at_ms, outcome, latency_ms, first_token_ms, key[6]),
        *(None, None),
        *counts,
        _number(get("cost_usd"), COST_USD_MAX),
        *(user_id, session_id, trace_id, span_id, response_id, sample_rate),
        *(input_chars, output_chars, None),
        _tags(get("tags")),
        _tools(get("tools")),
    )
    return NewCall(
        call_id,
        (key[0] or "", key[1] or "", key[2] or "", key[3] or "", key[4] or "", key[5] or ""),
        started_at_ms,
        outcome,
        user_id,
        session_id,
        response_id,
        trace_id,
        span_id,
        row,
        text,
    )


_EMPTY: dict[str, Any] = {}
_NUMBER = frozenset((int, float))


def _inner(value: Any, fields: frozenset[str]) -> dict[str, Any]:
    if value is None:
        return _EMPTY
    if type(value) is dict and value.keys() <= fields:
        return value
    raise _NotPlain


def _ids(values: tuple[Any, ...]) -> tuple[Any, ...]:
    for value in values:
        if value is not None and not (type(value) is str and 0 < len(value) <= ID_CHARS_MAX):
            raise _NotPlain
    return values


def _in_small_letters(value: str | None) -> bool:
    return value is None or value == value.lower()


def _names(values: tuple[Any, ...]) -> tuple[Any, ...]:
    for value in values:
        if value is not None and not (type(value) is str and len(value) <= NAME_CHARS_MAX):
            raise _NotPlain
    return values


def _counts(values: tuple[Any, ...]) -> tuple[Any, ...]:
    for value in values:
        # By its type and not isinstance: true is no number.
        if value is not None and not (type(value) is int and 0 <= value <= COUNT_MAX):
            raise _NotPlain
    return values


def _number(value: Any, most: float) -> float | None:
    if value is None or (type(value) in _NUMBER and 0 <= value <= most):
        return value  # type: ignore[no-any-return]
    raise _NotPlain


def _ms(value: Any) -> int:
    """Milliseconds of 2026-11-22T08:15:00Z, also with milli- or microseconds; other ways are rare.

    The places of the marks leave digits only for all others, so that one reader's leniency is none here.
    """
    if type(value) is str and value[:1] == "2" and value[-1:] == "Z":
        marks, n = value[4:20:3], len(value)
        if (marks == "--T::." and n in (24, 27)) or (marks == "--T::Z" and n == 20):
            try:
                return epoch_ms(datetime.fromisoformat(value))
            except ValueError:
                raise _NotPlain from None
    raise _NotPlain


def _texts(sent: Any, answer: Any) -> tuple[tuple[Any, ...] | None, int | None, int | None]:
    """Return the values of TEXT_COLUMNS, and the lengths of input and output in characters."""
    if (
        type(sent) is str
        and type(answer) is str
        and len(sent) <= _WHOLE_CHARS
        and len(answer) <= _WHOLE_CHARS
    ):
        return (sent, False, None, answer, False, None, None, None), len(sent), len(answer)
    asked, told = kept_of("input", _messages(sent)), kept_of("output", _messages(answer))
    if asked is None and told is None:
        return None, None, None
    if (asked is not None and asked.sha256 is not None) or (told is not None and told.sha256 is not None):
        raise _NotPlain  # it was cut, and gets a mark
    return (
        (
            asked and asked.text,
            asked is not None and asked.is_json,
            None,
            told and told.text,
            told is not None and told.is_json,
            None,
            None,
            None,
        ),
        asked and asked.chars,
        told and told.chars,
    )


def _messages(value: Any) -> Any:
    if value is None or type(value) is str:
        return value
    if type(value) is not list:
        raise _NotPlain
    for message in value:
        if type(message) is not dict:
            raise _NotPlain
    return value


def _tags(value: Any) -> str | None:
    if value is None:
        return None
    if type(value) is not dict or len(value) > TAGS_MAX:
        raise _NotPlain
    for name, tag in value.items():
        if type(tag) is not str or len(tag) > NAME_CHARS_MAX or len(name) > NAME_CHARS_MAX:
            raise _NotPlain
    return as_json(value)


def _tools(value: Any) -> str | None:
    if value is None:
        return None
    if type(value) is not list or len(value) > TOOLS_MAX:
        raise _NotPlain
    for name in value:
        if type(name) is not str or len(name) > NAME_CHARS_MAX:
            raise _NotPlain
    return as_json(value)
