"""Calls told by the code around them: `observe`, `call` and `context`."""

import asyncio
import inspect
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from types import ModuleType, SimpleNamespace
from typing import Any

import lowlight
import openai
import pytest

from tests.sdk.fake_server import FakeServer
from tests.sdk.provider_server import provider
from tests.sdk.test_provider_responses import CHAT, MESSAGES, Answers, chat


def arrived(server: FakeServer, client: lowlight.Client) -> list[dict[str, Any]]:
    """The calls in the order of their arrival."""
    assert client.flush(20)
    return list(server.calls.values())


def test_a_function_is_a_call(server: FakeServer, client: lowlight.Client) -> None:
    @client.observe(prompt=("support-answer", "v7"), model="our-own", tags={"tenant": "acme"})
    def answer(question: str) -> str:
        """Answer a question."""
        return question.upper()

    assert answer("why?") == "WHY?"
    assert (answer.__name__, answer.__doc__) == ("answer", "Answer a question.")
    [call] = arrived(server, client)
    assert (call["input"], call["output"], call["model"]) == ("why?", "WHY?", "our-own")
    assert (call["prompt"], call["tags"]) == ({"name": "support-answer", "version": "v7"}, {"tenant": "acme"})
    assert call["latency_ms"] > 0


def test_an_exception_makes_a_failed_call_and_goes_on(server: FakeServer, client: lowlight.Client) -> None:
    @client.observe
    def answer(question: str) -> str:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        answer("why?")
    [call] = arrived(server, client)
    assert call["error"] == {"type": "ValueError", "message": "broken"}
    assert "output" not in call


@pytest.mark.parametrize(
    ("args", "named", "expected"),
    [
        (("why?",), {}, "why?"),
        ((MESSAGES,), {}, MESSAGES),
        (("why?", "en"), {}, '{"question":"why?","language":"en"}'),
        (("why?",), {"more": 3}, '{"question":"why?","named":{"more":3}}'),
        ((7,), {}, "7"),
        ((object(),), {"language": "en"}, "en"),
        ((object(),), {}, None),
    ],
)
def test_arguments_are_the_input(
    server: FakeServer, client: lowlight.Client, args: Any, named: Any, expected: Any
) -> None:
    @client.observe
    def answer(question: Any, language: Any = None, **named: Any) -> str:
        return "yes"

    answer(*args, **named)
    assert arrived(server, client)[0].get("input") == expected


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"answer": 7}, '{"answer":7}'),
        (chat({"content": "On its way."}), "On its way."),
        (["a", "b"], '["a","b"]'),
        (None, None),
    ],
)
def test_results_are_the_output(
    server: FakeServer, client: lowlight.Client, result: Any, expected: Any
) -> None:
    assert client.observe(lambda: result)() is result
    assert arrived(server, client)[0].get("output") == expected


def test_methods_of_every_kind(server: FakeServer, client: lowlight.Client) -> None:
    class Bot:
        @client.observe
        def plain(self, question: str) -> str:
            return "plain " + question

        @client.observe
        @classmethod
        def of_class(cls, question: str) -> str:
            return "class " + question

        @staticmethod
        @client.observe
        def static(question: str) -> str:
            return "static " + question

    assert [Bot().plain("?"), Bot.of_class("?"), Bot.static("?")] == ["plain ?", "class ?", "static ?"]
    assert [(call["input"], call["output"]) for call in arrived(server, client)] == [
        ("?", "plain ?"),
        ("?", "class ?"),
        ("?", "static ?"),
    ]


