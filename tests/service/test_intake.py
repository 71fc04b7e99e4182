"""Intake over HTTP, against a real server process on a real database."""

import gzip
import json
import sqlite3
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2 as httpx
import pytest

from ingest.settings import Settings


@pytest.fixture
def client(service_url: str) -> Iterator[httpx.Client]:
    """A client of the module's server."""
    with httpx.Client(base_url=service_url, timeout=30) as opened:
        yield opened


@pytest.fixture
def database(service_url: str, service_settings: Settings) -> Iterator[sqlite3.Connection]:
    """The server's file, as another program sees it."""
    connection = sqlite3.connect(service_settings.database_url.removeprefix("sqlite:///"))
    connection.row_factory = sqlite3.Row
    yield connection
    connection.close()


def new_id() -> str:
    """An id that no other test used."""
    return uuid.uuid4().hex


def post(client: httpx.Client, kind: str, *items: Any) -> dict[str, Any]:
    """Send a batch; return its receipt."""
    answer = client.post(f"/v1/{kind}", json={kind: items})
    assert answer.status_code == 200, answer.text
    receipt: dict[str, Any] = answer.json()
    return receipt


def call_of(database: sqlite3.Connection, call_id: str) -> dict[str, Any]:
    """The kept row of a call."""
    return dict(database.execute("select * from call where id = ?", (call_id,)).fetchone())


def test_a_repeated_id_is_kept_once(client: httpx.Client) -> None:
    """A client that retries after a lost answer must not double the call."""
    call = {"id": new_id(), "model": "m", "input": "2+2?", "output": "4", "latency_ms": 812.5}
    first = post(client, "calls", call, call)
    again = post(client, "calls", call)
    assert (first["accepted"], first["duplicates"]) == (1, 1)
    assert (again["accepted"], again["duplicates"]) == (0, 1)


def test_five_clients_that_send_the_same_batch_at_once(
    client: httpx.Client, database: sqlite3.Connection
) -> None:
    session_id = new_id()
    batch = [{"id": new_id(), "session_id": session_id, "latency_ms": 40.0} for _ in range(100)]
    with ThreadPoolExecutor(5) as pool:
        receipts = list(pool.map(lambda _: post(client, "calls", *batch), range(5)))
    assert sum(receipt["accepted"] for receipt in receipts) == 100
    assert sum(receipt["duplicates"] for receipt in receipts) == 400
    (kept,) = database.execute("select count(*) from call where session_id = ?", (session_id,)).fetchone()
    assert kept == 100


def test_a_bad_item_never_sinks_its_batch(client: httpx.Client) -> None:
    good, other = new_id(), new_id()
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]
    receipt = post(
        client,
        "calls",
        {"id": good},
        {"id": new_id(), "latency_ms": "fast"},
        7,
        {"id": other, "input": [{"content": deep}]},
        {"id": other, "surprise": 1},
    )
    assert receipt["accepted"] == 2
    assert [(one["index"], one["field"]) for one in receipt["rejected"]] == [
        (1, "latency_ms"),
        (2, ""),
        (3, "input"),
    ]
    assert receipt["unknown_fields"] == ["surprise"]


def test_a_call_is_kept_as_sent_and_what_is_missing_is_null(
    client: httpx.Client, database: sqlite3.Connection
) -> None:
    call_id = new_id()
    call = {
        "id": call_id,
        "started_at": "2026-11-20T08:15:00.250Z",
        "latency_ms": 812.5,
        "first_token_ms": 200,
        "model": "gpt-6-luna",
        "input": [{"role": "user", "content": "Grüß dich"}],
        "output": "Hallo",
        "usage": {"input_tokens": 12},
        "user_id": 42,
        "tags": {"tenant": "a"},
        "context": "one document",
    }
    post(client, "calls", call)
    row = call_of(database, call_id)
    assert row["started_at_ms"] == 1795162500250
    assert (row["outcome"], row["latency_ms"], row["user_id"]) == ("answered", 812.5, "42")
    assert (row["input_tokens"], row["output_tokens"], row["cost_usd"]) == (12, None, None)
    assert (row["input_chars"], row["output_chars"], row["context_chars"]) == (9, 5, 12)
    text = database.execute("select * from call_text where call_seq = ?", (row["seq"],)).fetchone()
    assert (json.loads(text["input"]), text["input_json"], text["output"]) == (call["input"], 1, "Hallo")
    assert json.loads(text["context"]) == ["one document"]


