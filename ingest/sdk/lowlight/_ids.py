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
tails: List[str] = []
_TAILS_N = 512
#: What the sending thread keeps ready.
_STOCK_N = 4 * _TAILS_N
#: How long one reading of the clock serves: writing it as hexadecimal digits is the dearer half of an id.
_MOMENT_S = 0.1


class _Moment:
    """The first half of the ids made now, and from when until when, seconds since 1970, it serves."""

    __slots__ = ("from_s", "head", "until_s")

    def __init__(self) -> None:
        self.from_s = self.until_s = 0.0
        self.head = ""


moment = _Moment()


def new_id(at_s: Optional[float] = None) -> str:
    """Return a UUIDv7 (RFC 9562): milliseconds since 1970, then 74 random bits.

    Its time may be up to a tenth of a second early. The bits come from the operating system: `random` would
    repeat them in an application that seeds it, and the module `uuid` costs 4 ms to import and makes no
    version 7 before Python 3.14. `Client.record` does the same by itself, for the sake of the time it takes.

    Args:
        at_s: now, seconds since 1970, where the caller has just looked.
    """
    if at_s is None:
        at_s = time.time()
    if not moment.from_s <= at_s < moment.until_s:
        _begin_moment(at_s)
    try:
        return moment.head + tails.pop()
    except IndexError:
        return moment.head + _more_tails()


def _begin_moment(at_s: float) -> None:
    # A clock that was never set may say anything; the time of an id has 48 bits.
    time_hex = "%012x" % (int(at_s * 1000) if 0 <= at_s < 2**48 / 1000 else 0)
    # The head first: another thread may look in between, and takes the old one or the new one whole.
    moment.head = f"{time_hex[:8]}-{time_hex[8:]}"
    moment.from_s = at_s
    moment.until_s = at_s + _MOMENT_S


def _more_tails() -> str:
    random = os.urandom(10 * (_TAILS_N + 1)).hex()
    made = [
        f"-7{r[:3]}-{_VARIANT[int(r[3], 16)]}{r[4:7]}-{r[7:19]}"
        for r in (random[i : i + 20] for i in range(0, len(random), 20))
    ]
    last = made.pop()
    tails.extend(made)
    return last


def stock_up() -> None:
    """Make some in advance, in a thread that has the time."""
    while len(tails) < _STOCK_N:
        tails.append(_more_tails())


def begin_anew() -> None:
    """Forget what was made in advance: a forked child would make its parent's ids."""
    tails.clear()


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
    os.register_at_fork(after_in_child=begin_anew)
