"""Texts as they are kept: without NUL and lone surrogates, and bounded with head and tail.

Flow: `ingest.wire` -> `cleaned`, `kept_text`, `kept_messages` -> columns of `call_text`.
"""

import hashlib
import re
from typing import Any, NamedTuple

import orjson

#: Kept of one text, in bytes of UTF-8; a longer one keeps its head and its tail.
KEPT_BYTES_MAX = 256 * 1024
#: Nesting of lists and objects inside one item.
DEPTH_MAX = 250

#: NUL (PostgreSQL cannot keep it) and lone surrogates (UTF-8 cannot say them).
_UNKEEPABLE = re.compile("[\x00\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


class KeptText(NamedTuple):
    """A text as it goes into the store.

    Attributes:
        text: at most KEPT_BYTES_MAX bytes of UTF-8 and one line that says what was cut.
        is_json: whether it is a JSON list of messages.
        chars: characters of the whole text; of a message list, of the texts in its contents.
        sha256: hex digest of the whole text's UTF-8, where it was cut; None where `text` is all of it.
    """

    text: str
    is_json: bool
    chars: int
    sha256: str | None


class TooDeep(ValueError):
    """A value is nested more than DEPTH_MAX levels deep."""

    def __init__(self) -> None:
        super().__init__(f"is nested more than {DEPTH_MAX} levels deep")


def cleaned(value: Any, depth: int = 0) -> tuple[Any, bool]:
    """Return a JSON value with every NUL and lone surrogate as U+FFFD, and whether there was one.

    Raises:
        TooDeep: lists and objects lie more than DEPTH_MAX deep.
    """
    if isinstance(value, str):
        text, n = _UNKEEPABLE.subn(_REPLACEMENT, value)
        return text, n > 0
    if not isinstance(value, (list, dict)):
        return value, False
    if depth >= DEPTH_MAX:
        raise TooDeep
    if isinstance(value, list):
        items = [cleaned(item, depth + 1) for item in value]
        return [item for item, _ in items], any(changed for _, changed in items)
    pairs = [(cleaned(key), cleaned(item, depth + 1)) for key, item in value.items()]
    return {key: item for (key, _), (item, _) in pairs}, any(a or b for (_, a), (_, b) in pairs)


def kept_text(text: str, bytes_max: int = KEPT_BYTES_MAX) -> KeptText:
    """Return a text as it is kept."""
    # A character takes at most four bytes, so most texts need no encoding to be found short.
    if len(text) * 4 <= bytes_max:
        return KeptText(text, False, len(text), None)
    encoded = text.encode()
    if len(encoded) <= bytes_max:
        return KeptText(text, False, len(text), None)
    return KeptText(_head_and_tail(encoded, bytes_max), False, len(text), hashlib.sha256(encoded).hexdigest())


def kept_messages(messages: list[dict[str, Any]]) -> KeptText:
    """Return a list of messages as it is kept: JSON, its long strings cut where the whole is too long.

    Raises:
        TooDeep: it is nested too deeply to be written as JSON.
        ValueError: it holds a number that JSON readers do not agree on.
    """
    chars = sum(map(message_chars, messages))
    encoded = _as_json(messages)
    if len(encoded) <= KEPT_BYTES_MAX:
        return KeptText(encoded.decode(), True, chars, None)
    digest = hashlib.sha256(encoded).hexdigest()
    for bytes_max in (65536, 16384, 4096, 1024):
        shorter = _as_json(_with_short_strings(messages, bytes_max))
        if len(shorter) <= KEPT_BYTES_MAX:
            return KeptText(shorter.decode(), True, chars, digest)
    # Very many messages: the first and the last of them. No list this long can be read in full anyway.
    ends = len(messages) // 2
    while ends > 0:
        gap = {"role": "cut", "content": f"[... {len(messages) - 2 * ends} messages cut ...]"}
        shorter = _as_json(_with_short_strings([*messages[:ends], gap, *messages[-ends:]], 1024))
        if len(shorter) <= KEPT_BYTES_MAX:
            return KeptText(shorter.decode(), True, chars, digest)
        ends //= 2
    return KeptText(_head_and_tail(encoded, KEPT_BYTES_MAX), False, chars, digest)


def kept_context(texts: list[str]) -> tuple[list[str], int, bool]:
    """Return the context as kept (at most KEPT_BYTES_MAX together), its characters, whether it was cut."""
    chars = sum(map(len, texts))
    if chars * 4 <= KEPT_BYTES_MAX or sum(len(text.encode()) for text in texts) <= KEPT_BYTES_MAX:
        return texts, chars, False
    each = KEPT_BYTES_MAX // len(texts)
    kept = [kept_text(text, each) for text in texts]
    return [text.text for text in kept], chars, any(text.sha256 for text in kept)


def message_chars(message: dict[str, Any]) -> int:
    """Return the characters of the texts in a message's content."""
    content = message.get("content")
    if isinstance(content, str):
        return len(content)
    if not isinstance(content, list):
        return 0
    texts = (part.get("text") for part in content if isinstance(part, dict))
    return sum(len(text) for text in texts if isinstance(text, str))


def _as_json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        if "ecursion" in str(error):
            raise TooDeep from None
        raise ValueError("holds a whole number outside 64 bits; send it as a string") from None


def _with_short_strings(value: Any, bytes_max: int) -> Any:
    if isinstance(value, str):
        return kept_text(value, bytes_max).text
    if isinstance(value, list):
        return [_with_short_strings(item, bytes_max) for item in value]
    if isinstance(value, dict):
        return {key: _with_short_strings(item, bytes_max) for key, item in value.items()}
    return value


def _head_and_tail(encoded: bytes, bytes_max: int) -> str:
    half = bytes_max // 2
    head, tail = encoded[:half].decode(errors="ignore"), encoded[-half:].decode(errors="ignore")
    cut = len(encoded) - 2 * half
    return f"{head}\n[... {cut} bytes cut ...]\n{tail}"
