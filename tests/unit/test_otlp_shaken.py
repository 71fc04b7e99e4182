"""Captures shaken: requests in any order and twice, spans doubled or dropped, attributes lost or wrong.

Whatever comes of a request, its answer is a receipt or a BadBody; every span of a model's answer that a
receipt covers is a call or part of one in the end; and what a call says changes only where what it was read
from did.
"""

import json
import logging
import random
import shutil
from collections import defaultdict
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.otlp.assembling import assemble
from ingest.otlp.dialects import part_of_span
from ingest.otlp.facts import Facts, Part
from ingest.otlp.joining import Row, groups_of
from ingest.otlp.reading import read_spans
from ingest.settings import Settings
from ingest.store import OpenStore
from ingest.wire import BadBody
from tests.otlp_calls import call_of
from tests.otlp_captures import Capture, captures
from tests.unit.test_otlp_closing import Server, request_with, span

ANOTHER: tuple[Any, ...] = (
    *(None, 7, {}, {"arrayValue": {}}, {"bytesValue": "AAAA"}, {"boolValue": True}),
    *({"intValue": "5"}, {"intValue": 2**70}, {"doubleValue": "NaN"}, {"doubleValue": -1.5}),
    {"arrayValue": {"values": [{"stringValue": "a"}, {}]}},
    {"kvlistValue": {"values": [{"key": "a", "value": {"intValue": 1}}]}},
    *({"stringValue": text} for text in ("", " ", "x" * 300_000, "\x00", "\ud800", "[1,2", "{}", '"x"')),
    {"stringValue": "[Scrubbed due to 'session']"},
    {"stringValue": '[[[{"role": 1, "content": {"a": []}}]]]'},
    {"stringValue": '[{"role": "assistant", "parts": [{"type": "tool_call", "id": 5, "name": ["x"]}]}]'},
    {"stringValue": '[{"tool_calls": [{"function": {"name": 7, "arguments": [1]}}], "content": null}]'},
)


def small(*signals: str) -> dict[tuple[str, str], list[Capture]]:
    """The captures' requests by instrumentation and scenario, but for the million characters."""
    found = defaultdict(list)
    for capture in captures():
        if capture.signal in signals and capture.scenario != "chat_long_prompt":
            found[capture.instrumentation, capture.scenario].append(capture)
    return found


def sound(request: dict[str, Any]) -> list[dict[str, Any]]:
    """The spans or records of a request."""
    return [
        item
        for of_resource in request.get("resourceSpans", request.get("resourceLogs", []))
        for of_scope in of_resource.get("scopeSpans", of_resource.get("scopeLogs", []))
        for item in of_scope.get("spans", of_scope.get("logRecords", []))
    ]


def shake(attributes: list[Any], chance: random.Random) -> list[Any]:
    """Attributes in another order; some lost, cut, doubled or of another type."""
    found = []
    for pair in attributes:
        what, text = chance.randrange(14), pair["value"].get("stringValue")
        if what == 1 or (what == 3 and not isinstance(text, str)):
            found.append({**pair, "value": chance.choice(ANOTHER)})
        elif what == 2:
            found += [pair, {**pair, "value": chance.choice(ANOTHER)}]
        elif what == 3:
            found.append({**pair, "value": {"stringValue": text[: chance.randrange(len(text) + 1)]}})
        elif what > 0:
            found.append(pair)
    chance.shuffle(found)
    return found


def shaken(capture: Capture, chance: random.Random) -> bytes:
    """A request whose items were shaken, dropped or doubled."""
    request = json.loads(capture.body(is_json=True))
    for of_resource in request.get("resourceSpans", request.get("resourceLogs")):
        for of_scope in of_resource.get("scopeSpans", of_resource.get("scopeLogs")):
            name = "spans" if "spans" in of_scope else "logRecords"
            items = [deepcopy(item) for item in of_scope[name] for _ in range(chance.choice((0, 1, 1, 1, 2)))]
            for item in items:
                item["attributes"] = shake(item.get("attributes", []), chance)
                if chance.random() < 0.1:
                    item["parentSpanId"] = chance.choice(("", "1234567812345678", "zz"))
                if chance.random() < 0.1:
                    item["status"] = {
                        "code": chance.choice((0, 1, 2, "STATUS_CODE_ERROR")),
                        "message": "\x00",
                    }
            chance.shuffle(items)
            of_scope[name] = items
    return json.dumps(request).encode("utf-8", "surrogatepass")


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32))
def test_no_acknowledged_span_of_an_answer_is_lost(
    tmp_path_factory: pytest.TempPathFactory, migrated_file: Path, seed: int
) -> None:
    """Three scenarios at once, and closing in between; a log line of ours would be a bug."""
    chance = random.Random(seed)
    path = tmp_path_factory.mktemp("shaken") / "lowlight.db"
    shutil.copyfile(migrated_file, path)
    store = OpenStore(f"sqlite:///{path}")
    server = Server(Settings(database_url=store.database_url), store)
    said: list[logging.LogRecord] = []
    listener = logging.Handler(logging.ERROR)
    listener.emit = said.append  # type: ignore[method-assign]
    logging.getLogger("ingest").addHandler(listener)
    scenarios = small("traces", "logs")
    requests = [capture for key in chance.sample(sorted(scenarios), 3) for capture in scenarios[key]]
    chance.shuffle(requests)
    told: list[Part] = []
    try:
        for capture in requests:
            body = shaken(capture, chance)
            try:
                for _ in range(chance.choice((1, 1, 2))):
                    server.send_body(capture.signal, body)
            except BadBody:
                continue
            if capture.signal == "traces":
                told += map(part_of_span, read_spans(body, is_json=True).items)
            if chance.random() < 0.3:
                server.wait(chance.choice((5_000, 20_000, 70_000)))
        kept = server.wait(200_000)
        assert said == []
        server.check_counts()
        joined = server.rows("select trace_id, span_id from otlp_fragment where call_seq is not null")
        parts = {f"{trace_id}:{span_id}" for trace_id, span_id in joined}
        assert {f"{p.trace_id}:{p.span_id}" for p in told if p.role != "scope"} <= kept.keys() | parts
        assert server.rows("select count(*) from otlp_fragment where due_at_ms is not null") == [(0,)]
    finally:
        logging.getLogger("ingest").removeHandler(listener)
        store.close()


