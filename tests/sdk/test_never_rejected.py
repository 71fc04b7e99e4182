"""What the SDK sends is what the server keeps: no argument costs a call, whatever it holds.

The server's own reading is the judge: `ingest.wire` and the rows made of it. Signals that say nothing (no
kind, no call, a rating without a value) are the exception: the SDK drops them itself, counted and named.
"""

import datetime
import decimal
import math
import time
import uuid
from typing import Any

import lowlight
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lowlight import _limits
from lowlight._config import Config, Given, read_config
from lowlight._fields import CALL_FIELDS
from lowlight._signals import SaysNothing, encode_signal
from lowlight._wire import encode_call

from ingest import texts, wire
from ingest.call_rows import new_call
from tests.sdk.fake_server import FakeServer
from tests.sdk.odd_values import (
    RECORDED,
    SIGNALLED,
    UNNAMED,
    Hostile,
    Named,
    Shouting,
    Silent,
    Word,
    any_of,
    nested,
)
from tests.sdk.outbox import queued


def config_of(**given: Any) -> Config:
    """The settings of a client that is told these."""

    def refuse(_kind: str, message: str) -> None:
        raise AssertionError(message)

    return read_config(Given(**given), refuse)


PLAIN = config_of()
CONFIGS = [
    PLAIN,
    config_of(capture_content=False),
    config_of(redact=lambda text: text * 2, environment="e" * 300, release="\ud800" * 300),
    config_of(redact=lambda _text: None, capture_content=False),
]
NOW_MS = 1_795_335_300_000
SETTINGS: dict[str, Any] = {"suppress_health_check": [HealthCheck.function_scoped_fixture], "deadline": None}


def kept(body: bytes) -> wire.Call:
    """The call as the server reads and keeps it."""
    sent = wire.parse_calls(b'{"calls":[' + body + b"]}")
    assert sent.rejected == [], body[:2000]
    assert sent.unknown_fields == set()
    [call] = sent.items
    new_call(call, NOW_MS)
    return call


def kept_signal(body: bytes) -> wire.Signal:
    """See `kept`."""
    sent = wire.parse_signals(b'{"signals":[' + body + b"]}")
    assert sent.rejected == [], body[:2000]
    assert sent.unknown_fields == set()
    [signal] = sent.items
    assert signal.at is None or wire.epoch_ms(signal.at)
    return signal


def as_read(text: str) -> str:
    """A text as the server reads it."""
    return texts.cleaned(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))[0]


@given(named=any_of(RECORDED), args=UNNAMED, config=st.sampled_from(CONFIGS))
@settings(max_examples=100, **SETTINGS)
def test_no_arguments_make_record_raise_or_cost_the_call(
    outbox: lowlight.Client, named: dict[str, Any], args: list[Any], config: Any
) -> None:
    if args:
        named.pop("response", None)
    call_id = outbox.record(*args, **named)
    assert type(call_id) is str
    assert kept(encode_call(queued(outbox), config).body).id == as_read(call_id)


@given(named=st.one_of(st.fixed_dictionaries({name: values}).map(Named) for name, values in RECORDED.items()))
@settings(max_examples=250, **SETTINGS)
def test_no_argument_of_its_own_costs_the_call(outbox: lowlight.Client, named: dict[str, Any]) -> None:
    call_id = outbox.record(**named)
    assert kept(encode_call(queued(outbox), PLAIN).body).id == as_read(call_id)


@given(named=any_of(SIGNALLED), config=st.sampled_from(CONFIGS))
@settings(max_examples=100, **SETTINGS)
def test_no_arguments_make_signal_raise_or_cost_it(
    outbox: lowlight.Client, named: dict[str, Any], config: Any
) -> None:
    named.setdefault("kind", "thumbs_up")
    named.setdefault("call_id", "c1")
    signal_id = outbox.signal(**named)
    assert type(signal_id) is str
    try:
        body = encode_signal(queued(outbox), config).body
    except SaysNothing:
        return
    assert kept_signal(body).id == as_read(signal_id)


def test_the_limits_are_the_servers() -> None:
    for name in ("NAME_CHARS_MAX", "ID_CHARS_MAX", "TAGS_MAX", "TOOLS_MAX", "CONTEXT_MAX", "COUNT_MAX"):
        assert getattr(_limits, name) == getattr(wire, name)
    for name in ("LATENCY_MS_MAX", "COST_USD_MAX", "SAMPLE_RATE_MIN"):
        assert getattr(_limits, name) == getattr(wire, name)
    assert (_limits.RATING_MIN, _limits.RATING_MAX) == wire.RATING_RANGE
    assert _limits.NESTED_MAX < texts.DEPTH_MAX


def sent_call(client: lowlight.Client, **named: Any) -> wire.Call:
    """What the server keeps of `record(**named)`."""
    client.record(**named)
    return kept(encode_call(queued(client), PLAIN).body)


IDS = ("user_id", "session_id", "trace_id", "span_id", "response_id")
NAMES = ("provider", "model", "finish_reason", "environment", "release")


