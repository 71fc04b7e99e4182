"""Vercel's AI SDK: what it sends itself, as calls.

tests/fixtures/otlp/vercel-ai.json is one request of OpenTelemetry's JavaScript exporter, taken on loopback on
2026-11-22 of ai 6.0.326 with its mock models: an answer, two steps with a tool, a stream, a failure, an
object and an embedding. Stack traces, tool definitions and the user agent were left out.
"""

import json
from typing import Any

import pytest

from ingest.settings import Settings
from ingest.store import OpenStore
from tests.otlp_captures import EXPECTED
from tests.unit.test_otlp_closing import Server

CAPTURE = EXPECTED.with_name("vercel-ai.json")
TOLD = {
    "user_id": "user-42", "session_id": "sess-7f3a", "environment": "test", "release": "1.4.2",
    "tags": {"plan": "pro", "service": "support-bot"}, "outcome": "answered",
}  # fmt: skip
ANSWERED = {
    "provider": "openai", "model": "gpt-6-mini-2026-08-07", "finish_reason": "stop", "input_tokens": 22,
    "output_tokens": 18, "cached_input_tokens": 2, "reasoning_tokens": 3, "response_id": "chatcmpl-v1",
}  # fmt: skip
WEATHER = {"role": "user", "content": "Weather?"}
ASKED_A_TOOL = {
    "role": "assistant", "content": "",
    "tool_calls": [{"id": "call_1", "name": "get_weather", "arguments": '{"city":"Lisbon"}'}],
}  # fmt: skip
#: In the order in which they began.
CALLS: list[dict[str, Any]] = [
    TOLD | ANSWERED | {
        "input": [
            {"role": "system", "content": "You are kind."}, {"role": "user", "content": "Where is my parcel?"}
        ],
        "output": "It arrives tomorrow.",
    },
    TOLD | ANSWERED | {
        "response_id": "r1", "finish_reason": "tool_calls", "tools": ["get_weather"],
        "input": [WEATHER], "output": [ASKED_A_TOOL],
    },
    TOLD | ANSWERED | {
        "response_id": "r2", "output": "It is 21 C.",
        "input": [
            WEATHER, ASKED_A_TOOL, {"role": "tool", "content": '{"temp":21}', "tool_call_id": "call_1"}
        ],
    },
    TOLD | ANSWERED | {
        "provider": "anthropic", "model": "claude-sonnet-5", "response_id": "msg_1",
        "finish_reason": "end_turn", "first_token_ms": 72.674,
        "input": [{"role": "user", "content": "Hi"}], "output": "Hello, world",
    },
    TOLD | {
        "provider": "openai", "model": "gpt-6-mini", "outcome": "failed", "error_type": "Error",
        "error_message": "Rate limit reached", "input": [{"role": "user", "content": "FAIL"}],
    },
    TOLD | ANSWERED | {
        "input": [{"role": "user", "content": "City?"}], "output": '{"city":"Lisbon"}',
        "cached_input_tokens": None, "reasoning_tokens": None,
    },
    TOLD | {
        "provider": "openai", "model": "emb", "input_tokens": 9,
        "tags": TOLD["tags"] | {"operation": "embeddings"},
        "input": [{"role": "user", "content": "first text"}],
    },
]  # fmt: skip


@pytest.mark.parametrize("in_pieces", [False, True])
def test_each_answer_is_a_call_with_its_people(settings: Settings, store: OpenStore, in_pieces: bool) -> None:
    """Once, though the function around it repeats the texts; its spans come together or one by one."""
    server = Server(settings, store)
    request = json.loads(CAPTURE.read_text())
    scope = request["resourceSpans"][0]["scopeSpans"][0]
    for spans in [[span] for span in scope["spans"]] if in_pieces else [scope["spans"]]:
        scope["spans"] = spans
        server.send_body("traces", json.dumps(request).encode())
    kept = list(server.wait().values())
    fields = sorted({name for call in CALLS for name in call})
    found = [{name: call[name] for name in fields if name in call} for call in kept]
    assert found == [{name: value for name, value in call.items() if value is not None} for call in CALLS]
    assert all(call["latency_ms"] >= 0 for call in kept)
    assert server.rows("select distinct prompt from call join slice on slice.id = slice_id") == [
        ("support-answer",)
    ]
    server.check_counts()
