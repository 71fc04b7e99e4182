"""The normalisers on real captures: each trap an instrumentation sets, and bodies nobody meant to send."""

import json
import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.call_rows import new_call
from ingest.otlp.assembling import assemble
from ingest.otlp.dialects import part_of_record, part_of_span
from ingest.otlp.evaluations import signals_of_record, signals_of_span
from ingest.otlp.facts import Facts, Part
from ingest.otlp.joining import Row, groups_of
from ingest.otlp.reading import read_records, read_spans
from ingest.otlp.reading.items import Span
from ingest.otlp.rows import row_of
from ingest.wire import BadBody, Call, signals_of
from tests import otlp_captures
from tests.otlp_calls import call_of, replaced_in
from tests.otlp_captures import Capture, captures


def parts_of(requests: Iterable[Capture]) -> list[Part]:
    """What the dialects read from requests, in their order."""
    parts: list[Part] = []
    for request in requests:
        if request.signal == "traces":
            parts += map(part_of_span, read_spans(request.body(), is_json=False).items)
        elif request.signal == "logs":
            read = map(part_of_record, read_records(request.body(), is_json=False).items)
            parts += [part for part in read if part is not None]
    return parts


def calls_of(parts: Iterable[Part]) -> list[Call]:
    """The calls that parts become when nothing else comes, those that began first in front.

    Their rows are those that the same call would get had an application sent it, field by field.
    """
    rows = [Row(seq, part, "", 0, 1, None) for seq, part in enumerate(parts)]
    spans = {row.key: row.part for row in rows if row.part.role != "content"}
    calls = []
    for assembled in (assemble(group, spans) for group in groups_of(rows)):
        calls.append(call_of(assembled))
        assert row_of(assembled, 5) == new_call(calls[-1], 5, replaced_in(assembled))
    return sorted(calls, key=lambda call: (str(call.started_at), str(call.id)))


def calls(instrumentation: str, scenario: str) -> list[Call]:
    """The calls of one captured scenario."""
    requests = otlp_captures.of(instrumentation, scenario)
    assert requests, f"{instrumentation}/{scenario} is not among the captures"
    return calls_of(parts_of(requests))


def the_call(instrumentation: str, scenario: str) -> Call:
    """The only call of one captured scenario."""
    (call,) = calls(instrumentation, scenario)
    return call


def span_with(attributes: dict[str, Any], scope: str = "", **more: Any) -> Span:
    """A span as an exporter's JSON would say it."""

    def value(plain: Any) -> dict[str, Any]:
        if isinstance(plain, bool):
            return {"boolValue": plain}
        if isinstance(plain, int):
            return {"intValue": str(plain)}
        if isinstance(plain, float):
            return {"doubleValue": plain}
        if isinstance(plain, list):
            return {"arrayValue": {"values": [value(item) for item in plain]}}
        return {"stringValue": plain}

    span = {
        "traceId": "0af7651916cd43dd8448eb211c80319c",
        "spanId": "b7ad6b7169203331",
        "startTimeUnixNano": "1795299800000000000",
        "endTimeUnixNano": "1795299801000000000",
        "attributes": [{"key": key, "value": value(plain)} for key, plain in attributes.items()],
        **more,
    }
    body = {"resourceSpans": [{"scopeSpans": [{"scope": {"name": scope}, "spans": [span]}]}]}
    (read,) = read_spans(json.dumps(body).encode(), is_json=True).items
    return read


# --- the thirteen traps


def test_trap_1_a_wrapper_and_the_clients_own_span_are_one_call() -> None:
    """Linked by parent (OpenTelemetry), by response id over two traces (Traceloop), or by time (failures)."""
    for instrumentation, scenario in (
        ("otel-genai", "anthropic_stream"),
        ("traceloop", "anthropic_stream_create"),
        ("traceloop", "anthropic_error_529"),
        ("otel-genai-events", "anthropic_error_529"),
        ("logfire", "anthropic_stream"),
    ):
        spans = [
            part for part in parts_of(otlp_captures.of(instrumentation, scenario)) if part.role != "content"
        ]
        wrapper = next(part for part in spans if part.role in ("whole", "head"))
        assert "client" in {part.role for part in spans}
        call = the_call(instrumentation, scenario)
        assert call.id == f"{wrapper.trace_id}:{wrapper.span_id}"
        assert call.input is not None, "the client's span has no texts; the wrapper's has"