@pytest.mark.parametrize(
    ("sent", "outcome"),
    [
        ({"output": None}, "answered"),
        ({"finish_reason": "tool_calls"}, "answered"),
        ({"error": {"type": "RateLimitError"}}, "failed"),
        ({"finish_reason": "error"}, "failed"),
        ({"finish_reason": "Cancelled", "output": "Half an ans"}, "aborted"),
    ],
)
def test_what_became_of_a_call(
    client: httpx.Client, database: sqlite3.Connection, sent: dict[str, Any], outcome: str
) -> None:
    call_id = new_id()
    post(client, "calls", {"id": call_id, **sent})
    assert call_of(database, call_id)["outcome"] == outcome


def test_a_clock_far_ahead_is_set_back(client: httpx.Client, database: sqlite3.Connection) -> None:
    """Two days ahead is a wrong clock, a minute is none; two days ago may be an import."""
    now = time.time()
    ids = {offset_s: new_id() for offset_s in (172_800, 60, -172_800)}
    post(client, "calls", *({"id": ids[offset_s], "started_at": now + offset_s} for offset_s in ids))
    started = {offset_s: call_of(database, ids[offset_s])["started_at_ms"] / 1000 - now for offset_s in ids}
    assert 0 <= started[172_800] < 30
    assert started[60] == pytest.approx(60, abs=0.01)
    assert started[-172_800] == pytest.approx(-172_800, abs=0.01)


def test_latencies_are_counted_once_per_new_call(client: httpx.Client, database: sqlite3.Connection) -> None:
    model = new_id()
    call = {"id": new_id(), "model": model, "latency_ms": 100.0, "first_token_ms": 20.0, "sample_rate": 0.25}
    more = {"id": new_id(), "model": model, "latency_ms": 100.5, "usage": {"output_tokens": 9}}
    failed = {"id": new_id(), "model": model, "error": {"type": "Timeout"}}
    post(client, "calls", call, call, more, failed)
    post(client, "calls", call, more)
    client.get("/v1/latency").raise_for_status()  # whoever reads the counts has all calls in them
    counts = database.execute(
        "select measure, outcome, sum(n) as n, sum(weight) as weight from latency_count "
        "join slice on slice.id = slice_id where model = ? group by measure, outcome order by 1, 2",
        (model,),
    ).fetchall()
    assert [tuple(count) for count in counts] == [
        ("first_token", "answered", 1, 4.0),
        ("total", "answered", 2, 5.0),
        ("total", "failed", 1, 1.0),
    ]


def test_each_new_call_leaves_work_for_the_critic_once(
    client: httpx.Client, database: sqlite3.Connection
) -> None:
    call_id = new_id()
    post(client, "calls", {"id": call_id})
    post(client, "calls", {"id": call_id})
    post(client, "signals", {"call_id": call_id, "kind": "thumbs_down"})
    seq = call_of(database, call_id)["seq"]
    todo = database.execute("select reason from todo where call_seq = ? order by seq", (seq,)).fetchall()
    assert [row["reason"] for row in todo] == ["new", "signal"]


def test_signals_find_their_call_whichever_came_first(
    client: httpx.Client, database: sqlite3.Connection
) -> None:
    call_id, trace_id, response_id = new_id(), new_id(), new_id()
    names = (
        {"call_id": call_id},
        {"response_id": response_id},
        {"trace_id": trace_id, "span_id": "1"},
    )
    early = [{"id": new_id(), "kind": "thumbs_down", **name} for name in names]
    stranger = {"id": new_id(), "kind": "edit", "trace_id": trace_id, "span_id": "2"}
    assert post(client, "signals", *early, stranger)["accepted"] == 4
    call = {"id": call_id, "trace_id": trace_id, "span_id": "1", "response_id": response_id}
    post(client, "calls", call)
    late = [{"id": new_id(), "kind": "copy", **name} for name in names]
    post(client, "signals", *late, *early)
    seq = call_of(database, call_id)["seq"]
    found = database.execute("select id from signal where call_seq = ?", (seq,)).fetchall()
    assert {row["id"] for row in found} == {signal["id"] for signal in early + late}
    (waiting,) = database.execute("select call_seq from signal where id = ?", (stranger["id"],)).fetchone()
    assert waiting is None


