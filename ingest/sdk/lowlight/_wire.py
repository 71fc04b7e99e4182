"""The wire's Call, made from what `record()` was given.

Flow: the queue's entries -> `encode_call` -> bytes of one JSON object -> `_sender` puts them into a batch.
Runs in the background thread. A field that cannot be used (`latency_ms="fast"`) is left out and named, so
that it never costs the call; a missing field stays missing, for missing is not zero.
"""

import json
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from lowlight._config import Config
from lowlight._fields import CALL_FIELDS
from lowlight._held import HUGE_BYTES, AsText, RawBody
from lowlight._json import to_json
from lowlight._limits import (
    CONTEXT_MAX,
    NAME_CHARS_MAX,
    TAGS_MAX,
    TOOLS_MAX,
)
from lowlight._plain import plain
from lowlight._queue import Entry
from lowlight._responses import UnknownResponse, get, read_response, read_usage
from lowlight._scalars import (
    Problems,
    cut_names,
    drop_long_ids,
    number_of,
    own_ids,
    shown,
    texts_of,
    time_of,
)
from lowlight._texts import may_leave, shortened

#: Encoded calls above this are shortened: the server keeps 256 KiB of a text anyway.
CALL_BYTES_MAX = 2 * 1024 * 1024


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
    if "tools" in call:
        call["tools"] = _tools(call["tools"], problems)
    call.update(own_ids(fields, ("id",), problems))
    call.update(texts_of(fields, (*_NAMES, *_IDS), problems))
    cut_names(call, _NAMES)
    drop_long_ids(call, _IDS, problems)
    for name in ("latency_ms", "first_token_ms", "cost_usd", "sample_rate"):
        number = number_of(fields, name, problems)
        if number is not None:
            call[name] = number
    retries = number_of(fields, "retries", problems)
    if retries is not None:
        call["retries"] = int(retries)
    started_at = time_of(fields.get("started_at"), "started_at", problems)
    if started_at is None:
        began_s = fields["recorded_at_s"] - (call.get("latency_ms") or 0.0) / 1000
        started_at = time_of(began_s, "recorded_at_s", problems)
    if started_at is not None:
        call["started_at"] = started_at
    for name, read in _READERS.items():
        try:
            value = None if fields.get(name) is None else read(fields[name], problems)
        except Exception as problem:  # any property of a foreign object may raise
            problems[name] = f"{name} could not be read ({shown(problem)}); it was left out"
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
    elif issubclass(type(value), (str, bytes)):
        name, version = value, None
    else:
        name, version = get(value, "name"), get(value, "version")
        if name is None:
            problems["prompt"] = (
                f'prompt={shown(value)} has no name; pass ("name", "version"). It was left out'
            )
            return None
    names = ("name", "version")
    found = texts_of(dict(zip(names, (name, version))), names, problems)
    cut_names(found, names)
    return found or None


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
        problems["tags"] = f'tags={shown(value)} is no dict; pass {{"name": "value"}}. It was left out'
        return None
    tags = {}
    for name, tag in list(found.items())[:TAGS_MAX]:
        if type(tag) is bool:
            tag = "true" if tag else "false"
        if tag is not None:
            text = tag if type(tag) is str else to_json(tag).decode()
            tags[name[:NAME_CHARS_MAX]] = text[:NAME_CHARS_MAX]
    return tags


def _tools(value: Any, _problems: Problems) -> Optional[List[str]]:
    """The names among names, provider's tool definitions and tool calls."""
    items = value if type(value) in (list, tuple) else [value]
    names = []
    for item in items[:TOOLS_MAX]:
        name = item if type(item) is str else get(get(item, "function") or item, "name")
        if type(name) is str and name:
            names.append(name[:NAME_CHARS_MAX])
    return names


def _usage(value: Any, problems: Problems) -> Optional[Dict[str, int]]:
    usage = read_usage(value)
    if usage is None:
        problems["usage"] = (
            f'usage={shown(value)} counts no tokens; pass {{"input_tokens": n, "output_tokens": n}}'
        )
        return None
    for name in _COUNTS:
        if name not in usage and get(value, name) is not None:
            problems[f"usage.{name}"] = (
                f"usage: {name}={shown(get(value, name))} is no number of tokens; it was left out"
            )
    return usage


_COUNTS = ("input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens")


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
