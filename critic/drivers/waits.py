"""How long a provider asks to be left alone, from its headers."""

import email.utils
import math
import time
from collections.abc import Mapping

#: A longer wait than a day is taken as a day.
WAIT_MAX_S = 24 * 3600.0


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return `retry-after-ms` or `retry-after` (seconds or an HTTP date) in seconds; None where neither says.

    `headers` must find names in any case, as the SDKs' own do.
    """
    for header, per_s in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        wait_s = _number(headers.get(header), per_s)
        if wait_s is not None:
            return wait_s
    sent = headers.get("retry-after")
    if sent is None:
        return None
    try:
        until = email.utils.parsedate_to_datetime(sent).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(until - time.time(), 0.0), WAIT_MAX_S)


def _number(sent: str | None, per_s: float) -> float | None:
    try:
        wait_s = float(sent or "") / per_s
    except ValueError:
        return None
    return None if math.isnan(wait_s) or wait_s < 0 else min(wait_s, WAIT_MAX_S)
