"""Whatever an application hands over: nothing raises, nothing sinks a batch, what can be kept is kept."""

import dataclasses
import datetime
import decimal
import enum
import json
import math
import uuid
from collections import deque, namedtuple
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import lowlight
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lowlight._config import Given, read_config
from lowlight._fields import CALL_FIELDS
from lowlight._json import DEPTH_MAX, to_json
from lowlight._wire import encode_call, encode_signal
from pydantic import BaseModel

from ingest.wire import parse_calls, parse_signals
from tests.sdk.fake_server import FakeServer

PLAIN = read_config(Given())


class Hostile:
    """Raises wherever it is touched; its repr alone is left, for hypothesis to tell what failed."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"do not touch {name}")

    def __repr__(self) -> str:
        return "Hostile()"

    def _refuse(self, *_args: object) -> Any:
        raise RuntimeError("no")

    __str__ = __bool__ = __len__ = __iter__ = __eq__ = __hash__ = __float__ = __index__ = _refuse


class HostileError(Exception):
    """An exception that cannot tell its message."""

    def __str__(self) -> str:
        raise RuntimeError("no")


class Colour(enum.Enum):
    RED = "red"


class Word(str, enum.Enum):  # noqa: UP042 - as most applications write it
    YES = "yes"


class Model(BaseModel):
    name: str
    at: datetime.date


@dataclasses.dataclass
class Point:
    x: int
    tags: set[str]


Pair = namedtuple("Pair", "left right")
CYCLE: list[Any] = [1]
CYCLE.append(CYCLE)
DEEP: list[Any] = []
for _ in range(5_000):
    DEEP = [DEEP]
WIDE: Any = ["x"]
for _ in range(40):
    WIDE = [WIDE, WIDE]

#: Drawn by number: neither hypothesis nor pytest can look at some of these.
ODD_VALUES: list[Any] = [
    Hostile(),
    Hostile,
    HostileError(),
    ValueError("\ud800"),
    object(),
    len,
    iter([1]),
    Colour.RED,
    CYCLE,
    10**100,
    float("nan"),
    -math.inf,
    decimal.Decimal("NaN"),
    datetime.datetime.max,  # noqa: DTZ901
    datetime.timedelta(days=-1),
    b"\xff\x00",
    bytearray(b"x"),
    Model.model_construct(name=Hostile()),
    np.zeros(3),
    {1: {2: 3}, None: {"a": {Colour.RED}}, Hostile: Hostile()},
    {"choices": [{"message": {"content": Hostile()}}], "usage": {"prompt_tokens": "x"}},
    {"choices": [Hostile()]},
    {"output": [{"type": "message", "content": 7}]},
    {"content": [{"type": "tool_use"}, None, 7], "usage": 5, "error": Hostile()},
]
ODD = st.integers(0, len(ODD_VALUES) - 1).map(lambda i: ODD_VALUES[i])
ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(alphabet=st.characters(blacklist_categories=()), max_size=20)
    | st.binary(max_size=20)
    | st.datetimes()
    | st.decimals()
    | st.uuids()
    | ODD,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=8) | st.integers() | st.none(), inner, max_size=4)
    ),
    max_leaves=12,
)
RECORD = [
    *("response", "input", "output", "model", "provider", "latency_ms", "first_token_ms", "started_at"),
    *("prompt", "context", "user_id", "session_id", "environment", "release", "tags", "tools", "usage"),
    *("cost_usd", "error", "finish_reason", "retries", "id", "trace_id", "span_id", "response_id"),
    *("sample_rate", "no_such_argument"),
]
SIGNAL = [
    *("kind", "call_id", "response_id", "trace_id", "span_id", "session_id", "value", "value_min"),
    *("value_max", "comment", "at", "id", "no_such_argument"),
]


@pytest.fixture(scope="module")
def outbox() -> Iterator[lowlight.Client]:
    """A client that queues and sends nothing: its server is nowhere."""
    client = lowlight.Client("http://127.0.0.1:1", linger_s=3600)
    yield client
    client.shutdown(0)


def queued(client: lowlight.Client) -> tuple[Any, ...]:
    """The one entry in a client's queue, taken out."""
    waiting = client._outbox._waiting
    assert len(waiting) == 1
    entry = waiting.pop()
    client._outbox._held_bytes = client._outbox._held_n = 0
    return entry


