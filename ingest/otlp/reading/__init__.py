"""An OTLP request as plain data: protobuf and JSON bodies become the same spans and log records.

Flow: HTTP body -> `read_spans`, `read_records` -> `ingest.otlp.dialects`. The protobuf messages are walked
directly: MessageToDict costs 90 us a span, walking 15 to 20. JSON is OTLP's own mapping: hex ids, enums as
integers, 64-bit integers as strings or numbers, bytes in base64.

One bad span never sinks its request (`Read.rejected`); a body that is no request at all does (BadBody).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

import orjson
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ingest.wire import BadBody, lenient_json

#: Spans or log records in one request; a Collector batches 8,192.
ITEMS_MAX = 10_000
#: Nesting of attribute values; protobuf itself stops at 100 messages.
VALUE_DEPTH_MAX = 40
#: Names of rejected items that a response repeats.
REASONS_MAX = 5
#: Nanoseconds of the years 2000 and 2200: a time outside is a mistake of units.
EARLIEST_NS, LATEST_NS = 946_684_800 * 10**9, 7_258_118_400 * 10**9

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
    """One span. Ids are lower-case hex; `status` is 0 unset, 1 ok, 2 error."""

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


class _Bad(ValueError):
    """One item cannot be kept."""


#: Where something stands that is no resource, scope or list of them.
_NOWHERE = Source("", {})


def read_spans(body: bytes, *, is_json: bool) -> Read[Span]:
    """Read an ExportTraceServiceRequest.

    Raises:
        BadBody: it is none, or holds over 10,000 spans.
    """
    if is_json:
        return _collect(_json_spans(_json(body)))
    return _collect(_proto_spans(_parsed(ExportTraceServiceRequest, body)))


def read_records(body: bytes, *, is_json: bool) -> Read[Record]:
    """Read an ExportLogsServiceRequest. See `read_spans`."""
    if is_json:
        return _collect(_json_records(_json(body)))
    return _collect(_proto_records(_parsed(ExportLogsServiceRequest, body)))


def check_metrics(body: bytes, *, is_json: bool) -> None:
    """Make sure that a body is an ExportMetricsServiceRequest; nothing of it is kept. See `read_spans`."""
    if is_json:
        _json(body)
    else:
        _parsed(ExportMetricsServiceRequest, body)


def _collect(items: Iterator[Callable[[], Item]]) -> Read[Item]:
    read: Read[Item] = Read()
    for count, build in enumerate(items):
        if count >= ITEMS_MAX:
            raise BadBody("too_many_items", f"More than {ITEMS_MAX} spans or records; send fewer at once.")
        try:
            read.items.append(build())
        except _Bad as problem:
            read.reject(str(problem))
    return read


# --- protobuf


def _parsed(kind: Any, body: bytes) -> Any:
    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise BadBody("bad_body", f"The body is no {kind.DESCRIPTOR.name}: {error}.") from None


def _proto_spans(request: Any) -> Iterator[Callable[[], Span]]:
    for of_resource in request.resource_spans:
        resource = _proto_attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            source = Source(of_scope.scope.name, resource)
            for span in of_scope.spans:
                yield partial(_proto_span, span, source)


def _proto_span(span: Any, source: Source) -> Span:
    trace_id = _proto_id(span.trace_id, 16, "trace id")
    span_id = _proto_id(span.span_id, 8, "span id")
    parent = span.parent_span_id
    started_ns, ended_ns = _span_times(span.start_time_unix_nano, span.end_time_unix_nano)
    return Span(
        source,
        trace_id,
        span_id,
        parent.hex() if len(parent) == 8 and any(parent) else None,
        span.name,
        started_ns,
        ended_ns,
        _proto_attributes(span.attributes),
        [
            Event(event.name, event.time_unix_nano, _proto_attributes(event.attributes))
            for event in span.events
        ],
        [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        span.status.code,
        span.status.message,
    )


def _proto_records(request: Any) -> Iterator[Callable[[], Record]]:
    for of_resource in request.resource_logs:
        resource = _proto_attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_logs:
            source = Source(of_scope.scope.name, resource)
            for record in of_scope.log_records:
                yield partial(_proto_record, record, source)


def _proto_record(record: Any, source: Source) -> Record:
    attributes = _proto_attributes(record.attributes)
    return Record(
        source,
        _record_id(record.trace_id.hex(), 32, "trace id"),
        _record_id(record.span_id.hex(), 16, "span id"),
        _record_time(record.time_unix_nano or record.observed_time_unix_nano),
        record.event_name or _event_name(attributes),
        _proto_value(record.body, 0),
        attributes,
    )


def _proto_id(value: bytes, size: int, name: str) -> str:
    if len(value) != size or not any(value):
        raise _Bad(f"the {name} must be {2 * size} hex digits, not all zero")
    return value.hex()


def _proto_attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    told = {}
    for pair in pairs:
        value = pair.value
        # Most are texts, and asking which one it is takes longer than reading it.
        told[pair.key] = value.string_value or _proto_value(value, 0)
    return told


def _proto_value(value: Any, depth: int) -> Any:
    kind = value.WhichOneof("value")
    if kind is None or depth > VALUE_DEPTH_MAX:
        return None
    if kind == "array_value":
        return [_proto_value(item, depth + 1) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: _proto_value(pair.value, depth + 1) for pair in value.kvlist_value.values}
    if kind == "bytes_value":
        return None  # no attribute that we read is bytes
    return getattr(value, kind)


# --- JSON


def _json(body: bytes) -> dict[str, Any]:
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:
        request = lenient_json(body)
    if not isinstance(request, dict):
        raise BadBody("bad_body", "The body must be a JSON object, OTLP's mapping of an export request.")
    return request


def _json_spans(request: dict[str, Any]) -> Iterator[Callable[[], Span]]:
    for source, span in _json_items(request, "resourceSpans", "scopeSpans", "spans"):
        yield partial(_json_span, span, source)


def _json_span(span: Any, source: Source) -> Span:
    _must(isinstance(span, dict), "a span must be an object")
    trace_id = _checked_id(_text(span.get("traceId")).lower(), 32, "trace id")
    span_id = _checked_id(_text(span.get("spanId")).lower(), 16, "span id")
    started_ns, ended_ns = _span_times(
        _whole(span.get("startTimeUnixNano")), _whole(span.get("endTimeUnixNano"))
    )
    status = _object(span.get("status"))
    return Span(
        source,
        trace_id,
        span_id,
        _parent(_text(span.get("parentSpanId")).lower()),
        _text(span.get("name")),
        started_ns,
        ended_ns,
        _json_attributes(span.get("attributes")),
        [
            Event(
                _text(event.get("name")),
                _whole(event.get("timeUnixNano")),
                _json_attributes(event.get("attributes")),
            )
            for event in _objects(span.get("events"))
        ],
        [
            (_text(link.get("traceId")).lower(), _text(link.get("spanId")).lower())
            for link in _objects(span.get("links"))
        ],
        _status_code(status.get("code")),
        _text(status.get("message")),
    )


def _json_records(request: dict[str, Any]) -> Iterator[Callable[[], Record]]:
    for source, record in _json_items(request, "resourceLogs", "scopeLogs", "logRecords"):
        yield partial(_json_record, record, source)


def _json_record(record: Any, source: Source) -> Record:
    _must(isinstance(record, dict), "a log record must be an object")
    attributes = _json_attributes(record.get("attributes"))
    return Record(
        source,
        _record_id(_text(record.get("traceId")).lower(), 32, "trace id"),
        _record_id(_text(record.get("spanId")).lower(), 16, "span id"),
        _record_time(_whole(record.get("timeUnixNano")) or _whole(record.get("observedTimeUnixNano"))),
        _text(record.get("eventName")) or _event_name(attributes),
        _json_value(record.get("body"), 0),
        attributes,
    )


def _json_items(
    request: dict[str, Any], resources: str, scopes: str, items: str
) -> Iterator[tuple[Source, Any]]:
    """Yield each span or record with its source; what stands in the place of one is yielded as it is.

    Raises:
        BadBody: `resources` is something else than a list, so that nothing of the body can be kept.
    """
    sent = request.get(resources)
    if sent is not None and not isinstance(sent, list):
        raise BadBody("bad_body", f"{resources} must be a list, as in OTLP's JSON.", field=resources)
    for of_resource in sent or []:
        if not isinstance(of_resource, dict):
            yield _NOWHERE, of_resource
            continue
        resource = _json_attributes(_object(of_resource.get("resource")).get("attributes"))
        for of_scope in _listed(of_resource.get(scopes)):
            if not isinstance(of_scope, dict):
                yield _NOWHERE, of_scope
                continue
            source = Source(_text(_object(of_scope.get("scope")).get("name")), resource)
            for item in _listed(of_scope.get(items)):
                yield source, item


def _listed(value: Any) -> list[Any]:
    """Return a list's items; what is neither list nor missing is one item that nobody can read."""
    return value if isinstance(value, list) else [] if value is None else [None]


