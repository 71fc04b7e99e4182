"""OTLP's protobuf bodies, walked directly: MessageToDict costs 90 us a span.

Flow: body -> `spans_of`, `records_of` -> `items.collect`. The messages are OpenTelemetry's own but for two
things that look the same on the wire. The value of an attribute stays the bytes that it came as, and a span's
attributes are a map: a message inside a message is an object of Python's as soon as it is looked at, and a
span has a dozen attributes. Most values are texts, which are their bytes less two or three; any other value
is read as the AnyValue that it is. Messages in JSON (`items.MESSAGES`) are read from the bytes.

A text that is no UTF-8 (exporters cut long ones between two bytes of a character) keeps its other characters;
`ingest.otlp.facts` marks it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import orjson
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from ingest.crowding import VALUES_MAX, is_crowded_json, is_crowded_message
from ingest.otlp.reading.items import (
    MESSAGES,
    VALUE_DEPTH_MAX,
    Event,
    Item,
    Read,
    Record,
    Source,
    Span,
    collect,
    not_an_id,
    record_time,
    span_times,
)
from ingest.wire import BadBody

#: Fields that stay bytes, by the file that declares them: (message, field).
_LEFT = {
    common_pb2: (("KeyValue", "value"),),
    resource_pb2: (),
    trace_pb2: (("Status", "message"),),
    logs_pb2: (("LogRecord", "body"),),
    trace_service_pb2: (),
    logs_service_pb2: (),
}


def _messages() -> DescriptorPool:
    """Return OpenTelemetry's messages, the fields of _LEFT as bytes and the attributes of a span as a map."""
    pool = DescriptorPool()
    for file, left in _LEFT.items():
        declared = FileDescriptorProto()
        file.DESCRIPTOR.CopyToProto(declared)
        messages = {message.name: message for message in declared.message_type}
        for message, name in left:
            field = _field(messages[message], name)
            field.type = FieldDescriptorProto.TYPE_BYTES
            field.ClearField("type_name")
        if file is common_pb2:
            pair = messages["KeyValue"]
        if file is trace_pb2:
            entry = messages["Span"].nested_type.add(name="AttributesEntry")
            entry.field.extend((_field(pair, "key"), _field(pair, "value")))
            entry.options.map_entry = True
            _field(messages["Span"], "attributes").type_name = f".{declared.package}.Span.AttributesEntry"
        pool.AddSerializedFile(declared.SerializeToString())
    return pool


def _field(message: DescriptorProto, name: str) -> FieldDescriptorProto:
    return next(field for field in message.field if field.name == name)


_POOL = _messages()
_SERVICE = "opentelemetry.proto.collector.{0}.v1.Export{1}ServiceRequest"
_Spans = GetMessageClass(_POOL.FindMessageTypeByName(_SERVICE.format("trace", "Trace")))
_Records = GetMessageClass(_POOL.FindMessageTypeByName(_SERVICE.format("logs", "Logs")))
_AnyValue = common_pb2.AnyValue
_DECLARED = {
    kind.DESCRIPTOR.name: kind.DESCRIPTOR
    for kind in (
        trace_service_pb2.ExportTraceServiceRequest,
        logs_service_pb2.ExportLogsServiceRequest,
        ExportMetricsServiceRequest,
    )
}


def spans_of(body: bytes, told_by: Callable[[Span], Item]) -> Read[Item]:
    """Read an ExportTraceServiceRequest; see `ingest.otlp.reading.tell_spans`."""
    return collect(_sent_spans(_parsed(_Spans, body)), lambda span, source: told_by(_span(span, source)))


def records_of(body: bytes) -> Read[Record]:
    """Read an ExportLogsServiceRequest; see `ingest.otlp.reading.read_spans`."""
    return collect(_sent_records(_parsed(_Records, body)), _record)


def check_metrics(body: bytes) -> None:
    """Make sure that a body is an ExportMetricsServiceRequest; see `ingest.otlp.reading.check_metrics`."""
    _parsed(ExportMetricsServiceRequest, body)


def _parsed(kind: Any, body: bytes) -> Any:
    # By OpenTelemetry's own messages: what stays bytes here is read later, where it is looked at.
    if is_crowded_message(body, _DECLARED[kind.DESCRIPTOR.name]):
        what = f"The body holds over {VALUES_MAX:,} fields; send fewer spans or records at once."
        raise BadBody("too_many_items", what)
    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise BadBody("bad_body", f"The body is no {kind.DESCRIPTOR.name}: {error}.") from None


def _sent_spans(request: Any) -> Iterator[tuple[Source, Any]]:
    for of_resource in request.resource_spans:
        resource = _attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            source = Source(of_scope.scope.name, resource)
            for span in of_scope.spans:
                yield source, span


