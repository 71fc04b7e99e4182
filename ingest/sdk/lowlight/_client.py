"""The client: takes calls and signals from the application's threads and never holds them up.

Flow: `record()` -> `_queue.Outbox` -> the thread of `_sender.Sender` -> the server. A client opens (reads its
settings, starts its thread) at its first use, so that importing and making one does nothing.
"""

import os
import threading
import time
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Sequence, Tuple, Union

from lowlight._config import Config, read_config
from lowlight._held import copied, error_of, held_bytes
from lowlight._ids import given_id, new_id
from lowlight._never import never_raises
from lowlight._process import EXIT_TIMEOUT_S, attend, forget, importing
from lowlight._queue import BYTES_MAX, ITEMS_MAX, Outbox
from lowlight._tally import Tally

if TYPE_CHECKING:
    from lowlight._sender import Sender

#: What an entry weighs beside its texts.
ENTRY_BYTES = 1_000


def _id_of(named: Dict[str, Any]) -> str:
    given = named.get("id")
    return new_id() if given is None else given_id(given)


class Client:
    """One connection to one Lowlight server. Most applications use the module's functions instead.

    Safe to use from any thread and after a fork (a child starts with an empty queue). No method raises.

    Args:
        url: the server; default LOWLIGHT_URL, else http://127.0.0.1:4545.
        key: default LOWLIGHT_KEY; none is needed on a server without keys.
        enabled: False makes every method a no-op that still returns ids; default LOWLIGHT_ENABLED, else True.
        environment: put on every call that names none ("production"); default LOWLIGHT_ENVIRONMENT.
        release: likewise ("2026-11-22.1", a git hash); default LOWLIGHT_RELEASE.
        timeout_s: for connecting to the server and for each wait on its answer.
        linger_s: how long a call waits for others to share a request with.
        items_max: calls and signals held at most, those being sent included; the newest beyond are dropped.
        bytes_max: about how many bytes they may hold.
    """

    def __init__(
        self,
        url: Optional[str] = None,
        key: Optional[str] = None,
        *,
        enabled: Optional[bool] = None,
        environment: Optional[str] = None,
        release: Optional[str] = None,
        timeout_s: float = 10.0,
        linger_s: float = 0.5,
        items_max: int = ITEMS_MAX,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        self.tally = Tally()
        self._arguments: Tuple[Any, ...] = (url, key, enabled, environment, release, timeout_s)
        self._bounds = (items_max, bytes_max, linger_s)
        self._opening = threading.RLock()
        self._config: Optional[Config] = None
        self._outbox = Outbox(*self._bounds)
        self._sender: Optional["Sender"] = None  # made by its own thread
        self._thread: Optional[threading.Thread] = None

    @never_raises(_id_of)
    def record(
        self,
        response: Any = None,
        *,
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
    ) -> str:
        """Keep one LLM response of production; return the call's id, to send signals about it later.

        Takes a few microseconds and never waits for the network: a background thread sends. Output, model,
        provider, tokens, finish reason, response id and called tools are read from `response`; an
        argument given beside it wins.

            began = time.perf_counter()
            response = openai_client.chat.completions.create(model="gpt-6-mini", messages=messages)
            call_id = lowlight.record(
                response,
                input=messages,
                latency_ms=(time.perf_counter() - began) * 1000,
                prompt=("support-answer", "v7"),
                context=[document.text for document in retrieved],
                user_id=user.id,
                session_id=conversation.id,
            )

        Anthropic keeps the system prompt apart; put it first, so that the critic sees what the model saw:

            asked = [{"role": "system", "content": system}, *messages]
            lowlight.record(message, input=asked, latency_ms=812.5)

        Plain texts, and a call that failed:

            lowlight.record(input="2+2?", output="4", model="our-own", provider="vllm", latency_ms=40)
            lowlight.record(input=messages, model="gpt-6-mini", error=exception, latency_ms=30_000)

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
            id: the call's id, at most 128 characters; default: a new UUIDv7. The server keeps an id once.
            trace_id: of the OpenTelemetry span around the call, likewise span_id.
            span_id: see trace_id.
            response_id: the provider's id of the response; default: read from it.
            sample_rate: where the application samples, the share of such calls it records, 0 < rate <= 1.
        """
        call_id = new_id() if id is None else given_id(id)
        config = self._config or self._settings()
        if not config.enabled:
            return call_id
        fields = {
            "id": call_id,
            "recorded_at_s": time.time(),
            "response": copied(response),
            "input": copied(input),
            "output": copied(output),
            "model": model,
            "provider": provider,
            "latency_ms": latency_ms,
            "first_token_ms": first_token_ms,
            "started_at": started_at,
            "prompt": copied(prompt),
            "context": copied(context),
            "user_id": user_id,
            "session_id": session_id,
            "environment": environment,
            "release": release,
            "tags": copied(tags),
            "tools": copied(tools),
            "usage": usage,
            "cost_usd": cost_usd,
            "error": None if error is None else error_of(error),
            "finish_reason": finish_reason,
            "retries": retries,
            "trace_id": trace_id,
            "span_id": span_id,
            "response_id": response_id,
            "sample_rate": sample_rate,
        }
        self._put(config, "calls", fields, (response, input, output, context))
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
        signal_id = new_id() if id is None else given_id(id)
        config = self._config or self._settings()
        if not config.enabled:
            return signal_id
        fields = {
            "id": signal_id,
            "recorded_at_s": time.time(),
            "kind": kind,
            "call_id": call_id,
            "response_id": response_id,
            "trace_id": trace_id,
            "span_id": span_id,
            "session_id": session_id,
            "value": value,
            "value_min": value_min,
            "value_max": value_max,
            "comment": comment,
            "at": at,
        }
        self._put(config, "signals", fields, (comment,))
        return signal_id

    @never_raises(lambda _named: None)
    def init(
        self,
        url: Optional[str] = None,
        key: Optional[str] = None,
        *,
        enabled: Optional[bool] = None,
        environment: Optional[str] = None,
        release: Optional[str] = None,
        timeout_s: float = 10.0,
    ) -> None:
        """Set the client up by hand; optional, for the environment says the same.

        What was recorded before is sent first, under the old settings (two seconds at most). An argument that
        is left out comes from its environment variable; see `Client` for them.

            lowlight.init(url="https://lowlight.example.com", key="...", environment="production")
        """
        self._reopen((url, key, enabled, environment, release, timeout_s))

    @never_raises(lambda _named: False)
    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until everything recorded so far was answered by the server (kept or refused) or dropped.

        Returns:
            False where that took longer than `timeout_s` seconds; it goes on in the background then.
        """
        if self._outbox.pid != os.getpid():
            self.restart()
        return self._outbox.flush(timeout_s)

    @never_raises(lambda _named: False)
    def shutdown(self, timeout_s: float = EXIT_TIMEOUT_S) -> bool:
        """Send what is left within `timeout_s` seconds, then end the thread; later calls are dropped.

        Runs by itself when the process ends. What could not be sent is counted and logged.

        Returns:
            Whether everything was sent.
        """
        if self._outbox.pid != os.getpid():
            self.restart()
        self._outbox.stop()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(timeout_s, 0.0))
        forget(self)
        n = self._outbox.abandon()
        if n:
            url = self._config.url if self._config is not None else "the server"
            self.tally.drop(
                "shutdown", n, f"{url} had not taken them after {timeout_s:.1f} s, when the client ended"
            )
        return n == 0

    @never_raises(lambda _named: {})
    def stats(self) -> Dict[str, Any]:
        """Return what became of everything recorded in this process.

        Keys: recorded, accepted, duplicates, rejected (counted by the server's receipts), retries, errors,
        queued, queued_bytes, and dropped by reason: {"queue_full": n, ...}.
        """
        queued, queued_bytes = self._outbox.held()
        found = self.tally.stats()
        found["recorded"] += self._outbox.put_n
        return {**found, "queued": queued, "queued_bytes": queued_bytes}

    def restart(self) -> None:
        """Begin anew in a forked child: empty, with new locks, a new connection, at need a new thread."""
        self._opening = threading.RLock()
        self.tally.restart()
        self._outbox.restart()
        if self._sender is not None:
            self._sender.let_go()
        self._sender = None
        self._thread = None
        forget(self)

    def stop(self) -> None:
        """Take nothing more, for `_process`; what is held is still being sent."""
        self._outbox.stop()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.shutdown()

    def _put(self, config: Config, kind: str, fields: Dict[str, Any], texts: Tuple[Any, ...]) -> None:
        """Queue an entry, and start the thread that will send it where there is none yet."""
        outbox = self._outbox
        if outbox.pid != os.getpid():
            self.restart()
        size = ENTRY_BYTES
        for text in texts:
            if text is not None:
                size += held_bytes(text)
        reason = outbox.put((kind, fields, size))
        if reason:
            self.tally.drop(reason, 1, _DROPPED[reason].format(config=config, outbox=outbox))
        elif self._thread is None:
            self._start()

    def _settings(self) -> Config:
        """The settings, read at the first use: arguments first, then the environment."""
        with self._opening:
            if self._config is None:
                self._config = read_config(*self._arguments)
            return self._config

    def _start(self) -> None:
        with self._opening:
            if self._thread is not None or self._config is None:
                return
            thread = threading.Thread(
                target=self._run, args=(self._outbox, self._config), name="lowlight", daemon=True
            )
            thread.start()
            self._thread = thread
            attend(self)

    def _run(self, outbox: Outbox, config: Config) -> None:
        with importing:
            from lowlight._sender import Sender  # and with it json, datetime and more: half the import's time

        self._sender = sender = Sender(outbox, self.tally, config)
        sender.run()

    def _reopen(self, settings: Tuple[Any, ...]) -> None:
        """Take other settings: send what is left under the old ones, then open again at the next use."""
        self.shutdown()
        with self._opening:
            self._arguments = settings
            self.tally.count("recorded", self._outbox.put_n)
            self._outbox = Outbox(*self._bounds)
            self._sender = None
            self._thread = None
            self._config = None


_DROPPED = {
    "queue_full": "{outbox.items_max:,} items or {outbox.bytes_max:,} bytes wait already; "
    "is {config.url} reachable?",
    "closed": "recorded after shutdown()",
}