def test_a_coroutine_stays_one(server: FakeServer, client: lowlight.Client) -> None:
    @client.observe()
    async def answer(question: str) -> str:
        await asyncio.sleep(0.05)
        if question == "fail":
            raise ValueError("broken")
        return question.upper()

    async def main() -> None:
        assert inspect.iscoroutinefunction(answer)
        assert await asyncio.gather(*map(answer, "abc")) == ["A", "B", "C"]
        with pytest.raises(ValueError, match="broken"):
            await answer("fail")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(answer("slow"), 0.01)
        assert await client.aflush(5)

    asyncio.run(main())
    calls = sorted(arrived(server, client), key=lambda call: str(call["input"]))
    assert [call.get("output") for call in calls] == ["A", "B", "C", None, None]
    assert all(call["latency_ms"] >= 49 for call in calls[:4])
    assert calls[3]["error"]["type"] == "ValueError"
    assert calls[4]["finish_reason"] == "aborted"


def test_a_generator_is_relayed_whole(server: FakeServer, client: lowlight.Client) -> None:
    @client.observe
    def answer(question: str) -> Iterator[str]:
        got = yield "On "
        try:
            yield got
        except KeyError:
            yield "way."
        return "done"  # type: ignore[return-value]

    assert inspect.isgeneratorfunction(answer)
    stream: Any = answer("where?")
    assert (next(stream), stream.send("its "), stream.throw(KeyError())) == ("On ", "its ", "way.")
    with pytest.raises(StopIteration) as stop:
        next(stream)
    assert stop.value.value == "done"
    [call] = arrived(server, client)
    assert (call["input"], call["output"]) == ("where?", "On its way.")
    assert 0 < call["first_token_ms"] <= call["latency_ms"]


def test_generators_that_are_closed_or_fail(server: FakeServer, client: lowlight.Client) -> None:
    closed = []

    @client.observe
    def answer(fails: bool) -> Iterator[str]:
        try:
            yield "On "
            if fails:
                raise ValueError("broken")
            yield "its"
        finally:
            closed.append(fails)

    stream: Any = answer(False)
    next(stream)
    stream.close()
    assert closed == [False]
    with pytest.raises(ValueError, match="broken"):
        list(answer(True))
    for _ in answer(False):
        break  # the for statement drops it, which closes it
    first, second, third = arrived(server, client)
    assert (first["output"], first["finish_reason"]) == ("On ", "aborted")
    assert (second["output"], second["error"]["type"]) == ("On ", "ValueError")
    assert third["finish_reason"] == "aborted"


def test_async_generators(server: FakeServer, client: lowlight.Client) -> None:
    @client.observe
    async def answer(question: str) -> AsyncIterator[str]:
        for word in ("On ", "its ", "way."):
            await asyncio.sleep(0)
            yield word

    assert inspect.isasyncgenfunction(answer)  # as FastAPI asks of a dependency

    async def main() -> None:
        assert [word async for word in answer("where?")] == ["On ", "its ", "way."]
        stream: Any = answer("where?")
        await anext(stream)
        await stream.aclose()

    asyncio.run(main())
    whole, part = arrived(server, client)
    assert (whole["input"], whole["output"]) == ("where?", "On its way.")
    assert (part["output"], part["finish_reason"]) == ("On ", "aborted")


@pytest.mark.parametrize("target", [dict, 7, None.__class__])
def test_what_is_no_function_is_returned_and_named(
    client: lowlight.Client, caplog: pytest.LogCaptureFixture, target: Any
) -> None:
    """A class above all: one in its place could not be inherited from, nor asked for by isinstance."""
    assert client.observe(target) is target
    assert "it takes functions and methods" in caplog.text


def test_a_plain_function_may_hand_out_what_still_runs(server: FakeServer, client: lowlight.Client) -> None:
    async def coroutine() -> str:
        return "later"

    assert list(client.observe(lambda: (word for word in ("a", "b")))()) == ["a", "b"]

    async def stream() -> AsyncIterator[str]:
        yield "c"
        yield "d"

    async def whole(words: AsyncIterator[str]) -> list[str]:
        return [word async for word in words]

    assert asyncio.run(client.observe(lambda: coroutine())()) == "later"
    assert asyncio.run(whole(client.observe(lambda: stream())())) == ["c", "d"]
    assert [call["output"] for call in arrived(server, client)] == ["ab", "later", "cd"]


