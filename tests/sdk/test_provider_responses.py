"""Responses of the real openai and anthropic packages, over loopback, as they arrive at the server."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import anthropic
import lowlight
import openai
import pytest
from pydantic import BaseModel

from tests.sdk.fake_server import FakeServer
from tests.sdk.provider_server import provider

MESSAGES: Any = [{"role": "user", "content": "Where is my parcel?"}]
CHAT, RESPONSES, COMPLETIONS, ANTHROPIC = (
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/completions",
    "/v1/messages",
)

Answers = dict[str, tuple[int, Any]]


@pytest.fixture
def answers() -> Answers:
    return {}


@pytest.fixture
def address(answers: Answers) -> Iterator[str]:
    with provider(answers) as url:
        yield url


@pytest.fixture
def openai_client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="k", base_url=f"{address}/v1", max_retries=0) as client:
        yield client


@pytest.fixture
def anthropic_client(address: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(api_key="k", base_url=address, max_retries=0) as client:
        yield client


def chat(message: dict[str, Any], finish_reason: str = "stop") -> dict[str, Any]:
    """The body of a chat completion, as the API sends it."""
    return {
        "id": "chatcmpl-C1",
        "object": "chat.completion",
        "created": 1795334400,
        "model": "gpt-6-mini-2026-08-01",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "refusal": None, "annotations": [], **message},
                "logprobs": None,
                "finish_reason": finish_reason,
            }
        ],
        "usage": {
            "prompt_tokens": 1200,
            "completion_tokens": 80,
            "total_tokens": 1280,
            "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 64, "audio_tokens": 0},
        },
        "service_tier": "default",
        "system_fingerprint": "fp_1",
    }


def responses(output: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """The body of a Responses API response."""
    return {
        "id": "resp_R1",
        "object": "response",
        "created_at": 1795334400,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": "gpt-6-mini-2026-08-01",
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": 1200,
            "input_tokens_details": {"cached_tokens": 1024, "cache_write_tokens": 0},
            "output_tokens": 80,
            "output_tokens_details": {"reasoning_tokens": 64},
            "total_tokens": 1280,
        },
        **fields,
    }


def said(*contents: dict[str, Any]) -> dict[str, Any]:
    """A message item of the Responses API."""
    return {
        "id": "msg_1",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": list(contents),
    }


def text(words: str) -> dict[str, Any]:
    """A text part of a message item."""
    return {"type": "output_text", "text": words, "annotations": []}


def message(content: list[dict[str, Any]], stop_reason: str) -> dict[str, Any]:
    """The body of an Anthropic message."""
    return {
        "id": "msg_A1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-5",
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {
            "input_tokens": 100,
            "cache_creation_input_tokens": 76,
            "cache_read_input_tokens": 1024,
            "output_tokens": 80,
            "output_tokens_details": {"thinking_tokens": 64},
            "service_tier": "standard",
        },
    }


USAGE = {"input_tokens": 1200, "output_tokens": 80, "cached_input_tokens": 1024, "reasoning_tokens": 64}
ASKED = {"id": "call_1", "name": "find_parcel", "arguments": '{"order": 7}'}
FUNCTION = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "find_parcel", "arguments": '{"order": 7}'},
}


def arrived(server: FakeServer, client: lowlight.Client, response: Any, **more: Any) -> dict[str, Any]:
    """Record a response and return the call that arrives, less its time; object and dict must agree."""
    call_id = client.record(response, input=MESSAGES, **more)
    assert client.flush(20)
    call = server.calls[call_id]
    assert call.pop("id") == call_id
    assert call.pop("input") == MESSAGES
    del call["started_at"]
    if isinstance(response, BaseModel):
        assert arrived(server, client, response.model_dump(mode="json"), **more) == call
    return call


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (chat({"content": "On its way."}), {"output": "On its way.", "finish_reason": "stop"}),
        (chat({"content": "On its"}, "length"), {"output": "On its", "finish_reason": "length"}),
        # the model thought until its tokens were spent: the user saw nothing, a failure to be seen
        (chat({"content": ""}, "length"), {"output": "", "finish_reason": "length"}),
        (chat({"content": None, "refusal": "I can't."}), {"output": "I can't.", "finish_reason": "refusal"}),
        (
            chat({"content": None, "tool_calls": [FUNCTION]}, "tool_calls"),
            {
                "output": [{"role": "assistant", "content": "", "tool_calls": [ASKED]}],
                "tools": ["find_parcel"],
                "finish_reason": "tool_calls",
            },
        ),
        (
            chat(
                {
                    "content": "One moment.",
                    "tool_calls": [
                        {"id": "call_2", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}
                    ],
                },
                "tool_calls",
            ),
            {
                "output": [
                    {
                        "role": "assistant",
                        "content": "One moment.",
                        "tool_calls": [{"id": "call_2", "name": "sql", "arguments": "select 1"}],
                    }
                ],
                "tools": ["sql"],
                "finish_reason": "tool_calls",
            },
        ),
    ],
)
def test_chat_completions(
    server: FakeServer,
    client: lowlight.Client,
    answers: Answers,
    openai_client: openai.OpenAI,
    sent: dict[str, Any],
    expected: dict[str, Any],
) -> None:
    answers[CHAT] = (200, sent)
    response = openai_client.chat.completions.create(model="gpt-6-mini", messages=MESSAGES)
    assert arrived(server, client, response) == {
        "model": "gpt-6-mini-2026-08-01",
        "provider": "openai",
        "response_id": "chatcmpl-C1",
        "usage": USAGE,
        **expected,
    }


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (
            responses(
                [{"id": "rs_1", "type": "reasoning", "summary": []}, said(text("On its "), text("way."))]
            ),
            {"output": "On its way.", "finish_reason": "stop"},
        ),
        (
            responses(
                [
                    said(text("Let me look.")),
                    {
                        "id": "ws_1",
                        "type": "web_search_call",
                        "status": "completed",
                        "action": {"type": "search", "query": "parcel", "queries": ["parcel"]},
                    },
                    said(text("On its way.")),
                ]
            ),
            {"output": "Let me look.\n\nOn its way.", "tools": ["web_search"], "finish_reason": "stop"},
        ),
        (
            responses([said({"type": "refusal", "refusal": "I can't."})]),
            {"output": "I can't.", "finish_reason": "refusal"},
        ),
        (
            responses(
                [
                    {
                        "id": "fc_1",
                        "type": "function_call",
                        "status": "completed",
                        "call_id": "call_1",
                        "name": "find_parcel",
                        "arguments": '{"order": 7}',
                    }
                ]
            ),
            {
                "output": [{"role": "assistant", "content": "", "tool_calls": [ASKED]}],
                "tools": ["find_parcel"],
                "finish_reason": "tool_calls",
            },
        ),
        (
            responses(
                [said(text("On its"))],
                status="incomplete",
                incomplete_details={"reason": "max_output_tokens"},
            ),
            {"output": "On its", "finish_reason": "length"},
        ),
        # no output at all: that is unknown, not an empty answer
        (
            responses([], status="failed", error={"code": "server_error", "message": "Try again."}),
            {"finish_reason": "failed", "error": {"type": "server_error", "message": "Try again."}},
        ),
        (responses([], status="queued"), {"finish_reason": "queued"}),
    ],
)
def test_the_responses_api(
    server: FakeServer,
    client: lowlight.Client,
    answers: Answers,
    openai_client: openai.OpenAI,
    sent: dict[str, Any],
    expected: dict[str, Any],
) -> None:
    answers[RESPONSES] = (200, sent)
    response = openai_client.responses.create(model="gpt-6-mini", input="Where is my parcel?")
    assert arrived(server, client, response) == {
        "model": "gpt-6-mini-2026-08-01",
        "provider": "openai",
        "response_id": "resp_R1",
        "usage": USAGE,
        **expected,
    }


def test_text_completions(
    server: FakeServer, client: lowlight.Client, answers: Answers, openai_client: openai.OpenAI
) -> None:
    choice = {"text": " On its way.", "index": 0, "logprobs": None, "finish_reason": "stop"}
    answers[COMPLETIONS] = (
        200,
        {
            "id": "cmpl-1",
            "object": "text_completion",
            "created": 1795334400,
            "model": "own-7b",
            "choices": [choice],
            "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13},
        },
    )
    response = openai_client.completions.create(model="own-7b", prompt="Where is my parcel?")
    assert arrived(server, client, response, provider="vllm") == {
        "output": " On its way.",
        "model": "own-7b",
        "provider": "vllm",
        "response_id": "cmpl-1",
        "finish_reason": "stop",
        "usage": {"input_tokens": 9, "output_tokens": 4},
    }


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (
            message([{"type": "text", "text": "On its "}, {"type": "text", "text": "way."}], "end_turn"),
            {"output": "On its way.", "finish_reason": "end_turn"},
        ),
        (
            message(
                [
                    {"type": "thinking", "thinking": "The user ...", "signature": "sig"},
                    {"type": "text", "text": "One moment."},
                    {"type": "tool_use", "id": "toolu_1", "name": "find_parcel", "input": {"order": 7}},
                ],
                "tool_use",
            ),
            {
                "output": [
                    {
                        "role": "assistant",
                        "content": "One moment.",
                        "tool_calls": [{"id": "toolu_1", "name": "find_parcel", "arguments": {"order": 7}}],
                    }
                ],
                "tools": ["find_parcel"],
                "finish_reason": "tool_use",
            },
        ),
        (
            message(
                [
                    {"type": "text", "text": "Let me look."},
                    {
                        "type": "server_tool_use",
                        "id": "srv_1",
                        "name": "web_search",
                        "input": {"query": "parcel"},
                    },
                    {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": []},
                    {"type": "text", "text": "On its way."},
                ],
                "end_turn",
            ),
            {"output": "Let me look.\n\nOn its way.", "tools": ["web_search"], "finish_reason": "end_turn"},
        ),
        (message([], "refusal"), {"output": "", "finish_reason": "refusal"}),
        (
            message([{"type": "text", "text": "On its"}], "max_tokens"),
            {"output": "On its", "finish_reason": "max_tokens"},
        ),
    ],
)
def test_anthropic_messages(
    server: FakeServer,
    client: lowlight.Client,
    answers: Answers,
    anthropic_client: anthropic.Anthropic,
    sent: dict[str, Any],
    expected: dict[str, Any],
) -> None:
    answers[ANTHROPIC] = (200, sent)
    response = anthropic_client.messages.create(model="claude-haiku-5", max_tokens=99, messages=MESSAGES)
    assert arrived(server, client, response) == {
        "model": "claude-haiku-5",
        "provider": "anthropic",
        "response_id": "msg_A1",
        "usage": USAGE,
        **expected,
    }


def test_a_provider_error_makes_a_failed_call(
    server: FakeServer, client: lowlight.Client, answers: Answers, openai_client: openai.OpenAI
) -> None:
    answers[CHAT] = (429, {"error": {"message": "Slow down.", "type": "requests", "code": "rate_limit"}})
    with pytest.raises(openai.RateLimitError) as raised:
        openai_client.chat.completions.create(model="gpt-6-mini", messages=MESSAGES)
    call = arrived(server, client, None, error=raised.value, model="gpt-6-mini", latency_ms=12)
    assert call["error"]["type"] == "RateLimitError"
    assert "Slow down." in call["error"]["message"]
    assert "output" not in call


def test_messages_may_hold_the_packages_own_objects(
    server: FakeServer, client: lowlight.Client, answers: Answers, openai_client: openai.OpenAI
) -> None:
    """Applications append `response.choices[0].message` to the list they ask with next."""
    answers[CHAT] = (200, chat({"content": None, "tool_calls": [FUNCTION]}, "tool_calls"))
    response = openai_client.chat.completions.create(model="gpt-6-mini", messages=MESSAGES)
    asked = [
        *MESSAGES,
        response.choices[0].message,
        {"role": "tool", "tool_call_id": "call_1", "content": "7"},
    ]
    call_id = client.record("On its way.", input=asked)
    assert client.flush(20)
    sent = server.calls[call_id]["input"]
    assert [item["role"] for item in sent] == ["user", "assistant", "tool"]
    assert sent[1]["tool_calls"] == [FUNCTION]


def test_an_argument_wins_over_the_response(server: FakeServer, client: lowlight.Client) -> None:
    call = arrived(
        server,
        client,
        chat({"content": "no"}),
        output="yes",
        model="m",
        provider="p",
        usage={"output_tokens": 3},
    )
    assert (call["output"], call["model"], call["provider"]) == ("yes", "m", "p")
    assert call["usage"] == {"output_tokens": 3}


def test_another_packages_object_of_that_shape_names_no_provider(
    server: FakeServer, client: lowlight.Client
) -> None:
    choice = SimpleNamespace(message=SimpleNamespace(content="yes"), finish_reason="stop")
    call = arrived(server, client, SimpleNamespace(choices=[choice], model="m"))
    assert call == {"output": "yes", "finish_reason": "stop", "model": "m"}


@pytest.mark.parametrize("response", [MagicMock(), 7, [], iter("stream"), {"detail": "x"}])
def test_an_unknown_response_is_named_and_the_rest_kept(
    server: FakeServer, client: lowlight.Client, caplog: pytest.LogCaptureFixture, response: Any
) -> None:
    assert arrived(server, client, response, model="m") == {"model": "m"}
    assert f"cannot read a {type(response).__name__}" in caplog.text


def test_a_response_without_a_choice_says_nothing(server: FakeServer, client: lowlight.Client) -> None:
    assert arrived(server, client, {**chat({}), "choices": [], "usage": None}) == {
        "model": "gpt-6-mini-2026-08-01",
        "provider": "openai",
        "response_id": "chatcmpl-C1",
    }