def test_trap_2_the_two_halves_of_logfires_stream_are_one_call() -> None:
    head, tail = parts_of(otlp_captures.of("logfire", "chat_stream"))
    assert (head.role, tail.role) == ("head", "tail")
    assert head.trace_id != tail.trace_id
    call = the_call("logfire", "chat_stream")
    assert call.output == "Lisbon is 21 °C and sunny today. Bring a light jacket for the evening. "
    assert call.latency_ms == pytest.approx((tail.ended_ns - head.started_ns) / 1e6)
    assert call.latency_ms > 400 > (head.ended_ns - head.started_ns) / 1e6


def test_trap_2_two_streams_at_once_keep_their_own_halves() -> None:
    """Same process, model and input: only the times tell which tail is whose."""
    parts = parts_of(otlp_captures.of("logfire", "chat_stream"))
    later = parts_of(otlp_captures.of("logfire", "chat_stream"))
    for part in later:
        part.started_ns += 100_000_000
        part.ended_ns += 100_000_000
        part.span_id = part.span_id[::-1]
    later[1].facts.output = [{"role": "assistant", "content": "the later answer"}]
    first, second = calls_of([later[1], parts[0], later[0], parts[1]])
    assert first.output != "the later answer" == second.output
    assert first.latency_ms == pytest.approx(second.latency_ms)


def test_trap_3_a_finish_reason_is_found_in_every_place() -> None:
    """A JSON text (logfire), an array (OpenTelemetry), llm.finish_reason (OpenInference), a record's body."""
    assert the_call("logfire", "chat_under_http_span").finish_reason == "stop"
    assert the_call("otel-genai", "chat_basic").finish_reason == "stop"
    assert the_call("openinference", "chat_basic").finish_reason == "stop"
    assert calls("otel-openai-v2-legacy", "chat_tool_call")[0].finish_reason == "tool_calls"


def test_trap_4_openinference_names_its_response_in_the_output_only() -> None:
    (span,) = read_spans(otlp_captures.of("openinference", "chat_basic")[0].body(), is_json=False).items
    assert not any("response.id" in name for name in span.attributes)
    assert the_call("openinference", "chat_basic").response_id == "chatcmpl-fake000001"


def test_trap_5_content_is_the_same_as_json_text_and_as_structure() -> None:
    """And an escaped character is the character."""
    on_span, on_record = the_call("otel-genai", "chat_basic"), the_call("otel-genai-events", "chat_basic")
    assert on_span.input == on_record.input
    assert on_span.output == on_record.output
    assert "21 °C" in str(on_span.output)


@pytest.mark.data
def test_trap_5_a_million_characters_are_kept_cut_with_their_length() -> None:
    if not otlp_captures.is_whole():
        pytest.skip("needs ../shared/data")
    lengths = set()
    for capture in captures():
        if capture.scenario == "chat_long_prompt" and capture.signal == "traces":
            (call,) = calls(capture.instrumentation, "chat_long_prompt")
            made = new_call(call, 0)
            assert made.text is not None
            assert len(made.text[0].encode()) <= 257 * 1024
            lengths.add(len(call.input[1]["content"]))  # type: ignore[index, union-attr]
    assert lengths == {996_031}, "of every instrumentation the same text"


def test_trap_6_unknown_usage_is_unknown_not_zero() -> None:
    call = the_call("traceloop", "chat_stream")
    assert call.usage is not None
    assert (call.usage.input_tokens, call.usage.output_tokens) == (None, None)


@pytest.mark.parametrize(
    ("instrumentation", "scenario", "first_token_ms"),
    [
        ("otel-genai-events", "chat_stream", 123.826),
        ("openinference", "chat_stream_usage", 115.060),
        ("traceloop", "chat_stream", 117.339),
        ("langfuse", "chat_stream", 116.9),
        ("logfire", "chat_stream", None),
    ],
)
def test_trap_7_the_first_token_is_found_in_every_place(
    instrumentation: str, scenario: str, first_token_ms: float | None
) -> None:
    call = the_call(instrumentation, scenario)
    assert call.first_token_ms == pytest.approx(first_token_ms, abs=0.1)


