"""Chat with log-probabilities: the model is to answer with one digit, and the share of each digit is read.

Flow: Case -> `request_of`, one rubric a request -> `POST /v1/chat/completions` -> `verdict_of`: the
probabilities of "1".."7" at the place of the first token that is no white space. The digit that was drawn
does not matter, and no text is parsed. What went to other tokens is kept as `label_mass`.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any

from critic.drivers.address import Address
from critic.drivers.base import (
    Answer,
    Case,
    CriticMisconfigured,
    MalformedAnswer,
    Unusable,
    Usage,
    Verdict,
    seven,
    tokens_at_most,
)
from critic.drivers.chat import PATH, VIEW_CHARS_MAX, Choice, choice_of, length_of, messages_of
from critic.drivers.chat_batches import ChatBatcher
from critic.drivers.draws import Draw
from critic.drivers.explaining import Words, explain_by_chat
from critic.drivers.limits import Limits
from critic.drivers.posting import Posting
from critic.drivers.told import questions_text
from critic.drivers.watching import Watch
from critic.levels import LEVELS
from rubrics import Rubric

ASKED = "Answer with the number of the level that fits best: one digit from 1 to 7 and nothing else."
#: Most alternatives asked for at a token, and what is asked for where a server allows fewer.
TOP_LOGPROBS = (20, 8, 5)
#: The digit, and what some models put before it: a space or a line break.
TOKENS_MAX = 4
#: Where less than this share went to the seven levels, the model said something else.
LABELS_MIN = 0.5
#: What tokenisers put for a leading space.
_SPACES = " \t\r\n\u2581\u0120\u010a"


class ChatLogprobs:
    """See `critic.drivers.Driver`."""

    leaves_machine = True
    reads_view = True
    asks_together = False

    def __init__(
        self,
        name: str,
        address: Address,
        *,
        api_key: str | None,
        timeout_s: float,
        view_chars_max: int | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.name = name
        self.view_chars_max = view_chars_max or VIEW_CHARS_MAX
        self._address = address
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._top = TOP_LOGPROBS[0]
        self._posting = Posting(name, address.base_url, api_key, timeout_s, watch)

    @property
    def limits(self) -> Limits | None:
        """See `Driver.limits`."""
        return self._posting.limits

    def at_most(self, case: Case) -> Usage:
        """See `Driver.at_most`."""
        requests = [request_of(case, rubric, self._address, self._top) for rubric in case.rubrics]
        return Usage(sum(map(tokens_at_most, requests)), TOKENS_MAX * len(requests))

    async def judge(self, case: Case) -> Sequence[Verdict]:
        """See `Driver.judge`.

        Raises:
            CriticMisconfigured: also where the server gives no log-probabilities.
        """
        return await asyncio.gather(*(self._one(case, rubric) for rubric in case.rubrics))

    async def explain(self, case: Case, shares: Sequence[float]) -> Words | Verdict:
        """See `critic.drivers.explaining.Explaining`."""
        return await explain_by_chat(self._posting, self._address, case, shares)

    def batcher(self) -> ChatBatcher:
        """See `critic.drivers.batching.Batching`."""
        return ChatBatcher(
            self.name,
            self._address,
            api_key=self._api_key,
            timeout_s=self._timeout_s,
            requests_a_case=1,
            bodies=lambda case: [
                request_of(case, rubric, self._address, self._top) for rubric in case.rubrics
            ],
            parse=self._verdict,
            verdicts=lambda outcomes, _names: [one for one in outcomes if not isinstance(one, Draw)],
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._posting.close()

    async def _one(self, case: Case, rubric: Rubric) -> Verdict:
        while True:
            top = self._top
            came = await self._posting.post(PATH, request_of(case, rubric, self._address, top))
            # The server may say by the argument's name that it allows fewer, or none at all.
            complaint = came.reason.removeprefix(self.name) if isinstance(came, Unusable) else ""
            if "logprobs" in complaint:
                fewer = [allowed for allowed in TOP_LOGPROBS if allowed < top]
                if "top_logprobs" in complaint and fewer:
                    self._top = min(self._top, fewer[0])
                    continue
                raise CriticMisconfigured(_no_logprobs(self.name))
            if not isinstance(came, Mapping):
                return came
            choice = choice_of(came)
            if isinstance(choice, Choice) and not choice.logprobs:
                none_came = CriticMisconfigured(_no_logprobs(self.name))
                none_came.paid = [Unusable(str(none_came), **choice.about)]
                raise none_came
            return verdict_of(choice) if isinstance(choice, Choice) else choice

    def _verdict(self, completion: Mapping[str, Any]) -> Verdict:
        """Return the verdict of a completion that came in a batch."""
        choice = choice_of(completion)
        if isinstance(choice, Choice) and not choice.logprobs:
            return Unusable(_no_logprobs(self.name), **choice.about)
        return verdict_of(choice) if isinstance(choice, Choice) else choice


def _no_logprobs(name: str) -> str:
    where = name.removeprefix("chat-logprobs:")
    return (
        f"{name} gives no log-probabilities: choose a model or a server that does "
        f"(vLLM, llama.cpp, Ollama from 0.12.11), or take chat-draws:{where}"
    )


def request_of(case: Case, rubric: Rubric, address: Address, top_logprobs: int) -> dict[str, Any]:
    """Return the request's body."""
    return {
        "model": address.model,
        "messages": messages_of(case, questions_text([rubric], ASKED)),
        "logprobs": True,
        "top_logprobs": top_logprobs,
        # At any other temperature some servers report the shares after it was applied.
        "temperature": 1,
        **length_of(address, TOKENS_MAX),
    }


def verdict_of(choice: Choice) -> Verdict:
    """Return the shares of the digits 1..7 at the first token of the answer that is no white space."""
    place = next((token for token in choice.logprobs or [] if _visible(token)), None)
    if place is None:
        return Unusable("the answer is empty", **choice.about)
    shares = _shares_at(place)
    total = math.fsum(shares)
    if total < LABELS_MIN:
        return Unusable(
            f"only {total:.0%} of the probability went to the levels 1 to 7; the critic said something else",
            **choice.about,
        )
    try:
        probabilities = seven([share / total for share in shares] if total <= 1.02 else shares)
    except MalformedAnswer as error:
        return Unusable(str(error), **choice.about)
    return Answer(probabilities, label_mass=max(0.0, 1.0 - total), **choice.about)


def _visible(token: Any) -> bool:
    text = token.get("token") if isinstance(token, Mapping) else None
    return isinstance(text, str) and bool(text.strip(_SPACES))


def _shares_at(place: Mapping[str, Any]) -> list[float]:
    """Return the probability of each level at one place; tokens that spell the same digit add up."""
    top = place.get("top_logprobs")
    seen: dict[str, float] = {}
    for entry in [place, *(top if isinstance(top, list) else [])]:
        text, logprob = (entry.get("token"), entry.get("logprob")) if isinstance(entry, Mapping) else ("", 0)
        if not isinstance(text, str) or isinstance(logprob, bool) or not isinstance(logprob, int | float):
            continue
        # The drawn token stands among the likeliest again; the same text is counted once.
        seen[text] = math.exp(logprob) if math.isfinite(logprob) and logprob <= 1e-6 else 0.0
    shares = [0.0] * LEVELS
    for text, share in seen.items():
        digit = text.strip(_SPACES)
        if len(digit) == 1 and digit in "1234567":
            shares[int(digit) - 1] += share
    return shares
