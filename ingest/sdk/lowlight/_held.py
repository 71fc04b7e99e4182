"""What a queued entry holds: its own copies, and about how many bytes. Runs in the application's thread."""

import sys
from typing import Any, Dict, Optional, Tuple

from lowlight._responses import get

#: What a queued message weighs beside its content.
MESSAGE_BYTES = 300
#: What a queued object weighs beyond its texts: about that of an openai ChatCompletion.
OBJECT_BYTES = 4_000
size_of = sys.getsizeof
#: Values walked to weigh a nested one; what holds more counts as HUGE_BYTES.
WALKED_MAX = 5_000
HUGE_BYTES = 8 * 1024 * 1024
#: Characters kept of an error's message.
MESSAGE_CHARS_MAX = 16 * 1024


class AsText:
    """A value that is to be sent as a text, its JSON; written by the background thread."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = copied(value)


class RawBody:
    """A provider's response as it came over HTTP; read by the background thread."""

    __slots__ = ("content",)

    def __init__(self, content: bytes) -> None:
        self.content = content


def copied(value: Any) -> Any:
    """Return a list or dict of its own, for applications append to their messages afterwards."""
    kind = type(value)
    if kind is list:
        return value[:]
    if kind is dict:
        return value.copy()
    try:
        return list(value) if isinstance(value, list) else value
    except Exception:
        return value


def error_of(error: Any) -> Optional[Dict[str, str]]:
    """Return {"type", "message"} of an exception, a dict or a text; None of None, False and what is empty.

    Done while recording: a queued exception would keep its traceback's frames alive.
    """
    kind = type(error)
    if error is None or (kind in (str, dict, bool) and not error):
        return None
    if kind is dict:
        found = error.get("type")
        return {
            "type": "error" if found is None else _said(found),
            "message": _said(error.get("message", "")),
        }
    if issubclass(kind, BaseException):
        return {"type": kind.__name__, "message": _said(error)}
    if issubclass(kind, type):
        return {"type": error.__name__, "message": ""}
    return {"type": "error", "message": _said(error)}


def _said(value: Any) -> str:
    try:
        return str(value)[:MESSAGE_CHARS_MAX]
    except Exception:
        return "(could not be read)"


def held(value: Any) -> Tuple[Any, int]:
    """Return a text, list of messages or response as the queue keeps it, and about how many bytes that are.

    Exact for texts and plain message lists, which make up nearly all of it; objects of other kinds count
    `OBJECT_BYTES` and the texts they are known for. `Client.record` does the same by itself for the usual
    kinds of input and response.
    """
    kind = type(value)
    if kind is str:
        return value, len(value) if value.isascii() else size_of(value)
    if kind is list:
        return value[:], list_bytes(value)
    if kind is RawBody:
        return value, len(value.content)
    return copied(value), _bytes_of(value, kind)


def _bytes_of(value: Any, kind: type) -> int:
    try:
        if kind is dict:
            return _deep_bytes(value)
        if kind is bytes:
            return size_of(value)
        if kind is tuple:
            return list_bytes(value)
        if kind is AsText:
            return OBJECT_BYTES + _deep_bytes(value.value)
        return OBJECT_BYTES + _response_bytes(value)
    except Exception:  # any property of a foreign object may raise
        return OBJECT_BYTES


def list_bytes(value: Any) -> int:
    """Return about how many bytes the messages, texts or objects of a list hold."""
    total = 0
    nested = []
    for item in value:
        kind = type(item)
        if kind is dict:
            total += MESSAGE_BYTES
            content = item.get("content")
            if type(content) is str:
                total += size_of(content)
            else:
                nested.append(item)
        elif kind is str or kind is list or kind is tuple:
            nested.append(item)
        else:
            total += OBJECT_BYTES
    return total + _deep_bytes(nested) if nested else total


def _response_bytes(response: Any) -> int:
    """The texts of a provider's response object."""
    total = 0
    choices = getattr(response, "choices", None)
    if type(choices) is list:
        for choice in choices:
            total += _size(get(get(choice, "message"), "content")) + _size(get(choice, "text"))
        return total
    for name in ("content", "output"):
        blocks = getattr(response, name, None)
        if type(blocks) is str:
            total += size_of(blocks)
        elif type(blocks) is list:
            for block in blocks:
                inner = get(block, "content")
                total += _size(get(block, "text")) + _size(get(block, "arguments"))
                total += sum(_size(get(part, "text")) for part in inner) if type(inner) is list else 0
    return total


def _deep_bytes(value: Any) -> int:
    """Sizes of the texts within lists and dicts; HUGE_BYTES where that is too much to walk here."""
    total = 0
    waiting = [value]
    for _ in range(WALKED_MAX):
        if not waiting:
            return total
        item = waiting.pop()
        kind = type(item)
        if kind is str or kind is bytes:
            total += size_of(item)
        elif kind is dict:
            total += 200
            waiting.extend(item.values())
        elif kind is list or kind is tuple:
            total += 100
            waiting.extend(item)
        else:
            total += 60
    return HUGE_BYTES


def _size(text: Any) -> int:
    return size_of(text) if type(text) is str else 0