def test_a_session_signal_belongs_to_the_last_call_before_it(
    client: httpx.Client, database: sqlite3.Connection
) -> None:
    """Also where the nearer call arrives after the signal, and never to a later one."""
    session_id, signal_id = new_id(), new_id()
    first, nearer, later = new_id(), new_id(), new_id()

    def owner() -> str | None:
        row = database.execute(
            "select call.id from signal left join call on call.seq = call_seq where signal.id = ?",
            (signal_id,),
        ).fetchone()
        return row["id"] if row else None

    now = time.time()
    signal = {"id": signal_id, "session_id": session_id, "kind": "abandon", "at": now - 10}
    post(client, "signals", signal)
    assert owner() is None
    post(client, "calls", {"id": first, "session_id": session_id, "started_at": now - 60})
    assert owner() == first
    post(client, "calls", {"id": later, "session_id": session_id, "started_at": now - 5})
    assert owner() == first
    post(client, "calls", {"id": nearer, "session_id": session_id, "started_at": now - 20})
    assert owner() == nearer


def test_a_repeated_signal_is_kept_once(client: httpx.Client) -> None:
    signal = {"id": new_id(), "call_id": new_id(), "kind": "thumbs_up"}
    assert post(client, "signals", signal, signal)["duplicates"] == 1
    assert post(client, "signals", signal)["accepted"] == 0


def test_a_newer_label_replaces_the_labellers_older_one(
    client: httpx.Client, database: sqlite3.Connection
) -> None:
    label = {"call_id": new_id(), "rubric": "tone", "labeller": "ada", "level": 2}
    assert post(client, "labels", label)["accepted"] == 1
    assert post(client, "labels", label)["duplicates"] == 1
    assert post(client, "labels", {**label, "level": 6}, {**label, "labeller": "bob"})["accepted"] == 2
    kept = database.execute(
        "select labeller, level from label where call_id = ? order by 1", (label["call_id"],)
    ).fetchall()
    assert [tuple(row) for row in kept] == [("ada", 6), ("bob", 2)]


def test_a_label_under_an_unknown_rubric_is_refused_with_the_known_ones(client: httpx.Client) -> None:
    label = {"call_id": new_id(), "rubric": "tone", "labeller": "ada", "level": 2}
    receipt = post(client, "labels", {**label, "rubric": "tones"}, label)
    assert receipt["accepted"] == 1
    (rejection,) = receipt["rejected"]
    assert (rejection["index"], rejection["field"]) == (0, "rubric")
    assert "names no rubric" in rejection["error"]
    assert "completeness" in rejection["error"]
    assert "tone" in rejection["error"]


def test_a_person_was_first_seen_when_their_earliest_call_started(
    client: httpx.Client, database: sqlite3.Connection
) -> None:
    user_id = new_id()
    for at in ("2026-11-20T08:00:00Z", "2026-11-18T08:00:00Z", "2026-11-21T08:00:00Z"):
        post(client, "calls", {"user_id": user_id, "started_at": at})
    (first,) = database.execute(
        "select first_seen_at_ms from end_user where user_id = ?", (user_id,)
    ).fetchone()
    assert first == 1794988800000


def test_gzip_is_taken(client: httpx.Client) -> None:
    body = gzip.compress(json.dumps({"calls": [{"id": new_id(), "output": "x" * 100_000}]}).encode())
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert client.post("/v1/calls", content=body, headers=headers).json()["accepted"] == 1


def test_hostile_texts_come_back_as_they_were(client: httpx.Client, database: sqlite3.Connection) -> None:
    call_id = new_id()
    hostile = "<script>alert(1)</script> {{ 7*7 }} '; drop table call; -- \u202e"
    post(client, "calls", {"id": call_id, "output": hostile, "user_id": hostile[:100]})
    row = call_of(database, call_id)
    (output,) = database.execute("select output from call_text where call_seq = ?", (row["seq"],)).fetchone()
    assert (output, row["user_id"]) == (hostile, hostile[:100])
