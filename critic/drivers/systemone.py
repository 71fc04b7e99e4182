"""`/v1/systemone`: a state, named questions, a probability for each level. TypeSafe's Jev and its kin.

Flow: Case -> `request_of` -> `POST /v1/systemone` -> `verdicts_of`. The model writes no text.

The shape is TypeSafe's (docs.typesafe.ai/api), which Ollama from 0.35 (docs.ollama.com/api/systemone),
OpenRouter, LiteLLM, Fireworks and others serve as well:

    {"model", "state": str,
     "questions": {name: {"type": "score", "instructions": str, "criteria": [7 levels]}}}
    {"model", "answers": {name: {"type": "score", "probabilities": {"0": p, ..., "6": p}, "confidence",
     "score", "legend"}}, "usage": {"input_tokens", "output_tokens"}}
"""

from collections.abc import Mapping, Sequence
from typing import Any

from critic.drivers.address import Address
from critic.drivers.base import (
    Answer,
    Case,
    MalformedAnswer,
    Refused,
    Unusable,
    Usage,
    Verdict,
    about_parts,
    count_in,
    seven,
    share_in,
    tokens_at_most,
)
from critic.drivers.limits import Limits
from critic.drivers.posting import Posting
from critic.drivers.statuses import short
from critic.drivers.told import RULE, case_text
from critic.drivers.watching import Watch
from critic.levels import LEVELS
from rubrics import Rubric

PATH = "/systemone"
#: Ollama takes 64 KiB a request and Jev 32,000 tokens; the rubrics need their part of either.
VIEW_CHARS_MAX = 48_000
#: A bound on what one question's answer is counted as, where answers are counted at all.
TOKENS_A_QUESTION = 256


class SystemOne:
    """See `critic.drivers.Driver`."""

    leaves_machine = True
    reads_view = True
    asks_together = True

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
        self._model = address.model
        self._posting = Posting(name, address.base_url, api_key, timeout_s, watch)

    @property
    def limits(self) -> Limits | None:
        """See `Driver.limits`."""
        return self._posting.limits

    def at_most(self, case: Case) -> Usage:
        """See `Driver.at_most`. Every question may be read with the whole state, and be counted so."""
        questions = len(case.rubrics)
        return Usage(questions * tokens_at_most(request_of(case, self._model)), questions * TOKENS_A_QUESTION)

    async def judge(self, case: Case) -> Sequence[Verdict]:
        """See `Driver.judge`."""
        decision = await self._posting.post(PATH, request_of(case, self._model))
        if not isinstance(decision, Mapping):
            return [decision] * len(case.rubrics)
        return verdicts_of(decision, case.rubrics)

    async def close(self) -> None:
        """Close the connections."""
        await self._posting.close()


def request_of(case: Case, model: str) -> dict[str, Any]:
    """Return the request's body."""
    return {
        "model": model,
        "questions": {
            rubric.name: {
                "type": "score",
                "instructions": f"{rubric.question}\n\n{RULE}",
                "criteria": list(rubric.levels),
            }
            for rubric in case.rubrics
        },
        "state": case_text(case),
    }


def verdicts_of(decision: Mapping[str, Any], rubrics: Sequence[Rubric]) -> list[Verdict]:
    """Return one verdict per rubric; a malformed answer of one leaves the others as they are."""
    answers, usage = decision.get("answers"), decision.get("usage")
    model = decision.get("model")
    about = about_parts(
        len(rubrics),
        model_reported=model if isinstance(model, str) else None,
        input_tokens=count_in(usage, "input_tokens"),
        output_tokens=count_in(usage, "output_tokens"),
        cached_input_tokens=count_in(usage, "cached_input_tokens"),
    )
    if not isinstance(answers, Mapping):
        return [Unusable("the response has no answers", **one) for one in about]
    return [
        _verdict(answers.get(rubric.name), rubric, one) for rubric, one in zip(rubrics, about, strict=True)
    ]


def _verdict(answer: Any, rubric: Rubric, about: dict[str, Any]) -> Verdict:
    if not isinstance(answer, Mapping):
        return Unusable(f"no answer came for the question {rubric.name}", **about)
    if answer.get("type") == "refusal":
        return Refused("the critic declined this question", **about)
    if answer.get("type") != "score":
        return Unusable(f"the answer is of type {short(answer.get('type'))}, not score", **about)
    by_level = answer.get("probabilities")
    places = [str(place) for place in range(LEVELS)]
    if not isinstance(by_level, Mapping) or set(by_level) != set(places):
        return Unusable("the answer has no probabilities of exactly the levels 0 to 6", **about)
    try:
        probabilities = seven([by_level[place] for place in places])
    except MalformedAnswer as error:
        return Unusable(str(error), **about)
    return Answer(probabilities, confidence=share_in(answer.get("confidence")), **about)