@pytest.mark.parametrize("name", [*IDS, *NAMES])
@pytest.mark.parametrize(
    "empty", ["", b"", bytearray(), memoryview(b""), Silent(), Word.NOTHING, np.str_(""), math.nan]
)
def test_an_empty_id_or_name_is_none(outbox: lowlight.Client, name: str, empty: Any) -> None:
    """The server refuses an empty one; pandas says NaN for one that is missing."""
    assert getattr(sent_call(outbox, **{name: empty}), name) is None


@pytest.mark.parametrize(
    ("given_", "text"),
    [
        (7, "7"),
        (b"u-17", "u-17"),
        (uuid.UUID(int=7), str(uuid.UUID(int=7))),
        (uuid.UUID(int=7).bytes + b"\xff", "0" * 31 + "7ff"),
        (Word.YES, "yes"),
        (np.int64(7), "7"),
        (Shouting("x"), "x"),
    ],
)
def test_an_id_is_the_same_text_wherever_it_is_said(outbox: lowlight.Client, given_: Any, text: str) -> None:
    assert sent_call(outbox, user_id=given_, session_id=given_).user_id == text
    assert outbox.record(id=given_) == text
    assert kept(encode_call(queued(outbox), PLAIN).body).id == text
    outbox.signal("copy", call_id=given_, session_id=given_)
    signal = kept_signal(encode_signal(queued(outbox), PLAIN).body)
    assert (signal.call_id, signal.session_id) == (text, text)


def test_a_signal_finds_a_call_whose_id_is_longer_than_the_server_takes(outbox: lowlight.Client) -> None:
    long_id = "request/" + "x" * 200
    told = outbox.record(id=long_id)
    call = kept(encode_call(queued(outbox), PLAIN).body)
    outbox.signal("copy", call_id=long_id)
    assert kept_signal(encode_signal(queued(outbox), PLAIN).body).call_id == call.id == told
    assert outbox.record(id=long_id) == told
    queued(outbox)


def test_what_many_values_hold_is_not_overestimated(outbox: lowlight.Client) -> None:
    """The queue takes 64 MiB in all, and ten messages of 6,000 numbers each are far from that."""
    outbox.record(input=[{"role": "user", "content": list(range(6_000))} for _ in range(10)])
    assert queued(outbox)[CALL_FIELDS.index("entry_bytes")] < 16 * 2**20


@pytest.mark.parametrize("name", IDS)
def test_an_id_that_is_too_long_or_unreadable_is_left_out_and_named(
    outbox: lowlight.Client, name: str
) -> None:
    for bad in ("x" * 129, Hostile()):
        outbox.record(**{name: bad})
        encoded = encode_call(queued(outbox), PLAIN)
        assert getattr(kept(encoded.body), name) is None
        assert list(encoded.problems) == [name]


@pytest.mark.parametrize("name", NAMES)
def test_a_long_name_is_cut_wherever_it_comes_from(outbox: lowlight.Client, name: str) -> None:
    assert getattr(sent_call(outbox, **{name: "n" * 300}), name) == "n" * 256
    outbox.record({"choices": [], "model": "n" * 300})
    config = config_of(environment="n" * 300, release="n" * 300)
    call = kept(encode_call(queued(outbox), config).body)
    assert {call.model, call.environment, call.release} == {"n" * 256}


def test_the_tools_of_a_response_are_bounded_as_those_of_the_caller(outbox: lowlight.Client) -> None:
    calls = [{"function": {"name": f"{i} " + "n" * 300}} for i in range(200)]
    call = sent_call(outbox, response={"choices": [{"message": {"tool_calls": calls}}]})
    assert call.tools is not None
    assert len(call.tools) == 128
    assert {len(name) for name in call.tools} == {256}


@pytest.mark.parametrize(
    "no_time",
    [
        *("2026-13-45", "9999-99-99T99:99", "2026-02-30", "2026-11-22T24:00:00Z", "2026-11-22T23:60"),
        *("2026-11-22T08:15:60Z", "2026-11-22T08:15:00+24:00", "2026-11-22T08:15:00+01:60", "1999-12-31"),
        *("\u0662\u0660\u0662\u0666-\u0661\u0661-\u0662\u0662", "", "0000-00-00"),
    ],
)
def test_a_text_that_is_no_date_is_named_and_left_out(outbox: lowlight.Client, no_time: str) -> None:
    outbox.record("4", started_at=no_time)
    encoded = encode_call(queued(outbox), PLAIN)
    assert list(encoded.problems) == ["started_at"]
    started_at = kept(encoded.body).started_at
    assert started_at is not None
    assert abs(started_at.timestamp() - time.time()) < 60


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-22", "2026-11-22T00:00:00+00:00"),
        ("2026-11-22 08:15", "2026-11-22T08:15:00+00:00"),
        ("2026-11-22T08:15:00.1234567890123Z", "2026-11-22T08:15:00.123456+00:00"),
        ("2026-11-22T08:15:00.5+0130", "2026-11-22T06:45:00.500000+00:00"),
    ],
)
def test_a_text_that_is_a_date_is_kept(outbox: lowlight.Client, text: str, at: str) -> None:
    started_at = sent_call(outbox, started_at=text).started_at
    assert started_at is not None
    assert wire.epoch_ms(started_at) == wire.epoch_ms(datetime.datetime.fromisoformat(at))


