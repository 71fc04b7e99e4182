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
    CriticUnavailable,
    Refused,
    Unusable,
    Usage,
    Verdict,
    in_parts,
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
#: Room for the reason of one rubric; one that runs on is cut off and `Unusable`.
TOKENS_A_REASON = 512


@dataclass(frozen=True)
class Draw:
    """What one request gave: the object as it came, and its usage; None where not told."""

    levels: Mapping[str, Any]
    model_reported: str | None
    input_tokens: int | None
    output_tokens: int | None
    cached_input_tokens: int | None
    cache_write_tokens: int | None = None


async def three(draw: Callable[[], Awaitable[Draw | Verdict]]) -> list[Draw | Verdict]:
    """Return three draws, made at once.

    Raises:
        CriticUnavailable: any of them did not come; what the others cost is in its `spent`.
        CriticMisconfigured: outweighs what the others met.
    """
    drawn = await asyncio.gather(*(draw() for _ in range(DRAWS)), return_exceptions=True)
    failed = [one for one in drawn if isinstance(one, BaseException)]
    for error in failed:
        if not isinstance(error, CriticUnavailable):
            raise error
    came = [one for one in drawn if not isinstance(one, BaseException)]
    if failed:
        first = failed[0]
        assert isinstance(first, CriticUnavailable)
        paid = [one for one in came if isinstance(one, Draw)]
        if paid:
            first.spent = Usage(
                sum(one.input_tokens or 0 for one in paid), sum(one.output_tokens or 0 for one in paid)
            )
        raise first
    return came


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


def levels_in(text: str) -> Mapping[str, Any] | Unusable:
    """Return the object that a text is; a text that only contains one is none."""
    try:
        levels = json.loads(text)
    except (ValueError, RecursionError):
        return Unusable("the answer is no JSON object")
    return levels if isinstance(levels, dict) else Unusable("the answer is no JSON object")


def verdicts_of(draws: Sequence[Draw | Verdict], names: Sequence[str]) -> list[Verdict]:
    """Return one verdict per rubric's name.

    A draw that was refused is left out; one answered draw is an answer.
    All draws count for what it used, the refused ones too; one that says nothing leaves the whole unknown.
    """
    answered = [draw for draw in draws if isinstance(draw, Draw)]
    parts = len(names)
    tokens_in = in_parts(_total(draws, "input_tokens"), parts)
    tokens_out = in_parts(_total(draws, "output_tokens"), parts)
    cached = in_parts(_total(draws, "cached_input_tokens"), parts)
    written = in_parts(_total(draws, "cache_write_tokens"), parts)
    if not answered:
        verdict = next(draw for draw in draws if not isinstance(draw, Draw))
        if not isinstance(verdict, Refused):
            return [verdict] * parts
        return [
            replace(
                verdict,
                input_tokens=tokens_in[i],
                output_tokens=tokens_out[i],
                cached_input_tokens=cached[i],
                cache_write_tokens=written[i],
            )
            for i in range(parts)
        ]
    verdicts: list[Verdict] = []
    for i, name in enumerate(names):
        drawn = [level for draw in answered if (level := _level(draw.levels.get(name))) is not None]
        if not drawn:
            verdicts.append(Unusable(f"no draw gave {name} a level from 1 to {LEVELS}"))
            continue
        verdicts.append(
            Answer(
                of_draws(drawn),
                draws=len(drawn),
                model_reported=answered[0].model_reported,
                input_tokens=tokens_in[i],
                output_tokens=tokens_out[i],
                cached_input_tokens=cached[i],
                cache_write_tokens=written[i],
            )
        )
    return verdicts


def _level(value: object) -> int | None:
    if isinstance(value, Mapping) and value.keys() == {"reason", "level"}:
        value = value["level"]
    sound = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LEVELS
    return value if sound else None  # type: ignore[return-value]


def _total(draws: Sequence[Draw | Verdict], name: str) -> int | None:
    """Return what the draws used together; None where any of them does not say."""
    counts = [getattr(draw, name, None) for draw in draws]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
