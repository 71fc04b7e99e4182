"""From requests to kept calls: whatever the order, each response once, and whole in the end."""

import json
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from ingest.intake import Intake
from ingest.otlp.closing import REMEMBERED_MS, Closing
from ingest.otlp.intake import OtlpIntake
from ingest.settings import Settings
from ingest.store import OpenStore, read_counted
from ingest.tables import DEFAULT_PROJECT
from ingest.wire import calls_of, signals_of
from tests import otlp_captures
from tests.otlp_captures import EXPECTED, Capture, captures, kept_calls

QUIET_MS, OPEN_MS = 10_000, 60_000


class Server:
    """Intake and closing on one store, with a clock that the test moves."""

    def __init__(self, settings: Settings, store: OpenStore) -> None:
        settings = settings.model_copy(
            update={"otlp_quiet_s": QUIET_MS / 1000, "otlp_open_s": OPEN_MS / 1000}
        )
        self.path = Path(settings.database_url.removeprefix("sqlite:///"))
        self.intake = Intake(store, settings)
        self.otlp = OtlpIntake(store, settings, self.intake)
        self._store = store
        self._closing = Closing(store, settings)
        self._ahead_ms = 0

    def send(self, *requests: Capture) -> None:
        """Take requests as they came."""
        for request in requests:
            self.send_body(request.signal, request.body(), is_json=False)

    def send_body(self, signal: str, body: bytes, *, is_json: bool = True) -> None:
        """Take one body."""
        take: dict[str, Callable[..., Any]] = {
            "traces": self.otlp.accept_spans,
            "logs": self.otlp.accept_records,
        }
        if signal == "metrics":
            accepted = self.otlp.accept_metrics(body, is_json=is_json)
        else:
            accepted = take[signal](DEFAULT_PROJECT, body, is_json=is_json)
        assert accepted.rejected == 0

    def wait(self, ms: int = QUIET_MS) -> dict[str, dict[str, Any]]:
        """Let time pass; return the calls by id."""
        self._ahead_ms += ms
        while self._closing.close_due(time.time_ns() // 1_000_000 + self._ahead_ms):
            pass
        return kept_calls(self.path)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What another program reads in the file, once its latencies are counted."""
        with read_counted(self._store):
            pass
        with closing(sqlite3.connect(self.path)) as database:
            return database.execute(query).fetchall()

    def check_counts(self) -> None:
        """Every call has been counted in each measure it has, once; a failed one as slow in any case."""
        counted = dict(self.rows("select measure, sum(n) from latency_count group by 1"))
        known = self.rows(
            "select count(case when latency_ms is not null or outcome = 'failed' then 1 end), "
            "count(first_token_ms), "
            "count(case when output_tokens > 1 and latency_ms >= 0 then first_token_ms end) from call"
        )[0]
        measures = ("total", "first_token", "per_output_token")
        assert tuple(counted.get(name, 0) for name in measures) == known


@pytest.fixture
def server(settings: Settings, store: OpenStore) -> Iterator[Server]:
    """A server whose clock the test moves."""
    return Server(settings, store)


def expected_calls(requests: tuple[Capture, ...]) -> dict[str, dict[str, Any]]:
    """The table of expected calls, by id, for those scenarios that `requests` hold."""
    table = json.loads(EXPECTED.read_text())
    expected = {}
    for scenario, instrumentation in {(request.scenario, request.instrumentation) for request in requests}:
        told = table.get(scenario, {}).get("told", {}).get(instrumentation, [])
        for common, own in zip(table[scenario]["calls"] if told else [], told, strict=True):
            absent = own.get("absent", [])
            fields = {
                name: value for name, value in {**common, **own}.items() if name not in (*absent, "absent")
            }
            expected[fields["id"]] = fields
    return expected


@pytest.mark.parametrize("seed", [0, 1])
def test_every_capture_becomes_the_call_of_its_scenario(server: Server, seed: int) -> None:
    """In any order of requests. The table names what each scenario said, and what a capture leaves out."""
    requests = list(captures())
    random.Random(seed).shuffle(requests)
    server.send(*requests)
    expected = expected_calls(captures())
    at_once = kept_calls(server.path)
    assert at_once, "some traces came whole: nothing is left to wait for"
    assert all(call == expected[call_id] for call_id, call in at_once.items())
    kept = server.wait()
    assert kept.keys() == expected.keys()
    for call_id, fields in expected.items():
        assert kept[call_id] == fields, call_id
    assert server.rows("select count(*) from todo where reason = 'new'") == [(len(expected),)]
    assert server.rows("select count(*) from otlp_fragment where due_at_ms is not null") == [(0,)]
    server.check_counts()


def test_a_request_sent_again_changes_nothing(server: Server) -> None:
    """Whether before its calls close, after, or when their fragments are forgotten."""
    requests = otlp_captures.of("otel-genai-events", "chat_basic") + otlp_captures.of(
        "logfire", "chat_stream"
    )
    server.send(*requests, *requests)
    once = server.wait()
    assert len(once) == 2
    for pause_ms in (QUIET_MS, REMEMBERED_MS + OPEN_MS, OPEN_MS):
        server.send(*requests)
        assert server.wait(pause_ms) == once
    assert server.rows("select reason, count(*) from todo group by 1") == [("new", 2)]
    server.check_counts()


@pytest.mark.parametrize("first", ["traces", "logs"])
def test_content_may_come_before_or_after_its_span_has_closed(server: Server, first: str) -> None:
    """Late texts fill what is empty and ask the critic to look again; nothing is counted twice."""
    scenario = ("otel-genai-events", "chat_basic")
    whole = expected_calls(captures())
    second = "logs" if first == "traces" else "traces"
    server.send(*otlp_captures.of(*scenario, first))
    (call,) = server.wait(OPEN_MS).values()
    assert ("output" in call, "latency_ms" in call) == (first == "logs", first == "traces")
    server.send(*otlp_captures.of(*scenario, second))
    (call,) = server.wait(OPEN_MS).values()
    assert call == whole[call["id"]]
    reasons = [reason for (reason,) in server.rows("select reason from todo order by seq")]
    assert reasons == (["new", "text"] if first == "traces" else ["new"])
    server.check_counts()


@pytest.mark.parametrize("instrumentation", ["otel-openai-v2-legacy", "otel-openai-v2-latest"])
@pytest.mark.parametrize("scenario", ["chat_error_429", "chat_timeout", "chat_stream_aborted"])
def test_how_a_long_call_ended_is_told_when_it_ends(
    server: Server, instrumentation: str, scenario: str
) -> None:
    """What was asked is told as it is asked, and the call closes; its span comes minutes later."""
    requests = otlp_captures.of(instrumentation, scenario)
    whole = expected_calls(tuple(requests))
    server.send(*(request for request in requests if request.signal == "logs"))
    (early,) = server.wait(OPEN_MS).values()
    assert "latency_ms" not in early
    server.send(*(request for request in requests if request.signal == "traces"))
    assert server.wait(OPEN_MS) == whole
    (ended,) = whole.values()
    reopened = [("text",)] if early["outcome"] != ended["outcome"] else []
    assert server.rows("select reason from todo where reason <> 'new'") == reopened
    server.check_counts()


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_log_client_and_wrapper_minutes_apart_are_one_call(server: Server, order: tuple[int, ...]) -> None:
    """Whichever comes first, and each after the call of those before it has closed."""
    found = fragments(otlp_captures.of("otel-genai-events", "anthropic_basic"))
    assert len(found) == 3
    for number in order:
        server.send_body(*found[number])
        server.wait(OPEN_MS)
    (call,) = server.wait(OPEN_MS).values()
    (whole,) = expected_calls(tuple(otlp_captures.of("otel-genai-events", "anthropic_basic"))).values()
    # The first of its spans gives the call its id, and says how long it took.
    own = ("id", "latency_ms")
    assert {name: value for name, value in call.items() if name not in own} == {
        name: value for name, value in whole.items() if name not in own
    }
    server.check_counts()


def fragments(requests: list[Capture]) -> list[tuple[str, bytes]]:
    """Each span and log record of these requests in a request of its own, as (signal, body)."""
    found = []
    for request in requests:
        if request.signal == "metrics":
            continue
        names = {"traces": ("resourceSpans", "scopeSpans", "spans")}
        resources, scopes, items = names.get(request.signal, ("resourceLogs", "scopeLogs", "logRecords"))
        for of_resource in json.loads(request.body(is_json=True))[resources]:
            for of_scope in of_resource[scopes]:
                for item in of_scope[items]:
                    alone = {resources: [{**of_resource, scopes: [{**of_scope, items: [item]}]}]}
                    found.append((request.signal, json.dumps(alone).encode()))
    return found


def test_logs_without_their_span_wait_longer_than_a_quiet_call(server: Server) -> None:
    server.send(*otlp_captures.of("otel-genai-events", "chat_basic", "logs"))
    assert server.wait() == {}
    server.send(*otlp_captures.of("otel-genai-events", "chat_basic", "traces"))
    (call,) = server.wait().values()
    assert call == expected_calls(captures())[call["id"]]


def test_the_late_half_of_a_stream_tells_how_it_ended(server: Server) -> None:
    """The first half closed alone: no latency was counted then, so that it can be counted now."""
    server.send(*otlp_captures.of("logfire", "chat_stream_aborted"))
    (before,) = server.wait(OPEN_MS).values()
    assert "latency_ms" not in before
    server.send(*otlp_captures.of("logfire", "chat_tool_call"))
    after = server.wait(OPEN_MS)[before["id"]]
    assert after["output"] == "Lisbon is 21 °C "
    assert (after["outcome"], after["finish_reason"]) == ("aborted", "aborted")
    assert server.rows("select outcome, sum(n) from latency_count where measure = 'total' group by 1") == [
        ("aborted", 1),
        ("answered", 2),
    ]


def request_with(spans: list[dict[str, Any]], scope: str = "test") -> bytes:
    """A JSON request; attributes given as plain texts and numbers."""
    for span in spans:
        span["attributes"] = [
            {"key": key, "value": {"intValue": value} if isinstance(value, int) else {"stringValue": value}}
            for key, value in span.get("attributes", {}).items()
        ]
    return json.dumps(
        {"resourceSpans": [{"scopeSpans": [{"scope": {"name": scope}, "spans": spans}]}]}
    ).encode()


TRACE = "0af7651916cd43dd8448eb211c80319c"


def span(number: int, parent: int | None, attributes: dict[str, Any], *, second: int = 0) -> dict[str, Any]:
    """One span of TRACE, a second long."""
    start = 1_795_299_800 + second
    found = {
        "traceId": TRACE,
        "spanId": f"{number:016x}",
        "startTimeUnixNano": f"{start}000000000",
        "endTimeUnixNano": f"{start + 1}000000000",
        "attributes": attributes,
    }
    return found if parent is None else {**found, "parentSpanId": f"{parent:016x}"}


ASKED = {"gen_ai.request.model": "m", "gen_ai.provider.name": "p", "gen_ai.usage.output_tokens": 5}


def test_session_and_user_come_down_from_the_nearest_span_above(server: Server) -> None:
    spans = [
        span(1, None, {"session.id": "far", "user.id": "u"}),
        span(2, 1, {"session.id": "near"}),
        span(3, 2, {}),
        span(4, 3, ASKED),
        span(5, None, ASKED | {"gen_ai.conversation.id": "own"}),
    ]
    server.send_body("traces", request_with(spans))
    kept = server.wait()
    beneath, alone = kept[f"{TRACE}:{4:016x}"], kept[f"{TRACE}:{5:016x}"]
    assert (beneath["session_id"], beneath["user_id"]) == ("near", "u")
    assert (alone["session_id"], "user_id" in alone) == ("own", False)


def test_a_root_that_ends_after_its_calls_have_closed_still_names_their_session(server: Server) -> None:
    """An agent's run may last an hour; a session's signal that waited then finds its call."""
    server.send_body("traces", request_with([span(2, 1, ASKED)]))
    (call,) = server.wait().values()
    assert "session_id" not in call
    server.intake.accept_signals(
        DEFAULT_PROJECT, signals_of([{"id": "thumb", "session_id": "s", "kind": "thumbs_down"}])
    )
    server.send_body("traces", request_with([span(1, None, {"session.id": "s", "user.id": "u"})]))
    (call,) = server.wait().values()
    assert (call["session_id"], call["user_id"]) == ("s", "u")
    assert server.rows("select user_id from end_user") == [("u",)]
    assert server.rows("select call.id from signal join call on call.seq = call_seq") == [(call["id"],)]
    server.check_counts()


def test_feedback_on_a_request_belongs_to_its_last_call(server: Server) -> None:
    """Applications put the thumb on the span of the request, before or long after its calls have closed."""
    linked = {"links": [{"traceId": TRACE, "spanId": f"{1:016x}"}]}
    thumb = {
        "evaluations.0.evaluation.name": "user_feedback",
        "evaluations.0.evaluation.label": "thumbs_down",
        "evaluations.0.evaluation.annotator_kind": "HUMAN",
    }
    early = span(7, None, thumb, second=60) | linked
    server.send_body("traces", request_with([early | {"traceId": "f" * 32}]))
    spans = [span(1, None, {}), span(2, 1, ASKED), span(3, 1, ASKED, second=5)]
    server.send_body("traces", request_with(spans))
    server.wait()
    server.wait(REMEMBERED_MS + OPEN_MS)
    assert server.rows("select count(*) from otlp_fragment") == [(0,)], "the spans are forgotten"
    late = span(8, None, thumb | {"evaluations.0.evaluation.name": "again"}, second=90_000) | linked
    server.send_body("traces", request_with([late | {"traceId": "e" * 32}]))
    found = server.rows("select kind, call.span_id from signal join call on call.seq = call_seq")
    assert found == [("thumbs_down", f"{3:016x}")] * 2
    assert server.rows("select count(*) from todo where reason = 'signal'") == [(2,)]


def test_langfuses_scores_find_their_calls(server: Server) -> None:
    """By observation, or the trace's last call; sent again they are the same."""
    of_call = {"id": "1", "traceId": TRACE, "observationId": f"{2:016x}", "name": "helpfulness", "value": 6}
    of_trace = {"id": "2", "traceId": TRACE, "name": "user_feedback", "value": 0, "comment": "thumbs down"}
    for _again in range(2):
        assert server.otlp.accept_scores(DEFAULT_PROJECT, [of_call, of_trace, {"name": "x", "value": 1}]) == 2
    server.send_body("traces", request_with([span(2, None, ASKED), span(3, None, ASKED, second=5)]))
    server.wait()
    found = server.rows(
        "select kind, value, comment, call.span_id from signal join call on call.seq = call_seq order by 1"
    )
    assert found == [
        ("eval:helpfulness", 6.0, None, f"{2:016x}"),
        ("thumbs_down", 0.0, "thumbs down", f"{3:016x}"),
    ]


def test_a_response_that_the_sdk_has_sent_already_is_not_kept_twice(server: Server) -> None:
    """An application may use both: the SDK's call learns what only the span knows."""
    sent = {
        "id": "sdk-1",
        "response_id": "r-1",
        "model": "m",
        "input": "hello",
        "output": "hi",
        "latency_ms": 1000,
        "started_at": 1_795_299_800.2,
    }
    server.intake.accept_calls(DEFAULT_PROJECT, calls_of([sent]))
    told = ASKED | {"gen_ai.response.id": "r-1", "session.id": "s"}
    another = ASKED | {"gen_ai.response.id": "r-1"}
    server.send_body("traces", request_with([span(2, None, told), span(3, None, another, second=600)]))
    kept = server.wait()
    assert kept.keys() == {"sdk-1", f"{TRACE}:{3:016x}"}, (
        "an id that a fake server used again is another call"
    )
    assert (kept["sdk-1"]["session_id"], kept["sdk-1"]["output_tokens"]) == ("s", 5)
    assert kept["sdk-1"]["output"] == "hi"
    server.check_counts()


def test_a_fake_servers_only_response_id_makes_many_calls(server: Server) -> None:
    """Each with its wrapper and its client's span, all at the same time."""
    told = ASKED | {"gen_ai.response.id": "chatcmpl-123"}
    for number in range(3):
        trace = {"traceId": f"{number + 1:032x}"}
        server.send_body("traces", request_with([span(1, None, dict(told)) | trace], "wrapper"))
        server.send_body(
            "traces", request_with([span(2, None, dict(told)) | trace], "com.anthropic.sdk.python")
        )
    kept = server.wait()
    assert {call_id.partition(":")[2] for call_id in kept} == {f"{1:016x}"}
    assert len(kept) == 3


def test_texts_that_cannot_be_stored_as_they_are_are_marked(server: Server) -> None:
    told = ASKED | {"gen_ai.input.messages": "what\x00?", "gen_ai.output.messages": "lone \ud800 surrogate"}
    server.send_body("traces", request_with([span(2, None, told)]))
    (call,) = server.wait().values()
    assert (call["input"][0]["content"], call["output"]) == ("what\ufffd?", "lone \ufffd surrogate")
    assert server.rows("select marks from call_text") == [('{"input":"replaced","output":"replaced"}',)]


def test_a_record_that_belongs_to_nothing_is_not_acknowledged(server: Server) -> None:
    """Content outside any span and scores about nothing; records of other things are taken and dropped."""
    content = {"eventName": "gen_ai.user.message", "body": {"stringValue": "hello"}}
    score = {"key": "gen_ai.evaluation.name", "value": {"stringValue": "relevance"}}
    evaluation = {"eventName": "gen_ai.evaluation.result", "attributes": [score]}
    other = {"body": {"stringValue": "GET /cart 200"}}
    records = [content, evaluation, other]
    body = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}).encode()
    accepted = server.otlp.accept_records(DEFAULT_PROJECT, body, is_json=True)
    assert (accepted.rejected, accepted.kept) == (2, 1)
    assert "must stand in a span" in accepted.reasons[0]
    assert server.rows("select count(*) from otlp_fragment") == [(0,)]
