"""How values read on a page: times, durations, money, shares, counts. Unknown is a word, never a zero.

Used as Jinja filters by `dashboards.drawing.render`; each takes None for unknown.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

UNKNOWN = "unknown"
#: A number with its unit: "99 %", "4.6 s".
NUMBER_AND_UNIT = re.compile(r"(\d[\d.,]* (?:%|ms|s|min|h)(?!\w))")


def moment(ms: int) -> datetime:
    """Return milliseconds since 1970 as a UTC time; JSON writes it as ISO 8601 with Z."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def duration(ms: float | None) -> str:
    """Three significant digits and a unit: 812 ms, 2.41 s, 104 s, 3 min 20 s."""
    if ms is None:
        return UNKNOWN
    if 0 < ms < 0.05:
        return "< 0.1 ms"
    if ms < 999.5:
        return f"{ms:.0f} ms" if ms >= 10 or ms == 0 else f"{ms:.1f} ms"
    seconds = ms / 1000
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    if seconds < 180:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def tick(ms: float) -> str:
    """A round latency on an axis: 500 ms, 2 s, 100 s."""
    return f"{ms / 1000:g} s" if ms >= 1000 else f"{ms:g} ms"


def share(value: float | None) -> str:
    """A share 0..1 in per cent; what is not nothing never reads 0 %, nor what is not all 100 %."""
    if value is None:
        return UNKNOWN
    percent = value * 100
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.5 <= percent < 100:
        return "> 99 %" if percent < 99.95 else "> 99.9 %"
    if percent < 9.95 and percent != round(percent):
        return f"{percent:.1f} %"
    return f"{percent:.0f} %"


def count(value: float | None) -> str:
    """A count with thin spaces between thousands: 12 300."""
    if value is None:
        return UNKNOWN
    return f"{value:,.0f}".replace(",", "\u202f")


def money(usd: float | None) -> str:
    """US dollars with two significant digits below a cent: $0.0042, $1.30."""
    if usd is None:
        return UNKNOWN
    if usd == 0 or usd >= 0.995:
        return f"${usd:,.2f}"
    digits = max(2, 1 - math.floor(math.log10(usd)))
    return f"${usd:.{min(digits, 8)}f}"


def number(value: float | None, digits: int = 1) -> str:
    """A plain number with `digits` decimals."""
    return UNKNOWN if value is None else f"{value:,.{digits}f}".replace(",", "\u202f")


def many(value: float, one: str, more: str | None = None) -> str:
    """A count with its noun: 1 call, 2 calls."""
    return f"{count(value)} {one if value == 1 else more or one + 's'}"


def group(name: str, group_by: str) -> str:
    """A group of calls; those that did not name theirs are "no prompt version", "no model"."""
    field = "model" if group_by == "service" else group_by.replace("_", " ")
    provider, _, model = name.partition(" ")
    if group_by == "service" and model and model.lower().startswith(provider.lower()):
        return model  # "mistral mistral-large": the model says whose it is
    return name or f"no {field}"


def clock(at: datetime | None, zone: ZoneInfo) -> str:
    """Time of day and date, in the settings' time zone: Tue 18 Nov 14:02."""
    if at is None:
        return UNKNOWN
    local = at.astimezone(zone)
    return f"{local:%a} {local.day} {local:%b %H:%M}"


def weekday(at: datetime, zone: ZoneInfo) -> str:
    """The day of the week: Tue."""
    return f"{at.astimezone(zone):%a}"


def weeknumber(at: datetime, zone: ZoneInfo) -> str:
    """The ISO week: w 47."""
    return f"w {at.astimezone(zone).isocalendar().week}"


def stamp(at: datetime | None, zone: ZoneInfo) -> str:
    """A time as the field of a form holds it, to the minute: 2026-11-20T14:00; '' for none."""
    return "" if at is None else f"{at.astimezone(zone):%Y-%m-%dT%H:%M}"


def day(at: datetime | None, zone: ZoneInfo) -> str:
    """A date: 18 Nov 2026."""
    if at is None:
        return UNKNOWN
    local = at.astimezone(zone)
    return f"{local.day} {local:%b %Y}"


def longday(at: datetime, zone: ZoneInfo) -> str:
    """A dateline: Sunday 22 November 2026, 14:02."""
    local = at.astimezone(zone)
    return f"{local:%A} {local.day} {local:%B %Y}, {local:%H:%M}"


def days(since: datetime, until: datetime, zone: ZoneInfo) -> str:
    """A span of days, last one included: 9 to 15 Nov 2026, 30 Nov to 6 Dec 2026."""
    first, last = since.astimezone(zone), until.astimezone(zone)
    if first.date() == last.date():
        return day(since, zone)
    if first.year != last.year:
        return f"{day(since, zone)} to {day(until, zone)}"
    month = "" if first.month == last.month else f" {first:%b}"
    return f"{first.day}{month} to {day(until, zone)}"


def lift(value: float, low: float, high: float) -> str:
    """How many times as often, with its interval: 2.3× (1.6× to 2.7×); one without a rest is "at least"."""
    if not math.isfinite(value) or value > 1_000 or value > high:
        return f"at least {number(low)}×"
    return f"{number(value)}× ({number(low)}× to {number(high)}×)"


def offset(seconds: float) -> str:
    """A distance in time from the call at hand: −2 min, +40 s, +3 h."""
    sign = "−" if seconds < 0 else "+"
    return "now" if abs(seconds) < 0.5 else sign + since(abs(seconds))


def since(seconds: float) -> str:
    """A rough length of time: 40 s, 12 min, 3 h, 5 days."""
    for size, unit in ((86_400, "day"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size or (seconds >= size and size < 86_400):
            n = round(seconds / size)
            return many(n, "day") if unit == "day" else f"{n} {unit}"
    return f"{seconds:.0f} s"


def link(path: str, *queries: Mapping[str, Any], **query: Any) -> str:
    """A path with its query, of mappings and names; parameters that are None or '' are left out."""
    asked = {name: value for part in (*queries, query) for name, value in part.items()}
    kept = {name: _plain(value) for name, value in asked.items() if value not in (None, "")}
    return f"{path}?{urlencode(kept)}" if kept else path


def call_path(call_id: str) -> str:
    """The page of a call, whatever its id is made of."""
    return f"/calls/{quote(call_id, safe='')}"


def user_path(user_id: str) -> str:
    """The page of a user, whatever the application's id of theirs is made of."""
    return f"/users/{quote(user_id, safe='')}"


def session_path(session_id: str) -> str:
    """The page of a session."""
    return f"/sessions/{quote(session_id, safe='')}"


def shorten(value: str | None, length: int) -> str:
    """One line of at most `length` characters; cut at a word with an ellipsis."""
    line = " ".join((value or "").split())
    if len(line) <= length:
        return line
    head = line[: length - 1]
    cut = head.rfind(" ")
    return (head[:cut] if cut > length // 2 else head).rstrip(" ,.;:") + "…"


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
