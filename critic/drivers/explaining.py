"""Why a score might be what it is, asked for after the score was given and never part of it.

Flow: critic.explaining.explanations -> `Explaining.explain` of a driver that can write -> `Words`. The critic
is told the levels it (or another) gave and asked what in the call speaks for them, so what it writes defends
a score that stands; it is no second opinion and no evidence that the score is right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from critic.drivers.address import Address
from critic.drivers.base import Case, Charge, Driver, Unusable, Usage, Verdict
from critic.drivers.chat import PATH, Choice, choice_of, length_of, messages_of
from critic.drivers.posting import Posting
from critic.drivers.told import RULE

#: Of an explanation, thinking included where a model thinks; and what of it is kept.
TOKENS_MAX, CHARS_MAX = 2_000, 4_000


@dataclass(frozen=True)
class Words(Charge):
    """An explanation: a critic's own words, hostile as any text that a model wrote."""

    text: str


@runtime_checkable
class Explaining(Protocol):
    """A driver that can write: chat models can, those that only decide cannot."""

    name: str
    leaves_machine: bool
    view_chars_max: int

    async def explain(self, case: Case, shares: Sequence[float]) -> Words | Verdict:
        """Return the words for the score of the case's one rubric, or the verdict that stands for none.

        Args:
            shares: the seven probabilities of the score.

        Raises:
            CriticUnavailable, CriticMisconfigured: as `Driver.judge`.
        """


def explaining(drivers: Sequence[Driver], first: str) -> list[Explaining]:
    """Return the drivers that can write, the one called `first` before the others."""
    able = [driver for driver in drivers if isinstance(driver, Explaining)]
    return sorted(able, key=lambda driver: driver.name != first)


def told_of(case: Case, shares: Sequence[float]) -> str:
    """Return what stands before the case: the rubric, the levels given, what is asked for."""
    (rubric,) = case.rubrics
    levels = "\n".join(
        f"{level} ({share:.0%}): {text}"
        for level, (text, share) in enumerate(zip(rubric.levels, shares, strict=True), start=1)
    )
    return (
        f"{RULE}\n\nA critic has judged the call. Question: {rubric.question}\nIts levels, with the "
        f"probability it gave each:\n{levels}\n\nSay in at most four sentences of plain text what in the "
        "call speaks for the likely levels, and quote the words you mean. Name what speaks against them, if "
        "anything does. Give no level of your own."
    )


def words_of(text: str, about: Mapping[str, Any]) -> Words | Unusable:
    """Return an explanation as it is kept, cut to `CHARS_MAX`."""
    text = text.strip()
    if not text:
        return Unusable("the critic wrote nothing", **about)
    return Words(text if len(text) <= CHARS_MAX else f"{text[:CHARS_MAX]} ...", **about)


def at_most(case: Case, shares: Sequence[float]) -> Usage:
    """Return no fewer tokens than an explanation can take."""
    chars = told_of(case, shares) + case.view
    return Usage(len(chars.encode("utf-8", "replace")) + 1_000, TOKENS_MAX)


async def explain_by_chat(
    posting: Posting, address: Address, case: Case, shares: Sequence[float]
) -> Words | Verdict:
    """Ask a server of chat completions; see `Explaining.explain`."""
    came = await posting.post(
        PATH,
        {
            "model": address.model,
            "messages": messages_of(case, told_of(case, shares)),
            **length_of(address, TOKENS_MAX),
        },
    )
    if not isinstance(came, Mapping):
        return came
    choice = choice_of(came)
    return words_of(choice.text, choice.about) if isinstance(choice, Choice) else choice
