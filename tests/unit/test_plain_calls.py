"""The short way of well-formed calls: what it takes comes out as on the long way; it takes nothing else."""

from functools import partial
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest.call_rows import BadText, NewCall, new_call
from ingest.plain_calls import PLAIN, plain_call
from ingest.wire import COUNT_MAX, LATENCY_MS_MAX, Call, parse_calls

NOW_MS = 1_790_000_000_000

odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(0, 3), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(0, 3), max_size=2),
)
names = st.text(max_size=12) | st.sampled_from(["x" * 256, "x" * 257, "stop", "cancelled", "ERROR", ""])
ids = st.sampled_from(["a", "A", "4BF92F3577B34DA6", "x" * 128, "x" * 129, "", "é"]) | st.text(max_size=8)
counts = st.sampled_from([0, 1, 7, COUNT_MAX, COUNT_MAX + 1, -1, 2.0, 2.5, True, "3"])
milliseconds = st.floats(-1, 1e9) | st.sampled_from([0, 812.5, 3, LATENCY_MS_MAX, "9", True, -0.0])
#: Times in many forms, real and not: also those that one parser of ISO 8601 takes and another does not.
times = st.one_of(
    st.datetimes().map(lambda at: at.isoformat() + "Z"),
    st.datetimes().map(lambda at: at.isoformat(timespec="milliseconds") + "Z"),
    st.datetimes().map(lambda at: at.isoformat(timespec="seconds") + "Z"),
    st.from_regex(r"2\d{3}-[01]\d-[0-3]\dT[0-2]\d:[0-6]\d:[0-6]\d(\.\d{3}|\.\d{6})?Z", fullmatch=True),
    st.sampled_from(
        [
            "2026-11-22T08:15:00+00:00",
            "2026-11-22T24:00:00Z",
            "2026-11-22T08:15:60Z",
            "2026-11-22T08:15:00.12aZ",
            "2026-11-22T08:15:٠٠Z",
            "2026-W47-7T08:15:00.00Z",
            "2026-11-22t08:15:00Z",
            1_790_000_000,
            1_790_000_000_000.5,
        ]
    ),
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant"]), "content": st.text(max_size=9) | odd}
    ),
    max_size=3,
)
texts = st.text(max_size=20) | messages | st.sampled_from(["x" * 70_000, "é" * 140_000, [], ["a"]])
fields: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("provider", "model", "finish_reason", "environment", "release"), names),
    **dict.fromkeys(("id", "user_id", "session_id", "trace_id", "span_id", "response_id"), ids),
    **dict.fromkeys(("latency_ms", "first_token_ms", "cost_usd"), milliseconds),
    **dict.fromkeys(("input", "output"), texts),
    "started_at": times,
    "retries": counts,
    "sample_rate": st.sampled_from([1, 0.5, 1.0, 0, 1e-9, 1.5, None, True]),
    "usage": st.dictionaries(
        st.sampled_from(["input_tokens", "output_tokens", "cached_input_tokens", "other"]), counts | st.none()
    ),
    "prompt": st.dictionaries(st.sampled_from(["name", "version", "other"]), names | st.none()),
    "tags": st.dictionaries(names, names, max_size=3),
    "tools": st.lists(names, max_size=3),
    "error": st.fixed_dictionaries({"type": names}),
    "unknown": odd,
}
#: Mostly well-formed, so that calls reach the end of the short way; each field may be odd.
calls = st.fixed_dictionaries(
    {}, optional={name: st.one_of(made, made, made, odd) for name, made in fields.items()}
)


def the_long_way(call: dict[str, Any]) -> NewCall | None:
    """What the call becomes by the checks that have words; None where it is rejected."""
    checked = list(parse_calls(orjson.dumps({"calls": [call]})).checked())
    try:
        return new_call(checked[0][1], NOW_MS, checked[0][2]) if checked else None
    except BadText:
        return None


@settings(max_examples=1_000)
@given(calls)
@example({"started_at": "2026-11-22T08:15:00.123Z", "usage": {"output_tokens": 5}, "first_token_ms": 1})
@example({"usage": "", "prompt": [], "latency_ms": 1})
@example({"trace_id": "4BF92F3577B34DA64BF92F3577B34DA6", "span_id": "00F067AA0BA902B7"})
@example({"provider": "\x00"})
def test_what_goes_the_short_way_comes_out_the_same(call: dict[str, Any]) -> None:
    """And nothing goes it that the long way rejects."""
    read = orjson.loads(orjson.dumps(call))
    batch = parse_calls(orjson.dumps({"calls": [call]}))
    taken = list(batch.read(partial(plain_call, received_at_ms=NOW_MS)))
    if not taken or not isinstance(made := taken[0][1], NewCall):
        return
    expected = the_long_way(read)
    assert expected is not None, "the short way took what is rejected"
    if "id" not in read or read["id"] is None:
        expected.id, expected.row = made.id, (made.id, *expected.row[1:])
    assert made == expected


def usual(**more: Any) -> dict[str, Any]:
    """A call as most clients send it."""
    return {
        "id": "c-1",
        "started_at": "2026-11-22T08:15:00.250Z",
        "latency_ms": 812,
        "model": "m",
        "prompt": {"name": "answer", "version": "7"},
        "usage": {"input_tokens": 5, "output_tokens": 7},
        "input": [{"role": "user", "content": "2+2?"}],
        "output": "4",
        "tags": {"tenant": "acme"},
        "tools": ["search"],
        **more,
    }


@pytest.mark.parametrize(
    "more",
    [{}, {"input": "2+2?"}, {"output": None}, {"usage": None, "prompt": None}, {"first_token_ms": 3.5}],
)
def test_a_usual_call_goes_the_short_way(more: dict[str, Any]) -> None:
    """The test above would also pass where nothing went it."""
    made = plain_call(usual(**more), NOW_MS)
    assert made is not None
    assert made == the_long_way(usual(**more))


@pytest.mark.parametrize(
    "more",
    [
        {"error": {"type": "Timeout"}},
        {"context": "a document"},
        {"unknown": 1},
        {"latency_ms": "812"},
        {"latency_ms": True},
        {"user_id": 7},
        {"usage": {"input_tokens": 5, "audio_tokens": 1}},
        {"trace_id": "4BF92F3577B34DA64BF92F3577B34DA6"},
    ],
)
def test_an_unusual_one_is_judged_field_by_field(more: dict[str, Any]) -> None:
    assert plain_call(usual(**more), NOW_MS) is None


def test_every_field_of_the_short_way_is_one_of_a_call() -> None:
    """A field that is renamed there must not be taken here in silence."""
    assert set(Call.model_fields) >= PLAIN


def test_a_call_without_an_id_gets_one_of_its_own() -> None:
    made = [plain_call({"model": "m"}, NOW_MS) for _ in range(2)]
    assert made[0] is not None
    assert made[1] is not None
    assert made[0].id != made[1].id
