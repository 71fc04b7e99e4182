"""The wire's Call and Signal, made from what `record()` and `signal()` were given.

Flow: the queue's entries -> `encode` -> bytes of one JSON object -> `_sender` puts them into a batch. Runs in
the background thread. A field that cannot be used (`latency_ms="fast"`) is left out and named, so that it
never costs the call; a missing field stays missing, for missing is not zero.
"""

import datetime
import json
import math
import re
import reprlib
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from lowlight._config import Config
from lowlight._fields import CALL_FIELDS, SIGNAL_FIELDS
from lowlight._held import HUGE_BYTES, AsText, RawBody
from lowlight._json import plain, to_json
from lowlight._queue import Entry
from lowlight._responses import UnknownResponse, get, read_response, read_usage
from lowlight._texts import SHORT_CHARS, may_leave, short, shortened

#: Encoded calls above this are shortened: the server keeps 256 KiB of a text anyway.
CALL_BYTES_MAX = 2 * 1024 * 1024
#: The server refuses a call with longer ones: names and tags are cut, ids left out (cut, they are others).
NAME_CHARS_MAX = 256
ID_CHARS_MAX = 128
TAGS_MAX = 64
CONTEXT_MAX = 1_000

#: Numbers below are no time since 1970 (2001 at the earliest): a monotonic clock's, say.
_EARLIEST_S = 1e9
#: Numbers above are milliseconds.
_LATEST_S = 2e10


#: Field -> what was left out of it and why, one line.
Problems = Dict[str, str]


class Encoded(NamedTuple):
    """One item as it is sent: its JSON, and what was left out."""

    body: bytes
    problems: Problems


def encode_call(entry: Entry, config: Config) -> Encoded:
    """Return a call's JSON.

    Args:
        entry: as `Client.record` queues it.
        config: its environment and release stand in where the call names none; it says what may leave.
    """
    problems: Problems = {}
    call = _call(dict(zip(CALL_FIELDS, entry)), problems)
    call.setdefault("environment", config.environment)
    call.setdefault("release", config.release)
    call = {name: value for name, value in call.items() if value is not None}
    call = may_leave(call, config, problems)
    body = to_json(call, bounded=entry[1] >= HUGE_BYTES)
    if len(body) > CALL_BYTES_MAX:
        body = to_json(shortened(plain(call), CALL_BYTES_MAX))
        problems["texts"] = f"a call of over {CALL_BYTES_MAX // 2**20} MiB was sent with its texts shortened"
    return Encoded(body, problems)


def encode_signal(entry: Entry, config: Config) -> Encoded:
    """Return a signal's JSON; see `encode_call`."""
    problems: Problems = {}
    fields = dict(zip(SIGNAL_FIELDS, entry))
    signal = {
        name: _word(fields[name])
        for name in ("id", "call_id", "response_id", "trace_id", "span_id", "session_id", "kind", "comment")
    }
    numbers = {name: _number(fields, name, problems) for name in ("value", "value_min", "value_max")}
    at = _time(fields["at"], "at", problems) or _time(fields["recorded_at_s"], "recorded_at_s", problems)
    found: Dict[str, Any] = {**signal, **numbers, "at": at}
    found = {name: value for name, value in found.items() if value is not None}
    found = may_leave(found, config, problems)
    if len(found.get("comment", "")) > SHORT_CHARS:
        found["comment"] = short(found["comment"])
    return Encoded(to_json(found), problems)


