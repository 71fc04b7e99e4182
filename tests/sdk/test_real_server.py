"""The SDK against the real server: what was recorded is in its database."""

import json
import sqlite3
from contextlib import closing
from typing import Any

import lowlight

from ingest.settings import Settings


def rows(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    """The rows of a query of the server's SQLite file."""
    with closing(sqlite3.connect(settings.database_url.removeprefix("sqlite:///"))) as connection:
        return connection.execute(query).fetchall()


def test_what_is_recorded_is_kept(service_url: str, service_settings: Settings) -> None:
    messages = [{"role": "user", "content": "Where is my parcel? \ud800\x00"}]
    called = {
        "id": "chatcmpl-C1",
        "object": "chat.completion",
        "model": "gpt-6-mini",
        "choices": [
            {
                "message": {
                    "content": None,
                    "tool_calls": [{"id": "c", "function": {"name": "find_parcel", "arguments": "{}"}}],
                },
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4},
    }
    with lowlight.Client(service_url, environment="test", release="r7") as client:
        call_id = client.record(
            called,
            input=messages,
            latency_ms=812.5,
            prompt=("support-answer", "v7"),
            context=["On its way."],
            user_id=7,
            session_id="s1",
            tags={"tenant": "acme"},
        )
        failed_id = client.record(input="2+2?", error=TimeoutError("too slow"), latency_ms=30_000)
        signal_id = client.signal("rating", call_id=call_id, value=2, comment="wrong \udfff")
        assert client.flush(20)
        stats = client.stats()
        many = [client.record("4", input=f"{i}+{i}?", session_id="s2") for i in range(1_000)]
        assert client.flush(20)
        assert client.stats()["accepted"] == 1_003
    assert (stats["accepted"], stats["rejected"], stats["dropped"]) == (3, 0, {})
    [(latency_ms, outcome, input_tokens, response_id, user_id, tools, finish_reason)] = rows(
        service_settings,
        "select latency_ms, outcome, input_tokens, response_id, user_id, tools, finish_reason "
        f"from call where id = '{call_id}'",
    )
    assert (latency_ms, outcome, input_tokens, response_id, user_id) == (
        812.5,
        "answered",
        9,
        "chatcmpl-C1",
        "7",
    )
    assert (json.loads(tools), finish_reason) == (["find_parcel"], "tool_calls")
    [(sent_input, sent_output, context)] = rows(
        service_settings,
        f"select input, output, context from call_text join call on seq = call_seq where id = '{call_id}'",
    )
    assert json.loads(sent_input) == [{"role": "user", "content": "Where is my parcel? \ufffd\ufffd"}]
    assert json.loads(sent_output) == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c", "name": "find_parcel", "arguments": "{}"}],
        }
    ]
    assert json.loads(context) == ["On its way."]
    assert rows(
        service_settings,
        "select provider, model, prompt, prompt_version, environment, release from slice "
        f"join call on slice.id = slice_id where call.id = '{call_id}'",
    ) == [("openai", "gpt-6-mini", "support-answer", "v7", "test", "r7")]
    assert rows(
        service_settings, f"select outcome, error_type, error_message from call where id = '{failed_id}'"
    ) == [("failed", "TimeoutError", "too slow")]
    assert rows(
        service_settings,
        "select call.id, kind, value, comment from signal join call on call.seq = call_seq "
        f"where signal.id = '{signal_id}'",
    ) == [(call_id, "rating", 2.0, "wrong \ufffd")]
    assert len(rows(service_settings, "select seq from call where session_id = 's2'")) == len(set(many))
