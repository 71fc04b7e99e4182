"""`wrap`: the real openai and anthropic clients over loopback, each way of asking that they have."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anthropic
import lowlight
import openai
import pydantic
import pytest

from tests.sdk.fake_server import FakeServer
from tests.sdk.provider_server import Asked, Events, provider
from tests.sdk.test_provider_responses import (
    ANTHROPIC,
    ASKED,
    CHAT,
    COMPLETIONS,
    FUNCTION,
    MESSAGES,
    RESPONSES,
    USAGE,
    Answers,
    chat,
    message,
    responses,
    said,
    text,
)

MODEL = "gpt-6-mini-2026-08-01"


@pytest.fixture
def answers() -> Answers:
    return {}


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def address(answers: Answers, asked: Asked) -> Iterator[str]:
    with provider(answers, asked) as url:
        yield url


@pytest.fixture
def openai_client(address: str, client: lowlight.Client) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="k", base_url=f"{address}/v1", max_retries=0) as made:
        yield client.wrap(made)


@pytest.fixture
def anthropic_client(address: str, client: lowlight.Client) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(api_key="k", base_url=address, max_retries=0) as made:
        yield client.wrap(made)


def chunk(delta: dict[str, Any], finish_reason: str | None = None, **fields: Any) -> dict[str, Any]:
    """One chunk of a streamed chat completion, as the API sends it."""
    return {
        "id": "chatcmpl-C1",
        "object": "chat.completion.chunk",
        "created": 1795334400,
        "model": MODEL,
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}],
        **fields,
    }


CHAT_USAGE = chat({})["usage"]
CHAT_CHUNKS = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "On its"}),
    chunk({"content": " way."}),
    chunk({}, "stop"),
]
CHAT_STREAM = Events([*CHAT_CHUNKS, {**chunk({}), "choices": [], "usage": CHAT_USAGE}], "[DONE]")
RESPONSE = responses([said(text("On its way."))])
RESPONSE_EVENTS = [
    {"type": "response.created", "sequence_number": 0, "response": {**RESPONSE, "output": [], "usage": None}},
    {
        "type": "response.output_item.added",
        "sequence_number": 1,
        "output_index": 0,
        "item": {**said(), "status": "in_progress"},
    },
    {
        "type": "response.content_part.added",
        "sequence_number": 2,
        "output_index": 0,
        "content_index": 0,
        "item_id": "msg_1",
        "part": text(""),
    },
    *(
        {
            "type": "response.output_text.delta",
            "sequence_number": 3 + i,
            "output_index": 0,
            "content_index": 0,
            "item_id": "msg_1",
            "delta": words,
            "logprobs": [],
        }
        for i, words in enumerate(("On its", " way."))
    ),
]
RESPONSE_STREAM = Events(
    [*RESPONSE_EVENTS, {"type": "response.completed", "sequence_number": 9, "response": RESPONSE}]
)
STARTED = {**message([], "end_turn"), "stop_reason": None}
MESSAGE_EVENTS = [
    {
        "type": "message_start",
        "message": {
            **STARTED,
            "usage": {**STARTED["usage"], "output_tokens": 1, "output_tokens_details": None},
        },
    },
    {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "thinking", "thinking": "", "signature": ""},
    },
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm."}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "On its"}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": " way."}},
    {"type": "content_block_stop", "index": 1},
]
MESSAGE_END = [
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 80, "output_tokens_details": {"thinking_tokens": 64}},
    },
    {"type": "message_stop"},
]
MESSAGE_STREAM = Events([*MESSAGE_EVENTS, *MESSAGE_END])
ASK: Any = {"model": "gpt-6-mini", "messages": MESSAGES}
ASK_RESPONSES: Any = {"model": "gpt-6-mini", "input": "Where is my parcel?"}
ASK_ANTHROPIC: Any = {"model": "claude-haiku-5", "max_tokens": 100, "messages": MESSAGES}


def the_call(server: FakeServer, client: lowlight.Client) -> dict[str, Any]:
    """The one call that arrived, less what is another each time; its latency is checked here."""
    assert client.flush(20)
    assert len(server.calls) == 1, list(server.calls.values())
    [call] = server.calls.values()
    del call["id"], call["started_at"]
    assert 0 < call.pop("latency_ms") < 60_000
    return call


def streamed(call: dict[str, Any]) -> dict[str, Any]:
    """A streamed call less its time to the first token, which it must have."""
    assert 0 < call.pop("first_token_ms") < 60_000
    return call


OPENAI_CALL = {
    "input": MESSAGES,
    "output": "On its way.",
    "model": MODEL,
    "provider": "openai",
    "finish_reason": "stop",
    "response_id": "chatcmpl-C1",
    "usage": USAGE,
}
RESPONSES_CALL = {**OPENAI_CALL, "input": "Where is my parcel?", "response_id": "resp_R1"}
ANTHROPIC_CALL = {
    "input": MESSAGES,
    "output": "On its way.",
    "model": "claude-haiku-5",
    "provider": "anthropic",
    "finish_reason": "end_turn",
    "response_id": "msg_A1",
    "usage": USAGE,
}


def test_a_response_is_recorded_and_handed_on(
    server: FakeServer, client: lowlight.Client, answers: Answers, openai_client: openai.OpenAI
) -> None:
    answers[CHAT] = (200, chat({"content": "On its way."}))
    response = openai_client.chat.completions.create(**ASK)
    assert response.choices[0].message.content == "On its way."
    assert isinstance(openai_client, openai.OpenAI)
    assert the_call(server, client) == OPENAI_CALL


def test_nothing_of_the_request_changes(
    client: lowlight.Client, answers: Answers, asked: Asked, address: str
) -> None:
    answers[CHAT] = (200, CHAT_STREAM)
    plain = openai.OpenAI(api_key="k", base_url=f"{address}/v1")
    list(plain.chat.completions.create(**ASK, stream=True))
    list(client.wrap(plain).chat.completions.create(**ASK, stream=True))
    first, second = asked.requests
    assert first == second


def test_anthropics_system_prompt_comes_first(
    server: FakeServer, client: lowlight.Client, answers: Answers, anthropic_client: anthropic.Anthropic
) -> None:
    answers[ANTHROPIC] = (200, message([{"type": "text", "text": "On its way."}], "end_turn"))
    anthropic_client.messages.create(**ASK_ANTHROPIC, system="You answer questions about parcels.")
    system = {"role": "system", "content": "You answer questions about parcels."}
    assert the_call(server, client) == {**ANTHROPIC_CALL, "input": [system, *MESSAGES]}


def test_responses_with_instructions_and_a_stored_prompt(
    server: FakeServer, client: lowlight.Client, answers: Answers, openai_client: openai.OpenAI
) -> None:
    answers[RESPONSES] = (200, RESPONSE)
    openai_client.responses.create(
        **ASK_RESPONSES, instructions="Be short.", prompt={"id": "pmpt_1", "version": "3"}
    )
    assert the_call(server, client) == {
        **RESPONSES_CALL,
        "prompt": {"name": "pmpt_1", "version": "3"},
        "input": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "Where is my parcel?"},
        ],
    }


def test_completions_and_parsed_responses(
    server: FakeServer, client: lowlight.Client, answers: Answers, openai_client: openai.OpenAI
) -> None:
    choice = {"index": 0, "text": "4", "finish_reason": "stop", "logprobs": None}
    answers[COMPLETIONS] = (200, {"id": "c", "object": "text_completion", "model": "m", "choices": [choice]})
    answers[CHAT] = (200, chat({"content": '{"name":"x"}'}))
    answers[RESPONSES] = (200, responses([said(text('{"name":"x"}'))]))

    class Parcel(openai.BaseModel):
        name: str

    openai_client.completions.create(model="m", prompt="2+2?")
    openai_client.chat.completions.parse(**ASK, response_format=Parcel)
    parsed = openai_client.responses.parse(**ASK_RESPONSES, text_format=Parcel)
    assert parsed.output_parsed == Parcel(name="x")
    assert client.flush(20)
    assert [(call["input"], call["output"]) for call in server.calls.values()] == [
        ("2+2?", "4"),
        (MESSAGES, '{"name":"x"}'),
        ("Where is my parcel?", '{"name":"x"}'),
    ]


def read_chat(made: openai.OpenAI) -> Any:
    return list(made.chat.completions.create(**ASK, stream=True))


def read_chat_with_next(made: openai.OpenAI) -> Any:
    stream = made.chat.completions.create(**ASK, stream=True)
    while next(stream, None) is not None:
        pass


def read_chat_in_a_with(made: openai.OpenAI) -> Any:
    with made.chat.completions.create(**ASK, stream=True) as stream:
        for each in stream:
            if each.choices and each.choices[0].finish_reason:
                break  # many do not wait for what stands after it


def read_chat_helper(made: openai.OpenAI) -> Any:
    with made.chat.completions.stream(**ASK) as stream:
        assert stream.get_final_completion().choices[0].message.content == "On its way."


def read_chat_raw(made: openai.OpenAI) -> Any:
    raw = made.chat.completions.with_raw_response.create(**ASK, stream=True)
    assert raw.headers["content-type"].startswith("text/event-stream")
    list(raw.parse())


def read_chat_streaming_response(made: openai.OpenAI) -> Any:
    with made.chat.completions.with_streaming_response.create(**ASK, stream=True) as raw:
        assert "data: [DONE]" in list(raw.iter_lines())


@pytest.mark.parametrize(
    "read",
    [
        read_chat,
        read_chat_with_next,
        read_chat_in_a_with,
        read_chat_helper,
        read_chat_raw,
        read_chat_streaming_response,
    ],
)
def test_streamed_chat_completions(
    server: FakeServer,
    client: lowlight.Client,
    answers: Answers,
    openai_client: openai.OpenAI,
    read: Callable[[openai.OpenAI], Any],
) -> None:
    answers[CHAT] = (200, CHAT_STREAM)
    read(openai_client)
    call = streamed(the_call(server, client))
    if read is read_chat_in_a_with:
        call["usage"] = USAGE  # it left before they came
    assert call == OPENAI_CALL


def test_a_stream_without_usage_has_none(
    server: FakeServer, client: lowlight.Client, answers: Answers, openai_client: openai.OpenAI
) -> None:
    answers[CHAT] = (200, Events(CHAT_CHUNKS, "[DONE]"))
    read_chat(openai_client)
    assert "usage" not in the_call(server, client)


def test_the_first_token_is_the_first_that_is_seen(
    server: FakeServer, client: lowlight.Client, answers: Answers, openai_client: openai.OpenAI
) -> None:
    """The chunk that only names the role does not count."""
    answers[CHAT] = (200, Events(CHAT_CHUNKS, "[DONE]", pause_s=0.2, pause_at=1))
    read_chat(openai_client)
    assert client.flush(20)
    [call] = server.calls.values()
    assert 200 <= call["first_token_ms"] <= call["latency_ms"]


def test_streamed_tool_calls(
    server: FakeServer, client: lowlight.Client, answers: Answers, openai_client: openai.OpenAI
) -> None:
    pieces = [
        {**FUNCTION, "index": 0, "function": {"name": "find_parcel", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"order"'}},
        {"index": 0, "function": {"arguments": ": 7}"}},
    ]
    chunks = [chunk({"role": "assistant", "tool_calls": [piece]}) for piece in pieces]
    answers[CHAT] = (200, Events([*chunks, chunk({}, "tool_calls")], "[DONE]"))
    read_chat(openai_client)
    call = streamed(the_call(server, client))
    assert call["output"] == [{"role": "assistant", "content": "", "tool_calls": [ASKED]}]
    assert (call["tools"], call["finish_reason"]) == (["find_parcel"], "tool_calls")


def read_responses(made: openai.OpenAI) -> Any:
    list(made.responses.create(**ASK_RESPONSES, stream=True))


def read_responses_helper(made: openai.OpenAI) -> Any:
    with made.responses.stream(**ASK_RESPONSES) as stream:
        assert stream.get_final_response().output_text == "On its way."


@pytest.mark.parametrize("read", [read_responses, read_responses_helper])
def test_streamed_responses(
    server: FakeServer,
    client: lowlight.Client,
    answers: Answers,
    openai_client: openai.OpenAI,
    read: Callable[[openai.OpenAI], Any],
) -> None:
    answers[RESPONSES] = (200, RESPONSE_STREAM)
    read(openai_client)
    assert streamed(the_call(server, client)) == RESPONSES_CALL


def test_a_streamed_response_that_fails(
    server: FakeServer, client: lowlight.Client, answers: Answers, openai_client: openai.OpenAI
) -> None:
    failed = {
        **RESPONSE,
        "status": "failed",
        "output": [],
        "error": {"code": "server_error", "message": "oh"},
    }
    end = {"type": "response.failed", "sequence_number": 9, "response": failed}
    answers[RESPONSES] = (200, Events([*RESPONSE_EVENTS, end]))
    read_responses(openai_client)
    call = the_call(server, client)
    assert call["error"] == {"type": "server_error", "message": "oh"}


def read_messages(made: anthropic.Anthropic) -> Any:
    list(made.messages.create(**ASK_ANTHROPIC, stream=True))


def read_messages_helper(made: anthropic.Anthropic) -> Any:
    with made.messages.stream(**ASK_ANTHROPIC) as stream:
        assert "".join(stream.text_stream) == "On its way."
        assert stream.get_final_message().usage.output_tokens == 80


def read_messages_raw(made: anthropic.Anthropic) -> Any:
    list(made.messages.with_raw_response.create(**ASK_ANTHROPIC, stream=True).parse())


@pytest.mark.parametrize("read", [read_messages, read_messages_helper, read_messages_raw])
def test_streamed_messages(
    server: FakeServer,
    client: lowlight.Client,
    answers: Answers,
    anthropic_client: anthropic.Anthropic,
    read: Callable[[anthropic.Anthropic], Any],
) -> None:
    answers[ANTHROPIC] = (200, MESSAGE_STREAM)
    read(anthropic_client)
    assert streamed(the_call(server, client)) == ANTHROPIC_CALL


def test_a_streamed_tool_use(
    server: FakeServer, client: lowlight.Client, answers: Answers, anthropic_client: anthropic.Anthropic
) -> None:
    use = {"type": "tool_use", "id": "t1", "name": "find_parcel", "input": {}}
    pieces = [
        {"type": "content_block_start", "index": 0, "content_block": use},
        *(
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "input_json_delta", "partial_json": json},
            }
            for json in ('{"order"', ": 7}")
        ),
    ]
    answers[ANTHROPIC] = (200, Events([MESSAGE_EVENTS[0], *pieces, *MESSAGE_END]))
    read_messages(anthropic_client)
    tool_call = {"id": "t1", "name": "find_parcel", "arguments": {"order": 7}}
    assert the_call(server, client)["output"] == [
        {"role": "assistant", "content": "", "tool_calls": [tool_call]}
    ]


def close_the_stream(made: openai.OpenAI) -> None:
    stream = made.chat.completions.create(**ASK, stream=True)
    next(stream), next(stream)
    stream.close()


def leave_the_with(made: openai.OpenAI) -> None:
    with made.chat.completions.stream(**ASK) as stream:
        for event in stream:
            if event.type == "content.delta" and event.delta:
                break


def raise_in_the_with(made: openai.OpenAI) -> None:
    def fail() -> None:
        with made.chat.completions.create(**ASK, stream=True) as stream:
            for _ in zip(range(2), stream, strict=False):
                pass
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def drop_the_stream(made: openai.OpenAI) -> None:
    for i, _ in enumerate(made.chat.completions.create(**ASK, stream=True)):
        if i == 1:
            break


@pytest.mark.parametrize("leave", [close_the_stream, leave_the_with, raise_in_the_with, drop_the_stream])
def test_a_stream_that_is_left_early_is_aborted(
    server: FakeServer,
    client: lowlight.Client,
    answers: Answers,
    openai_client: openai.OpenAI,
    leave: Callable[[openai.OpenAI], None],
) -> None:
    """What had come by then is the output; closing is noticed without the garbage collector's help.

    Dropping is not: OpenAI's streams refer to themselves. Nobody closes such a stream before it comes by.
    """
    answers[CHAT] = (200, Events(CHAT_CHUNKS, "[DONE]", pause_s=0.3, pause_at=2))
    gc.disable()
    try:
        leave(openai_client)
        if leave is drop_the_stream:
            gc.collect()
        server.wait_for(lambda fake: len(fake.calls) == 1)
    finally:
        gc.enable()
    call = streamed(the_call(server, client))
    assert (call["output"], call["finish_reason"]) == ("On its", "aborted")
    assert "error" not in call


def test_a_stream_that_nobody_reads_is_aborted(
    server: FakeServer, client: lowlight.Client, answers: Answers, openai_client: openai.OpenAI
) -> None:
    """The model was asked, and answers: it costs what any call costs."""
    answers[CHAT] = (200, CHAT_STREAM)
    openai_client.chat.completions.create(**ASK, stream=True)
    gc.collect()
    call = the_call(server, client)
    assert (call["finish_reason"], call["model"], call.get("output")) == ("aborted", "gpt-6-mini", None)


def test_an_aborted_message_and_an_aborted_response(
    server: FakeServer,
    client: lowlight.Client,
    answers: Answers,
    openai_client: openai.OpenAI,
    anthropic_client: anthropic.Anthropic,
) -> None:
    answers[RESPONSES] = (200, Events(RESPONSE_EVENTS, pause_s=0.3, pause_at=4))
    answers[ANTHROPIC] = (200, Events(MESSAGE_EVENTS, pause_s=0.3, pause_at=6))
    with openai_client.responses.create(**ASK_RESPONSES, stream=True) as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                break
    with anthropic_client.messages.stream(**ASK_ANTHROPIC) as messages:
        assert next(messages.text_stream) == "On its"
    assert client.flush(20)
    told = [(c["output"], c["finish_reason"], c["response_id"]) for c in server.calls.values()]
    assert told == [("On its", "aborted", "resp_R1"), ("On its", "aborted", "msg_A1")]


def test_a_stream_that_breaks_has_failed(
    server: FakeServer, client: lowlight.Client, answers: Answers, openai_client: openai.OpenAI
) -> None:
    answers[CHAT] = (200, Events(CHAT_CHUNKS[:2], is_cut=True))
    with pytest.raises(openai.APIConnectionError):
        read_chat(openai_client)
    call = streamed(the_call(server, client))
    assert call["output"] == "On its"
    assert call["error"]["type"] == "RemoteProtocolError"


def test_an_error_inside_a_stream_is_the_calls(
    server: FakeServer, client: lowlight.Client, answers: Answers, anthropic_client: anthropic.Anthropic
) -> None:
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    answers[ANTHROPIC] = (200, Events([*MESSAGE_EVENTS[:6], overloaded]))
    with pytest.raises(anthropic.APIStatusError):
        read_messages(anthropic_client)
    call = streamed(the_call(server, client))
    assert call["error"] == {"type": "overloaded_error", "message": "Overloaded"}
    assert call["output"] == "On its"


def test_a_refused_request_is_a_failed_call(
    server: FakeServer, client: lowlight.Client, answers: Answers, openai_client: openai.OpenAI
) -> None:
    answers[CHAT] = (429, {"error": {"message": "too many", "type": "rate_limit"}})
    with pytest.raises(openai.RateLimitError):
        openai_client.chat.completions.create(**ASK)
    call = the_call(server, client)
    assert (call["error"]["type"], call["model"], call["provider"]) == (
        "RateLimitError",
        "gpt-6-mini",
        "openai",
    )
    assert call["input"] == MESSAGES


def test_raw_responses(
    server: FakeServer, client: lowlight.Client, answers: Answers, openai_client: openai.OpenAI
) -> None:
    answers[CHAT] = (200, chat({"content": "On its way."}))
    raw = openai_client.chat.completions.with_raw_response.create(**ASK)
    assert raw.parse().id == "chatcmpl-C1"
    assert the_call(server, client) == OPENAI_CALL


@pytest.mark.parametrize("how", ["parse", "read", "iter_bytes"])
def test_responses_whose_body_is_read_by_the_application(
    server: FakeServer, client: lowlight.Client, answers: Answers, openai_client: openai.OpenAI, how: str
) -> None:
    answers[CHAT] = (200, chat({"content": "On its way."}))
    with openai_client.chat.completions.with_streaming_response.create(**ASK) as raw:
        assert raw.status_code == 200
        found = getattr(raw, how)()
        if how == "iter_bytes":
            b"".join(found)
    assert the_call(server, client) == OPENAI_CALL


Ask = Callable[[openai.AsyncOpenAI], Awaitable[Any]]


async def acreate(made: openai.AsyncOpenAI) -> None:
    await made.chat.completions.create(**ASK)


async def astream(made: openai.AsyncOpenAI) -> None:
    async for _ in await made.chat.completions.create(**ASK, stream=True):
        pass


async def astream_helper(made: openai.AsyncOpenAI) -> None:
    async with made.chat.completions.stream(**ASK) as stream:
        assert (await stream.get_final_completion()).choices[0].message.content == "On its way."


async def astreaming_response(made: openai.AsyncOpenAI) -> None:
    async with made.chat.completions.with_streaming_response.create(**ASK, stream=True) as raw:
        async for _ in raw.iter_lines():
            pass


async def araw(made: openai.AsyncOpenAI) -> None:
    raw = await made.chat.completions.with_raw_response.create(**ASK)
    assert raw.parse().id == "chatcmpl-C1"


def run_async(client: lowlight.Client, address: str, ask: Ask) -> None:
    async def main() -> None:
        async with openai.AsyncOpenAI(api_key="k", base_url=f"{address}/v1", max_retries=0) as made:
            await ask(client.wrap(made))

    asyncio.run(main())


@pytest.mark.parametrize("ask", [acreate, astream, astream_helper, astreaming_response, araw])
def test_async_clients(
    server: FakeServer, client: lowlight.Client, answers: Answers, address: str, ask: Ask
) -> None:
    answers[CHAT] = (200, chat({"content": "On its way."}) if ask in (acreate, araw) else CHAT_STREAM)
    run_async(client, address, ask)
    call = the_call(server, client)
    assert (call if ask in (acreate, araw) else streamed(call)) == OPENAI_CALL


def test_an_async_anthropic_client(
    server: FakeServer, client: lowlight.Client, answers: Answers, address: str
) -> None:
    answers[ANTHROPIC] = (200, MESSAGE_STREAM)

    async def main() -> None:
        made = client.wrap(anthropic.AsyncAnthropic(api_key="k", base_url=address, max_retries=0))
        async with made, made.messages.stream(**ASK_ANTHROPIC) as stream:
            assert await stream.get_final_text() == "On its way."

    asyncio.run(main())
    assert streamed(the_call(server, client)) == ANTHROPIC_CALL


async def cancel_the_request(made: openai.AsyncOpenAI) -> None:
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(astream(made), 0.3)


async def close_the_async_stream(made: openai.AsyncOpenAI) -> None:
    stream = await made.chat.completions.create(**ASK, stream=True)
    await anext(stream), await anext(stream)
    await stream.close()


@pytest.mark.parametrize("leave", [cancel_the_request, close_the_async_stream])
def test_an_async_stream_that_is_left_early_is_aborted(
    server: FakeServer, client: lowlight.Client, answers: Answers, address: str, leave: Ask
) -> None:
    answers[CHAT] = (200, Events(CHAT_CHUNKS, "[DONE]", pause_s=2.0, pause_at=2))
    run_async(client, address, leave)
    call = streamed(the_call(server, client))
    assert (call["output"], call["finish_reason"]) == ("On its", "aborted")


def test_copies_and_resources_made_before_are_wrapped_too_and_nothing_twice(
    server: FakeServer, client: lowlight.Client, answers: Answers, address: str
) -> None:
    answers[CHAT] = (200, chat({"content": "On its way."}))
    made = openai.OpenAI(api_key="k", base_url=f"{address}/v1")
    completions = made.chat.completions
    assert client.wrap(client.wrap(made)) is made
    completions.create(**ASK)
    made.with_options(timeout=5).chat.completions.create(**ASK)
    made.copy().with_options(max_retries=1).chat.completions.create(**ASK)
    assert client.flush(20)
    assert len(server.calls) == 3


@pytest.mark.parametrize("is_async", [False, True])
def test_a_stream_handed_out_by_an_observed_function_is_its_answer(
    server: FakeServer, client: lowlight.Client, answers: Answers, address: str, is_async: bool
) -> None:
    answers[CHAT] = (200, CHAT_STREAM)

    @client.observe(prompt="support", tags={"tenant": "acme"})
    def answer(question: str) -> Any:
        made = client.wrap(openai.OpenAI(api_key="k", base_url=f"{address}/v1"))
        return made.chat.completions.create(**ASK, stream=True)

    @client.observe(prompt="support", tags={"tenant": "acme"})
    async def aanswer(question: str) -> Any:
        made = client.wrap(openai.AsyncOpenAI(api_key="k", base_url=f"{address}/v1"))
        return await made.chat.completions.create(**ASK, stream=True)

    async def main() -> None:
        async for _ in await aanswer("Where?"):
            pass

    asyncio.run(main()) if is_async else list(answer("Where?"))
    told = {"input": "Where?", "prompt": {"name": "support"}, "tags": {"tenant": "acme"}}
    assert streamed(the_call(server, client)) == {**OPENAI_CALL, **told}


def test_another_server_of_that_protocol_can_be_named(
    server: FakeServer, client: lowlight.Client, answers: Answers, address: str
) -> None:
    answers[CHAT] = (200, chat({"content": "On its way."}))
    made = client.wrap(openai.OpenAI(api_key="k", base_url=f"{address}/v1"), provider="vllm")
    made.chat.completions.create(**ASK)
    assert the_call(server, client) == {**OPENAI_CALL, "provider": "vllm"}


def test_other_requests_are_none_of_its_business(
    server: FakeServer, client: lowlight.Client, answers: Answers, anthropic_client: anthropic.Anthropic
) -> None:
    answers["/v1/messages/count_tokens"] = (200, {"input_tokens": 7})
    assert anthropic_client.messages.count_tokens(model="m", messages=MESSAGES).input_tokens == 7
    assert client.flush(20)
    assert server.calls == {}


def test_what_cannot_be_wrapped_is_returned_and_named(
    client: lowlight.Client, caplog: pytest.LogCaptureFixture
) -> None:
    thing = object()
    assert client.wrap(thing) is thing
    assert "cannot wrap a object" in caplog.text


def test_a_wrapped_client_works_where_lowlight_does_not(answers: Answers, address: str) -> None:
    answers[CHAT] = (200, CHAT_STREAM)
    with lowlight.Client("http://127.0.0.1:1", enabled=False) as client:
        made = client.wrap(openai.OpenAI(api_key="k", base_url=f"{address}/v1"))
        assert len(read_chat(made)) == 5
        client.record = None  # type: ignore[method-assign, assignment]
        assert len(read_chat(made)) == 5


class Parcel(pydantic.BaseModel):
    """What the answers below are to be parsed into."""

    place: str


@pytest.mark.parametrize(
    ("content", "finish_reason", "error"),
    [
        ("On its way.", "stop", pydantic.ValidationError),
        ('{"place": "Leip', "length", openai.LengthFinishReasonError),
        (None, "content_filter", openai.ContentFilterFinishReasonError),
    ],
)
def test_an_answer_that_cannot_be_parsed_is_a_failed_call_with_what_was_said(
    server: FakeServer,
    client: lowlight.Client,
    answers: Answers,
    asked: Asked,
    openai_client: openai.OpenAI,
    content: str | None,
    finish_reason: str,
    error: type[Exception],
) -> None:
    """It was paid for, and its text is the cause: an error alone would hide both."""
    answers[CHAT] = (200, chat({"content": content}, finish_reason))
    with pytest.raises(error):
        openai_client.chat.completions.parse(**ASK, response_format=Parcel)
    call = the_call(server, client)
    assert call.pop("error")["type"] == error.__name__
    expected = {**OPENAI_CALL, "output": content or "", "finish_reason": finish_reason}
    assert call == expected
    [(_path, _headers, body)] = asked.requests
    assert body["response_format"]["json_schema"]["name"] == "Parcel"


def test_a_message_that_cannot_be_parsed_says_what_was_said(
    server: FakeServer, client: lowlight.Client, answers: Answers, anthropic_client: anthropic.Anthropic
) -> None:
    answers[ANTHROPIC] = (200, message([{"type": "text", "text": "On its way."}], "end_turn"))
    with pytest.raises(pydantic.ValidationError):
        anthropic_client.messages.parse(**ASK_ANTHROPIC, output_format=Parcel)
    call = the_call(server, client)
    assert call.pop("error")["type"] == "ValidationError"
    assert call == ANTHROPIC_CALL


@pytest.mark.parametrize("bytes_read", [0, 10])
def test_a_body_that_is_not_read_to_its_end_is_aborted(
    server: FakeServer,
    client: lowlight.Client,
    answers: Answers,
    anthropic_client: anthropic.Anthropic,
    bytes_read: int,
) -> None:
    answers[ANTHROPIC] = (200, message([{"type": "text", "text": "On its way." * 1_000}], "end_turn"))
    with anthropic_client.messages.with_streaming_response.create(**ASK_ANTHROPIC) as raw:
        if bytes_read:
            next(raw.iter_bytes(bytes_read))
    call = the_call(server, client)
    assert call["finish_reason"] == "aborted"
    assert not {"output", "error", "usage"} & call.keys()


def test_a_body_that_is_read_past_the_watch_is_none_that_was_left(
    server: FakeServer, client: lowlight.Client, answers: Answers, anthropic_client: anthropic.Anthropic
) -> None:
    """As it came over the wire, compressed perhaps: what was said is not known, and nothing was aborted."""
    answers[ANTHROPIC] = (200, message([{"type": "text", "text": "On its way."}], "end_turn"))
    with anthropic_client.messages.with_streaming_response.create(**ASK_ANTHROPIC) as raw:
        assert b"On its way." in b"".join(raw.http_response.iter_raw())
    assert "finish_reason" not in the_call(server, client)