def _json_attributes(pairs: Any) -> dict[str, Any]:
    return {_text(pair.get("key")): _json_value(pair.get("value"), 0) for pair in _objects(pairs)}


def _json_value(value: Any, depth: int) -> Any:
    if not isinstance(value, dict) or depth > VALUE_DEPTH_MAX:
        return None
    for kind, inner in value.items():
        if kind == "stringValue":
            return inner if isinstance(inner, str) else None
        if kind == "boolValue":
            return inner if isinstance(inner, bool) else None
        if kind == "intValue":
            return _number(inner, int)
        if kind == "doubleValue":
            return _number(inner, float)
        if kind == "arrayValue":
            values = _object(inner).get("values")
            return [_json_value(item, depth + 1) for item in values] if isinstance(values, list) else []
        if kind == "kvlistValue":
            return {
                _text(pair.get("key")): _json_value(pair.get("value"), depth + 1)
                for pair in _objects(_object(inner).get("values"))
            }
    return None


def _number(value: Any, kind: type[int] | type[float]) -> int | float | None:
    # Bounded before int() sees it: Python refuses to read thousands of digits.
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str) and len(value) > 40:
        return None
    try:
        return kind(value)
    except (ValueError, OverflowError):
        return None


def _whole(value: Any) -> int:
    number = _number(value, int)
    return number if isinstance(number, int) else 0


