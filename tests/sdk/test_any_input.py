"""Whatever an application hands over: nothing raises, nothing sinks a batch, what can be kept is kept."""

import datetime
import decimal
import json
import math
import uuid
from collections import deque
from pathlib import PurePosixPath
from typing import Any

import lowlight
import numpy as np
import pytest
from lowlight._fields import CALL_FIELDS
from lowlight._json import to_json
from lowlight._plain import DEPTH_MAX

from tests.sdk.fake_server import FakeServer
from tests.sdk.odd_values import (
    CYCLE,
    DEEP,
    WIDE,
    Colour,
    Hostile,
    HostileError,
    Model,
    Pair,
    Point,
    Word,
)
from tests.sdk.outbox import queued


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
    assert client.flush(20)
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
    assert client.flush(20)
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
    assert client.flush(20)
    assert server.calls[call_id]["started_at"] == sent


@pytest.mark.parametrize("given_", [12.5, "yesterday", -1, float("nan"), datetime.datetime.min])  # noqa: DTZ901
def test_an_impossible_time_is_named_and_left_out(
    server: FakeServer, client: lowlight.Client, caplog: pytest.LogCaptureFixture, given_: Any
) -> None:
    """time.perf_counter() is the usual one."""
    call_id = client.record("4", started_at=given_)
    assert client.flush(20)
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
    assert client.flush(20)
    assert server.calls[call_id].get("prompt") == sent


def test_documents_become_their_texts(server: FakeServer, client: lowlight.Client) -> None:
    class Document:
        page_content = "from an object"

    call_id = client.record("4", context=["plain", {"text": "from a dict"}, Document(), {"a": 1}])
    assert client.flush(20)
    assert server.calls[call_id]["context"] == ["plain", "from a dict", "from an object", '{"a":1}']


@pytest.mark.parametrize(
    ("given_", "sent"),
    [
        (ValueError("broken"), {"type": "ValueError", "message": "broken"}),
        (TimeoutError, {"type": "TimeoutError", "message": ""}),
        ({"type": "rate_limit", "message": "slow"}, {"type": "rate_limit", "message": "slow"}),
        ("it broke", {"type": "error", "message": "it broke"}),
        ("", None),
        ({}, None),
        (False, None),
    ],
)
def test_errors(server: FakeServer, client: lowlight.Client, given_: Any, sent: Any) -> None:
    call_id = client.record(error=given_)
    assert client.flush(20)
    assert server.calls[call_id].get("error") == sent


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