def _sent_records(request: Any) -> Iterator[tuple[Source, Any]]:
    for of_resource in request.resource_logs:
        resource = _attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_logs:
            source = Source(of_scope.scope.name, resource)
            for record in of_scope.log_records:
                yield source, record


def _span(span: Any, source: Source) -> Span:
    trace_id, span_id, parent = span.trace_id, span.span_id, span.parent_span_id
    if len(trace_id) != 16 or trace_id == _NO_TRACE:
        raise not_an_id("trace id", 32)
    if len(span_id) != 8 or span_id == _NO_SPAN:
        raise not_an_id("span id", 16)
    started_ns, ended_ns = span_times(span.start_time_unix_nano, span.end_time_unix_nano)
    found = Span(
        source,
        trace_id.hex(),
        span_id.hex(),
        parent.hex() if len(parent) == 8 and parent != _NO_SPAN else None,
        span.name,
        started_ns,
        ended_ns,
        _read(dict(span.attributes)),
    )
    if span.events:
        found.events = [
            Event(event.name, event.time_unix_nano, _attributes(event.attributes)) for event in span.events
        ]
    if span.links:
        found.links = [(link.trace_id.hex(), link.span_id.hex()) for link in span.links]
    if span.HasField("status"):
        found.status, found.status_message = (
            span.status.code,
            span.status.message.decode("utf-8", "surrogateescape"),
        )
    return found


def _record(record: Any, source: Source) -> Record:
    attributes = _attributes(record.attributes)
    named = attributes.get("event.name")
    return Record(
        source,
        _id(record.trace_id, 16, "trace id"),
        _id(record.span_id, 8, "span id"),
        record_time(record.time_unix_nano or record.observed_time_unix_nano),
        record.event_name or (named if isinstance(named, str) else ""),
        _value(record.body),
        attributes,
    )


_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)


def _id(value: bytes, size: int, name: str) -> str:
    """Return a record's id; '' where it stands in no span."""
    if not any(value):
        return ""
    if len(value) != size:
        raise not_an_id(name, 2 * size)
    return value.hex()


def _attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    return _read({pair.key: pair.value for pair in pairs})


def _read(attributes: Mapping[str, bytes]) -> dict[str, Any]:
    told = {}
    for key, said in attributes.items():
        size = len(said)
        if key in MESSAGES:
            told[key] = _message_list(said)
        elif 1 < size < 130 and said[0] == _TEXT and said[1] == size - 2:
            told[key] = said[2:].decode("utf-8", "surrogateescape")  # as `_value` would, most of the time
        else:
            told[key] = _value(said)
    return told


def _message_list(said: bytes) -> Any:
    """Return messages that are JSON in a text as the lists they say; their text is made for nobody."""
    text = _bytes_of_text(said)
    if text is not None and text[:1] in _JSON and not is_crowded_json(text):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            pass
    return _value(said)


#: How an AnyValue begins: the number and the kind of its field.
_TEXT, _INT = 0x0A, 0x18
#: How JSON begins that says more than its text does; see `ingest.otlp.values.as_value`.
_JSON = (b"[", b"{", b'"')


def _value(said: bytes) -> Any:
    """Return what an AnyValue says: a text or a small number at once, anything else by its message."""
    text = _bytes_of_text(said)
    if text is not None:
        # A byte that is none of UTF-8's becomes a lone surrogate, and that U+FFFD with a mark.
        return text.decode("utf-8", "surrogateescape")
    size = len(said)
    if size == 2 and said[0] == _INT and said[1] < 0x80:
        return said[1]
    if size == 3 and said[0] == _INT and said[2] < 0x80 <= said[1]:
        return said[1] & 0x7F | said[2] << 7
    try:
        return _plain(_AnyValue.FromString(said), 0)
    except DecodeError:
        return None


def _bytes_of_text(said: bytes) -> bytes | None:
    """Return the bytes of a text that is all of an AnyValue: its length is that of the rest.

    The length lies in the next bytes, seven bits in each, the low ones first.
    """
    size = len(said)
    if size < 2 or said[0] != _TEXT:
        return None
    if size < 130:
        return said[2:] if said[1] == size - 2 else None
    if size < 16_387:
        whole = said[2] == (size - 3) >> 7 and said[1] == (size - 3) & 0x7F | 0x80
        return said[3:] if whole else None
    length = at = 0
    while at < 5:
        at += 1
        length |= (said[at] & 0x7F) << 7 * (at - 1)
        if said[at] < 0x80:
            break
    return said[at + 1 :] if length == size - at - 1 else None


def _plain(value: Any, depth: int) -> Any:
    kind = value.WhichOneof("value")
    if kind is None or depth > VALUE_DEPTH_MAX:
        return None
    if kind == "array_value":
        return [_plain(item, depth + 1) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: _plain(pair.value, depth + 1) for pair in value.kvlist_value.values}
    if kind == "bytes_value":
        return None  # no attribute that we read is bytes
    return getattr(value, kind)
