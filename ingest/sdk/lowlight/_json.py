"""JSON of whatever an application hands over: never an exception, never a batch lost to one odd value.

Flow: `_wire` builds a call or signal -> `to_json` -> bytes. Runs in the background thread. What plain JSON
has no word for, or is nested too deeply for the server, goes through `_plain`; lone surrogates become U+FFFD.
"""

import json
from typing import Any, Dict

from lowlight._limits import NESTED_MAX
from lowlight._plain import plain


def to_json(value: Any, *, bounded: bool = False) -> bytes:
    """Return `value` as compact UTF-8 JSON; see the module for what becomes of odd values.

    Args:
        bounded: hold the limits of depth and values also where plain JSON would do: for what may be huge.
    """
    try:
        text = _dump(plain(value) if bounded else value)
        # each level takes a bracket, so that nearly all texts need no second look
        if text.count("[") + text.count("{") > NESTED_MAX and _is_deep(value):
            text = _dump(plain(value))
    except Exception:  # the slow path copies, so it is taken only where the quick one fails
        text = _dump(plain(value))
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return whole_text(text).encode("utf-8")


_dump = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def _is_deep(value: Any) -> bool:
    """Whether lists and dicts lie more than NESTED_MAX within one another; each is looked at once a level."""
    level: Dict[int, Any] = {id(value): value}
    for _ in range(NESTED_MAX):
        inner: Dict[int, Any] = {}
        for container in level.values():
            for item in container.values() if isinstance(container, dict) else container:
                if isinstance(item, (list, tuple, dict)):
                    inner[id(item)] = item
        if not inner:
            return False
        level = inner
    return True


def whole_text(text: str) -> str:
    """Return `text` with surrogate pairs joined and lone surrogates replaced by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
