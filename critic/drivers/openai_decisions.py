"""OpenAI Decisions: one request a case, one `score` question a rubric, all seven probabilities back.

Flow: Case -> `request_of` -> `client.decisions.create` -> `verdicts_of`. No free text comes back, so none is
parsed. The questions (the rubrics, the same for every call) carry the instructions; the case is the `input`,
its texts fenced. The SDK's own retries are off: the worker re-queues.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any

from critic.drivers.base import (
    Answer,
    CannotJudge,
    Case,
    CriticUnavailable,
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
from critic.drivers.chat import Choice, choice_of, messages_of
from critic.drivers.explaining import TOKENS_MAX, Words, told_of, words_of
from critic.drivers.limits import Limits, limits_of
from critic.drivers.openai_errors import failure_of
from critic.drivers.statuses import may_have_arrived, short, verdict_on
from critic.drivers.told import RULE, fence_note
from critic.drivers.watching import Watch
from rubrics import Rubric

if TYPE_CHECKING:
    import openai

#: A bound on what one question's answer is counted as, where answers are counted at all.
TOKENS_A_QUESTION = 256

#: The model reads a million tokens; rubrics cut each field on their own.
VIEW_CHARS_MAX = 200_000


class OpenAIDecisions:
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
        self._opened: openai.AsyncOpenAI | None = None
        self.limits: Limits | None = None

    @property
    def _client(self) -> "openai.AsyncOpenAI":
        """The SDK's client, opened at the first request."""
        if self._opened is None:
            import openai

            # The settings say where texts may go; no answer sends them elsewhere.
            client = openai.DefaultAsyncHttpxClient(
                follow_redirects=False, event_hooks=self._watch.hooks() if self._watch else {}
            )
            self._opened = openai.AsyncOpenAI(max_retries=0, http_client=client, **self._options)
        return self._opened

    def at_most(self, case: Case) -> Usage:
        """See `Driver.at_most`."""
        request = request_of(case, self._model)
        return Usage(tokens_at_most(request), TOKENS_A_QUESTION * len(case.rubrics))

    async def judge(self, case: Case) -> Sequence[Verdict]:
        """See `Driver.judge`."""
        request = request_of(case, self._model)
        ask = self._client.decisions.with_raw_response.create
        # The SDK walks typed arguments value by value, a quarter of a request's CPU time; what is in
        # `extra_body` it sends as it is, in place of the arguments.
        decision = await self._answer(ask(model=self._model, questions=(), input="", extra_body=request))
        if isinstance(decision, Refused | CannotJudge | Unusable):
            return [decision] * len(case.rubrics)
        return verdicts_of(decision, case.rubrics)

    async def explain(self, case: Case, shares: Sequence[float]) -> Words | Verdict:
        """See `critic.drivers.explaining.Explaining`; Decisions writes no text, chat does."""
        ask = self._client.chat.completions.with_raw_response.create
        completion = await self._answer(
            ask(
                model=self._model,
                messages=messages_of(case, told_of(case, shares)),  # type: ignore[arg-type]
                max_completion_tokens=TOKENS_MAX,
            )
        )
        if isinstance(completion, Refused | CannotJudge | Unusable):
            return completion
        choice = choice_of(completion.to_dict() if hasattr(completion, "to_dict") else {})
        return words_of(choice.text, choice.about) if isinstance(choice, Choice) else choice

    async def close(self) -> None:
        """Close the connections."""
        if self._opened is not None:
            await self._opened.close()

    async def _answer(self, asked: Awaitable[Any]) -> Any:
        """Return what a request that is being sent gives, or the verdict that stands for it."""
        import openai

        try:
            # The SDK's time-outs are between two bytes: a server that drips would never meet them.
            async with asyncio.timeout(self._timeout_s):
                answered = await asked
            self.limits = limits_of(answered.headers) or self.limits
            return answered.parse()
        except (TimeoutError, openai.APITimeoutError) as error:
            raise CriticUnavailable(f"{self.name} gave no answer in time", blames_call=True) from error
        except openai.APIConnectionError as error:
            said = f"{self.name} could not be reached: {short(error.__cause__ or error)}"
            raise CriticUnavailable(said, in_doubt=may_have_arrived(error.__cause__)) from error
        except openai.APIStatusError as error:
            self.limits = limits_of(error.response.headers) or self.limits
            return verdict_on(
                failure_of(
                    self.name,
                    error.status_code,
                    error.body or error.message,
                    error.response.headers,
                    key_variable="OPENAI_API_KEY",
                )
            )
        except (openai.APIError, ValueError) as error:  # an answer that is cut off or no JSON
            raise CriticUnavailable(
                f"{self.name} sent an answer that is no JSON: {short(error)}", blames_call=True
            ) from error


