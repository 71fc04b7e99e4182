"""Bodies as spans and records: protobuf and JSON alike, whatever an exporter puts into them."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from ingest.otlp.dialects import part_of_span
from ingest.otlp.facts import Facts
from ingest.otlp.reading import check_metrics, read_records, read_spans
from ingest.wire import BadBody
from tests.otlp_captures import captures


def test_protobuf_and_json_say_the_same() -> None:
    for capture in captures():
        if capture.signal == "metrics":
            check_metrics(capture.body(), is_json=False)
            check_metrics(capture.body(is_json=True), is_json=True)
            continue
        read = read_spans if capture.signal == "traces" else read_records
        from_protobuf, from_json = (
            read(capture.body(is_json=is_json), is_json=is_json) for is_json in (False, True)
        )
        assert from_protobuf == from_json, capture.name
        assert from_protobuf.items
        assert from_protobuf.rejected == 0


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"traceId": "00000000000000000000000000000000"}, "trace id"),
        ({"traceId": "abc"}, "trace id"),
        ({"spanId": "not hex at all!!"}, "span id"),
        ({"startTimeUnixNano": "12"}, "start"),
        ({"startTimeUnixNano": "9" * 5000}, "start"),
        ({"attributes": {"gen_ai.request.model": "m"}}, "attributes"),
    ],
)
def test_a_bad_span_is_counted_and_named_and_sinks_no_other(wrong: dict[str, Any], reason: str) -> None:
    good = {
        "traceId": "0af7651916cd43dd8448eb211c80319c",
        "spanId": "b7ad6b7169203331",
        "startTimeUnixNano": 1795299800000000000,
        "endTimeUnixNano": "1795299801000000000",
    }
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [good | wrong, good, "no span"]}]}]}
    read = read_spans(json.dumps(body).encode(), is_json=True)
    assert (len(read.items), read.rejected) == (1, 2)
    assert reason in read.reasons[0]


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'{"resourceSpans"', b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(BadBody):
        read_spans(body, is_json=True)
    if body:
        with pytest.raises(BadBody):
            read_spans(b"\x0a" + body, is_json=False)


def request_with(**values: AnyValue) -> ExportTraceServiceRequest:
    """One span of a model's answer, with these attributes besides."""
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(name="chat")
    span.trace_id, span.span_id = b"t" * 16, b"s" * 8
    span.start_time_unix_nano, span.end_time_unix_nano = 1_795_299_800 * 10**9, 1_795_299_801 * 10**9
    asked = {"gen_ai.request.model": AnyValue(string_value="m")}
    for name, value in (asked | values).items():
        span.attributes.add(key=name, value=value)
    return request


VALUES = st.recursive(
    st.builds(AnyValue)
    | st.builds(AnyValue, string_value=st.text(max_size=300))
    | st.builds(AnyValue, string_value=st.sampled_from((127, 128, 16_383, 16_384, 70_000)).map("x".__mul__))
    | st.builds(AnyValue, bool_value=st.booleans())
    | st.builds(AnyValue, int_value=st.integers(-(2**63), 2**63 - 1) | st.integers(0, 40_000))
    | st.builds(AnyValue, double_value=st.floats(allow_nan=False))
    | st.builds(AnyValue, bytes_value=st.binary(max_size=5)),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda values: AnyValue(array_value={"values": values}))
        | st.lists(st.tuples(st.text(max_size=5), inner), max_size=3).map(
            lambda pairs: AnyValue(kvlist_value={"values": [{"key": k, "value": v} for k, v in pairs]})
        )
    ),
    max_leaves=5,
)


def as_the_message_says(value: AnyValue) -> Any:
    """What protobuf's own classes read."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [as_the_message_says(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: as_the_message_says(pair.value) for pair in value.kvlist_value.values}
    return None if kind in (None, "bytes_value") else getattr(value, kind)


@settings(max_examples=200, deadline=None)
@given(value=VALUES)
def test_a_value_read_from_its_bytes_is_what_its_message_says(value: AnyValue) -> None:
    (span,) = read_spans(request_with(a=value).SerializeToString(), is_json=False).items
    assert span.attributes == {"gen_ai.request.model": "m", "a": as_the_message_says(value)}


def test_a_text_cut_within_a_character_is_kept_with_a_mark() -> None:
    """Exporters that cut by bytes do it; refusing the request would lose every span beside it."""
    for size in (10, 300, 20_000):
        whole = ("x" * size + "°").encode()
        request = request_with(**{"gen_ai.input.messages": AnyValue(string_value=whole.decode())})
        request.resource_spans[0].scope_spans[0].spans[0].status.message = "21 °"
        body = (
            request.SerializeToString()
            .replace(whole, whole[:-1] + b"\xc3")
            .replace(b" \xc2\xb0", b" \xc2\xc2")
        )
        (span,) = read_spans(body, is_json=False).items
        facts = Facts.of_json(part_of_span(span).facts.as_json())
        assert facts.input is not None
        assert facts.input[0]["content"] == "x" * size + "\ufffd\ufffd"
        assert facts.replaced
        assert span.status_message.startswith("21 ")


def test_messages_are_read_alike_from_a_text_and_from_a_structure() -> None:
    said = json.dumps([{"role": "user", "content": "caf\u00e9"}])
    (span,) = read_spans(
        request_with(**{"gen_ai.input.messages": AnyValue(string_value=said)}).SerializeToString(),
        is_json=False,
    ).items
    assert span.attributes["gen_ai.input.messages"] == [{"role": "user", "content": "café"}]
    for broken in ("[1", "plain", '{"a"', ""):
        request = request_with(**{"gen_ai.input.messages": AnyValue(string_value=broken)})
        (span,) = read_spans(request.SerializeToString(), is_json=False).items
        assert span.attributes["gen_ai.input.messages"] == broken
