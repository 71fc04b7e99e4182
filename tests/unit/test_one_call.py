"""One response, one call: what an application sends by itself and what its spans tell, in any order."""

import random
import threading
from typing import Any

import pytest

from dashboards.queries.call import seq_of
from ingest.settings import Settings
from ingest.store import OpenStore
from ingest.tables import DEFAULT_PROJECT
from ingest.wire import Receipt, calls_of, labels_of, signals_of
from tests.unit.test_otlp_closing import OPEN_MS, TRACE, Server, request_with, span

SPAN = f"{2:016x}"
TOLD_ID = f"{TRACE}:{SPAN}"
TOLD = {
    "gen_ai.request.model": "m",
    "gen_ai.provider.name": "p",
    "gen_ai.usage.output_tokens": 5,
    "gen_ai.input.messages": "hello",
    "gen_ai.output.messages": "hi",
    "gen_ai.response.id": "r-1",
}
SENT = {
    "id": "sdk-1",
    "model": "m",
    "provider": "p",
    "prompt": {"name": "greeting", "version": "3"},
    "input": "hello",
    "output": "hi",
    "latency_ms": 990,
    "first_token_ms": 90,
    "started_at": 1_795_299_800.01,
    "user_id": "u",
    "tags": {"plan": "free"},
    "context": ["a document"],
}
#: What ties the two: the response, or the span that was current when the call was recorded.
TIES: list[dict[str, str]] = [{"response_id": "r-1"}, {"trace_id": TRACE, "span_id": SPAN}]


@pytest.fixture
def server(settings: Settings, store: OpenStore) -> Server:
    """A server whose clock the test moves."""
    return Server(settings, store)


def send(server: Server, *calls: dict[str, Any]) -> Receipt:
    """POST /v1/calls."""
    return server.intake.accept_calls(DEFAULT_PROJECT, calls_of(list(calls)))


def tell(server: Server, *, whole: bool = True, number: int = 2, **more: str) -> None:
    """Export the span: as a whole trace, or as one whose root has not come yet."""
    told = span(number, None if whole else 1, TOLD | more)
    server.send_body("traces", request_with([told]))


def slices_counted(server: Server) -> list[tuple[Any, ...]]:
    """What is counted of total latencies, by prompt."""
    return server.rows(
        "select prompt, prompt_version, sum(n), sum(weight) from latency_count join slice on id = slice_id "
        "where measure = 'total' group by 1, 2 having sum(n) != 0"
    )


@pytest.mark.parametrize("tie", TIES)
@pytest.mark.parametrize("whole", [True, False])
def test_what_is_sent_after_its_span_completes_that_call(
    server: Server, tie: dict[str, str], whole: bool
) -> None:
    tell(server, whole=whole)
    assert server.wait().keys() == {TOLD_ID}
    for _again in range(2):
        receipt = send(server, SENT | tie)
        assert (receipt.accepted, receipt.duplicates) == (0, 1)
    later = {name: value for name, value in (SENT | tie).items() if name != "started_at"}
    assert send(server, later).duplicates == 1, "known by its id, whenever it comes again"
    (call,) = server.wait(OPEN_MS).values()
    assert call["latency_ms"] == 1000, "nothing known changes"
    assert (call["first_token_ms"], call["user_id"], call["tags"]["plan"]) == (90, "u", "free")
    assert slices_counted(server) == [("greeting", "3", 1, 1.0)], "counted once, by the prompt"
    assert server.rows("select context from call_text") == [('["a document"]',)]
    server.check_counts()


@pytest.mark.parametrize("tie", TIES)
@pytest.mark.parametrize("whole", [True, False])
def test_a_span_told_after_its_call_was_sent_completes_that_call(
    server: Server, tie: dict[str, str], whole: bool
) -> None:
    assert send(server, SENT | tie).accepted == 1
    tell(server, whole=whole, **{"session.id": "s"})
    (call,) = server.wait(OPEN_MS).values()
    assert (call["id"], call["session_id"]) == ("sdk-1", "s")
    assert server.rows("select trace_id, span_id, response_id from call") == [(TRACE, SPAN, "r-1")]
    server.check_counts()


@pytest.mark.parametrize("whole", [True, False])
def test_signals_and_labels_that_name_the_sent_id_find_the_call(server: Server, whole: bool) -> None:
    """Whether they come before the two have met or afterwards."""
    thumb = {"call_id": "sdk-1", "kind": "thumbs_down"}
    server.intake.accept_signals(DEFAULT_PROJECT, signals_of([thumb | {"id": "early"}]))
    tell(server, whole=whole)
    server.wait()
    send(server, SENT | TIES[0])
    server.intake.accept_signals(DEFAULT_PROJECT, signals_of([thumb | {"id": "late"}]))
    label = {"call_id": "sdk-1", "rubric": "helpful", "level": 2, "labeller": "ann"}
    server.intake.accept_labels(DEFAULT_PROJECT, labels_of([label]))
    found = server.rows("select signal.id, call.id from signal join call on call.seq = call_seq order by 1")
    assert found == [("early", TOLD_ID), ("late", TOLD_ID)]
    assert server.rows("select count(*) from todo where reason = 'signal'") == [(2,)]
    assert server.rows("select call_id from label") == [(TOLD_ID,)]


def test_two_sent_calls_of_one_response_id_stay_two(server: Server) -> None:
    """A fake server gives every response one id: a span's call takes one of them, the nearest in time."""
    tell(server)
    others = [
        SENT | TIES[0] | {"id": "near", "started_at": 1_795_299_800.5},
        SENT | TIES[0] | {"id": "nearest"},
        SENT | TIES[0] | {"id": "far", "started_at": 1_795_299_900.0},
    ]
    receipt = send(server, *others)
    assert (receipt.accepted, receipt.duplicates) == (2, 1)
    assert send(server, others[0]).duplicates == 1
    assert server.wait().keys() == {TOLD_ID, "near", "far"}
    contradicting = SENT | TIES[1] | {"id": "another", "response_id": "r-2"}
    assert send(server, contradicting).accepted == 1, "another response of the same span"


@pytest.mark.parametrize("seed", [0, 1])
def test_sent_and_told_at_once_each_response_is_kept_once(server: Server, seed: int) -> None:
    """Both doors at the same moment, from several threads."""
    count = 40
    jobs = []
    for number in range(count):
        ids = {"traceId": f"{number + 1:032x}"}
        told = span(2, None, TOLD | {"gen_ai.response.id": f"r-{number}"}) | ids
        body = request_with([told])
        sent = SENT | {"id": f"sdk-{number}", "response_id": f"r-{number}"}
        jobs.append(lambda body=body: server.send_body("traces", body))
        jobs.append(lambda sent=sent: send(server, sent))
    random.Random(seed).shuffle(jobs)
    threads = [
        threading.Thread(target=lambda mine=jobs[first::4]: [job() for job in mine]) for first in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = server.wait(OPEN_MS)
    assert sorted(call["response_id"] for call in kept.values()) == sorted(f"r-{n}" for n in range(count))
    assert server.rows("select count(*) from todo where reason = 'new'") == [(count,)]
    server.check_counts()


def test_a_call_is_found_by_the_id_it_was_sent_under(server: Server, store: OpenStore) -> None:
    tell(server)
    send(server, SENT | TIES[0])
    with store.read() as connection:
        assert seq_of(connection, DEFAULT_PROJECT, "sdk-1") == seq_of(connection, DEFAULT_PROJECT, TOLD_ID)
        assert seq_of(connection, DEFAULT_PROJECT, "sdk-2") is None
