"""Bring in calls from a file of JSON lines.

Flow: lines (`api.files.lines`) -> `api.files.mapping` -> ids and times -> `ingest.wire` checks -> a door: the
running server's HTTP, or the store itself where none runs (`api.doors`). Importing a file twice doubles
nothing.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import orjson
from pydantic import TypeAdapter, ValidationError

from api.files.mapping import BadRow, Item, Mapping
from ingest.wire import Receipt, Time, calls_of, signals_of
from outliers.weeks import Week

#: Calls and bytes of one request, at most.
BATCH_CALLS = 500
BATCH_BYTES = 4 * 1024 * 1024
#: Bad lines told one by one; the rest are counted.
TOLD_MAX = 20
#: A dialogue's answers without a time of their own come this far apart.
TURN_S = 1

_TIME: TypeAdapter[datetime] = TypeAdapter(Time)


class Door(Protocol):
    """Where calls and signals go."""

    def send(self, calls: list[dict[str, Any]], signals: list[dict[str, Any]]) -> tuple[Receipt, Receipt]:
        """Keep them; the receipts mean committed."""


@dataclass
class Told:
    """What became of a file.

    Attributes:
        lines: with something in them.
        silent: lines that hold no call (a dialogue nobody answered).
        calls, signals: kept now; `duplicates` are those calls that were here already.
        bad: lines with something that could not be kept; `reasons` tells the first 20: (line, reason).
        first: the first call made, as it is sent.
    """

    lines: int = 0
    silent: int = 0
    calls: int = 0
    signals: int = 0
    duplicates: int = 0
    bad: int = 0
    reasons: list[tuple[int, str]] = field(default_factory=list)
    first: dict[str, Any] | None = None

    def complain(self, line: int, reason: str) -> None:
        """Count a bad line."""
        self.bad += 1
        if len(self.reasons) < TOLD_MAX:
            self.reasons.append((line, reason))


@dataclass
class _Batch:
    """What waits to be sent; `sizes` are the calls' own, in bytes of JSON."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    signals: list[dict[str, Any]] = field(default_factory=list)


def import_lines(
    lines: Iterator[bytes],
    mapping: Mapping,
    door: Door | None,
    *,
    week: Week | None = None,
    advanced: Callable[[], None] = lambda: None,
) -> Told:
    """Import lines and tell what became of them.

    Args:
        door: where they go; None for a dry run, which checks everything and keeps nothing.
        week: the week to move all times into; None leaves them as they are.
        advanced: called after each line, for a progress bar.

    Raises:
        BadFile: reading stopped in the middle; what came before is kept.
        IngestError: the door refused.
    """
    told, batch, met = Told(), _Batch(), Counter[bytes]()
    try:
        for number, line in enumerate(lines, start=1):
            advanced()
            stripped = line.strip()
            if not stripped:
                continue
            told.lines += 1
            digest = hashlib.sha256(stripped).digest()[:12]
            met[digest] += 1
            row_id = digest.hex() + (f"-{met[digest]}" if met[digest] > 1 else "")
            _take_line(stripped, number, row_id, mapping, week, batch, told)
            if len(batch.calls) >= BATCH_CALLS or sum(batch.sizes) >= BATCH_BYTES:
                _send(batch, door, told)
    finally:
        _send(batch, door, told)
    return told


