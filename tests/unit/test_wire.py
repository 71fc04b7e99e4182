"""Bodies of any shape: the sound items are kept, the others named by index and field, and nothing crashes."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest.call_rows import TEXT_COLUMNS, new_call, uuid7
from ingest.texts import KEPT_BYTES_MAX, cleaned, kept_text
from ingest.wire import (
    ITEMS_MAX,
    BadBody,
    Call,
    Label,
    Signal,
    calls_of,
    epoch_ms,
    labels_of,
    parse_calls,
    signals_of,
)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
#: Objects that look like calls: our own field names, with anything in them.
nearly_calls = st.dictionaries(st.sampled_from([*Call.model_fields, "unknown"]), anything, max_size=6)


def text_of(sent: dict[str, Any]) -> dict[str, Any]:
    """The kept texts of one call."""
    ((_index, call, replaced),) = calls_of([sent]).checked()
    text = new_call(call, 0, replaced).text
    assert text is not None
    return dict(zip(TEXT_COLUMNS, text, strict=True))


@settings(max_examples=200)
@given(st.lists(nearly_calls | anything, max_size=5))
@example([{"input": [{"content": [[2**70]]}]}, {"tags": {"\ud800": "\x00"}}, {"started_at": 1e300}])
@example([{"latency_ms": float("nan")}, {"cost_usd": float("inf")}, {"retries": 10**30}])
def test_every_item_is_kept_or_named(items: list[Any]) -> None:
    """Whatever JSON can say (and Python's writer can write) is answered item by item."""
    parsed = parse_calls(json.dumps({"calls": items}).encode())
    kept = [index for index, _call, _replaced in parsed.checked()]
    assert sorted(kept + [rejection.index for rejection in parsed.rejected]) == list(range(len(items)))
    for rejection in parsed.rejected:
        rejection.model_dump_json()


@settings(max_examples=300)
@given(
    model=st.sampled_from([calls_of, signals_of, labels_of]),
    fields=st.dictionaries(
        st.sampled_from([*Call.model_fields, *Signal.model_fields, *Label.model_fields]), anything, max_size=3
    ),
)
@example(model=calls_of, fields={"started_at": "2026-01-01T00:00:00+99:00"})
@example(model=calls_of, fields={"started_at": "0000-00-00"})
@example(model=calls_of, fields={"retries": "9" * 5000})
@example(model=calls_of, fields={"tags": {"\ud800": "x"}})
def test_what_was_wrong_is_said_in_our_own_words(model: Any, fields: dict[str, Any]) -> None:
    """Not in the validator's, which speak of inputs and types; and never by the words of last resort."""
    base = {"call_id": "c", "rubric": "tone", "level": 1, "labeller": "ada", "kind": "copy"}
    for rejection in model([{**base, **fields}]).rejected:
        assert "Input" not in rejection.error
        assert "should" not in rejection.error
        assert "is not what this field takes" not in rejection.error, fields


@settings(max_examples=200)
@given(st.binary(max_size=64) | st.text().map(str.encode) | anything.map(lambda v: json.dumps(v).encode()))
@example(b"[" * 100_000)
@example(b'{"calls": ' + b"[" * 5_000)
@example(b"\xff\xfe\x00")
def test_a_body_that_is_no_batch_is_refused(body: bytes) -> None:
    """Never another exception: the app would answer 500."""
    with pytest.raises(BadBody) as refused:
        parse_calls(body)
    assert refused.value.code in {"bad_json", "bad_body"}


@pytest.mark.parametrize(
    ("item", "field", "words"),
    [
        ({"latency_ms": -1}, "latency_ms", "at least 0"),
        ({"latency_ms": 1e12}, "latency_ms", "at most 604,800,000"),
        ({"id": "x" * 129}, "id", "128 characters"),
        ({"id": ""}, "id", "is empty"),
        ({"input": 5}, "input", "a text or a list of messages"),
        ({"output": ["a"]}, "output", "a text or a list of messages"),
        ({"context": [1]}, "context", "a text or a list of texts"),
        ({"context": ["a"] * 1_001}, "context", "more than 1000 entries"),
        ({"usage": {"input_tokens": -3}}, "usage.input_tokens", "at least 0"),
        ({"sample_rate": 0}, "sample_rate", "at least"),
        # One call that stands for 1e300 made every latency page fail.
        ({"sample_rate": 1e-300}, "sample_rate", "at least"),
        ({"sample_rate": 1.5}, "sample_rate", "at most 1"),
        ({"started_at": "yesterday"}, "started_at", "ISO 8601"),
        ({"started_at": 12.5}, "started_at", "before 2000"),
        ({"error": "boom"}, "error", "must be an object"),
        ({"tags": {str(i): "x" for i in range(65)}}, "tags", "64 entries"),
        ({"output_sha256": "abc"}, "output_sha256", "64 hexadecimal digits"),
        ([], "", "must be an object"),
        ({"latency_ms": True}, "latency_ms", "true is not a number; leave the field out"),
        ({"cost_usd": False, "unknown": True}, "cost_usd", "false is not a number"),
        ({"usage": {"output_tokens": True}}, "usage.output_tokens", "true is not a number"),
        ({"started_at": True}, "started_at", "true is not a time"),
        ({"retries": 1.5}, "retries", "whole number"),
        ({"latency_ms": "fast"}, "latency_ms", "must be a number"),
        ({"usage": {"input_tokens": "many"}}, "usage.input_tokens", "whole number"),
        ({"model": True}, "model", "must be a string"),
        ({"started_at": []}, "started_at", "ISO 8601"),
    ],
)
def test_a_rejection_names_the_field_and_what_was_wrong(item: Any, field: str, words: str) -> None:
    parsed = calls_of([{"id": "sound"}, item])
    assert len(parsed.items) == 1
    (rejection,) = parsed.rejected
    assert (rejection.index, rejection.field) == (1, field)
    assert words in rejection.error


@pytest.mark.parametrize(
    ("signal", "field", "words"),
    [
        ({"kind": "thumbs_up"}, "call_id", "names no call"),
        ({"kind": "thumbs_up", "trace_id": "t"}, "call_id", "names no call"),
        ({"kind": "rating", "call_id": "c"}, "value", "needs its value"),
        ({"kind": "rating", "call_id": "c", "value": 9}, "value", "outside 1 to 5"),
        (
            {"kind": "rating", "call_id": "c", "value": 3, "value_min": 9},
            "value_min",
            "not below value_max 5",
        ),
        (
            {"kind": "rating", "call_id": "c", "value": 0, "value_max": 0},
            "value_max",
            "not below value_max 0",
        ),
        ({"kind": "no good!", "call_id": "c"}, "kind", "a letter, then"),
        ({"call_id": "c"}, "kind", "is missing"),
        ({"call_id": "c", "kind": "rating", "value": True}, "value", "true is not a number"),
    ],
)
def test_a_signal_must_say_what_and_about_what(signal: Any, field: str, words: str) -> None:
    parsed = signals_of([signal])
    assert parsed.items == []
    (rejection,) = parsed.rejected
    assert rejection.field == field
    assert words in rejection.error


@pytest.mark.parametrize(
    ("sent", "kind"),
    [("Thumbs_Down", "thumbs_down"), ("thumbs-up", "thumbs_up"), ("COPY", "copy"), ("Re-Fund", "Re-Fund")],
)
def test_a_kind_of_signal_is_known_however_it_is_written(sent: str, kind: str) -> None:
    """A thumb taken for a name of the team's own would count neither as good nor as bad."""
    (signal,) = signals_of([{"kind": sent, "call_id": "c"}]).items
    assert signal.kind == kind


def test_a_rating_brings_its_range() -> None:
    parsed = signals_of([{"kind": "rating", "call_id": "c", "value": 9, "value_min": 0, "value_max": 10}])
    assert parsed.items[0].value_range == (0, 10)


@pytest.mark.parametrize(
    ("field", "value"),
    [*(("level", level) for level in (0, 8, 3.5, "high", None, True)), ("labeller", ""), ("call_id", None)],
)
def test_a_label_has_all_its_fields_and_a_level_of_seven(field: str, value: Any) -> None:
    """None can be left out, so nobody is told to."""
    label = {"call_id": "c", "rubric": "tone", "labeller": "ada", "level": 3, field: value}
    parsed = labels_of([label])
    assert parsed.items == []
    assert parsed.rejected[0].field == field
    assert "leave" not in parsed.rejected[0].error


def test_a_number_of_thousands_of_digits_costs_only_its_item() -> None:
    """Python's own reader refuses to make an int of it."""
    parsed = parse_calls(b'{"calls": [{"id": "sound"}, {"retries": ' + b"9" * 5_000 + b"}]}")
    assert [call.id for call in parsed.items] == ["sound"]
    assert parsed.rejected[0].field == "retries"


def test_a_batch_is_bounded() -> None:
    body = json.dumps({"calls": [{}] * (ITEMS_MAX + 1)}).encode()
    with pytest.raises(BadBody) as refused:
        parse_calls(body)
    assert refused.value.code == "too_many_items"
    assert len(parse_calls(json.dumps({"calls": [{}] * ITEMS_MAX}).encode()).items) == ITEMS_MAX


def test_unknown_fields_are_named_and_ignored() -> None:
    parsed = parse_calls(b'{"calls": [{"foo": 1, "usage": {"bar": 2}}], "baz": 3}')
    assert len(parsed.items) == 1
    assert parsed.unknown_fields == {"foo", "usage.bar", "baz"}


@pytest.mark.parametrize(
    "at",
    [
        "2026-11-20T08:15:00.250Z",
        "2026-11-20T09:15:00.250+01:00",
        "2026-11-20T08:15:00.250",
        1795162500.25,
        1795162500250,
    ],
)
def test_a_time_may_be_written_in_several_ways(at: str | float) -> None:
    parsed = calls_of([{"started_at": at}])
    (call,) = parsed.items
    assert call.started_at is not None
    assert epoch_ms(call.started_at) == 1795162500250


def test_nul_and_lone_surrogates_are_replaced_and_marked() -> None:
    body = b'{"calls": [{"output": "a\\u0000b\\ud800c", "input": "fine \\ud83d\\ude00"}]}'
    ((_index, call, replaced),) = parse_calls(body).checked()
    assert call.output == "a\ufffdb\ufffdc"
    assert call.input == "fine \U0001f600"
    text = new_call(call, 0, replaced).text
    assert text is not None
    assert json.loads(text[TEXT_COLUMNS.index("marks")]) == {"output": "replaced"}


@given(st.text(st.characters(), max_size=50))
def test_a_cleaned_text_can_be_kept(text: str) -> None:
    clean, changed = cleaned(text)
    clean.encode()
    assert "\x00" not in clean
    assert len(clean) == len(text)
    assert changed == (clean != text)


@settings(max_examples=30)
@given(st.integers(KEPT_BYTES_MAX - 40, KEPT_BYTES_MAX + 40), st.sampled_from(["a", "é", "配", "😀"]))
def test_a_long_text_keeps_head_and_tail(size: int, letter: str) -> None:
    n = size // len(letter.encode())
    whole = "<" + letter * n + ">"
    kept = kept_text(whole)
    assert kept.chars == len(whole)
    if len(whole.encode()) <= KEPT_BYTES_MAX:
        assert (kept.text, kept.sha256) == (whole, None)
    else:
        assert kept.text.startswith("<" + letter * 1000)
        assert kept.text.endswith(letter * 1000 + ">")
        assert "bytes cut" in kept.text
        assert len(kept.text.encode()) <= KEPT_BYTES_MAX + 64
        assert kept.sha256 == hashlib.sha256(whole.encode()).hexdigest()


def test_long_messages_stay_messages() -> None:
    """The critic looks for the last user message: a cut list must still be a list."""
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "x" * 400_000}]
    text = text_of({"input": messages})
    kept = json.loads(text["input"])
    assert text["input_json"]
    assert [message["role"] for message in kept] == ["system", "user"]
    assert kept[0]["content"] == "be brief"
    assert len(text["input"]) <= KEPT_BYTES_MAX
    assert json.loads(text["marks"]) == {"input": "cut"}