@given(named=st.dictionaries(st.sampled_from(RECORD), ANY, max_size=8), args=st.lists(ANY, max_size=2))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_arguments_make_record_raise_or_cost_the_call(
    outbox: lowlight.Client, named: dict[str, Any], args: list[Any]
) -> None:
    if args:
        named.pop("response", None)
    call_id = outbox.record(*args, **named)
    assert type(call_id) is str
    body = b'{"calls":[' + encode_call(queued(outbox), PLAIN).body + b"]}"
    sent = parse_calls(body)  # the server's own reading
    # an id of the application's own that the server does not take is the one thing that can cost a call
    if 1 <= len(call_id) <= 128:
        assert sent.rejected == []
        assert len(sent.items) == 1


@given(named=st.dictionaries(st.sampled_from(SIGNAL), ANY, max_size=8))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_arguments_make_signal_raise(outbox: lowlight.Client, named: dict[str, Any]) -> None:
    assert type(outbox.signal(**named)) is str
    if "kind" in named:
        body = b'{"signals":[' + encode_signal(queued(outbox), PLAIN).body + b"]}"
        sent = parse_signals(body)
        assert len(sent.items) + len(sent.rejected) == 1


@pytest.mark.parametrize(
    "make", [Hostile, lambda: -1, lambda: "soon", lambda: math.nan, list, lambda: 10**5000]
)
def test_the_other_functions_do_not_raise_either(server: FakeServer, make: Any) -> None:
    nonsense = make()
    client = lowlight.Client(nonsense, nonsense, enabled=nonsense, environment=nonsense, timeout_s=nonsense)
    client.record("4")
    client.flush(nonsense)
    client.init(server.url, no_such_argument=nonsense)  # type: ignore[call-arg]
    client.record("5", *[nonsense] * 3)
    assert client.flush(5)
    assert [call["output"] for call in server.calls.values()] == ["5"]
    client.shutdown(nonsense)
    assert isinstance(client.stats(), dict)


def test_a_hostile_item_does_not_cost_its_neighbours(server: FakeServer, client: lowlight.Client) -> None:
    ids = [
        client.record("before"),
        client.record(Hostile(), input=[Hostile(), WIDE, DEEP], tags={"x": Hostile()}, error=HostileError()),
        client.record("more", latency_ms=WIDE, prompt=WIDE, tags=WIDE, cost_usd=10**5000, user_id=str),  # type: ignore[arg-type]
        client.record("after"),
    ]
    assert client.flush(10)
    assert list(server.calls) == ids
    assert server.calls[ids[1]]["error"] == {"type": "HostileError", "message": "(could not be read)"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), None),
        (math.inf, None),
        (decimal.Decimal("1.5"), 1.5),
        (datetime.datetime(2026, 11, 22, 8, 15), "2026-11-22T08:15:00"),  # noqa: DTZ001
        (datetime.date(2026, 11, 22), "2026-11-22"),
        (b"text", "text"),
        (b"\xff\xfe", "(2 bytes)"),
        ({7}, [7]),
        (deque([1, 2]), [1, 2]),
        (Pair(1, "b"), [1, "b"]),
        (Point(1, {"t"}), {"x": 1, "tags": ["t"]}),
        (Model(name="n", at=datetime.date(2026, 11, 22)), {"name": "n", "at": "2026-11-22"}),
        (Colour.RED, "red"),
        (Word.YES, "yes"),
        (np.float32(0.5), 0.5),
        (np.arange(3), [0, 1, 2]),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (PurePosixPath("/a"), "/a"),
        ({1: "a", None: "b"}, {"1": "a", "null": "b"}),
        ("lone \ud800 and a pair \ud83d\ude00", "lone \ufffd and a pair \U0001f600"),
        ([10**5000], ["an integer of 16610 bits"]),
        (CYCLE, [1, "(left out: contains itself)"]),
        (HostileError(), "(HostileError: could not be read)"),
    ],
)
def test_what_json_has_no_word_for(value: Any, expected: Any) -> None:
    assert json.loads(to_json({"v": [value]})) == {"v": [expected]}
    assert json.loads(to_json({"v": [value, math.nan]})) == {
        "v": [expected, None]
    }  # beside what plain JSON lacks


def test_depth_and_breadth_are_bounded() -> None:
    assert to_json(DEEP).count(b"[") == DEPTH_MAX + 1
    assert len(to_json(WIDE, bounded=True)) < 3_000_000


