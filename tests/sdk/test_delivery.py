"""What becomes of calls and signals on their way: batches, retries, refusals, bounds."""

import gc
import logging
import random
import threading
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import lowlight
import pytest
from lowlight._queue import BATCH_BYTES_MAX, BATCH_ITEMS_MAX

from api.door.drops import ClientDrops
from tests.sdk.fake_server import (
    FakeServer,
    hang,
    keep,
    keep_and_hang_up,
    keep_and_hang_up_in_the_middle,
    refuse,
    reset,
    running,
)


def test_calls_and_signals_arrive_once_under_the_ids_returned(
    server: FakeServer, client: lowlight.Client
) -> None:
    call_id = client.record(
        input=[{"role": "user", "content": "2+2?"}],
        output="4",
        model="m",
        provider="p",
        latency_ms=812.5,
        first_token_ms=90,
        prompt=("support-answer", "v7"),
        context=["two and two"],
        user_id=17,
        session_id="s1",
        tags={"tenant": "acme", "trial": True, "seats": 5},
        tools=["calculator"],
        usage={"input_tokens": 9, "output_tokens": 1},
        cost_usd=0.002,
        finish_reason="stop",
        retries=1,
        trace_id="t",
        span_id="u",
        response_id="r",
        sample_rate=0.5,
        environment="production",
        release="r7",
        started_at=datetime(2026, 11, 22, 8, 15, tzinfo=UTC),
    )
    signal_id = client.signal("rating", call_id=call_id, value=2, value_min=1, value_max=7, comment="no")
    assert client.flush(20)
    assert server.calls == {
        call_id: {
            "id": call_id,
            "started_at": "2026-11-22T08:15:00.000Z",
            "input": [{"role": "user", "content": "2+2?"}],
            "output": "4",
            "model": "m",
            "provider": "p",
            "latency_ms": 812.5,
            "first_token_ms": 90.0,
            "prompt": {"name": "support-answer", "version": "v7"},
            "context": ["two and two"],
            "user_id": "17",
            "session_id": "s1",
            "tags": {"tenant": "acme", "trial": "true", "seats": "5"},
            "tools": ["calculator"],
            "usage": {"input_tokens": 9, "output_tokens": 1},
            "cost_usd": 0.002,
            "finish_reason": "stop",
            "retries": 1,
            "trace_id": "t",
            "span_id": "u",
            "response_id": "r",
            "sample_rate": 0.5,
            "environment": "production",
            "release": "r7",
        }
    }
    at = server.signals[signal_id].pop("at")
    assert abs(datetime.fromisoformat(at).timestamp() - time.time()) < 10
    assert server.signals == {
        signal_id: {
            "id": signal_id,
            "call_id": call_id,
            "kind": "rating",
            "value": 2.0,
            "value_min": 1.0,
            "value_max": 7.0,
            "comment": "no",
        }
    }
    assert client.stats()["accepted"] == client.stats()["recorded"] == 2


def test_a_call_that_says_nothing_of_its_start_began_its_latency_ago(
    server: FakeServer, client: lowlight.Client
) -> None:
    call_id = client.record("4", latency_ms=60_000)
    assert client.flush(20)
    started_s = datetime.fromisoformat(server.calls[call_id]["started_at"]).timestamp()
    assert started_s == pytest.approx(time.time() - 60, abs=30)


def test_the_message_list_is_taken_as_it_was(server: FakeServer, client: lowlight.Client) -> None:
    """Applications append the answer to the very list they asked with."""
    server.orders.append(hang(0.2))  # the second call is certainly still queued when its list grows
    client.record("first")
    messages = [{"role": "user", "content": "2+2?"}]
    call_id = client.record("4", input=messages)
    messages.append({"role": "assistant", "content": "4"})
    assert client.flush(20)
    assert server.calls[call_id]["input"] == [{"role": "user", "content": "2+2?"}]