@pytest.mark.parametrize("clock_s", [0.0, 100.5, 1e300, -1e12, math.nan])
def test_a_machine_whose_clock_was_never_set_loses_no_call(
    outbox: lowlight.Client, monkeypatch: pytest.MonkeyPatch, clock_s: float
) -> None:
    """Without a time of its own a call is taken for one of the time of its receipt."""
    monkeypatch.setattr("lowlight._client._now_s", lambda: clock_s)
    call = sent_call(outbox, output="4")
    assert call.started_at is None
    assert uuid.UUID(call.id).version == 7


@pytest.mark.parametrize(
    "number", [-1, 1e300, 10**400, float("nan"), -math.inf, True, "many", decimal.Decimal("1e99")]
)
def test_a_number_out_of_range_does_not_cost_the_call(outbox: lowlight.Client, number: Any) -> None:
    names = ("latency_ms", "first_token_ms", "cost_usd", "retries", "sample_rate")
    outbox.record("4", usage={"input_tokens": number}, **dict.fromkeys(names, number))
    encoded = encode_call(queued(outbox), PLAIN)
    assert kept(encoded.body).latency_ms is None
    assert set(encoded.problems) == {*names, "usage"}


@pytest.mark.parametrize(
    ("given_", "counted"),
    [(12, 12), (12.0, 12), (np.int64(12), 12), (0, 0), (2**31 - 1, 2**31 - 1)]
    + [(bad, None) for bad in (-1, 2**31, 12.5, math.nan, math.inf, True, "12", [12], object())],
)
def test_tokens_are_counted_or_named(outbox: lowlight.Client, given_: Any, counted: int | None) -> None:
    outbox.record("4", usage={"input_tokens": given_, "output_tokens": 3})
    encoded = encode_call(queued(outbox), PLAIN)
    assert kept(encoded.body).usage == wire.Usage(input_tokens=counted, output_tokens=3)
    assert list(encoded.problems) == ([] if counted is not None else ["usage.input_tokens"])


def test_tokens_beyond_the_servers_range_by_their_sum_are_left_out(outbox: lowlight.Client) -> None:
    usage = {"input_tokens": 2**31 - 1, "cache_read_input_tokens": 1, "output_tokens": 3}
    assert sent_call(outbox, usage=usage).usage == wire.Usage(output_tokens=3, cached_input_tokens=1)


def test_a_rate_below_one_in_a_million_counts_for_a_million(outbox: lowlight.Client) -> None:
    assert sent_call(outbox, sample_rate=1e-9).sample_rate == 1e-6


@pytest.mark.parametrize("levels", [100, 199, 249, 250, 254, 300, 900, 2_000])
@pytest.mark.parametrize("mark", ["", "\x00"])  # with it the server looks at every value
def test_deeply_nested_messages_are_kept(outbox: lowlight.Client, levels: int, mark: str) -> None:
    messages = [{"role": "user", "content": nested(levels), "name": mark}]
    call = sent_call(outbox, input=messages, output=[{"arguments": nested(levels)}])
    assert isinstance(call.input, list)
    assert call.input[0]["role"] == "user"


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        ("thumbs_up", "thumbs_up"),
        ("thumbs up", "thumbs_up"),
        ("7 stars", "signal_7_stars"),
        ("x" * 99, "x" * 64),
    ],
)
def test_a_signals_kind_becomes_a_name(outbox: lowlight.Client, kind: str, sent: str) -> None:
    outbox.signal(kind, call_id="c1")
    assert kept_signal(encode_signal(queued(outbox), PLAIN).body).kind == sent


def test_signals_that_say_nothing_are_dropped_here_and_named(
    server: FakeServer, client: lowlight.Client, caplog: pytest.LogCaptureFixture
) -> None:
    nothing: list[dict[str, Any]] = [
        {"kind": "thumbs_up"},
        {"kind": "thumbs_up", "call_id": ""},
        {"kind": "thumbs_up", "trace_id": "t1"},
        {"kind": "\U0001f44d", "call_id": "c1"},
        {"kind": None, "call_id": "c1"},
        {"kind": "rating", "call_id": "c1"},
        {"kind": "rating", "call_id": "c1", "value": 9},
        {"kind": "rating", "call_id": "c1", "value": 1, "value_min": 1, "value_max": 1},
    ]
    for named in nothing:
        client.signal(**named)
    kept_id = client.signal("rating", call_id="c1", value=9, value_max=10)
    assert client.flush(20)
    assert list(server.signals) == [kept_id]
    assert client.stats()["dropped"] == {"unusable": len(nothing)}
    assert "pass call_id, response_id, trace_id with span_id, or session_id" in caplog.text
