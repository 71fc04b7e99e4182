"""The client: takes calls and signals from the application's threads and never holds them up.

Flow: `record()`, `wrap`, `observe`, `call` -> one entry of plain values -> `_delivery` -> the server.
"""

import os
import sys
import time
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Mapping,
    NoReturn,
    Optional,
    Sequence,
    Tuple,
    TypeVar,
    Union,
    cast,
    overload,
)

from lowlight._calls import OpenCall
from lowlight._context import NOWHERE, Context, Scope, current, span_ids
from lowlight._delivery import Delivery
from lowlight._held import MESSAGE_BYTES, OBJECT_BYTES, copied, error_of, held, list_bytes, size_of
from lowlight._ids import given_id, moment, new_id, tails
from lowlight._never import never_raises
from lowlight._process import importing

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lowlight._fields import CallFields, ScopeFields

#: What an entry weighs beside its texts.
ENTRY_BYTES = 1_000
_now_s = time.time
_getpid = os.getpid
_modules = sys.modules

Function = TypeVar("Function", bound=Callable[..., Any])
ProviderClient = TypeVar("ProviderClient")


def _id_of(named: Dict[str, Any]) -> str:
    given = named.get("id")
    return new_id() if given is None else given_id(given)


class Client(Delivery):
    """One connection to one Lowlight server. Most applications use the module's functions instead.

    Safe to use from any thread and after a fork (a child starts with an empty queue). No method raises.

    Args:
        url: the server; default LOWLIGHT_URL, else http://127.0.0.1:4545.
        key: default LOWLIGHT_KEY; none is needed on a server without keys.
        enabled: False makes every method a no-op that still returns ids; default LOWLIGHT_ENABLED, else True.
        environment: put on every call that names none ("production"); default LOWLIGHT_ENVIRONMENT.
        release: likewise ("2026-11-22.1", a git hash); default LOWLIGHT_RELEASE.
        sample: the share of sessions that is sent, 0 to 1; calls that failed are sent in any case; default
            LOWLIGHT_SAMPLE, else all.
        capture_content: False sends how long each text is and its SHA-256 instead of the text.
        redact: a function that gets each text and returns what may leave the process instead; runs in the
            background thread. A text that it fails for is withheld.
        spool: a folder that keeps what could not be sent until it can, over the end of the process too;
            default LOWLIGHT_SPOOL, else none.
        spool_bytes_max: what the folder may hold, all processes together; default 256 MiB.
        timeout_s: for connecting to the server and for each wait on its answer.
        linger_s: how long a call waits for others to share a request with.
        items_max: calls and signals held at most, those being sent included; the newest beyond are dropped.
        bytes_max: about how many bytes they may hold.
    """

    def record(
        self,
        response: Any = None,
        *excess: NoReturn,
        input: Union[str, Sequence[Any], None] = None,
        output: Union[str, Sequence[Any], None] = None,
        model: Optional[str] = None,
        provider: Optional[str] = None,
        latency_ms: Optional[float] = None,
        first_token_ms: Optional[float] = None,
        started_at: Any = None,
        prompt: Union[str, Tuple[str, Any], Mapping[str, Any], None] = None,
        context: Union[str, Sequence[Any], None] = None,
        user_id: Union[str, int, None] = None,
        session_id: Union[str, int, None] = None,
        environment: Optional[str] = None,
        release: Optional[str] = None,
        tags: Optional[Mapping[str, Any]] = None,
        tools: Optional[Sequence[Any]] = None,
        usage: Any = None,
        cost_usd: Optional[float] = None,
        error: Any = None,
        finish_reason: Optional[str] = None,
        retries: Optional[int] = None,
        id: Optional[str] = None,
        trace_id: Optional[str] = None,
        span_id: Optional[str] = None,
        response_id: Optional[str] = None,
        sample_rate: Optional[float] = None,
        **unknown: NoReturn,
    ) -> str:
        """Keep one LLM response of production; return the call's id, to send signals about it later.

        Takes a few microseconds and never waits for the network: a background thread sends. Output, model,
        provider, tokens, finish reason, response id and called tools are read from `response`; an
        argument given beside it wins.

            call_id = lowlight.record(response, input=messages, latency_ms=812.5, user_id=user.id)
            lowlight.record(input="2+2?", output="4", model="our-own", provider="vllm", latency_ms=40)
            lowlight.record(input=messages, model="gpt-6-mini", error=exception, latency_ms=30_000)

        Anthropic keeps the system prompt apart; put it first, so that the critic sees what the model saw:
        `input=[{"role": "system", "content": system}, *messages]`.

        Args:
            response: an openai ChatCompletion, Response or Completion, an anthropic Message, a dict of one, a
                string; None where there is none.
            input: what the model was asked, a text or the list of messages. The list is copied; its messages
                must not be changed afterwards.
            output: what the user saw; default: read from `response`.
            model: as the provider names it.
            provider: "openai", "anthropic", ...; name it for servers that only speak OpenAI's protocol.
            latency_ms: from sending the request to the last token, milliseconds.
            first_token_ms: to the first token, milliseconds, for streams.
            started_at: a datetime (without a zone: local time), time.time() or ISO 8601; default: now less
                `latency_ms`.
            prompt: the prompt's name, ("name", "version"), or {"name", "version"}.
            context: what the answer should rest on: the retrieved document's text, or a list of them.
            user_id: the application's own id of the person; not a mail address where it can be helped.
            session_id: the conversation.
            environment: overrides the client's.
            release: overrides the client's.
            tags: anything else to group by, {"tenant": "acme"}.
            tools: names of the tools that the response called; default: read from `response`.
            usage: {"input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens"}, or the
                provider's own object.
            cost_usd: US dollars.
            error: the exception, or {"type", "message"}; makes the call a failed one.
            finish_reason: the provider's word for why it stopped; "aborted" where the user stopped it.
            retries: how often the request was repeated before this answer.
            id: the call's id; default: a new UUIDv7. The server keeps an id once. One of over 128 characters
                becomes its SHA-256.
            trace_id: of the OpenTelemetry span around the call, likewise span_id.
            span_id: see trace_id.
            response_id: the provider's id of the response; default: read from it.
            sample_rate: where the application samples, the share of such calls it records, 0 < rate <= 1.
            excess: there are no such arguments. They are left out and named in the log, as whatever else
                cannot be used is: a mistake in a call of `record` must not be one of the application.
            unknown: see excess.
        """
        # Written out in one piece: the first call after a pause finds nothing of this in the processor's
        # caches, and each function that it calls then costs a microsecond or two. What is usual is here, all
        # else in functions.
        outbox = self._outbox
        if outbox.pid != _getpid():
            self.restart()
        at_s = _now_s()
        try:  # as `new_id` does
            call_id = moment.head + tails.pop() if moment.from_s <= at_s < moment.until_s else new_id(at_s)
        except IndexError:
            call_id = new_id(at_s)
        if id is not None:
            call_id = given_id(id)
        try:
            if not self._is_open and not self._open():
                return call_id
            scope = current()
            if scope is not NOWHERE:
                user_id, session_id, prompt, tags, context, environment, release = scope.fill(
                    user_id, session_id, prompt, tags, context, environment, release
                )
            if "opentelemetry.trace" in _modules and trace_id is None and span_id is None:
                trace_id, span_id = span_ids()
            if error is not None:
                error = error_of(error)
            if self._samples and error is None:
                sample_rate = self._sampled(response, sample_rate, session_id, trace_id, call_id)
                if sample_rate == 0.0:
                    return call_id
            size = ENTRY_BYTES
            if response is not None:
                try:
                    choices = response.choices
                    if type(choices) is not list:
                        raise TypeError("no chat completion")
                    for choice in choices:
                        content = choice.message.content
                        size += len(content) if content.isascii() else size_of(content)
                    size += OBJECT_BYTES
                except Exception:
                    response, more = held(response)
                    size += more
            if type(input) is list:
                input = input[:]
                more = 0
                for message in input:
                    content = message.get("content") if type(message) is dict else None
                    if type(content) is not str or not content.isascii():
                        more = list_bytes(input)
                        break
                    more += MESSAGE_BYTES + len(content)
                size += more
            elif input is not None:
                input, more = held(input)
                size += more
            if output is not None:
                output, more = held(output)
                size += more
            if context is not None:
                context, more = held(context)
                size += more
            if tags is not None:
                tags = tags.copy() if type(tags) is dict else copied(tags)
            if prompt is not None and type(prompt) is not tuple:
                prompt = copied(prompt)
            if tools is not None:
                tools = copied(tools)
            # fmt: off
            entry = (  # in the order of CALL_FIELDS, and in its rows
                "calls", size,
                call_id, at_s, response, input, output, model, provider, latency_ms,
                first_token_ms, started_at, prompt, context, user_id, session_id, environment,
                release, tags, tools, usage, cost_usd, error, finish_reason, retries,
                trace_id, span_id, response_id, sample_rate,
            )
            # fmt: on
            waiting = outbox.waiting
            n = len(waiting)
            if n < outbox.easy_n and outbox.held_bytes + size < outbox.easy_bytes:
                outbox.held_bytes += size
                waiting.append(entry)
                if n >= outbox.ring_from_n:
                    outbox.ring()
            else:
                self._put(entry)
            if excess or unknown:
                self._failed("record", TypeError(f"no such arguments: {len(excess)} more, {sorted(unknown)}"))
        except Exception as problem:
            self._failed("record", problem)
        return call_id

    @never_raises(_id_of)
    def signal(
        self,
        kind: str,
        *,
        call_id: Optional[str] = None,
        response_id: Optional[str] = None,
        trace_id: Optional[str] = None,
        span_id: Optional[str] = None,
        session_id: Union[str, int, None] = None,
        value: Optional[float] = None,
        value_min: Optional[float] = None,
        value_max: Optional[float] = None,
        comment: Optional[str] = None,
        at: Any = None,
        id: Optional[str] = None,
    ) -> str:
        """Keep what a user did about a call, at once or days later; return the signal's id.

            lowlight.signal("thumbs_down", call_id=call_id, comment="wrong address")
            lowlight.signal("rating", call_id=call_id, value=2)
            lowlight.signal("abandon", session_id=conversation.id)

        Args:
            kind: thumbs_up, thumbs_down, rating, regenerate, rephrase, edit, copy, abandon, escalate, or a
                name of your own (letters, digits and _.:-).
            call_id: what `record` returned. Or name the call by one of the next three.
            response_id: the provider's id of the response.
            trace_id: the span around the call, together with span_id.
            span_id: see trace_id.
            session_id: means the session's last call before `at`.
            value: a rating's value.
            value_min: a rating's range; default 1 to 5.
            value_max: see value_min.
            comment: the user's own words.
            at: when; a datetime, time.time() or ISO 8601; default: now.
            id: the signal's id; default: a new UUIDv7. The server keeps an id once.
        """
        self.notice_fork()
        signal_id = new_id() if id is None else given_id(id)
        if not self._is_open and not self._open():
            return signal_id
        if call_id is None and response_id is None and trace_id is None and session_id is None:
            session_id = current().session_id
        size = ENTRY_BYTES + held(comment)[1]
        # fmt: off
        entry = (  # in the order of SIGNAL_FIELDS, and in its rows
            "signals", size,
            signal_id, _now_s(), kind, call_id, response_id, trace_id, span_id, session_id,
            value, value_min, value_max, comment, at,
        )
        # fmt: on
        self._put(entry)
        return signal_id

    @never_raises(lambda named: Context(named))
    def context(self, **fields: "Unpack[ScopeFields]") -> Context:
        """Say what the code inside knows of its calls: whatever is recorded there takes it.

            with lowlight.context(session_id=conversation.id, user_id=user.id, tags={"tenant": "acme"}):
                answer(question)

        Carried by context variables, so asyncio tasks started inside have it too. Contexts nest; a call's own
        arguments win, tags are put together.

        Args:
            fields: user_id, session_id, prompt, tags, context (retrieved documents), environment, release;
                see `record`.
        """
        unknown = fields.keys() - Scope._fields
        if unknown:
            self._failed("context", TypeError(f"no such arguments: {sorted(unknown)}"))
        return Context(dict(fields))

    @never_raises(lambda _named: OpenCall(_to_nobody, {}))
    def call(self, **fields: "Unpack[CallFields]") -> OpenCall:
        """Time a block that makes one LLM call, and record it at the block's end, however it ends.

            with lowlight.call(input=messages, prompt=("support-answer", "v7")) as call:
                call.set(our_model.answer(messages), model="our-own")
            lowlight.signal("thumbs_up", call_id=call.id)

        An exception makes it a failed call and goes on. `async with` does the same.

        Args:
            fields: those of `record`; `call.set` adds to them.
        """
        self.notice_fork()
        return OpenCall(self.record, dict(fields))

    @overload
    def observe(self, function: Function) -> Function: ...

    @overload
    def observe(
        self, function: None = None, **fields: "Unpack[CallFields]"
    ) -> Callable[[Function], Function]: ...

    def observe(self, function: Any = None, **fields: Any) -> Any:
        """Record each run of a function that answers: a plain one, a coroutine, a generator of either kind.

            @lowlight.observe(prompt=("support-answer", "v7"))
            def answer(question: str) -> str: ...

        Its argument is the call's input (several are written as JSON), what it returns or yields the output:
        a text, a response of openai or anthropic, or anything else as JSON. The time to a generator's first
        item is that to the first token; one that is closed early is an aborted call. What it raises makes a
        failed call and goes on.

        Args:
            function: what to observe.
            fields: those of `record` that are the same each time.
        """
        with importing:
            from lowlight._observe import observed

        def decorate(target: Any) -> Any:
            try:
                return observed(self, target, fields)
            except Exception as problem:
                self._failed("observe", problem)
                return target

        return decorate if function is None else decorate(function)

    def wrap(self, client: ProviderClient, *, provider: Optional[str] = None) -> ProviderClient:
        """Record every response of an openai or anthropic client, streamed ones too; return the same client.

            client = lowlight.wrap(openai.OpenAI())

        Its requests go out unchanged, and it answers as before. Copies that `with_options` makes are wrapped
        with it.

        Args:
            client: sync or async, any client built as these packages' are.
            provider: who answers, where that is another server that speaks their protocol: "vllm".
        """
        try:
            with importing:
                from lowlight._wrap import wrapped

            return cast(ProviderClient, wrapped(self, client, provider))
        except Exception as problem:
            self._failed("wrap", problem)
            return client

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.shutdown()


def _to_nobody(**_fields: Any) -> str:
    return ""
