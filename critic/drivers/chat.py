"""What chat completions have in common, at OpenAI and at the many servers that speak like it.

Flow: `messages_of` (rubric first, case last) -> `POST /v1/chat/completions` -> `choice_of`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from critic.drivers.address import Address
from critic.drivers.base import Case, Refused, Unusable, Verdict, count_in
from critic.drivers.told import case_text

PATH = "/chat/completions"
#: The windows of models that people run themselves are small; LOWLIGHT_CRITIC_VIEW_CHARS says otherwise.
VIEW_CHARS_MAX = 48_000


@dataclass(frozen=True)
class Choice:
    """The one answer of a completion.

    Attributes:
        text: '' where there is none.
        logprobs: of each token of the answer, as the server sent them; None where it sent none.
    """

    text: str
    finish_reason: str | None
    logprobs: list[Any] | None
    about: dict[str, Any]


def messages_of(case: Case, told: str) -> list[dict[str, str]]:
    """Return the messages: what is the same for every call, then the call."""
    return [{"role": "system", "content": told}, {"role": "user", "content": case_text(case)}]


def length_of(address: Address, tokens: int) -> dict[str, int]:
    """Return the argument that bounds an answer; OpenAI's newer models refuse the name others know."""
    return {"max_completion_tokens" if address.host == "api.openai.com" else "max_tokens": tokens}


def choice_of(completion: Mapping[str, Any]) -> Choice | Verdict:
    """Return the answer in a completion, or why there is none."""
    usage, model = completion.get("usage"), completion.get("model")
    details = usage.get("prompt_tokens_details") if isinstance(usage, Mapping) else None
    about: dict[str, Any] = {
        "model_reported": model if isinstance(model, str) else None,
        "input_tokens": count_in(usage, "prompt_tokens"),
        "output_tokens": count_in(usage, "completion_tokens"),
        "cached_input_tokens": count_in(details, "cached_tokens"),
        "cache_write_tokens": count_in(details, "cache_write_tokens"),
    }
    choices = completion.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
        return Unusable("the response has no choice with a message", **about)
    finish_reason = choice.get("finish_reason")
    if message.get("refusal") or finish_reason == "content_filter":
        return Refused("the critic declined this case", **about)
    content, logprobs = message.get("content"), choice.get("logprobs")
    tokens = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    return Choice(
        content if isinstance(content, str) else "",
        finish_reason if isinstance(finish_reason, str) else None,
        tokens if isinstance(tokens, list) else None,
        about,
    )