def _status_code(value: Any) -> int:
    # The mapping says integers; some exporters write the enum's name.
    if isinstance(value, str):
        return {"STATUS_CODE_OK": STATUS_OK, "STATUS_CODE_ERROR": STATUS_ERROR}.get(value, 0)
    return value if value in (STATUS_OK, STATUS_ERROR) and not isinstance(value, bool) else 0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


# --- both


def _must(holds: bool, reason: str) -> None:
    if not holds:
        raise _Bad(reason)


def _checked_id(value: str, chars: int, name: str) -> str:
    _must(_is_id(value, chars), f"the {name} must be {chars} hex digits, not all zero")
    return value


def _is_id(value: str, chars: int) -> bool:
    return len(value) == chars and value.strip("0") != "" and not value.strip("0123456789abcdef")


def _parent(value: str) -> str | None:
    return value if _is_id(value, 16) else None


def _record_id(value: str, chars: int, name: str) -> str:
    return _checked_id(value, chars, name) if value.strip("0") else ""


def _span_times(started_ns: int, ended_ns: int) -> tuple[int, int]:
    _must(EARLIEST_NS <= started_ns <= LATEST_NS, "a span's start must be nanoseconds since 1970")
    _must(started_ns <= ended_ns <= LATEST_NS, "a span must end after its start")
    return started_ns, ended_ns


def _record_time(at_ns: int) -> int:
    return at_ns if EARLIEST_NS <= at_ns <= LATEST_NS else 0


def _event_name(attributes: dict[str, Any]) -> str:
    return _text(attributes.get("event.name"))
