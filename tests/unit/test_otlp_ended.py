"""Traces that come whole are calls at once, and the same calls as when they come in pieces."""

import json
import random
from copy import deepcopy
from itertools import permutations
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as run_with
from hypothesis import strategies as st

from ingest.otlp import ended
from ingest.otlp.dialects import part_of_span
from ingest.otlp.ended import told_whole
from ingest.otlp.reading import read_records, read_spans
from ingest.settings import Settings
from ingest.store import OpenStore
from ingest.wire import BadBody
from tests.otlp_captures import Capture, captures, kept_calls
from tests.unit.test_otlp_closing import TRACE, Server, request_with, span

ASKED = {
    "gen_ai.request.model": "m",
    "gen_ai.provider.name": "openai",
    "gen_ai.input.messages": "hello",
    "gen_ai.output.messages": "hi",
}
FEW = [capture for capture in captures() if capture.signal == "traces" and len(capture.body()) < 40_000]


@pytest.fixture
def server(settings: Settings, store: OpenStore) -> Server:
    """A server whose clock the test moves."""
    return Server(settings, store)


def request_spans() -> list[dict[str, Any]]:
    """A request of an application with two responses beneath it."""
    return [
        span(1, None, {"session.id": "s", "user.id": "u"}),
        span(2, 1, ASKED | {"gen_ai.response.id": "r-2"}),
        span(3, 1, ASKED | {"gen_ai.response.id": "r-3"}),
    ]


def test_a_whole_trace_is_calls_at_once_with_session_and_user_from_above(server: Server) -> None:
    server.send_body("traces", request_with(request_spans()))
    at_once = kept_calls(server.path)
    assert at_once.keys() == {f"{TRACE}:{2:016x}", f"{TRACE}:{3:016x}"}
    assert {(call["session_id"], call["user_id"]) for call in at_once.values()} == {("s", "u")}
    server.send_body("traces", request_with(request_spans()))
    assert server.wait() == at_once, "sent again it is no news"
    assert server.rows("select reason, count(*) from todo group by 1") == [("new", 2)]
    server.check_counts()


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_in_pieces_it_becomes_the_same_calls(server: Server, order: tuple[int, ...]) -> None:
    for number in order:
        server.send_body("traces", request_with([request_spans()[number]]))
    kept = server.wait()
    assert kept.keys() == {f"{TRACE}:{2:016x}", f"{TRACE}:{3:016x}"}
    assert {(call["session_id"], call["user_id"], call["output"]) for call in kept.values()} == {
        ("s", "u", "hi")
    }
    server.check_counts()


@pytest.mark.parametrize("first", ["the wrapper", "the client"])
def test_two_tellers_of_one_response_in_two_requests_make_one_call(server: Server, first: str) -> None:
    """Through exporters of their own, so that the root's request does not bring what is beneath it."""
    told = ASKED | {"gen_ai.response.id": "r"}
    bodies = [
        request_with([span(1, None, dict(told))], "the wrapper"),
        request_with([span(2, 1, dict(told))], "the client"),
    ]
    for body in bodies if first == "the wrapper" else reversed(bodies):
        server.send_body("traces", body)
    assert server.wait().keys() == {f"{TRACE}:{1:016x}"}
    server.check_counts()


@pytest.mark.parametrize(
    "lacking",
    [{"gen_ai.output.messages": ""}, {"gen_ai.provider.name": "anthropic"}, {"gen_ai.provider.name": ""}],
)
def test_what_may_lack_a_part_waits(server: Server, lacking: dict[str, str]) -> None:
    attributes = {name: value for name, value in (ASKED | lacking).items() if value}
    server.send_body("traces", request_with([span(1, None, attributes)]))
    assert kept_calls(server.path) == {}
    assert len(server.wait()) == 1


@pytest.mark.parametrize("ended", ["0", "1795299799999000000", None])
def test_an_answer_without_an_end_is_kept_and_its_latency_unknown(server: Server, ended: str | None) -> None:
    """The application's clock was set back meanwhile, or its exporter noted no end."""
    told = [span(1, None, ASKED | {"session.id": "s"}), span(2, 1, dict(ASKED))]
    del told[1]["endTimeUnixNano"]
    told[1] |= {"startTimeUnixNano": "1795299800000000000"}
    told[1] |= {} if ended is None else {"endTimeUnixNano": ended}
    server.send_body("traces", request_with(told[1:]))
    (call,) = server.wait().values()
    assert (call["output"], call.get("latency_ms")) == ("hi", None)
    server.check_counts()