def request_of(case: Case, model: str) -> dict[str, Any]:
    """Return the arguments of `decisions.create`; everything before the case is the same for every call."""
    blobs = hashlib.sha256("".join(rubric.blob for rubric in case.rubrics).encode()).hexdigest()
    return {
        "model": model,
        "questions": [
            {
                "type": "score",
                "name": rubric.name,
                "instructions": f"{rubric.question}\n\n{RULE}",
                "levels": [
                    {"label": str(level), "description": description}
                    for level, description in enumerate(rubric.levels, start=1)
                ],
            }
            for rubric in case.rubrics
        ],
        "input": [
            {"type": "message", "role": "developer", "content": fence_note(case)},
            {"type": "message", "role": "user", "content": case.view},
        ],
        "prompt_cache_key": f"lowlight-{blobs[:32]}",
    }


def verdicts_of(decision: Any, rubrics: Sequence[Rubric]) -> list[Verdict]:
    """Return one verdict per rubric from a decision; the SDK does not validate what it parsed, so this does.

    A refusal or a malformed answer of one question leaves the others as they are.
    """
    usage, model = getattr(decision, "usage", None), getattr(decision, "model", None)
    details = getattr(usage, "input_tokens_details", None)
    about = about_parts(
        len(rubrics),
        model_reported=model if isinstance(model, str) else None,
        input_tokens=count_in(usage, "input_tokens"),
        output_tokens=count_in(usage, "output_tokens"),
        cached_input_tokens=count_in(details, "cached_tokens"),
        cache_write_tokens=count_in(details, "cache_write_tokens"),
    )
    answers = getattr(decision, "answers", None)
    if not isinstance(answers, list) or len(answers) != len(rubrics):
        found = len(answers) if isinstance(answers, list) else "no"
        return [Unusable(f"{found} answers came for {len(rubrics)} questions", **one) for one in about]
    return [_verdict(*one) for one in zip(answers, rubrics, about, strict=True)]


def _verdict(answer: Any, rubric: Rubric, about: dict[str, Any]) -> Verdict:
    name = getattr(answer, "name", None)
    if name is not None and name != rubric.name:
        return Unusable(f"the answer names the question {short(name)}, not {rubric.name}", **about)
    kind = getattr(answer, "type", None)
    if kind == "refusal":
        return Refused("the critic declined this question", **about)
    if kind != "score":
        return Unusable(f"the answer is of type {short(kind)}, not score", **about)
    try:
        probabilities = _by_level(getattr(answer, "probabilities", None))
    except MalformedAnswer as error:
        return Unusable(str(error), **about)
    return Answer(probabilities, confidence=share_in(getattr(answer, "confidence", None)), **about)


def _by_level(probabilities: Any) -> tuple[float, ...]:
    """Return the probabilities in the order of the labels "1".."7", each there exactly once."""
    if not isinstance(probabilities, list):
        raise MalformedAnswer("the answer has no probabilities")
    by_label: dict[str, object] = {}
    for entry in probabilities:
        label = getattr(entry, "label", None)
        if not isinstance(label, str):
            raise MalformedAnswer(f"a level is named {short(label)}")
        if label in by_label:
            raise MalformedAnswer(f"level {short(label)} is there twice")
        by_label[label] = getattr(entry, "probability", None)
    missing = [str(level) for level in range(1, 8) if str(level) not in by_label]
    if missing or len(by_label) != 7:
        raise MalformedAnswer(
            f"levels {', '.join(missing)} are missing" if missing else "there are levels beyond 1 to 7"
        )
    return seven([by_label[str(level)] for level in range(1, 8)])