@pytest.mark.parametrize(
    "instrumentation", ["otel-genai", "otel-openai-v2-legacy", "openinference", "traceloop", "langfuse"]
)
def test_trap_8_a_stream_that_was_closed_is_aborted_and_no_failure(instrumentation: str) -> None:
    call = the_call(instrumentation, "chat_stream_aborted")
    assert call.finish_reason == "aborted"
    assert call.error is None
    assert call.output == "Lisbon is 21 °C "
    assert new_call(call, 0).outcome == "aborted"


def test_trap_8_logfires_late_half_of_a_closed_stream_finds_its_call() -> None:
    """Its iterator was collected while the next scenario ran: the half lies in that one's request."""
    alone = the_call("logfire", "chat_stream_aborted")
    assert (alone.output, alone.latency_ms, alone.finish_reason) == (None, None, None)
    requests = otlp_captures.of("logfire", "chat_stream_aborted") + otlp_captures.of(
        "logfire", "chat_tool_call"
    )
    aborted, *others = calls_of(parts_of(requests))
    assert aborted.id == alone.id
    assert (aborted.output, aborted.finish_reason) == ("Lisbon is 21 °C ", "aborted")
    assert [call.finish_reason for call in others] == ["tool_calls", "stop"]


def test_trap_9_a_scrubbed_session_is_no_session() -> None:
    call = the_call("logfire", "chat_under_http_span")
    assert call.session_id == "conv-19", "the conversation's id stands in"
    assert call.user_id == "user-42"


def test_trap_10_cache_creation_and_cache_write_are_one_thing() -> None:
    """The client's span counts beside input_tokens what Traceloop counts within: the call is the same."""
    usage = {"gen_ai.request.model": "claude-sonnet-5", "gen_ai.provider.name": "anthropic"}
    cached = {"gen_ai.usage.cache_read.input_tokens": 50, "gen_ai.usage.output_tokens": 3}
    native = usage | cached | {"gen_ai.usage.input_tokens": 7, "gen_ai.usage.cache_write.input_tokens": 100}
    wrapped = (
        usage | cached | {"gen_ai.usage.input_tokens": 157, "gen_ai.usage.cache_creation.input_tokens": 100}
    )
    one = part_of_span(span_with(native, "com.anthropic.sdk.python"))
    other = part_of_span(span_with(wrapped, "opentelemetry.instrumentation.anthropic"))
    (one_call,), (other_call,) = calls_of([one]), calls_of([other])
    assert one_call.usage == other_call.usage
    assert one_call.usage is not None
    assert (one_call.usage.input_tokens, one_call.usage.cached_input_tokens) == (157, 50)


def test_trap_11_a_tools_finish_reason_is_the_providers_word() -> None:
    for instrumentation in ("otel-genai", "otel-openai-v2-legacy", "traceloop"):
        assert calls(instrumentation, "chat_tool_call")[0].finish_reason == "tool_calls"
    said, _answered = calls("openinference", "anthropic_tool_use")
    assert said.finish_reason == "tool_use"
    assert said.tools == ["get_weather"]
    as_tool_call = {
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-sonnet-5",
        "gen_ai.response.finish_reasons": ["tool_call"],
    }
    (call,) = calls_of([part_of_span(span_with(as_tool_call))])
    assert call.finish_reason == "tool_use"


def test_trap_12_decisions_are_calls_where_somebody_tells_of_them() -> None:
    for instrumentation in ("openinference", "logfire"):
        call = the_call(instrumentation, "decisions")
        assert (call.model, call.provider) == ("gpt-6-luna", "openai")
        assert call.tags is not None
        assert call.tags["operation"] == "decisions"
        assert call.usage is not None
        assert (call.usage.input_tokens, call.usage.output_tokens) == (180, 3)