def test_a_block_is_a_call(server: FakeServer, client: lowlight.Client) -> None:
    with client.call(input=MESSAGES, prompt="faq", id="mine") as call:
        call.first_token()
        call.set("On its way.", model="our-own", usage={"output_tokens": 3})
    assert call.id == "mine"
    with pytest.raises(KeyError), client.call(model="our-own") as failed:
        raise KeyError("x")
    first, second = arrived(server, client)
    assert (first["id"], first["output"], first["model"]) == ("mine", "On its way.", "our-own")
    assert 0 < first["first_token_ms"] <= first["latency_ms"]
    assert (second["id"], second["error"]["type"]) == (failed.id, "KeyError")


def test_a_block_in_async_code(server: FakeServer, client: lowlight.Client) -> None:
    async def main() -> None:
        async with client.call() as call:
            call.set(output="4")

    asyncio.run(main())
    assert arrived(server, client)[0]["output"] == "4"


def test_misuse_of_a_block_or_context_does_not_raise(server: FakeServer, client: lowlight.Client) -> None:
    with client.call(no_such=1) as call, client.context(no_such=2):  # type: ignore[call-arg]
        call.set(output="4", nothing_like_it=3)  # type: ignore[call-arg]
    call.close()
    call.__exit__(None, None, None)
    client.context().__exit__()
    assert client.observe(7)  # type: ignore[call-overload]
    assert [call["output"] for call in arrived(server, client)] == ["4"]


def test_a_context_says_what_calls_do_not(server: FakeServer, client: lowlight.Client) -> None:
    outer = {"user_id": "u", "session_id": "s", "tags": {"tenant": "acme", "plan": "free"}}
    with client.context(**outer, prompt=("faq", "v1"), context=["a document"]):  # type: ignore[arg-type]
        client.record("1")
        with client.context(session_id="s2", tags={"plan": "paid"}, release="r7", environment="test"):
            client.record("2", user_id="me", tags={"more": "yes"}, prompt="other")
        client.signal("copy")
    client.record("3")
    one, two, three = arrived(server, client)
    assert (one["user_id"], one["session_id"], one["tags"]) == tuple(outer.values())
    assert (one["prompt"], one["context"]) == ({"name": "faq", "version": "v1"}, ["a document"])
    assert (two["user_id"], two["session_id"], two["prompt"]) == ("me", "s2", {"name": "other"})
    assert two["tags"] == {"tenant": "acme", "plan": "paid", "more": "yes"}
    assert (two["release"], two["environment"]) == ("r7", "test")
    assert set(three) == {"id", "started_at", "output"}
    assert [signal["session_id"] for signal in server.signals.values()] == ["s"]


def test_contexts_of_tasks_and_threads_stay_apart(server: FakeServer, client: lowlight.Client) -> None:
    async def task(n: int) -> None:
        with client.context(session_id=n):
            await asyncio.sleep(0.001 * (5 - n))
            client.record(str(n))

    async def main() -> None:
        await asyncio.gather(*(task(n) for n in range(5)))

    asyncio.run(main())
    with client.context(session_id="outer"):
        thread = threading.Thread(target=client.record, args=("new thread",))
        thread.start()
        thread.join()
        with ThreadPoolExecutor() as pool:
            pool.submit(copy_context().run, client.record, "with the context").result()
    told = {call["output"]: call.get("session_id") for call in arrived(server, client)}
    assert told == {**{str(n): str(n) for n in range(5)}, "new thread": None, "with the context": "outer"}


def test_a_context_left_elsewhere_than_entered_harms_nothing(
    server: FakeServer, client: lowlight.Client
) -> None:
    context = client.context(session_id="s")
    copy_context().run(context.__enter__)
    context.__exit__(None, None, None)
    client.record("4")
    assert "session_id" not in arrived(server, client)[0]


