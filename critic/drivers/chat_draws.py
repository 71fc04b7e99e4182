"""Chat with structured output: three draws of one object that gives each rubric a level.

Flow: Case -> `request_of` -> `POST /v1/chat/completions`, three at once -> `critic.drivers.draws`. The schema
is held by the server and checked here: an answer that is more than the object is no answer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from critic.drivers.address import Address
from critic.drivers.base import Case, Unusable, Usage, Verdict, tokens_at_most
from critic.drivers.chat import PATH, VIEW_CHARS_MAX, Choice, choice_of, length_of, messages_of
from critic.drivers.chat_batches import ChatBatcher
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
from critic.drivers.explaining import Words, explain_by_chat
from critic.drivers.limits import Limits
from critic.drivers.posting import Posting
from critic.drivers.statuses import short
from critic.drivers.told import questions_text
from critic.drivers.watching import Watch

ASKED = (
    "Give each question below the number of the level that fits best, as one JSON object: "
    "the question's name and its level, nothing else."
)
#: Room for a model that thinks before it answers, and for one level a rubric.
TOKENS_THOUGHT, TOKENS_A_RUBRIC = 1_024, 32


class ChatDraws:
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
        self._address = address
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._posting = Posting(name, address.base_url, api_key, timeout_s, watch)

    @property
    def limits(self) -> Limits | None:
        """See `Driver.limits`."""
        return self._posting.limits

    def at_most(self, case: Case) -> Usage:
        """See `Driver.at_most`; all draws together."""
        tokens_in = tokens_at_most(request_of(case, self._address))
        return Usage(DRAWS * tokens_in, DRAWS * _tokens_max(case))

    async def judge(self, case: Case) -> Sequence[Verdict]:
        """See `Driver.judge`."""
        return verdicts_of(await three(lambda: self._draw(case)), case.names)

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
            requests_a_case=DRAWS,
            bodies=lambda case: [request_of(case, self._address)] * DRAWS,
            parse=draw_of,
            verdicts=verdicts_of,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._posting.close()

    async def _draw(self, case: Case) -> Draw | Verdict:
        came = await self._posting.post(PATH, request_of(case, self._address))
        return draw_of(came) if isinstance(came, Mapping) else came


def _tokens_max(case: Case) -> int:
    return TOKENS_THOUGHT + TOKENS_A_RUBRIC * len(case.rubrics) + reasons_tokens_max(case.rubrics)


def request_of(case: Case, address: Address) -> dict[str, Any]:
    """Return the body of one draw's request."""
    schema = {"name": "levels", "strict": True, "schema": schema_of(case.rubrics)}
    return {
        "model": address.model,
        "messages": messages_of(case, questions_text(case.rubrics, asked_with_reasons(ASKED, case.rubrics))),
        "response_format": {"type": "json_schema", "json_schema": schema},
        "temperature": 1,  # draws at 0 would be one draw
        **length_of(address, _tokens_max(case)),
    }


def draw_of(completion: Mapping[str, Any]) -> Draw | Verdict:
    """Return the levels that a completion names, or why it names none."""
    choice = choice_of(completion)
    if not isinstance(choice, Choice):
        return choice
    if choice.finish_reason == "length":
        return Unusable("the answer was cut off by its length before it named a level", **choice.about)
    if choice.finish_reason not in ("stop", None):
        return Unusable(f"the answer ended with {short(choice.finish_reason)}", **choice.about)
    levels = levels_in(choice.text)
    return Unusable(NO_OBJECT, **choice.about) if levels is None else Draw(levels, **choice.about)