def test_trap_13_the_old_packages_spans_and_records_make_the_same_calls() -> None:
    """openai-v2 needs the openai package before 3; its captures were made with 2.54."""
    ours = [
        (call.model, call.input, call.output, call.tools)
        for call in calls("otel-openai-v2-legacy", "chat_tool_call")
    ]
    new = [
        (call.model, call.input, call.output, call.tools) for call in calls("otel-genai", "chat_tool_call")
    ]
    assert ours == new
    assert (
        the_call("otel-openai-v2-latest", "chat_basic").output == the_call("otel-genai", "chat_basic").output
    )


# --- what the captures do not show


def test_the_oldest_convention_spells_messages_out() -> None:
    """OpenLLMetry before 0.50, LiteLLM and others: gen_ai.prompt.N, gen_ai.completion.N, prompt_tokens."""
    old = {
        "gen_ai.system": "openai",
        "gen_ai.request.model": "gpt-5",
        "llm.request.type": "chat",
        "gen_ai.prompt.0.role": "system",
        "gen_ai.prompt.0.content": "Be brief.",
        "gen_ai.prompt.10.role": "user",
        "gen_ai.prompt.10.content": "2+2?",
        "gen_ai.prompt.2.role": "assistant",
        "gen_ai.prompt.2.tool_calls.0.id": "c1",
        "gen_ai.prompt.2.tool_calls.0.name": "add",
        "gen_ai.prompt.2.tool_calls.0.arguments": '{"a": 2}',
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": "4",
        "gen_ai.completion.0.finish_reason": "stop",
        "gen_ai.usage.prompt_tokens": 9,
        "gen_ai.usage.completion_tokens": 1,
    }
    (call,) = calls_of([part_of_span(span_with(old, "opentelemetry.instrumentation.openai.v1"))])
    assert call.input == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c1", "name": "add", "arguments": '{"a":2}'}],
        },
        {"role": "user", "content": "2+2?"},
    ]
    assert (call.output, call.finish_reason) == ("4", "stop")
    assert call.usage is not None
    assert (call.usage.input_tokens, call.usage.output_tokens) == (9, 1)


def test_an_agents_or_tools_span_is_no_call_but_hands_its_session_down() -> None:
    for operation in ("invoke_agent", "execute_tool"):
        attributes = {"gen_ai.operation.name": operation, "gen_ai.request.model": "m", "session.id": "s-1"}
        part = part_of_span(span_with(attributes))
        assert part.role == "scope"
        assert part.facts.session_id == "s-1"


def test_langchains_notes_about_itself_are_no_tags() -> None:
    attributes = {
        "openinference.span.kind": "LLM",
        "llm.model_name": "m",
        "metadata": '{"session_id": "s", "ls_provider": "openai", "tenant": "acme"}',
        "session.id": "s",
    }
    (call,) = calls_of([part_of_span(span_with(attributes))])
    assert (call.tags, call.session_id) == ({"tenant": "acme"}, "s")


def test_a_generation_around_two_answers_is_not_swallowed_by_them() -> None:
    """A step marked as a generation that asks a model twice is a span of its own, as are the two."""
    asked = {"gen_ai.request.model": "m", "gen_ai.provider.name": "openai"}
    outer = part_of_span(span_with(asked))
    inner = [
        part_of_span(
            span_with(
                asked | {"gen_ai.response.id": f"r{n}"}, spanId=f"{n:016x}", parentSpanId="b7ad6b7169203331"
            )
        )
        for n in (1, 2)
    ]
    assert len(calls_of([outer, *inner])) == 3
    assert len(calls_of([outer, inner[0]])) == 1


def test_attempts_that_failed_count_as_retries_of_the_one_that_did_not() -> None:
    asked = {"gen_ai.request.model": "claude-sonnet-5", "gen_ai.provider.name": "anthropic"}
    outer = part_of_span(span_with(asked | {"gen_ai.response.id": "r"}))
    first = part_of_span(
        span_with(
            asked | {"error.type": "overloaded_error"},
            "com.anthropic.sdk.python",
            spanId="0000000000000001",
            parentSpanId="b7ad6b7169203331",
            status={"code": 2},
        )
    )
    second = part_of_span(
        span_with(
            asked | {"gen_ai.response.id": "r"},
            "com.anthropic.sdk.python",
            spanId="0000000000000002",
            parentSpanId="b7ad6b7169203331",
        )
    )
    (call,) = calls_of([first, second, outer])
    assert (call.retries, call.error) == (1, None)


