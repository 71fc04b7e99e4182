"""Critics that name one level a time: three draws of the same question become shares of the levels.

Flow: drawn objects `{rubric: level}`, or the verdicts of draws that failed -> `verdicts_of`. Under a rubric
that sets `reason_first` a level is `{"reason", "level"}`, in this order, so that a weak critic reasons before
it scores. The reason is dropped with the answer: it explains no score, as the shares are those of three.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from critic.drivers.base import (
    Answer,
    Charge,
    CriticError,
    CriticUnavailable,
    Unusable,
    Verdict,
    about_parts,
)
from critic.levels import LEVELS, of_draws
from rubrics import Rubric

DRAWS = 3
#: The schema of one level; the provider holds the model to it.
LEVEL_SCHEMA = {"type": "integer", "enum": list(range(1, LEVELS + 1))}
#: The same with a reason before it: a model writes an object's properties in their order.
REASONED_SCHEMA = {
    "type": "object",
    "properties": {"reason": {"type": "string"}, "level": LEVEL_SCHEMA},
    "required": ["reason", "level"],
    "additionalProperties": False,
}
NO_OBJECT = "the answer is no JSON object"
#: Room for the reason of one rubric; one that runs on is cut off and `Unusable`.
TOKENS_A_REASON = 512


@dataclass(frozen=True)
class Draw(Charge):
    """What one request gave: the object as it came, and its usage."""

    levels: Mapping[str, Any]


async def three(draw: Callable[[], Awaitable[Draw | Verdict]]) -> list[Draw | Verdict]:
    """Return three draws, made at once.

    Raises:
        CriticUnavailable: any of them did not come; what the others are charged is in its `paid`.
        CriticMisconfigured: outweighs what the others met; likewise.
    """
    drawn = await asyncio.gather(*(draw() for _ in range(DRAWS)), return_exceptions=True)
    failed = [one for one in drawn if isinstance(one, BaseException)]
    came = [one for one in drawn if not isinstance(one, BaseException)]
    if not failed:
        return came
    # A bug before a wrong setting, that before a provider that is away, and a hang before a 429: whatever is
    # raised has to say of all three what they may have cost.
    first = min(failed, key=_weight)
    if isinstance(first, CriticError):
        first.in_doubt = any(isinstance(one, CriticError) and one.in_doubt for one in failed)
        first.paid = [one for one in came if one.charged]
    raise first


def _weight(error: BaseException) -> int:
    if not isinstance(error, CriticError):
        return 0
    if not isinstance(error, CriticUnavailable):
        return 1
    return 2 if error.blames_call else 3


def asked_with_reasons(asked: str, rubrics: Sequence[Rubric]) -> str:
    """Return what is asked for, and of whom a reason is wanted before the level."""
    names = ", ".join(rubric.name for rubric in rubrics if rubric.reason_first)
    if not names:
        return asked
    return (
        f"{asked} For {names} give an object instead of the level: `reason`, at most three sentences on what "
        "in the call speaks for which level, and after it `level`."
    )


def reasons_tokens_max(rubrics: Sequence[Rubric]) -> int:
    """Return the most tokens that the reasons of one draw may take."""
    return TOKENS_A_REASON * sum(rubric.reason_first for rubric in rubrics)


def schema_of(rubrics: Sequence[Rubric]) -> dict[str, Any]:
    """Return the JSON schema of an answer: one level a rubric, all of them there and nothing else.

    Those with a reason come last: nothing is argued before a level that is to be given without.
    """
    in_order = sorted(rubrics, key=lambda rubric: rubric.reason_first)
    properties = {
        rubric.name: REASONED_SCHEMA if rubric.reason_first else LEVEL_SCHEMA for rubric in in_order
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def levels_in(text: str) -> Mapping[str, Any] | None:
    """Return the object that a text is, None where it is none: a text that only contains one is none."""
    try:
        levels = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return levels if isinstance(levels, dict) else None


def verdicts_of(draws: Sequence[Draw | Verdict], names: Sequence[str]) -> list[Verdict]:
    """Return one verdict per rubric's name.

    A draw that was refused is left out; one answered draw is an answer.
    All draws count for what it used, the refused ones too; one that says nothing leaves the whole unknown.
    """
    answered = [draw for draw in draws if isinstance(draw, Draw)]
    told = next((draw.model_reported for draw in draws if draw.model_reported), None)
    about = about_parts(len(names), model_reported=told, **_used(draws))
    if not answered:
        verdict = next((draw for draw in draws if draw.charged), draws[0])
        assert not isinstance(verdict, Draw)
        return [replace(verdict, **of_rubric) for of_rubric in about]
    verdicts: list[Verdict] = []
    for name, of_rubric in zip(names, about, strict=True):
        drawn = [level for draw in answered if (level := _level(draw.levels.get(name))) is not None]
        if drawn:
            verdicts.append(Answer(of_draws(drawn), draws=len(drawn), **of_rubric))
        else:
            verdicts.append(Unusable(f"no draw gave {name} a level from 1 to {LEVELS}", **of_rubric))
    return verdicts


def _level(value: object) -> int | None:
    if isinstance(value, Mapping) and value.keys() == {"reason", "level"}:
        value = value["level"]
    sound = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LEVELS
    return value if sound else None  # type: ignore[return-value]


def _used(draws: Sequence[Draw | Verdict]) -> dict[str, int | None]:
    """Return what the draws used together, by kind of token; None where any that is charged does not say."""
    used: dict[str, int | None] = {}
    for name in ("input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens"):
        counts = [getattr(draw, name) for draw in draws if draw.charged]
        known = [count for count in counts if count is not None]
        used[name] = sum(known) if len(known) == len(counts) else None
    return used