def _call(fields: Dict[str, Any], problems: Problems) -> Dict[str, Any]:
    call: Dict[str, Any] = {}
    response = fields.get("response")
    if response is not None:
        try:
            call = read_response(_unpacked(response) if type(response) is RawBody else response)
        except UnknownResponse as problem:
            problems["response"] = str(problem)
        except Exception as problem:  # a foreign object's own properties may raise anything
            problems["response"] = f"the response could not be read ({type(problem).__name__}: {problem})"
    for name in ("id", *_NAMES, *_IDS):
        word = _word(fields.get(name))
        if word is not None:
            call[name] = word
    for name in _NAMES:
        if name in call:
            call[name] = call[name][:NAME_CHARS_MAX]
    for name in _IDS:
        if len(call.get(name, "")) > ID_CHARS_MAX:
            problems[name] = (
                f"{name}={_shown(call.pop(name))} has over {ID_CHARS_MAX} characters; it was left out"
            )
    for name in ("latency_ms", "first_token_ms", "cost_usd", "sample_rate"):
        number = _number(fields, name, problems)
        if number is not None:
            call[name] = number
    retries = _number(fields, "retries", problems)
    if retries is not None:
        call["retries"] = int(retries)
    started_at = _time(fields.get("started_at"), "started_at", problems)
    if started_at is None:
        started_at = _iso(fields["recorded_at_s"] - (call.get("latency_ms") or 0.0) / 1000)
    call["started_at"] = started_at
    for name, read in _READERS.items():
        try:
            value = None if fields.get(name) is None else read(fields[name], problems)
        except Exception as problem:  # any property of a foreign object may raise
            problems[name] = f"{name} could not be read ({_shown(problem)}); it was left out"
            continue
        if value is not None:
            call[name] = value
    return call


def _unpacked(raw: RawBody) -> Any:
    """The JSON of a response whose body the application has read by itself."""
    try:
        return json.loads(raw.content)
    except ValueError:
        raise UnknownResponse("a response's body is no JSON: what it said is not known") from None


_NAMES = ("provider", "model", "finish_reason", "environment", "release")
_IDS = ("user_id", "session_id", "trace_id", "span_id", "response_id")


def _word(value: Any) -> Optional[str]:
    """An id or a name as text; None where there is none."""
    if value is None:
        return None
    if type(value) is str:
        return value or None
    found = plain(value)
    return found if type(found) is str else str(found)


#: What the server takes; a call should not be lost for one number beyond.
_RANGES = {
    "latency_ms": (0.0, 7 * 86_400_000.0),
    "first_token_ms": (0.0, 7 * 86_400_000.0),
    "cost_usd": (0.0, 1e6),
    "sample_rate": (0.0, 1.0),
    "retries": (0.0, 2.0**31 - 1),
    "value": (-math.inf, math.inf),
    "value_min": (-math.inf, math.inf),
    "value_max": (-math.inf, math.inf),
}


def _number(fields: Dict[str, Any], name: str, problems: Problems) -> Optional[float]:
    value = fields.get(name)
    if value is None:
        return None
    try:
        if type(value) is bool:
            raise ValueError("a truth value")
        if isinstance(value, datetime.timedelta):
            value = value.total_seconds() * 1000
        number = float(value)
        least, most = _RANGES.get(name, (0.0, math.inf))
        if not least <= number <= most or math.isinf(number) or (name == "sample_rate" and number == 0):
            raise ValueError("outside its range")
    except Exception:
        problems[name] = f"{name}={_shown(value)} is no number that can be kept; it was left out"
        return None
    return number


_ISO = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?")


def _time(value: Any, name: str, problems: Problems) -> Optional[str]:
    """Return a time as ISO 8601: of a datetime (without a zone: local time), of seconds or milliseconds since
    1970, or of a text that is it already."""
    if value is None:
        return None
    try:
        if type(value) is str and _ISO.fullmatch(value):
            return value
        seconds = value.timestamp() if hasattr(value, "timestamp") else float(value)
        if seconds > _LATEST_S:
            seconds /= 1000
        if not _EARLIEST_S <= seconds <= _LATEST_S:
            raise ValueError("no time since 1970")
        return _iso(seconds)
    except Exception:
        problems[name] = (
            f"{name}={_shown(value)} is no time that can be kept; pass a datetime or time.time(). "
            "It was left out"
        )
        return None


