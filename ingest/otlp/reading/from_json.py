"""OTLP/JSON: hex ids, enums as integers, 64-bit integers as strings or numbers, bytes in base64.

Flow: body -> `spans_of`, `records_of` -> `items.collect`. What is of the wrong shape is counted as rejected,
never taken for empty.
"""

from collections.abc import Callable, Iterator
from typing import Any

from ingest.otlp.reading.items import (
    MESSAGES,
    STATUS_ERROR,
    STATUS_OK,
    VALUE_DEPTH_MAX,
    BadItem,
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
from ingest.otlp.values import as_value
from ingest.wire import BadBody, json_of

#: Where something stands that is no resource, scope or list of them.
_NOWHERE = Source("", {})


def object_of(body: bytes) -> dict[str, Any]:
    """Return the object that a body says.

    Raises:
        BadBody: it says none, or holds too much.
    """
    request = json_of(body)
    if not isinstance(request, dict):
        raise BadBody("bad_body", "The body must be a JSON object, OTLP's mapping of an export request.")
    return request


def spans_of(body: bytes, told_by: Callable[[Span], Item]) -> Read[Item]:
    """Read an ExportTraceServiceRequest; see `ingest.otlp.reading.tell_spans`."""
    sent = _items(object_of(body), "resourceSpans", "scopeSpans", "spans")
    return collect(sent, lambda span, source: told_by(_span(span, source)))


def _span(span: Any, source: Source) -> Span:
    if not isinstance(span, dict):
        raise BadItem("a span must be an object, found under resourceSpans, scopeSpans and spans")
    trace_id = _checked_id(_text(span.get("traceId")).lower(), 32, "trace id")
    span_id = _checked_id(_text(span.get("spanId")).lower(), 16, "span id")
    started_ns, ended_ns = span_times(
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
        _own_attributes(span),
        [
            Event(
                _text(event.get("name")),
                _whole(event.get("timeUnixNano")),
                _attributes(event.get("attributes")),
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


def records_of(body: bytes) -> Read[Record]:
    """Read an ExportLogsServiceRequest; see `ingest.otlp.reading.read_spans`."""
    return collect(_items(object_of(body), "resourceLogs", "scopeLogs", "logRecords"), _record)


def _record(record: Any, source: Source) -> Record:
    if not isinstance(record, dict):
        raise BadItem("a record must be an object, found under resourceLogs, scopeLogs and logRecords")
    attributes = _own_attributes(record)
    return Record(
        source,
        _record_id(_text(record.get("traceId")).lower(), 32, "trace id"),
        _record_id(_text(record.get("spanId")).lower(), 16, "span id"),
        record_time(_whole(record.get("timeUnixNano")) or _whole(record.get("observedTimeUnixNano"))),
        _text(record.get("eventName")) or _text(attributes.get("event.name")),
        _value(record.get("body"), 0),
        attributes,
    )


def _items(request: dict[str, Any], resources: str, scopes: str, items: str) -> Iterator[tuple[Source, Any]]:
    """Yield each span or record with its source; what stands in the place of one is yielded as it is.

    Raises:
        BadBody: `resources` is no list, or something else stands in its place, so that nothing of the body
            can be kept.
    """
    sent = request.get(resources)
    if sent is not None and not isinstance(sent, list):
        raise BadBody("bad_body", f"{resources} must be a list, as in OTLP's JSON.", field=resources)
    if request and resources not in request:
        found = ", ".join(sorted(request))[:200]
        raise BadBody("bad_body", f"The body has no {resources}, but {found}.", field=resources)
    for of_resource in sent or []:
        if not isinstance(of_resource, dict):
            yield _NOWHERE, of_resource
            continue
        resource = _attributes(_object(of_resource.get("resource")).get("attributes"))
        for of_scope in _listed(of_resource, scopes, "resource"):
            if not isinstance(of_scope, dict):
                yield _NOWHERE, of_scope
                continue
            source = Source(_text(_object(of_scope.get("scope")).get("name")), resource)
            for item in _listed(of_scope, items, "scope"):
                yield source, item


def _listed(parent: dict[str, Any], name: str, owner: str) -> list[Any]:
    """Return the items of a list; what stands in its place (`scope_spans`) is one nobody can read."""
    value = parent.get(name)
    if isinstance(value, list):
        return value
    return [] if value is None and parent.keys() <= {name, owner, "schemaUrl"} else [None]


def _own_attributes(item: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a span or record, by which it may be a call."""
    pairs = item.get("attributes")
    if pairs is not None and not isinstance(pairs, list):
        raise BadItem('attributes must be a list of {"key", "value"}')
    return _attributes(pairs)


def _attributes(pairs: Any) -> dict[str, Any]:
    told = {_text(pair.get("key")): _value(pair.get("value"), 0) for pair in _objects(pairs)}
    for name in MESSAGES & told.keys():
        told[name] = as_value(told[name])
    return told


def _value(value: Any, depth: int) -> Any:
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
            return [_value(item, depth + 1) for item in values] if isinstance(values, list) else []
        if kind == "kvlistValue":
            return {
                _text(pair.get("key")): _value(pair.get("value"), depth + 1)
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


def _checked_id(value: str, chars: int, name: str) -> str:
    if not _is_id(value, chars):
        raise not_an_id(name, chars)
    return value


def _is_id(value: str, chars: int) -> bool:
    return len(value) == chars and value.strip("0") != "" and not value.strip("0123456789abcdef")


def _parent(value: str) -> str | None:
    return value if _is_id(value, 16) else None


def _record_id(value: str, chars: int, name: str) -> str:
    return _checked_id(value, chars, name) if value.strip("0") else ""