@pytest.mark.parametrize(
    ("given_", "sent"),
    [
        (1795335300, "2026-11-22T08:15:00.000Z"),
        (1795335300.5, "2026-11-22T08:15:00.500Z"),
        (1795335300_000, "2026-11-22T08:15:00.000Z"),
        ("2026-11-22T08:15:00Z", "2026-11-22T08:15:00Z"),
        (
            datetime.datetime(2026, 11, 22, 9, 15, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
            "2026-11-22T08:15:00.000Z",
        ),
    ],
)
def test_times(server: FakeServer, client: lowlight.Client, given_: Any, sent: str) -> None:
    call_id = client.record("4", started_at=given_)
    assert client.flush(5)
    assert server.calls[call_id]["started_at"] == sent


@pytest.mark.parametrize("given_", [12.5, "yesterday", -1, float("nan"), datetime.datetime.min])  # noqa: DTZ901
def test_an_impossible_time_is_named_and_left_out(
    server: FakeServer, client: lowlight.Client, caplog: pytest.LogCaptureFixture, given_: Any
) -> None:
    """time.perf_counter() is the usual one."""
    call_id = client.record("4", started_at=given_)
    assert client.flush(5)
    assert server.calls[call_id]["started_at"].startswith("20")
    assert "started_at=" in caplog.text


@pytest.mark.parametrize(
    ("given_", "sent"),
    [
        ("faq", {"name": "faq"}),
        (("faq", 7), {"name": "faq", "version": "7"}),
        (("faq", None), {"name": "faq"}),
        ({"name": "faq", "version": "v7", "labels": []}, {"name": "faq", "version": "v7"}),
        (Pair("faq", "v7"), None),
    ],
)
def test_prompts(server: FakeServer, client: lowlight.Client, given_: Any, sent: Any) -> None:
    call_id = client.record("4", prompt=given_)
    assert client.flush(5)
    assert server.calls[call_id].get("prompt") == sent


@pytest.mark.parametrize(
    "number", [-1, 1e300, 10**400, float("nan"), -math.inf, True, "many", decimal.Decimal("1e99")]
)
def test_a_number_out_of_range_does_not_cost_the_call(outbox: lowlight.Client, number: Any) -> None:
    names = ("latency_ms", "first_token_ms", "cost_usd", "retries", "sample_rate")
    outbox.record("4", usage={"input_tokens": number}, **dict.fromkeys(names, number))
    encoded = encode_call(queued(outbox), PLAIN)
    sent = parse_calls(b'{"calls":[' + encoded.body + b"]}")
    assert sent.rejected == []
    assert sent.items[0].latency_ms is None
    assert set(encoded.problems) == {*names, "usage"}


def test_documents_become_their_texts(server: FakeServer, client: lowlight.Client) -> None:
    class Document:
        page_content = "from an object"

    call_id = client.record("4", context=["plain", {"text": "from a dict"}, Document(), {"a": 1}])
    assert client.flush(5)
    assert server.calls[call_id]["context"] == ["plain", "from a dict", "from an object", '{"a":1}']


@pytest.mark.parametrize(
    ("given_", "sent"),
    [
        (ValueError("broken"), {"type": "ValueError", "message": "broken"}),
        (TimeoutError, {"type": "TimeoutError", "message": ""}),
        ({"type": "rate_limit", "message": "slow"}, {"type": "rate_limit", "message": "slow"}),
        ("it broke", {"type": "error", "message": "it broke"}),
    ],
)
def test_errors(server: FakeServer, client: lowlight.Client, given_: Any, sent: Any) -> None:
    call_id = client.record(error=given_)
    assert client.flush(5)
    assert server.calls[call_id]["error"] == sent


def test_a_queued_error_does_not_keep_its_frames_alive(outbox: lowlight.Client) -> None:
    try:
        raise ValueError("broken")
    except ValueError as error:
        outbox.record(error=error)
    assert queued(outbox)[CALL_FIELDS.index("error")] == {"type": "ValueError", "message": "broken"}


def test_ids_are_version_7_in_order_of_time_and_unique() -> None:
    client = lowlight.Client(enabled=False)
    ids = [client.record() for _ in range(5_000)]
    assert len(set(ids)) == 5_000
    assert {(uuid.UUID(one).version, uuid.UUID(one).variant) for one in ids} == {(7, uuid.RFC_4122)}
    times = [one[:13] for one in ids]
    assert times == sorted(times)