def test_many_calls_go_in_batches_over_one_connection(server: FakeServer) -> None:
    with lowlight.Client(server.url, linger_s=5.0) as client:
        ids = [client.record("4", input=str(i)) for i in range(1_200)]
        assert client.flush(20)
    assert list(server.calls) == ids
    sizes = [len(request.body["calls"]) for request in server.requests]
    assert sum(sizes) == 1_200
    assert max(sizes) == BATCH_ITEMS_MAX
    assert len({request.connection for request in server.requests}) == 1
    zipped = [
        request.headers.get("Content-Encoding")
        for request in server.requests
        if len(request.body["calls"]) > 400
    ]
    assert set(zipped) == {"gzip"}


def test_large_calls_are_spread_over_requests(server: FakeServer, client: lowlight.Client) -> None:
    for _ in range(9):
        client.record("4", input="x" * 1_000_000)
    assert client.flush(20)
    assert len(server.calls) == 9
    assert len(server.requests) >= 9_000_000 // BATCH_BYTES_MAX
    assert (
        max(sum(len(call["input"]) for call in r.body["calls"]) for r in server.requests) <= BATCH_BYTES_MAX
    )


def test_a_huge_text_is_shortened_and_says_its_length(server: FakeServer, client: lowlight.Client) -> None:
    call_id = client.record("4", input=[{"role": "user", "content": "head " + "x" * 9_000_000 + " tail"}])
    assert client.flush(20)
    call = server.calls[call_id]
    content = call["input"][0]["content"]
    assert call["input_chars"] == 9_000_010
    assert content.startswith("head x")
    assert content.endswith("x tail")
    assert len(content) < 200_000


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_obeyed_even_by_a_flush(
    server: FakeServer, client: lowlight.Client, as_date: bool
) -> None:
    at = datetime.now(UTC) + timedelta(seconds=2)  # an HTTP date has whole seconds: at least one is left
    server.orders.append(refuse(429, Retry_After=format_datetime(at, usegmt=True) if as_date else "1"))
    client.record("4")
    assert not client.flush(0.3)
    assert len(server.requests) == 1
    assert client.flush(20)
    first, second = server.requests
    assert second.at_s - first.at_s >= (0.9 if as_date else 1.0)
    assert first.body == second.body


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_failure_costs_nothing(server: FakeServer, client: lowlight.Client, status: int) -> None:
    server.orders.append(refuse(status))
    call_id = client.record("4")
    assert client.flush(20)
    assert list(server.calls) == [call_id]
    assert client.stats()["retries"] == 1
    assert client.stats()["dropped"] == {}


@pytest.mark.parametrize("order", [keep_and_hang_up, keep_and_hang_up_in_the_middle])
def test_a_lost_receipt_does_not_double_a_call(
    server: FakeServer, client: lowlight.Client, order: Callable[[Any], None]
) -> None:
    server.orders.append(order)
    call_id = client.record("4")
    assert client.flush(20)
    assert list(server.calls) == [call_id]
    assert (client.stats()["accepted"], client.stats()["duplicates"]) == (0, 1)
    assert client.stats()["dropped"] == {}


def test_a_connection_closed_while_idle_is_opened_again_at_once(
    server: FakeServer, client: lowlight.Client
) -> None:
    client.record("4")
    assert client.flush(20)
    server.orders += [reset, keep]
    client.record("5")
    assert client.flush(20)
    assert len(server.calls) == 2
    assert client.stats()["retries"] == 0
    assert server.requests[-1].at_s - server.requests[-2].at_s < 0.3


def test_a_hung_server_is_asked_again(server: FakeServer) -> None:
    server.orders.append(hang(3.0))
    with lowlight.Client(server.url, linger_s=0.01, timeout_s=0.3) as client:
        call_id = client.record("4")
        assert client.flush(2.5)
    assert list(server.calls) == [call_id]


