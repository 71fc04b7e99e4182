"""What would take many times its size in memory is refused before it is parsed; what is only large is not."""

from typing import Any

import orjson
import pytest
from google.protobuf.message import Message
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ingest import crowding
from ingest.crowding import UNCOUNTED_BYTES, VALUES_MAX, is_crowded_json, is_crowded_message, is_crowded_text
from ingest.otlp.reading import check_metrics, read_records, read_spans
from ingest.otlp.values import as_value
from ingest.wire import BadBody, parse_calls
from tests.otlp_captures import captures

MANY = 11_000


@pytest.fixture
def bounded_low(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundredth of the bounds, for the tests' time."""
    monkeypatch.setattr(crowding, "UNCOUNTED_BYTES", crowding.UNCOUNTED_BYTES // 100)
    monkeypatch.setattr(crowding, "VALUES_MAX", VALUES_MAX // 100)


@pytest.mark.usefixtures("bounded_low")
@pytest.mark.parametrize("value", [b"[],", b"{},   ", b"0, ", b'"",', b'{"a":0},', b"[[[[0]]]],"])
def test_json_of_too_many_values_is_refused(value: bytes) -> None:
    body = b'{"calls":[' + value * MANY + b"0]}"
    with pytest.raises(BadBody, match="over 1,000,000 keys and values") as refused:
        parse_calls(body)
    assert refused.value.code == "too_many_items"
    with pytest.raises(BadBody, match="over 1,000,000 keys and values"):
        read_spans(body, is_json=True)


@pytest.mark.usefixtures("bounded_low")
def test_a_text_is_one_value_whatever_it_holds() -> None:
    text = ',[{":' * MANY + '\\"' * 10 + "\\"
    body = orjson.dumps({"calls": [{"id": "a", "input": text}, {"id": "b", "output": text}]})
    assert len(parse_calls(body).items) == 2
    # Cut in a text: the parser's to tell.
    assert not is_crowded_json(body[:-10])


@pytest.mark.usefixtures("bounded_low")
def test_an_attribute_of_too_many_values_stays_a_text() -> None:
    text = "[" + "[]," * MANY + "0]"
    assert is_crowded_text(text)
    assert as_value(text) == text
    assert as_value("[[],0]") == [[], 0]


def _within(body: bytes, *numbers: int) -> bytes:
    """Put bytes into messages within messages, the outermost field last."""
    for number in numbers:
        body = bytes([number << 3 | 2]) + _length(len(body)) + body
    return body


def _length(n: int) -> bytes:
    said = b""
    while n > 0x7F:
        said, n = said + bytes([n & 0x7F | 0x80]), n >> 7
    return said + bytes([n])


#: A field of no bytes at all, and where it stands: in spans, attributes, events, lists of lists.
PLACES: dict[str, tuple[int, tuple[int, ...]]] = {
    "resources": (1, ()),
    "scopes": (2, (1,)),
    "spans": (2, (2, 1)),
    "attributes": (9, (2, 2, 1)),
    "events": (11, (2, 2, 1)),
    "attributes of the resource": (1, (1, 1)),
    "items of a list": (1, (5, 2, 9, 2, 2, 1)),
    "pairs of a map in an event": (1, (6, 2, 3, 11, 2, 2, 1)),
}


@pytest.mark.usefixtures("bounded_low")
@pytest.mark.parametrize("place", PLACES)
def test_a_message_of_too_many_fields_is_refused(place: str) -> None:
    number, around = PLACES[place]
    body = _within(bytes([number << 3 | 2, 0]) * MANY, *around)
    with pytest.raises(BadBody, match="over 1,000,000 fields") as refused:
        read_spans(body, is_json=False)
    assert refused.value.code == "too_many_items"


@pytest.mark.usefixtures("bounded_low")
def test_records_and_metrics_are_bounded_too() -> None:
    body = _within(b"\x12\x00" * MANY, 2, 1)
    for read in (lambda: read_records(body, is_json=False), lambda: check_metrics(body, is_json=False)):
        with pytest.raises(BadBody, match="over 1,000,000 fields"):
            read()


def test_the_bounds_as_they_are() -> None:
    assert is_crowded_json(b"[" + b"[]," * (VALUES_MAX + 1) + b"0]")
    assert not is_crowded_json(b"[" + b"[]," * (UNCOUNTED_BYTES // 3 - 1) + b"0]")
    empty_scopes = _within(b"\x12\x00" * (VALUES_MAX + 100_000), 1)
    assert is_crowded_message(empty_scopes, ExportTraceServiceRequest.DESCRIPTOR)


def test_bytes_that_are_no_message_are_the_parsers_to_refuse() -> None:
    for body in (b"\xff" * 3_000_000, b"\x0a\xff\xff\xff\x7f" + bytes(3_000_000)):
        assert not is_crowded_message(body, ExportTraceServiceRequest.DESCRIPTOR)
        with pytest.raises(BadBody, match="is no Export"):
            read_spans(body, is_json=False)


def test_fields_are_counted_as_the_parser_finds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every protobuf capture, a field less allowed than it has, and as many."""
    monkeypatch.setattr(crowding, "UNCOUNTED_BYTES", 0)
    seen = 0
    for capture in captures():
        if capture.signal != "traces":
            continue
        seen += 1
        body = capture.body()
        request = ExportTraceServiceRequest.FromString(body)
        fields = _fields(request)
        for allowed in (fields, fields - 1):
            monkeypatch.setattr(crowding, "VALUES_MAX", allowed)
            crowded = is_crowded_message(body, ExportTraceServiceRequest.DESCRIPTOR)
            assert crowded == (allowed < fields)
    assert seen > 50


def _fields(message: Message) -> int:
    found = 0
    for field, value in message.ListFields():
        values: list[Any] = list(value) if field.is_repeated else [value]
        found += len(values)
        if field.message_type is not None:
            found += sum(map(_fields, values))
    return found
