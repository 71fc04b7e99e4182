"""Ids made on the client, so that the application can name a call before the server has seen it."""

import os
import time
from typing import Any

_VARIANT = "89ab89ab89ab89ab"


def new_id() -> str:
    """Return a UUIDv7 (RFC 9562): milliseconds since 1970, then 74 random bits.

    The bits come from the operating system: `random` would repeat them in an application that seeds it,
    and the module `uuid` costs 4 ms to import and makes no version 7 before Python 3.14.
    """
    time_hex = "%012x" % (time.time_ns() // 1_000_000)
    r = os.urandom(10).hex()
    return f"{time_hex[:8]}-{time_hex[8:]}-7{r[:3]}-{_VARIANT[int(r[3], 16)]}{r[4:7]}-{r[7:19]}"


def given_id(given: Any) -> str:
    """Return the application's own id as text; a new one where it is empty or cannot be read."""
    try:
        return str(given) or new_id()
    except Exception:
        return new_id()
