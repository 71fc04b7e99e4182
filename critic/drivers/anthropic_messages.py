"""Anthropic: structured output held to one of seven levels, drawn three times.

Flow: Case -> `request_of` -> `client.messages.create`, three at once -> `verdicts_of`: the share of the draws
on each level. The schema is enforced by the provider and checked here; no number is taken out of prose. There
are no probabilities and no sampling arguments, so `draws` says how coarse the answer is.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any

from critic.drivers.anthropic_batches import AnthropicBatcher
from critic.drivers.base import (
    CannotJudge,
    Case,
    CriticUnavailable,
    Refused,
    Unusable,
    Usage,
    Verdict,
    count_in,
    tokens_at_most,
)
from critic.drivers.draws import (
    DRAWS,
    NO_OBJECT,
    Draw,
    asked_with_reasons,
    levels_in,
    reasons_tokens_max,
    schema_of,
    three,
    verdicts_of,
)
from critic.drivers.explaining import TOKENS_MAX, Words, told_of, words_of
from critic.drivers.limits import Limits, limits_of
from critic.drivers.statuses import Failure, may_have_arrived, short, verdict_on
from critic.drivers.told import case_text, questions_text
from critic.drivers.watching import Watch

if TYPE_CHECKING:
    import anthropic

ASKED = "Give each question below the number of the level that fits best."
#: The models read 200,000 tokens and more; rubrics cut each field on their own.
VIEW_CHARS_MAX = 200_000
#: An answer is one digit a rubric and its name.
TOKENS_A_RUBRIC = 64

_SPENT_CODES = {
    "contract_spend_limit_reached",
    "enforced_spend_limit_reached",
    "linked_organization_spend_limit_reached",
    "organization_on_hold",
}


class AnthropicMessages:
    """See `critic.drivers.Driver`."""

    leaves_machine = True
    reads_view = True
    asks_together = True

    def __init__(
        self,
        name: str,
        model: str,
        *,
        api_key: str,
        base_url: str | None,
        timeout_s: float,
        view_chars_max: int | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.name = name
        self.view_chars_max = view_chars_max or VIEW_CHARS_MAX
        self._model = model
        self._options: dict[str, Any] = {"api_key": api_key, "base_url": base_url, "timeout": timeout_s}
        self._timeout_s = timeout_s
        self._watch = watch
        self._opened: anthropic.AsyncAnthropic | None = None
        self.limits: Limits | None = None

    @property
    def _client(self) -> "anthropic.AsyncAnthropic":
        """The SDK's client, opened at the first request."""
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _open(self) -> "anthropic.AsyncAnthropic":
        import anthropic

        # The settings say where texts may go: no answer sends them elsewhere, and no spans, which would carry
        # them to wherever this process's traces go.
        client = anthropic.DefaultAsyncHttpxClient(
            follow_redirects=False, event_hooks=self._watch.hooks() if self._watch else {}
        )
        return anthropic.AsyncAnthropic(
            max_retries=0, open_telemetry=False, http_client=client, **self._options
        )

    def at_most(self, case: Case) -> Usage:
        """See `Driver.at_most`; all draws together."""
        request = request_of(case, self._model)
        return Usage(DRAWS * tokens_at_most(request), DRAWS * int(request["max_tokens"]))

    async def judge(self, case: Case) -> Sequence[Verdict]:
        """See `Driver.judge`. Draws that were refused are left out; one answered draw is an answer."""
        return verdicts_of(await three(lambda: self._draw(case)), case.names)

    async def explain(self, case: Case, shares: Sequence[float]) -> Words | Verdict:
        """See `critic.drivers.explaining.Explaining`."""
        message = await self._answer(
            self._client.messages.with_raw_response.create(
                model=self._model,
                max_tokens=TOKENS_MAX,
                system=told_of(case, shares),
                messages=[{"role": "user", "content": case_text(case)}],
            )
        )
        text = text_in(message)
        return words_of(text, about(message)) if isinstance(text, str) else text

    def batcher(self) -> AnthropicBatcher:
        """See `critic.drivers.batching.Batching`."""
        return AnthropicBatcher(
            self.name,
            client=self._open,
            timeout_s=self._timeout_s,
            bodies=lambda case: [request_of(case, self._model)] * DRAWS,
            failure_of=self._failure,
            parse=draw_of,
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._opened is not None:
            await self._opened.close()

    async def _draw(self, case: Case) -> Draw | Verdict:
        ask = self._client.messages.with_raw_response.create
        return draw_of(await self._answer(ask(**request_of(case, self._model))))

    async def _answer(self, asked: Awaitable[Any]) -> Any:
        """Return the message that a request that is being sent gives, or the verdict that stands for it."""
        import anthropic

        try:
            # The SDK's time-outs are between two bytes: a server that drips would never meet them.
            async with asyncio.timeout(self._timeout_s):
                answered = await asked
            self.limits = limits_of(answered.headers) or self.limits
            return await answered.parse()
        except (TimeoutError, anthropic.APITimeoutError) as error:
            raise CriticUnavailable(f"{self.name} gave no answer in time", blames_call=True) from error
        except anthropic.APIConnectionError as error:
            said = f"{self.name} could not be reached: {short(error.__cause__ or error)}"
            raise CriticUnavailable(said, in_doubt=may_have_arrived(error.__cause__)) from error
        except anthropic.APIStatusError as error:
            self.limits = limits_of(error.response.headers) or self.limits
            return verdict_on(self._failure(error))
        except (anthropic.APIError, ValueError) as error:  # an answer that is cut off or no JSON
            said = f"{self.name} sent an answer that is no JSON: {short(error)}"
            raise CriticUnavailable(said, blames_call=True) from error

    def _failure(self, error: "anthropic.APIStatusError") -> Failure:
        return Failure(
            self.name,
            error.status_code,
            error.api_message or error.message,
            error.response.headers,
            key_variable="ANTHROPIC_API_KEY",
            quota_spent=str(error.type) == "billing_error" or str(error.error_code) in _SPENT_CODES,
        )


def request_of(case: Case, model: str) -> dict[str, Any]:
    """Return the arguments of `messages.create`; the rubrics come first and are cached, the case last."""
    system = {
        "type": "text",
        "text": questions_text(case.rubrics, asked_with_reasons(ASKED, case.rubrics)),
        "cache_control": {"type": "ephemeral"},
    }
    return {
        "model": model,
        "max_tokens": TOKENS_A_RUBRIC * (1 + len(case.rubrics)) + reasons_tokens_max(case.rubrics),
        "system": [system],
        "messages": [{"role": "user", "content": case_text(case)}],
        "output_config": {"format": {"type": "json_schema", "schema": schema_of(case.rubrics)}},
    }


def draw_of(message: Any) -> Draw | Verdict:
    """Return the levels that one message names, or why it names none."""
    text = text_in(message)
    if not isinstance(text, str):
        return text
    levels = levels_in(text)
    return Unusable(NO_OBJECT, **about(message)) if levels is None else Draw(levels, **about(message))


def text_in(message: Any) -> str | Verdict:
    """Return the one text that a message is, or why it is none. The SDK does not validate what it parsed."""
    if isinstance(message, Refused | CannotJudge | Unusable):
        return message
    stopped = getattr(message, "stop_reason", None)
    if stopped == "refusal":
        return Refused("the critic declined this case", **about(message))
    if stopped == "model_context_window_exceeded":
        return CannotJudge("the call is longer than the critic reads", charged=True, **about(message))
    if stopped != "end_turn":
        return Unusable(f"the answer ended with {short(stopped)}", **about(message))
    content = getattr(message, "content", None)
    blocks = content if isinstance(content, list) else []
    texts = [getattr(block, "text", None) for block in blocks if getattr(block, "type", None) == "text"]
    if len(texts) != 1 or not isinstance(texts[0], str):
        return Unusable(f"the answer has {len(texts)} texts instead of one", **about(message))
    return texts[0]


def about(message: Any) -> dict[str, Any]:
    """Return who wrote a message and what it used; what the cache read or wrote is input too."""
    usage, model = getattr(message, "usage", None), getattr(message, "model", None)
    fresh, read = count_in(usage, "input_tokens"), count_in(usage, "cache_read_input_tokens")
    written = count_in(usage, "cache_creation_input_tokens")
    return {
        "model_reported": model if isinstance(model, str) else None,
        "input_tokens": None if fresh is None else fresh + (read or 0) + (written or 0),
        "output_tokens": count_in(usage, "output_tokens"),
        "cached_input_tokens": read,
        "cache_write_tokens": written,
    }
