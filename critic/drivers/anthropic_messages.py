"""Anthropic: structured output held to one of seven levels, drawn three times.

Flow: Case -> `request_of` -> `client.messages.create`, three at once -> `verdicts_of`: the share of the draws
on each level. The schema is enforced by the provider and checked here; no number is taken out of prose. There
are no probabilities and no sampling arguments, so `draws` says how coarse the answer is.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from critic.drivers.base import (
    Answer,
    CannotJudge,
    Case,
    CriticError,
    CriticUnavailable,
    Refused,
    Unusable,
    Usage,
    Verdict,
    in_parts,
    tokens_at_most,
)
from critic.drivers.limits import Limits, limits_of
from critic.drivers.statuses import Failure, short, verdict_on
from critic.drivers.told import RULE, fence_note
from rubrics import Rubric

if TYPE_CHECKING:
    import anthropic

DRAWS = 3
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

    def __init__(
        self, name: str, model: str, *, api_key: str, base_url: str | None, timeout_s: float
    ) -> None:
        self.name = name
        self._model = model
        self._options: dict[str, Any] = {"api_key": api_key, "base_url": base_url, "timeout": timeout_s}
        self._opened: anthropic.AsyncAnthropic | None = None
        self.limits: Limits | None = None

    @property
    def _client(self) -> "anthropic.AsyncAnthropic":
        """The SDK's client, opened at the first request."""
        if self._opened is None:
            import anthropic

            # Spans would carry the texts to wherever this process's traces go.
            self._opened = anthropic.AsyncAnthropic(max_retries=0, open_telemetry=False, **self._options)
        return self._opened

    def at_most(self, case: Case) -> Usage:
        """See `Driver.at_most`; all draws together."""
        request = request_of(case, self._model)
        return Usage(DRAWS * tokens_at_most(request), DRAWS * int(request["max_tokens"]))

    async def judge(self, case: Case) -> Sequence[Verdict]:
        """See `Driver.judge`. Draws that were refused are left out; one answered draw is an answer."""
        drawn = await asyncio.gather(*(self._draw(case) for _ in range(DRAWS)), return_exceptions=True)
        draws: list[Any] = []
        for draw in drawn:
            # What the critic as a whole cannot do outweighs what one draw met.
            if isinstance(draw, BaseException) and not isinstance(draw, CriticUnavailable):
                raise draw
        for draw in drawn:
            if isinstance(draw, CriticError):
                raise draw
            draws.append(draw)
        return verdicts_of(draws, case.rubrics)

    async def close(self) -> None:
        """Close the connections."""
        if self._opened is not None:
            await self._opened.close()

    async def _draw(self, case: Case) -> Any:
        """Return one message, or the verdict that stands for it."""
        import anthropic

        try:
            request = request_of(case, self._model)
            answered = await self._client.messages.with_raw_response.create(**request)
            self.limits = limits_of(answered.headers) or self.limits
            return await answered.parse()
        except anthropic.APITimeoutError as error:
            raise CriticUnavailable(f"{self.name} gave no answer in time", blames_call=True) from error
        except anthropic.APIConnectionError as error:
            said = f"{self.name} could not be reached: {short(error.__cause__ or error)}"
            raise CriticUnavailable(said) from error
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
    asked = [f"{RULE}\n\nGive each question below the number of the level that fits best."]
    for rubric in case.rubrics:
        levels = "\n".join(f"{level}: {text}" for level, text in enumerate(rubric.levels, start=1))
        asked.append(f"Question {rubric.name}: {rubric.question}\nLevels of {rubric.name}:\n{levels}")
    names = [rubric.name for rubric in case.rubrics]
    schema = {
        "type": "object",
        "properties": {name: {"type": "integer", "enum": [1, 2, 3, 4, 5, 6, 7]} for name in names},
        "required": names,
        "additionalProperties": False,
    }
    system = {"type": "text", "text": "\n\n".join(asked), "cache_control": {"type": "ephemeral"}}
    return {
        "model": model,
        "max_tokens": TOKENS_A_RUBRIC * (1 + len(names)),
        "system": [system],
        "messages": [{"role": "user", "content": f"{fence_note(case)}\n\n{case.view}"}],
        "output_config": {"format": {"type": "json_schema", "schema": schema}},
    }


def verdicts_of(draws: Sequence[Any], rubrics: Sequence[Rubric]) -> list[Verdict]:
    """Return one verdict per rubric from the draws: messages, and verdicts of those that failed."""
    read = [draw if isinstance(draw, Refused | CannotJudge | Unusable) else _levels(draw) for draw in draws]
    answered = [levels for levels in read if isinstance(levels, dict)]
    if not answered:
        verdict = next(draw for draw in read if not isinstance(draw, dict))
        return [verdict] * len(rubrics)
    messages = [draw for draw, levels in zip(draws, read, strict=True) if isinstance(levels, dict)]
    # What was read from or written to the cache is not in `input_tokens`.
    cached = ("cache_read_input_tokens", "cache_creation_input_tokens")
    tokens_in = in_parts(_tokens(messages, "input_tokens", *cached), len(rubrics))
    tokens_out = in_parts(_tokens(messages, "output_tokens"), len(rubrics))
    tokens_cached = in_parts(_tokens(messages, "cache_read_input_tokens"), len(rubrics))
    model = getattr(messages[0], "model", None)
    verdicts: list[Verdict] = []
    for i, rubric in enumerate(rubrics):
        drawn = [level for levels in answered if (level := _level(levels.get(rubric.name))) is not None]
        if not drawn:
            verdicts.append(Unusable(f"no draw gave {rubric.name} a level from 1 to 7"))
            continue
        verdicts.append(
            Answer(
                tuple(drawn.count(level) / len(drawn) for level in range(1, 8)),
                draws=len(drawn),
                model_reported=model if isinstance(model, str) else None,
                input_tokens=tokens_in[i],
                output_tokens=tokens_out[i],
                cached_input_tokens=tokens_cached[i],
            )
        )
    return verdicts


def _levels(message: Any) -> dict[str, Any] | Verdict:
    """Return the object that one message is, or why it is none."""
    stopped = getattr(message, "stop_reason", None)
    if stopped == "refusal":
        return Refused("the critic declined this case")
    if stopped == "model_context_window_exceeded":
        return CannotJudge("the call is longer than the critic reads")
    if stopped != "end_turn":
        return Unusable(f"the answer ended with {short(stopped)}")
    content = getattr(message, "content", None)
    blocks = content if isinstance(content, list) else []
    texts = [getattr(block, "text", None) for block in blocks if getattr(block, "type", None) == "text"]
    if len(texts) != 1 or not isinstance(texts[0], str):
        return Unusable(f"the answer has {len(texts)} texts instead of one object")
    try:
        levels = json.loads(texts[0])
    except ValueError:
        return Unusable("the answer is no JSON object")
    return levels if isinstance(levels, dict) else Unusable("the answer is no JSON object")


def _level(value: object) -> int | None:
    sound = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 7
    return value if sound else None  # type: ignore[return-value]


def _tokens(messages: Sequence[Any], *names: str) -> int | None:
    """Return what the draws used together; None where any of them does not say the first of these."""
    total = 0
    for message in messages:
        usage = getattr(message, "usage", None)
        counts = [getattr(usage, name, None) for name in names]
        if not isinstance(counts[0], int):
            return None
        total += sum(count for count in counts if isinstance(count, int))
    return total