def _take_line(
    line: bytes, number: int, row_id: str, mapping: Mapping, week: Week | None, batch: _Batch, told: Told
) -> None:
    """Put a line's calls into the batch, or tell what is wrong with it."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        told.complain(number, f"no JSON: {error}")
        return
    try:
        items = mapping.items(row)
        for turn, item in enumerate(items):
            _name(item, row_id if mapping.turns is None else f"{row_id}.{turn}")
            _place(item, turn, week)
    except BadRow as error:
        told.complain(number, str(error))
        return
    if not items:
        told.silent += 1
    problems: list[str] = []
    for item in items:
        calls = calls_of([item.call])
        signals = signals_of([*item.signals, *item.session_signals])
        rejected = [*calls.rejected, *signals.rejected]
        problems += [f"{one.field} {one.error}".strip() for one in rejected]
        if not calls.rejected:
            batch.calls.append(item.call)
            batch.sizes.append(len(orjson.dumps(item.call)))
            bad = {one.index for one in signals.rejected}
            every = [*item.signals, *item.session_signals]
            batch.signals += [one for index, one in enumerate(every) if index not in bad]
            told.first = told.first or item.call
    if problems:
        told.complain(number, problems[0])


def _name(item: Item, own_id: str) -> None:
    """Give the call and its signals ids that are the same at every import, and tie them together."""
    call_id = item.call.setdefault("id", f"import-{own_id}")
    for index, signal in enumerate(item.signals):
        signal.setdefault("id", f"{str(call_id)[:100]}-{index}")
        signal["call_id"] = call_id
    for index, signal in enumerate(item.session_signals):
        signal.setdefault("id", f"{str(call_id)[:100]}-s{index}")
        if "session_id" in item.call:
            signal["session_id"] = item.call["session_id"]
        else:
            signal["call_id"] = call_id


def _place(item: Item, turn: int, week: Week | None) -> None:
    """Give the call its time, moved into `week` where one is named, and its signals theirs."""
    call = item.call
    given = call.get("started_at")
    started = None if given is None else _read_time(given, "started_at") + timedelta(seconds=turn * TURN_S)
    shift = timedelta(0)
    if week is not None:
        tags = call.setdefault("tags", {})
        if started is None:
            tags["shifted_from"] = "no time in the file"
            row_id = str(call["id"]).removesuffix(f".{turn}")
            started = _drawn(week, row_id) + timedelta(seconds=turn * TURN_S)
        else:
            tags["shifted_from"] = started.isoformat()
            moved = _folded(week, started)
            shift = moved - started
            started = moved
    if started is None:
        return
    call["started_at"] = started.isoformat()
    latency_ms = call.get("latency_ms")
    ended = started
    if isinstance(latency_ms, int | float) and 0 <= latency_ms < 1e9:
        ended += timedelta(milliseconds=latency_ms)
    for signal in (*item.signals, *item.session_signals):
        at = signal.get("at")
        signal["at"] = (ended if at is None else _read_time(at, "at") + shift).isoformat()


def _read_time(value: Any, name: str) -> datetime:
    try:
        at = _TIME.validate_python(value)
    except ValidationError:
        raise BadRow(f"{name} {str(value)[:40]!r} is no time; ISO 8601 or a number since 1970") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _folded(week: Week, at: datetime) -> datetime:
    """Return the same weekday and time of day (UTC) in another week."""
    at = at.astimezone(UTC)
    since = datetime.fromtimestamp(week.since_ms / 1000, UTC)
    into = timedelta(days=at.weekday(), hours=at.hour, minutes=at.minute, seconds=at.second)
    return since + into + timedelta(microseconds=at.microsecond)


def _drawn(week: Week, key: str) -> datetime:
    """Return a moment of the week that depends on the key alone, an hour before its end at the latest."""
    share = int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48
    span_ms = week.until_ms - week.since_ms - 3_600_000
    return datetime.fromtimestamp((week.since_ms + int(share * span_ms)) / 1000, UTC)


def _send(batch: _Batch, door: Door | None, told: Told) -> None:
    """Send what waits, in as many requests as it takes: one long dialogue can fill several."""
    calls, sizes, signals = batch.calls, batch.sizes, batch.signals
    batch.calls, batch.sizes, batch.signals = [], [], []
    if door is None:
        told.calls += len(calls)
        told.signals += len(signals)
        return
    while calls or signals:
        n = _fitting(sizes)
        kept, noted = door.send(calls[:n], signals[:BATCH_CALLS])
        calls, sizes, signals = calls[n:], sizes[n:], signals[BATCH_CALLS:]
        told.calls += kept.accepted
        told.duplicates += kept.duplicates
        told.signals += noted.accepted


def _fitting(sizes: list[int]) -> int:
    """Return how many calls go into one request: at least one where there is any."""
    total = 0
    for n, size in enumerate(sizes[:BATCH_CALLS]):
        total += size
        if n and total > BATCH_BYTES:
            return n
    return min(len(sizes), BATCH_CALLS)
