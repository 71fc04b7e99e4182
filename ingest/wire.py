"""What a client may send, and how a body becomes calls, signals and labels.

Flow: HTTP body or a file's objects -> `parse_calls`, `calls_of` ... -> `ingest.checking.Sent` (the sound
items, and the rejected ones by index and field) -> `ingest.intake`. One bad item never sinks its batch.

Every field but those that make a signal or label what it is may be missing or null; missing is not zero. A
time is ISO 8601 (UTC where it names no offset) or a number since 1970: seconds, or milliseconds from 2e10
on. Unknown fields are ignored and named in the receipt.
"""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from ingest.checking import Item, Sent
from ingest.crowding import VALUES_MAX, is_crowded_json
from ingest.errors import IngestError
from ingest.rejections import Rejection, WrongTogether
from ingest.texts import DEPTH_MAX

ITEMS_MAX = 1_000
ID_CHARS_MAX = 128
NAME_CHARS_MAX = 256
COMMENT_BYTES_MAX = 16 * 1024
TAGS_MAX = 64
TOOLS_MAX = 128
CONTEXT_MAX = 1_000
#: One call stands for a million at most: squares of larger weights drown every other call, or are no numbers.
SAMPLE_RATE_MIN = 1e-6
#: Latencies up to a week; a longer one is a mistake of units.
LATENCY_MS_MAX = 7 * 86_400_000.0
COUNT_MAX = 2**31 - 1
#: Dollars of one call.
COST_USD_MAX = 1e6

#: The signals with a meaning of their own; a team's own names are welcome beside them.
SIGNAL_KINDS = (
    "thumbs_up",
    "thumbs_down",
    "rating",
    "regenerate",
    "rephrase",
    "edit",
    "copy",
    "abandon",
    "escalate",
)
RATING_RANGE = (1.0, 5.0)


def _not_ancient(at: datetime) -> datetime:
    if at.year < 2000:
        raise ValueError("lies before 2000; send ISO 8601, or seconds or milliseconds since 1970")
    return at


#: A span's ids as W3C Trace Context writes them, 16 or 32 hexadecimal digits, in whichever case.
_HEX_ID = re.compile("[0-9a-fA-F]{16}(?:[0-9a-fA-F]{16})?")


def _in_small_letters(span_or_trace_id: str) -> str:
    """Write a span's ids as OpenTelemetry sends them: some tools show, and then send, them in capitals.

    Any other text is an id of the application's own, whose case may tell it from another.
    """
    return span_or_trace_id.lower() if _HEX_ID.fullmatch(span_or_trace_id) else span_or_trace_id


def _in_our_words(kind: str) -> str:
    """Write Thumbs_Down and thumbs-down as what they mean: a name of the team's own says nothing yet."""
    ours = kind.lower().replace("-", "_")
    return ours if ours in SIGNAL_KINDS else kind


