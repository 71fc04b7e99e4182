"""Numbers, times, ids and names as the server takes them; what it would refuse is left out and named.

Flow: `_wire` -> one field of what `record()` or `signal()` was given -> its value on the wire, or None. Units
and ranges are those of `_limits`. Runs in the background thread.
"""

import datetime
import math
import re
import reprlib
from typing import Any, Callable, Dict, Optional, Sequence

from lowlight._ids import known_id
from lowlight._limits import (
    COST_USD_MAX,
    COUNT_MAX,
    EARLIEST_YEAR,
    ID_CHARS_MAX,
    LATENCY_MS_MAX,
    NAME_CHARS_MAX,
    SAMPLE_RATE_MIN,
)
from lowlight._plain import Unreadable, word

#: Field -> what was left out of it and why, one line.
Problems = Dict[str, str]

#: Numbers below are no time since 1970 (2001 at the earliest): a monotonic clock's, say.
_EARLIEST_S = 1e9
#: Numbers above are milliseconds.
_LATEST_S = 2e10

_RANGES = {
    "latency_ms": (0.0, LATENCY_MS_MAX),
    "first_token_ms": (0.0, LATENCY_MS_MAX),
    "cost_usd": (0.0, COST_USD_MAX),
    "sample_rate": (5e-324, 1.0),
    "retries": (0.0, float(COUNT_MAX)),
    "value": (-math.inf, math.inf),
    "value_min": (-math.inf, math.inf),
    "value_max": (-math.inf, math.inf),
}


def texts_of(fields: Dict[str, Any], names: Sequence[str], problems: Problems) -> Dict[str, str]:
    """Return those of the named ids and names that there are, as text."""
    found = {}
    for name in names:
        value = fields.get(name)
        text = value if value is None or type(value) is str else _read(word, value, name, problems)
        if text:
            found[name] = text
    return found


def own_ids(fields: Dict[str, Any], names: Sequence[str], problems: Problems) -> Dict[str, str]:
    """Return those of the named ids that there are, as `record` and `signal` give them back."""
    found = {}
    for name in names:
        text = _read(known_id, fields.get(name), name, problems)
        if text is not None:
            found[name] = text
    return found


def cut_names(found: Dict[str, str], names: Sequence[str]) -> None:
    """Cut names that are longer than the server takes: their beginning still says what they are."""
    for name in names:
        if name in found:
            found[name] = found[name][:NAME_CHARS_MAX]


def drop_long_ids(found: Dict[str, str], names: Sequence[str], problems: Problems) -> None:
    """Leave out ids that are longer than the server takes: cut, they would be others."""
    for name in names:
        if len(found.get(name, "")) > ID_CHARS_MAX:
            problems[name] = (
                f"{name}={shown(found.pop(name))} has over {ID_CHARS_MAX} characters; it was left out"
            )


def number_of(fields: Dict[str, Any], name: str, problems: Problems) -> Optional[float]:
    """Return a number within its range; None where there is none."""
    value = fields.get(name)
    if value is None:
        return None
    try:
        if type(value) is bool:
            raise ValueError("a truth value")
        if isinstance(value, datetime.timedelta):
            value = value.total_seconds() * 1000
        number = float(value)
        least, most = _RANGES[name]
        if not least <= number <= most or math.isinf(number):
            raise ValueError("outside its range")
    except Exception:
        problems[name] = f"{name}={shown(value)} is no number that can be kept; it was left out"
        return None
    return max(number, SAMPLE_RATE_MIN) if name == "sample_rate" else number


_ISO = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]+))?)?(?:Z|[+-]([0-9]{2}):?([0-9]{2}))?)?"
)


def time_of(value: Any, name: str, problems: Problems) -> Optional[str]:
    """Return a time as ISO 8601: of a datetime (without a zone: local time), of seconds or milliseconds since
    1970, or of a text that is it already."""
    if value is None:
        return None
    try:
        if issubclass(type(value), str):
            value = str.__str__(value)
            match = _ISO.fullmatch(value)
            if match:
                return _checked(match)
        seconds = value.timestamp() if hasattr(value, "timestamp") else float(value)
        if seconds > _LATEST_S:
            seconds /= 1000
        if not _EARLIEST_S <= seconds <= _LATEST_S:
            raise ValueError("no time since 1970")
        return iso_of(seconds)
    except Exception:
        problems[name] = (
            f"{name}={shown(value)} is no time that can be kept; pass a datetime or time.time(). "
            "It was left out"
        )
        return None


def _checked(match: "re.Match[str]") -> str:
    """The text of an ISO time that is one: there is no 13th month, and no offset of 99 hours."""
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    fraction, hours, minutes = match.groups()[6:]
    datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.timezone.utc)
    if year < EARLIEST_YEAR or int(hours or 0) > 23 or int(minutes or 0) > 59:
        raise ValueError("no time that can be kept")
    text = match.group()
    # more digits than microseconds have say nothing, and not every reader takes them
    return text.replace(f".{fraction}", f".{fraction[:6]}") if fraction and len(fraction) > 6 else text


def iso_of(seconds: float) -> str:
    """Return seconds since 1970 as ISO 8601 in UTC, to the millisecond."""
    at = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _read(read: Callable[[Any], Optional[str]], value: Any, name: str, problems: Problems) -> Optional[str]:
    try:
        return read(value)
    except Unreadable as problem:
        problems[name] = f"{name} is {problem}; it was left out"
        return None


_brief = reprlib.Repr()
_brief.maxlevel = 2


def shown(value: Any) -> str:
    """Return what a value looks like, for a log line: at most 80 characters."""
    try:
        text = _brief.repr(value)  # bounded also for what is huge
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else text[:77] + "..."
