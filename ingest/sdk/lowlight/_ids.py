"""Ids made on the client, so that the application can name a call before the server has seen it."""

import os
import time
from typing import Any, List, Optional

from lowlight._limits import ID_CHARS_MAX
from lowlight._plain import word
from lowlight._process import importing

_VARIANT = "89ab89ab89ab89ab"
#: Random halves of ids, made in advance: each look at the system's randomness lets another thread run first
#: (it gives the interpreter's lock away), which would make `record()` wait for whatever that thread does.
_tails: List[str] = []
_TAILS_N = 512
#: What the sending thread keeps ready.
_STOCK_N = 4 * _TAILS_N


def new_id() -> str:
    """Return a UUIDv7 (RFC 9562): milliseconds since 1970, then 74 random bits.

    The bits come from the operating system: `random` would repeat them in an application that seeds it,
    and the module `uuid` costs 4 ms to import and makes no version 7 before Python 3.14.
    """
    try:
        tail = _tails.pop()
    except IndexError:
        tail = _more_tails()
    time_hex = "%012x" % (time.time_ns() // 1_000_000)
    return f"{time_hex[:8]}-{time_hex[8:]}{tail}"


def _more_tails() -> str:
    random = os.urandom(10 * (_TAILS_N + 1)).hex()
    tails = [
        f"-7{r[:3]}-{_VARIANT[int(r[3], 16)]}{r[4:7]}-{r[7:19]}"
        for r in (random[i : i + 20] for i in range(0, len(random), 20))
    ]
    last = tails.pop()
    _tails.extend(tails)
    return last


def stock_up() -> None:
    """Make some in advance, in a thread that has the time."""
    while len(_tails) < _STOCK_N:
        _tails.append(_more_tails())


def given_id(given: Any) -> str:
    """Return the application's own id as text; a new one where it is empty or cannot be read."""
    if type(given) is str and 0 < len(given) <= ID_CHARS_MAX:
        return given
    try:
        return known_id(given) or new_id()
    except Exception:
        return new_id()


def known_id(given: Any) -> Optional[str]:
    """Return an id that the application may use in several places; None where it is empty.

    One that is longer than the server takes becomes its SHA-256, so that a signal still finds its call, and a
    call that is told twice is kept once.

    Raises:
        Unreadable: see `word`.
    """
    text = word(given)
    if text is None or len(text) <= ID_CHARS_MAX:
        return text
    with importing:
        from hashlib import sha256

    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tails.clear)  # or parent and child would make the same ids
