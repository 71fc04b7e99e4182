"""Which sessions are kept where an application sends only a part of its calls.

A session is kept whole or not at all, by every process alike: it is kept where the first eight bytes of the
SHA-256 of its id, as a fraction of 2**64, lie below the rate. A call without a session goes by its trace,
without that by itself. A call that failed is kept in any case: it was certain to be, so its rate is 1, and
the others of a kept session stand for 1 / rate calls each.
"""

import hashlib
from typing import Any, Iterable

from lowlight._plain import Unreadable, word
from lowlight._responses import get


def is_kept(unit: str, rate: float) -> bool:
    """Return whether the session, trace or call of this id is among those kept."""
    digest = hashlib.sha256(unit.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < rate * 2**64


def has_failed(response: Any) -> bool:
    """Return whether a response says that there is no answer, as OpenAI's Responses of status `failed` do."""
    try:
        return response is not None and get(response, "error") is not None
    except Exception:  # any property of a foreign object may raise
        return False


def unit_of(ids: Iterable[Any]) -> str:
    """Return the first id that there is, of a call's session, its trace and its own, as it is sent."""
    for one in ids:
        try:
            text = word(one)
        except Unreadable:
            continue
        if text:
            return text
    return ""


def combined(given: Any, rate: float) -> float:
    """Return the rate of a call that the application has already sampled by `given`."""
    if given is None:
        return rate
    try:
        by_application = float(given)
        return by_application * rate if 0 < by_application <= 1 else rate
    except Exception:
        return rate