def _iso(seconds: float) -> str:
    at = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text_or_messages(value: Any, role: str) -> Any:
    """A text as it is, messages as a list of objects; a single message is a list of one."""
    if type(value) is str:
        return value
    if type(value) is AsText:
        return to_json(value.value, bounded=True).decode()
    if type(value) is list and all(type(item) is dict for item in value):
        return value  # the usual case needs no copy: `to_json` looks after what is inside
    value = plain(value)
    if type(value) is dict:
        value = [value]
    if type(value) is list:
        return [item if type(item) is dict else {"role": role, "content": item} for item in value]
    return value if type(value) is str else str(value)


def _prompt(value: Any, problems: Problems) -> Optional[Dict[str, str]]:
    """{"name", "version"} of a name, a pair of name and version, or an object with those fields."""
    if type(value) in (tuple, list):
        name, version = [*value, None, None][:2]
    elif type(value) is str:
        name, version = value, None
    else:
        name, version = get(value, "name"), get(value, "version")
        if name is None:
            problems["prompt"] = (
                f'prompt={_shown(value)} has no name; pass ("name", "version"). It was left out'
            )
            return None
    found = {"name": _word(name), "version": _word(version)}
    return {field: word[:NAME_CHARS_MAX] for field, word in found.items() if word is not None}


def _context(value: Any, _problems: Problems) -> Any:
    """A text, or a list of texts; of a document object its text."""
    if type(value) is str:
        return value
    items = value if type(value) in (list, tuple) else [value]
    return [_document(item) for item in items[:CONTEXT_MAX]]


def _document(item: Any) -> str:
    if type(item) is str:
        return item
    for name in ("page_content", "text", "content"):  # LangChain's, LlamaIndex's and most others' name for it
        text = _safely(item, name)
        if type(text) is str:
            return text
    return to_json(item, bounded=True).decode()


def _safely(item: Any, name: str) -> Any:
    try:
        return get(item, name)
    except Exception:  # any property of a foreign object may raise
        return None


def _tags(value: Any, problems: Problems) -> Optional[Dict[str, str]]:
    found = plain(value)
    if type(found) is list:
        found = {str(name): "true" for name in found}
    if type(found) is not dict:
        problems["tags"] = f'tags={_shown(value)} is no dict; pass {{"name": "value"}}. It was left out'
        return None
    tags = {}
    for name, tag in list(found.items())[:TAGS_MAX]:
        if type(tag) is bool:
            tag = "true" if tag else "false"
        if tag is not None:
            word = tag if type(tag) is str else to_json(tag).decode()
            tags[name[:NAME_CHARS_MAX]] = word[:NAME_CHARS_MAX]
    return tags


def _tools(value: Any, _problems: Problems) -> Optional[List[str]]:
    """The names among names, provider's tool definitions and tool calls."""
    items = value if type(value) in (list, tuple) else [value]
    names = []
    for item in items[:128]:
        name = item if type(item) is str else get(get(item, "function") or item, "name")
        if type(name) is str and name:
            names.append(name[:NAME_CHARS_MAX])
    return names


def _usage(value: Any, problems: Problems) -> Optional[Dict[str, int]]:
    usage = read_usage(value)
    if usage is None:
        problems["usage"] = (
            f'usage={_shown(value)} counts no tokens; pass {{"input_tokens": n, "output_tokens": n}}'
        )
    return usage


_READERS: Dict[str, Callable[[Any, Problems], Any]] = {
    "input": lambda value, _problems: _text_or_messages(value, "user"),
    "output": lambda value, _problems: _text_or_messages(value, "assistant"),
    "prompt": _prompt,
    "context": _context,
    "tags": _tags,
    "tools": _tools,
    "usage": _usage,
    "error": lambda value, _problems: value,
}


_brief = reprlib.Repr()
_brief.maxlevel = 2


def _shown(value: Any) -> str:
    try:
        text = _brief.repr(value)  # bounded also for what is huge
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else text[:77] + "..."