# A number is taken for an id or name: many applications number their users and versions.
Id = Annotated[str, Field(min_length=1, max_length=ID_CHARS_MAX, coerce_numbers_to_str=True)]
HexId = Annotated[Id, AfterValidator(_in_small_letters)]
Name = Annotated[str, Field(max_length=NAME_CHARS_MAX, coerce_numbers_to_str=True)]
Count = Annotated[int, Field(ge=0, le=COUNT_MAX)]
LatencyMs = Annotated[float, Field(ge=0, le=LATENCY_MS_MAX)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$")]
Time = Annotated[datetime, AfterValidator(_not_ancient)]
Text = Annotated[str | list[dict[str, Any]], Field(union_mode="left_to_right")]


class _Sent(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class Prompt(_Sent):
    """The prompt a call was made from."""

    name: Name | None = None
    version: Name | None = None


class Usage(_Sent):
    """Tokens as the provider counted them; `cached` and `reasoning` are parts of the two others."""

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cached_input_tokens: Count | None = None
    reasoning_tokens: Count | None = None


class Failure(_Sent):
    """What went wrong; its presence makes the call a failed one."""

    type: str | None = None
    message: str | None = None


def _all_sent(rate: object) -> object:
    """Take a rate of null for what it means: every call was sent."""
    return 1.0 if rate is None else rate


class Call(_Sent):
    """One LLM response in production.

    `input` is a text or a list of messages ({"role", "content"}), `output` likewise, `context` what the
    answer may be founded on (retrieved documents). `input_chars`, `output_chars` and the sha256 fields
    describe texts that the application keeps to itself. `sample_rate` is the share of such calls sent.
    """

    id: Id | None = None
    started_at: Time | None = None
    latency_ms: LatencyMs | None = None
    first_token_ms: LatencyMs | None = None
    provider: Name | None = None
    model: Name | None = None
    input: Text | None = None
    output: Text | None = None
    finish_reason: Name | None = None
    error: Failure | None = None
    retries: Count | None = None
    tools: Annotated[list[Name], Field(max_length=TOOLS_MAX)] | None = None
    prompt: Prompt | None = None
    usage: Usage | None = None
    cost_usd: Annotated[float, Field(ge=0, le=COST_USD_MAX)] | None = None
    user_id: Id | None = None
    session_id: Id | None = None
    environment: Name | None = None
    release: Name | None = None
    context: (
        Annotated[
            str | Annotated[list[str], Field(max_length=CONTEXT_MAX)], Field(union_mode="left_to_right")
        ]
        | None
    ) = None
    tags: Annotated[dict[Name, Name], Field(max_length=TAGS_MAX)] | None = None
    sample_rate: Annotated[float, Field(ge=SAMPLE_RATE_MIN, le=1), BeforeValidator(_all_sent)] = 1.0
    trace_id: HexId | None = None
    span_id: HexId | None = None
    response_id: Id | None = None
    input_chars: Count | None = None
    output_chars: Count | None = None
    input_sha256: Sha256 | None = None
    output_sha256: Sha256 | None = None


class Signal(_Sent):
    """Something a user did about a call; it may come before its call or days after.

    It names its call by `call_id`, `response_id`, `trace_id` with `span_id`, or `session_id` (then it
    belongs to the session's last call before `at`). A rating's range is 1 to 5 unless it says otherwise.
    """

    id: Id | None = None
    call_id: Id | None = None
    response_id: Id | None = None
    trace_id: HexId | None = None
    span_id: HexId | None = None
    session_id: Id | None = None
    kind: Annotated[
        str,
        Field(pattern=r"^[A-Za-z][A-Za-z0-9_.:-]{0,63}$", examples=list(SIGNAL_KINDS)),
        AfterValidator(_in_our_words),
    ]
    value: float | None = None
    value_min: float | None = None
    value_max: float | None = None
    comment: str | None = None
    at: Time | None = None

    @model_validator(mode="after")
    def _is_about_something(self) -> "Signal":
        if not (self.call_id or self.response_id or (self.trace_id and self.span_id) or self.session_id):
            raise WrongTogether(
                "call_id",
                "names no call: give call_id, response_id, trace_id with span_id, or session_id",
            )
        if self.kind == "rating":
            if self.value is None:
                raise WrongTogether("value", "a rating needs its value")
            low, high = self.value_range
            if low >= high:
                raise WrongTogether(
                    "value_max" if self.value_min is None else "value_min",
                    f"value_min {low:g} is not below value_max {high:g}; give the range of the rating",
                )
            if not low <= self.value <= high:
                raise WrongTogether(
                    "value",
                    f"{self.value:g} lies outside {low:g} to {high:g}; give value_min and value_max",
                )
        return self

    @property
    def value_range(self) -> tuple[float, float]:
        """The lowest and the highest value that a rating could have had."""
        return (
            RATING_RANGE[0] if self.value_min is None else self.value_min,
            RATING_RANGE[1] if self.value_max is None else self.value_max,
        )


class Label(_Sent):
    """A person's level for a call under a rubric; the same labeller's newer one replaces it."""

    call_id: Id
    rubric: Id
    level: Annotated[int, Field(ge=1, le=7)]
    labeller: Id


class Receipt(BaseModel):
    """What happened to a batch. Accepted items are committed; duplicates had been kept before."""

    accepted: int
    duplicates: int
    rejected: list[Rejection]
    unknown_fields: list[str]


class CallBatch(BaseModel):
    """The body of POST /v1/calls."""

    calls: Annotated[list[Call], Field(max_length=ITEMS_MAX)]


class SignalBatch(BaseModel):
    """The body of POST /v1/signals."""

    signals: Annotated[list[Signal], Field(max_length=ITEMS_MAX)]


class LabelBatch(BaseModel):
    """The body of POST /v1/labels."""

    labels: Annotated[list[Label], Field(max_length=ITEMS_MAX)]


class BadBody(IngestError):
    """A body holds no batch at all; nothing was kept, and sending it again cannot help.

    Attributes:
        code: bad_json, bad_body or too_many_items.
        field: the field at fault, where there is one.
    """

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.field = field


def parse_calls(body: bytes) -> Sent[Call]:
    """Read the body of POST /v1/calls.

    Raises:
        BadBody: it is not JSON, not {"calls": [...]}, or holds over 1,000 of them.
    """
    return _parse(body, "calls", Call)


def parse_signals(body: bytes) -> Sent[Signal]:
    """Read the body of POST /v1/signals; see `parse_calls`."""
    return _parse(body, "signals", Signal)


def parse_labels(body: bytes) -> Sent[Label]:
    """Read the body of POST /v1/labels; see `parse_calls`."""
    return _parse(body, "labels", Label)


def calls_of(items: Sequence[Any]) -> Sent[Call]:
    """Check objects that came from elsewhere than HTTP: a file, a test."""
    return Sent(items, Call)


def signals_of(items: Sequence[Any]) -> Sent[Signal]:
    """See `calls_of`."""
    return Sent(items, Signal)


def labels_of(items: Sequence[Any]) -> Sent[Label]:
    """See `calls_of`."""
    return Sent(items, Label)


def epoch_ms(at: datetime) -> int:
    """Return a time in milliseconds since 1970; one without an offset is UTC."""
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def _parse(body: bytes, name: str, model: type[Item]) -> Sent[Item]:
    batch, is_strict = _read(body)
    # Strict JSON says NUL only as an escape, and has no lone surrogates: most bodies need no look inside.
    suspicious = not is_strict or b"\\u0000" in body
    items = batch.get(name) if isinstance(batch, dict) else None
    if not isinstance(items, list):
        raise BadBody("bad_body", f'The body must be {{"{name}": [...]}}.', name)
    if len(items) > ITEMS_MAX:
        raise BadBody("too_many_items", f"{len(items)} items; send at most {ITEMS_MAX} at once.", name)
    return Sent(items, model, suspicious=suspicious, beside=[key for key in batch if key != name])


def json_of(body: bytes) -> Any:
    """Return what JSON says.

    Raises:
        BadBody: it is not JSON in UTF-8, is nested too deeply, or holds over a million keys and values.
    """
    return _read(body)[0]


def _read(body: bytes) -> tuple[Any, bool]:
    """Return what JSON says, and whether it is strict; see `json_of`."""
    if is_crowded_json(body):
        what = f"The body holds over {VALUES_MAX:,} keys and values; send it in smaller parts."
        raise BadBody("too_many_items", what)
    try:
        return orjson.loads(body), True
    except orjson.JSONDecodeError:
        return _lenient(body), False


def _lenient(body: bytes) -> Any:
    """Read what the strict parser refuses and we can keep: lone surrogates, NUL, numbers out of range.

    Raises:
        BadBody: it is not JSON in UTF-8, or nested too deeply.
    """
    try:
        text = body.decode("utf-8-sig", "surrogatepass")
        return json.loads(text, strict=False, parse_int=_whole_number)
    except UnicodeDecodeError as error:
        raise BadBody("bad_json", f"The body is not UTF-8 (byte {error.start}).") from None
    except RecursionError:
        raise BadBody("bad_json", f"The body is nested more than {DEPTH_MAX} levels deep.") from None
    except ValueError as error:
        raise BadBody("bad_json", f"The body is not JSON: {error}.") from None


def _whole_number(digits: str) -> int | float:
    # int() refuses thousands of digits; as a float they are infinite, which the item's own check names.
    return int(digits) if len(digits) < 20 else float(digits)