def test_very_many_messages_keep_the_first_and_the_last() -> None:
    messages = [{"role": "user", "content": f"message {i}"} for i in range(20_000)]
    text = text_of({"input": messages})
    kept = json.loads(text["input"])
    assert kept[0]["content"] == "message 0"
    assert kept[-1]["content"] == "message 19999"
    assert len(text["input"].encode()) <= KEPT_BYTES_MAX


def test_a_long_context_is_shared_out() -> None:
    text = text_of({"context": ["a" * 300_000, "b" * 300_000]})
    first, second = json.loads(text["context"])
    assert first.startswith("aaa")
    assert second.endswith("bbb")
    assert len(first) + len(second) < KEPT_BYTES_MAX + 200


def test_new_ids_are_version_7_and_sort_by_time() -> None:
    ids = [uuid7() for _ in range(3)]
    assert {(one[14], one[19] in "89ab") for one in ids} == {("7", True)}
    assert [one[:8] for one in ids] == sorted(one[:8] for one in ids)


def test_a_sample_rate_of_null_means_that_every_call_was_sent() -> None:
    sent = parse_calls(b'{"calls": [{"id": "a", "sample_rate": null}]}')
    assert [call.sample_rate for call in sent.items] == [1.0]
    assert sent.rejected == []


@pytest.mark.parametrize("read", [calls_of, signals_of])
def test_a_spans_ids_are_written_in_small_letters(read: Any) -> None:
    """OpenTelemetry sends them so; some tools show them in capitals, and a client sends what it was shown."""
    span = {"trace_id": "4BF92F3577B34DA64BF92F3577B34DA6", "span_id": "00F067AA0BA902B7"}
    own = {"trace_id": "Order-17", "span_id": "ABCDEF"}
    first, second = read([{**span, "kind": "copy"}, {**own, "kind": "copy"}]).items
    assert (first.trace_id, first.span_id) == ("4bf92f3577b34da64bf92f3577b34da6", "00f067aa0ba902b7")
    assert (second.trace_id, second.span_id) == ("Order-17", "ABCDEF")
