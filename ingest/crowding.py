"""Bodies that would take many times their size once they are parsed, told before they are.

An empty message is two bytes on the wire and 175 in memory, `[],` three and 64: 16 MiB of either made the
server a gigabyte larger, and 64 MiB of `[],` come packed in 64 kB. So what is large is counted first, without
making anything of it: commas and opening brackets outside of strings for JSON, tags for protobuf.
"""

import re
from functools import lru_cache
from typing import Any

#: Bodies up to this are not looked at: at worst they take 200 MB for a moment.
UNCOUNTED_BYTES = 2 * 1024 * 1024
#: Values, keys among them, or fields of messages: a thousand for each of a thousand calls.
VALUES_MAX = 1_000_000

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
#: Each value and each key has one before it, but for the first of a body.
_BEFORE_A_VALUE = (b",", b"[", b"{", b":")


def is_crowded_json(body: bytes) -> bool:
    """Whether JSON holds over VALUES_MAX keys and values. What is no JSON may be either."""
    if len(body) <= UNCOUNTED_BYTES or _values(body) <= VALUES_MAX:
        return False
    values, after = 0, 0
    for string in _STRING.finditer(body):
        values += _values(body[after : string.start()])
        after = string.end()
        if values > VALUES_MAX:
            return True
    return values + _values(body[after:]) > VALUES_MAX


def is_crowded_text(text: str) -> bool:
    """Like `is_crowded_json`, of a text."""
    return len(text) > UNCOUNTED_BYTES // 4 and is_crowded_json(text.encode("utf-8", "surrogatepass"))


def _values(body: bytes) -> int:
    return sum(body.count(before) for before in _BEFORE_A_VALUE)


def is_crowded_message(body: bytes, descriptor: Any) -> bool:
    """Whether a protobuf message holds over VALUES_MAX fields, those of the messages in it among them.

    Bytes that are no such message may be either: the parser says so of them, and stops where they end.

    Args:
        descriptor: what protobuf's classes have as DESCRIPTOR.
    """
    if len(body) <= UNCOUNTED_BYTES:
        return False
    within = _messages_in(descriptor)
    ends: list[tuple[int, dict[int, Any]]] = []
    at, end, fields = 0, len(body), 0
    try:
        while True:
            while at >= end:
                if not ends:
                    return False
                end, within = ends.pop()
            fields += 1
            if fields > VALUES_MAX:
                return True
            tag, at = _varint(body, at)
            kind = tag & 7
            if kind == 2:
                size, at = _varint(body, at)
                message = within.get(tag >> 3)
                if message is None:
                    at += size
                elif at + size > end:
                    return False
                else:
                    ends.append((end, within))
                    end, within = at + size, _messages_in(message)
            elif kind == 0:
                _number, at = _varint(body, at)
            elif kind == 1:
                at += 8
            elif kind == 5:
                at += 4
    except IndexError:
        return False


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at a place, and the place behind it."""
    number = body[at]
    if number < 0x80:
        return number, at + 1
    number, shift = number & 0x7F, 7
    while True:
        at += 1
        byte = body[at]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at + 1
        shift += 7
        if shift > 63:
            raise IndexError("a number of over ten bytes, where any parser stops")


@lru_cache(256)
def _messages_in(descriptor: Any) -> dict[int, Any]:
    """Return the descriptors of a message's fields that are messages themselves, by number."""
    return {field.number: field.message_type for field in descriptor.fields if field.message_type is not None}