def test_what_the_server_cannot_digest_blocks_nothing_else(
    server: FakeServer, client: lowlight.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lowlight._sender.BACKOFF_FIRST_S", 0.01)
    server.orders += [refuse(500)] * 5
    client.record("poison")
    assert client.flush(20)
    call_id = client.record("sound")
    assert client.flush(20)
    assert list(server.calls) == [call_id]
    assert client.stats()["dropped"] == {"server_error": 1}


@pytest.mark.parametrize(
    ("status", "reason", "hint"),
    [
        (401, "unauthorised", "LOWLIGHT_KEY"),
        (404, "refused", "LOWLIGHT_URL"),
        (422, "refused", ""),
        (307, "refused", "LOWLIGHT_URL"),
    ],
)
def test_a_final_refusal_is_counted_logged_and_reported(
    server: FakeServer,
    client: lowlight.Client,
    caplog: pytest.LogCaptureFixture,
    status: int,
    reason: str,
    hint: str,
) -> None:
    server.orders.append(refuse(status, message="the reason"))
    client.record("4")
    assert client.flush(20)
    assert len(server.requests) == 1
    assert client.stats()["dropped"] == {reason: 1}
    assert "the reason" in caplog.text
    assert hint in caplog.text
    client.record("5")
    assert client.flush(20)
    client.record("6")
    assert client.flush(20)
    reported = [request.headers.get("X-Lowlight-Dropped") for request in server.requests]
    assert reported == [None, f"{reason}=1", None]
    drops = ClientDrops()
    drops.note(str(reported[1]))
    assert drops.counts() == {reason: 1}  # as the server reads it


def test_a_body_too_large_is_halved_until_it_fits(
    server: FakeServer, client: lowlight.Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Behind a proxy with a small limit, which answers before it has read the body."""
    server.body_bytes_max = 60_000
    with lowlight.Client(server.url, linger_s=5.0) as client:
        small = [client.record("4", input=_noise(4_000, i)) for i in range(40)]
        large = client.record("4", input=_noise(200_000, 0))
        assert client.flush(20)
        assert client.stats()["dropped"] == {"too_large": 1}
    assert sorted(server.calls) == sorted(small)
    assert large not in server.calls


def _noise(chars: int, seed: int) -> str:
    """Text that gzip only halves."""
    return random.Random(seed).randbytes(chars // 2).hex()


def test_rejected_items_are_named_and_their_neighbours_kept(
    server: FakeServer, client: lowlight.Client, caplog: pytest.LogCaptureFixture
) -> None:
    kept = [client.record("4"), client.record("4")]
    client.record("4", model="rejected")
    assert client.flush(20)
    assert sorted(server.calls) == sorted(kept)
    assert (client.stats()["accepted"], client.stats()["rejected"]) == (2, 1)
    assert "model: is not welcome" in caplog.text


def test_an_answer_without_a_receipt_is_no_receipt(
    server: FakeServer, client: lowlight.Client, caplog: pytest.LogCaptureFixture
) -> None:
    server.orders.append(lambda handler: handler.answer(200, "<html>Welcome</html>"))
    client.record("4")
    assert client.flush(20)
    assert client.stats()["dropped"] == {"no_receipt": 1}
    assert "LOWLIGHT_URL" in caplog.text


@pytest.mark.parametrize(
    "url", ["nonsense", "ftp://example.com", "http://", "http://a b", "http://x:99999", "http://ä.example"]
)
def test_an_unusable_address_is_named(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with lowlight.Client(url, linger_s=0.0) as client:
        client.record("4")
        assert client.flush(20)
        assert client.stats()["dropped"] == {"bad_address": 1}
    assert f"LOWLIGHT_URL: {url!r}" in caplog.text


def test_the_key_is_sent_and_a_broken_one_is_named(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    with lowlight.Client(server.url, " secret\n") as client:
        client.record("4")
        assert client.flush(20)
    assert server.requests[0].headers["Authorization"] == "Bearer secret"
    with lowlight.Client(server.url, "sec\nret") as client:
        client.record("4")
        assert client.flush(20)
    assert "LOWLIGHT_KEY" in caplog.text
    assert "sec" not in caplog.text


def test_a_path_before_the_routes_is_kept(server: FakeServer) -> None:
    with lowlight.Client(server.url + "/lowlight/") as client:
        client.record("4")
        assert client.flush(20)
    assert server.requests[0].path == "/lowlight/v1/calls"


def test_with_the_server_down_memory_is_bounded_and_the_newest_are_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with running() as gone:
        url = gone.url
    client = lowlight.Client(url, bytes_max=8 * 2**20)
    client.record("4")
    gc.collect()
    tracemalloc.start()
    for i in range(4_000):
        client.record("x" * 20_000, input=f"{i} " + "y" * 20_000)
    held_bytes, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    stats = client.stats()
    assert stats["queued"] + stats["dropped"]["queue_full"] == 4_001
    assert stats["queued_bytes"] <= 8 * 2**20
    assert held_bytes < 3 * 8 * 2**20  # what is queued, and one batch of it as JSON
    assert not client.flush(0.05)
    assert not client.shutdown(0.05)
    assert client.stats()["dropped"]["shutdown"] == stats["queued"]
    assert sum("dropped" in record.message for record in caplog.records) == 2  # not one for each of thousands


def test_the_number_of_items_is_bounded_too() -> None:
    with running() as gone:
        url = gone.url
    client = lowlight.Client(url)
    for _ in range(10_050):
        client.record("4")
    assert client.stats()["queued"] == 10_000
    assert client.stats()["dropped"] == {"queue_full": 50}
    client.shutdown(0)


def test_calls_wait_for_a_server_that_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lowlight._sender.BACKOFF_FIRST_S", 0.05)
    with running() as gone:
        url = gone.url
    with lowlight.Client(url, linger_s=0.01) as client:
        call_id = client.record("4")
        assert not client.flush(0.2)
        with running(int(url.rpartition(":")[2])) as back:
            assert client.flush(20)
            assert list(back.calls) == [call_id]


def test_many_threads_record_at_once(server: FakeServer, client: lowlight.Client) -> None:
    ids: list[list[str]] = [[] for _ in range(8)]
    threads = [
        threading.Thread(target=lambda mine=mine: mine.extend(client.record("4") for _ in range(250)))
        for mine in ids
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.flush(20)
    assert set(server.calls) == {call_id for mine in ids for call_id in mine}
    assert len(server.calls) == 2_000


def test_after_shutdown_calls_are_dropped_and_counted(server: FakeServer) -> None:
    client = lowlight.Client(server.url)
    client.record("4")
    assert client.shutdown(5)
    assert len(client.record("5")) == 36
    assert len(server.calls) == 1
    assert client.stats()["dropped"] == {"closed": 1}


def test_init_sends_what_was_recorded_before_to_where_it_belonged(server: FakeServer) -> None:
    with running() as second, lowlight.Client(server.url, environment="old") as client:
        client.record("4")
        client.init(second.url, environment="new")
        client.record("5")
        assert client.flush(20)
        assert [call["environment"] for call in server.calls.values()] == ["old"]
        assert [call["environment"] for call in second.calls.values()] == ["new"]
        assert client.stats()["recorded"] == 2


def test_disabled_does_nothing_but_return_ids(server: FakeServer) -> None:
    with lowlight.Client(server.url, enabled=False) as client:
        before = threading.active_count()
        assert len(client.record("4")) == 36
        assert client.record("4", id="mine") == "mine"
        assert len(client.signal("copy", call_id="mine")) == 36
        assert threading.active_count() == before
        assert client.flush(1)
    assert server.requests == []


def test_warnings_are_not_a_flood(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "lowlight")
    with lowlight.Client(server.url) as client:
        for i in range(300):
            client.record("4", latency_ms=f"fast {i}")  # type: ignore[arg-type]
        assert client.flush(20)
    assert len(server.calls) == 300
    assert [record.message for record in caplog.records] == [
        "latency_ms='fast 0' is no number that can be kept; it was left out"
    ]