#: What a call may say otherwise when an attribute whose name holds this does. None: it may be none, or two.
INFLUENCE: tuple[tuple[str, frozenset[str] | None], ...] = tuple(
    (part, fields if fields is None else frozenset(fields.split()))
    for part, fields in (
        *((name, None) for name in ("response.id", "openinference.span.kind", "observation.type")),
        *((name, None) for name in ("request.model", "operation.name", "output.value", "span_type")),
        *((name, None) for name in ("provider", "system", "input.messages", "duration")),
        ("error.type", "error finish_reason"),
        ("stream", "finish_reason"),
        ("usage.", "usage latency_ms"),  # a span of logfire's that tells nothing else is half a stream
        *((name, "model") for name in ("model_name", "model.name", "response.model")),
        *((name, "usage") for name in ("token_count", "usage_details")),
        *(
            (name, "input")
            for name in ("llm.input_messages", "input.value", "observation.input", "embedding.text")
        ),
        *((name, "output tools finish_reason") for name in ("output.messages", "llm.output_messages")),
        ("observation.output", "output tools finish_reason"),
        *((name, "finish_reason") for name in ("finish_reason", "stop_reason", "metadata.status")),
        *((name, "first_token_ms finish_reason") for name in ("first_chunk", "completion_start_time")),
        *((name, "session_id") for name in ("session.id", "conversation.id", "chat_id")),
        *((name, "user_id") for name in ("user.id", "gen_ai.user", "user_id")),
        *((name, "response_id") for name in ("metadata.id",)),
        *((name, "user_id model finish_reason tags") for name in ("invocation_parameters", "metadata")),
        *((name, "tags") for name in ("url", "tag")),
    )
)


def calls_in(request: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The calls of a request when nothing else comes, by id."""
    body = json.dumps(request).encode("utf-8", "surrogatepass")
    parts = list(map(part_of_span, read_spans(body, is_json=True).items))
    for part in parts:
        part.facts = Facts.of_json(part.facts.as_json())
    rows = [Row(seq, part, "", 0, 1, None) for seq, part in enumerate(parts)]
    spans = {row.key: row.part for row in rows}
    found = [call_of(assemble(group, spans)).model_dump() for group in groups_of(rows)]
    return {call["id"]: call for call in found}


@settings(max_examples=300)
@given(seed=st.integers(0, 2**32))
def test_a_call_says_otherwise_only_what_was_read_from_the_changed_attribute(seed: int) -> None:
    chance = random.Random(seed)
    one = chance.choice([capture for several in small("traces").values() for capture in several])
    request = json.loads(one.body(is_json=True))
    before = calls_in(request)
    pairs = [pair for item in sound(request) for pair in item.get("attributes", [])]
    if not pairs:
        return
    changed = chance.choice(pairs)
    changed["value"] = chance.choice(ANOTHER)
    for item in sound(request):
        chance.shuffle(item.get("attributes", []))
    fields = next((fields for part, fields in INFLUENCE if part in changed["key"]), frozenset[str]())
    if fields is None:
        return
    after = calls_in(request)
    assert after.keys() == before.keys(), changed
    for call_id, call in before.items():
        told_otherwise = {name for name, value in call.items() if after[call_id][name] != value}
        assert told_otherwise <= fields, changed


def test_ids_that_no_column_can_hold_sink_no_request(settings: Settings, store: OpenStore) -> None:
    """A service's name and a response's id are columns of their own, before their facts are cleaned."""
    server = Server(settings, store)
    told = {"gen_ai.request.model": "m", "gen_ai.response.id": "r\x00\ud800"}
    request = json.loads(request_with([span(1, None, told)]))
    name = {"key": "service.name", "value": {"stringValue": "bot\ud800"}}
    request["resourceSpans"][0]["resource"] = {"attributes": [name]}
    server.send_body("traces", json.dumps(request).encode("utf-8", "surrogatepass"))
    (call,) = server.wait().values()
    assert call["response_id"] == "r\ufffd\ufffd"
    assert call["tags"] == {"service": "bot\ufffd"}