def test_evaluations_become_signals() -> None:
    """A person's thumb is a thumb; another critic's score keeps its name, scale and words."""
    (request,) = otlp_captures.of("openinference", "evaluation_result_event")
    found = [
        signal for span in read_spans(request.body(), is_json=False).items for signal in signals_of_span(span)
    ]
    (later,) = read_spans(
        otlp_captures.of("openinference", "feedback_posthoc_span_link")[0].body(), is_json=False
    ).items
    (of_session,) = read_spans(
        otlp_captures.of("openinference", "feedback_session_scope")[0].body(), is_json=False
    ).items
    found += signals_of_span(later) + signals_of_span(of_session)
    sent = signals_of(found)
    assert sent.rejected == []
    assert [(signal.kind, signal.value) for signal in sent.items] == [
        ("eval:helpfulness", 6.0),
        ("thumbs_down", 0.0),
        ("thumbs_down", 0.0),
        ("csat", 2.0),
    ]
    assert sent.items[2].span_id == sent.items[0].span_id, "the later thumb is about the span it links to"
    assert sent.items[3].session_id == "sess-7f3a"
    assert sent.items[0].comment == "good: Answers the question."
    (records,) = otlp_captures.of("otel-genai", "evaluation_result_event", "logs")
    of_records = [
        signal
        for record in read_records(records.body(), is_json=False).items
        for signal in signals_of_record(record)
    ]
    assert [(signal["kind"], signal["response_id"]) for signal in of_records] == [
        ("eval:helpfulness", "chatcmpl-eval1"),
        ("thumbs_down", "chatcmpl-eval1"),
    ]


# --- hostile


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats()
    | st.text(alphabet=st.characters(), max_size=20)
    | st.sampled_from(
        ["", "[", "[Scrubbed due to 'x']", "[null]", '{"messages": 3}', '[{"parts": 1}]', "\x00", "\ud800"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
SMALL = [
    capture
    for capture in captures()
    if capture.signal != "metrics" and capture.scenario != "chat_long_prompt"
]


def swallow(capture: Capture, body: bytes, *, is_json: bool) -> None:
    """Do with a body all that the server does; only BadBody may come of it."""
    read = read_spans if capture.signal == "traces" else read_records
    try:
        items = read(body, is_json=is_json).items
    except BadBody:
        return
    parts = [part_of_span(item) if isinstance(item, Span) else part_of_record(item) for item in items]
    kept = []
    for part in parts:
        if part is not None:
            part.facts = Facts.of_json(part.facts.as_json())
            kept.append(part)
    calls_of(kept)
    found = [
        signal
        for item in items
        for signal in (signals_of_span(item) if isinstance(item, Span) else signals_of_record(item))
    ]
    assert signals_of(found[:1000]).rejected == []


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    capture=st.sampled_from(SMALL), junk=st.lists(JUNK, min_size=1, max_size=4), seed=st.integers(0, 2**32)
)
def test_captures_with_junk_in_them_are_read_or_refused(capture: Capture, junk: list[Any], seed: int) -> None:
    request = json.loads(capture.body(is_json=True))
    chance = random.Random(seed)
    for value in junk:
        *path, last = chance.choice([place for place in places(request) if place])
        target = request
        for key in path:
            target = target[key]
        if isinstance(target[last], str) and isinstance(value, (dict, list)):
            value = json.dumps(value)  # junk inside a JSON text
        target[last] = value
    swallow(capture, json.dumps(request).encode("utf-8", "surrogatepass"), is_json=True)


@settings(max_examples=150, deadline=None)
@given(
    capture=st.sampled_from(SMALL), flips=st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=8)
)
def test_captures_with_broken_bytes_are_read_or_refused(
    capture: Capture, flips: list[tuple[int, int]]
) -> None:
    body = bytearray(capture.body())
    for at, byte in flips:
        body[at % len(body)] = byte
    swallow(capture, bytes(body), is_json=False)
