"""Spans and log records as plain data, and the checks that both bodies have in common.

Flow: `from_protobuf`, `from_json` -> Read[Span], Read[Record] -> `ingest.otlp.dialects`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ingest.wire import BadBody

#: Spans or log records in one request; a Collector batches 8,192.
ITEMS_MAX = 10_000
#: Nesting of attribute values; protobuf itself stops at 100 messages.
VALUE_DEPTH_MAX = 40
#: Names of rejected items that a response repeats.
REASONS_MAX = 5
#: Nanoseconds of the years 2000 and 2200: a time outside is a mistake of units.
EARLIEST_NS, LATEST_NS = 946_684_800 * 10**9, 7_258_118_400 * 10**9

#: Attributes that hold messages: structured, or as JSON in a text, which is then read where it is met.
MESSAGES = frozenset(("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions"))

STATUS_OK, STATUS_ERROR = 1, 2


@dataclass(slots=True)
class Source:
    """Who sent a span or record: its instrumentation scope and the attributes of its resource.

    Attributes:
        origin: what `ingest.otlp.dialects` made of these, once for all spans of the source.
    """

    scope: str
    resource: dict[str, Any]
    origin: Any = field(default=None, compare=False)


@dataclass(slots=True)
class Event:
    """One event within a span."""

    name: str
    at_ns: int
    attributes: dict[str, Any]


@dataclass(slots=True)
class Span:
    """One span. Ids are lower-case hex; `status` is 0 unset, 1 ok, 2 error.

    Attributes:
        ended_ns: just before `started_ns` where the end is unknown, so that no latency comes of it.
    """

    source: Source
    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    started_ns: int
    ended_ns: int
    attributes: dict[str, Any]
    events: list[Event] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    status: int = 0
    status_message: str = ""


@dataclass(slots=True)
class Record:
    """One log record. Its ids are '' where it stands in no span."""

    source: Source
    trace_id: str
    span_id: str
    at_ns: int
    name: str
    body: Any
    attributes: dict[str, Any]


Item = TypeVar("Item")


@dataclass
class Read(Generic[Item]):
    """A request's items, and what was wrong with the others."""

    items: list[Item] = field(default_factory=list)
    rejected: int = 0
    reasons: list[str] = field(default_factory=list)

    def reject(self, reason: str) -> None:
        """Count an item that cannot be kept."""
        self.rejected += 1
        if len(self.reasons) < REASONS_MAX and reason not in self.reasons:
            self.reasons.append(reason)


class BadItem(ValueError):
    """One item cannot be kept; its request's others can."""


def collect(sent: Iterable[tuple[Source, Any]], build: Callable[[Any, Source], Item]) -> Read[Item]:
    """Build items one by one, and count those that cannot be kept.

    Args:
        build: makes one of what was sent, or raises BadItem.

    Raises:
        BadBody: there are over 10,000.
    """
    read: Read[Item] = Read()
    for count, (source, item) in enumerate(sent):
        if count >= ITEMS_MAX:
            raise BadBody("too_many_items", f"More than {ITEMS_MAX} spans or records; send fewer at once.")
        try:
            read.items.append(build(item, source))
        except BadItem as problem:
            read.reject(str(problem))
    return read


def span_times(started_ns: int, ended_ns: int) -> tuple[int, int]:
    """Return a span's times as they are, if they can be; see `Span` for an end that cannot."""
    if not EARLIEST_NS <= started_ns <= LATEST_NS:
        raise BadItem("a span's start must be nanoseconds since 1970")
    # The application's clock was set back while it waited, or nobody noted the end: the answer is here.
    return started_ns, ended_ns if started_ns <= ended_ns <= LATEST_NS else started_ns - 1


def record_time(at_ns: int) -> int:
    """Return a record's time; 0 where it can be none."""
    return at_ns if EARLIEST_NS <= at_ns <= LATEST_NS else 0


def not_an_id(name: str, digits: int) -> BadItem:
    """Say which id is none."""
    return BadItem(f"the {name} must be {digits} hex digits, not all zero")