def test_a_request_that_asked_no_model_leaves_nothing_behind(server: Server) -> None:
    """Most of an application's spans; one that names a session may hand it to calls of another process."""
    web = [span(1, None, {"http.route": "/cart"}), span(2, 1, {"db.system": "sqlite"})]
    server.send_body("traces", request_with(deepcopy(web)))
    assert server.rows("select count(*) from otlp_fragment") == [(0,)]
    server.send_body("traces", request_with(deepcopy(web[1:])))
    assert server.rows("select count(*) from otlp_fragment") == [(1,)], "its root may yet name somebody"
    web[0]["attributes"]["session.id"] = "s"
    server.send_body("traces", request_with(web))
    server.send_body("traces", request_with([span(3, 2, ASKED)]))
    (call,) = server.wait().values()
    assert call["session_id"] == "s"


@run_with(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(capture=st.sampled_from(FEW), seed=st.integers(0, 2**32))
def test_spans_with_attributes_lost_doubled_or_wrong_lose_no_sound_sibling(
    capture: Capture, seed: int
) -> None:
    """Nothing raises, nothing is read as a bug, and the whole trace beside them is a call."""
    chance = random.Random(seed)
    request = json.loads(capture.body(is_json=True))
    for of_resource in request["resourceSpans"]:
        for of_scope in of_resource["scopeSpans"]:
            chance.shuffle(of_scope["spans"])
            for each in of_scope["spans"]:
                each["attributes"] = _mutated(each.get("attributes", []), chance)
    sound = json.loads(request_with([span(1, None, ASKED) | {"traceId": "ab" * 16}]))
    request["resourceSpans"] += sound["resourceSpans"]
    read = read_spans(json.dumps(request).encode(), is_json=True)
    with patch.object(ended.log, "exception", side_effect=AssertionError("a bug")):
        whole, others = told_whole([part_of_span(item) for item in read.items], 0)
    kept = {part.span_id for part in (*others, *(part for trace in whole for part in trace.parts))}
    assert {item.span_id for item in read.items if part_of_span(item).role != "scope"} <= kept
    assert "ab" * 16 in {trace.trace_id for trace in whole}


def _mutated(attributes: list[Any], chance: random.Random) -> list[Any]:
    wrong = (
        {"intValue": 2**70},
        {"doubleValue": "NaN"},
        {"arrayValue": {}},
        {"stringValue": "x" * 300_000},
        {},
        7,
    )
    found = []
    for pair in attributes:
        what = chance.randrange(8)
        if what == 0:
            continue
        found.append({**pair, "value": chance.choice(wrong)} if what == 1 else pair)
        if what == 2:
            found.append(pair)
    chance.shuffle(found)
    return found


@pytest.mark.parametrize("signal", ["Spans", "Logs"])
def test_json_of_the_wrong_shape_is_refused_or_counted_and_never_taken_for_empty(signal: str) -> None:
    """An exporter that is told 200 drops what it sent: what nobody could read must not be acknowledged."""
    read: Any = read_spans if signal == "Spans" else read_records
    scopes, items = ("scopeSpans", "spans") if signal == "Spans" else ("scopeLogs", "logRecords")
    with pytest.raises(BadBody, match=f"resource{signal} must be a list"):
        read(json.dumps({f"resource{signal}": 5}).encode(), is_json=True)
    with pytest.raises(BadBody, match=f"no resource{signal}, but resource_spans"):
        read(json.dumps({"resource_spans": []}).encode(), is_json=True)
    broken = [7, {scopes: "x"}, {scopes: [None]}, {scopes: [{items: {}}]}, {"scope_x": []}]
    broken += [{scopes: [{"scope": {}, "log_records": [{}]}]}]
    told = read(json.dumps({f"resource{signal}": broken}).encode(), is_json=True)
    assert (len(told.items), told.rejected) == (0, 6)
    empty = [{}, {scopes: []}, {"resource": {}, "schemaUrl": "", scopes: [{"scope": {}, "schemaUrl": ""}]}]
    nothing = read(json.dumps({f"resource{signal}": empty, "more": 1}).encode(), is_json=True)
    assert (len(nothing.items), nothing.rejected) == (0, 0)