@pytest.fixture
def model(client: lowlight.Client) -> Iterator[Any]:
    """A wrapped client that answers "On its way."."""
    answers: Answers = {CHAT: (200, chat({"content": "On its way."}))}
    with provider(answers) as url, openai.OpenAI(api_key="k", base_url=f"{url}/v1", max_retries=0) as made:

        def ask(**more: Any) -> str:
            completions = client.wrap(made).chat.completions
            response = completions.create(model="m", messages=MESSAGES, **more)
            return str(response.choices[0].message.content)

        ask.answers = answers  # type: ignore[attr-defined]
        yield ask


def test_one_response_is_one_call(server: FakeServer, client: lowlight.Client, model: Any) -> None:
    """A wrapped client's only response inside an observed function and the function's run are one."""

    @client.observe(prompt="support")
    def answer(question: str) -> str:
        return "Dear customer: " + model()

    with client.context(session_id="s"):
        answer("where?")
        with client.call(input="asked by hand") as call:
            model()
    first, second = arrived(server, client)
    assert (first["input"], first["output"]) == ("where?", "Dear customer: On its way.")
    assert (first["provider"], first["response_id"]) == ("openai", "chatcmpl-C1")
    assert (first["usage"]["input_tokens"], first["prompt"]) == (1200, {"name": "support"})
    assert (second["id"], second["input"], second["output"]) == (call.id, "asked by hand", "On its way.")
    assert first["session_id"] == second["session_id"] == "s"


def test_several_responses_are_several_calls(server: FakeServer, client: lowlight.Client, model: Any) -> None:
    @client.observe
    def answer(question: str) -> str:
        return model() + " " + model() + " " + model()

    answer("where?")
    calls = arrived(server, client)
    assert [call["output"] for call in calls] == ["On its way."] * 3 + [" ".join(["On its way."] * 3)]
    assert "response_id" not in calls[-1]


def test_a_failed_response_is_told_once(server: FakeServer, client: lowlight.Client, model: Any) -> None:
    model.answers[CHAT] = (500, {"error": {"message": "oh"}})

    @client.observe
    def fails(question: str) -> str:
        return str(model())

    @client.observe
    def falls_back(question: str) -> str:
        try:
            return str(model())
        except openai.InternalServerError:
            return "Please call us."

    with pytest.raises(openai.InternalServerError):
        fails("where?")
    falls_back("where?")
    first, second, third = arrived(server, client)
    assert (first["error"]["type"], first["provider"]) == ("InternalServerError", "openai")
    assert second["error"]["type"] == "InternalServerError"
    assert (third["output"], third.get("error")) == ("Please call us.", None)


class Span:
    """A current span as opentelemetry's API gives it out."""

    def get_span_context(self) -> Any:
        return SimpleNamespace(trace_id=0xABC, span_id=0xDEF, is_valid=True)


def test_the_ids_of_the_current_span_are_taken(
    server: FakeServer, client: lowlight.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = ModuleType("opentelemetry.trace")
    trace.get_current_span = Span  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", trace)
    client.record("1")
    client.record("2", trace_id="t", span_id="u")
    monkeypatch.setattr(trace, "get_current_span", lambda: None)
    client.record("3")
    one, two, three = arrived(server, client)
    assert (one["trace_id"], one["span_id"]) == (f"{0xABC:032x}", f"{0xDEF:016x}")
    assert (two["trace_id"], two["span_id"]) == ("t", "u")
    assert "trace_id" not in three


def test_the_real_opentelemetry_is_understood(server: FakeServer, client: lowlight.Client) -> None:
    trace = pytest.importorskip("opentelemetry.trace")
    context = trace.SpanContext(0xABC, 0xDEF, is_remote=False)
    with trace.use_span(trace.NonRecordingSpan(context)):
        client.record("4")
    client.record("5")
    inside, outside = arrived(server, client)
    assert (inside["trace_id"], inside["span_id"]) == (f"{0xABC:032x}", f"{0xDEF:016x}")
    assert "trace_id" not in outside
