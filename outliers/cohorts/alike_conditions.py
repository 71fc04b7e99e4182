"""Conditions that hold for one call and set the bad calls like it apart from the rest.

Flow: outliers.cohorts.alike (a seed, bad calls, a sample of the others) -> `conditions_of`. Only values that
the seed itself has are tried, alone and in pairs, so this is quick and says nothing about other troubles. The
sample makes shares, not rates: how often a condition goes wrong is told by the week's findings.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from outliers.cohorts.axes import roundness, spoken_numbers
from outliers.conditions import Condition
from outliers.frame import Floats, Mask
from outliers.intervals import g_statistic

HOUR_MS = 3_600_000
#: Spans of hours around the seed, and the sides on which a number is looked at.
SPANS_H = (1, 2, 3, 6, 12, 24, 48)
SIDES = {"input_tokens": "><", "input_chars": "><", "context_chars": "><", "user_age_days": "<"}
#: A condition is told where at least so many bad calls have it, so many times as often as the rest, and G is
#: beyond what the best of its family has by chance.
BAD_MIN, LIFT_MIN, G_MIN = 4, 1.5, 6.6
#: A second part must add so much.
PAIR_WORTH = 6.6
JACCARD_MAX = 0.5
SHOWN = 5


@dataclass(frozen=True)
class Compared:
    """One call's fields: (field, tag's or tool's name) -> value; numbers; when it started."""

    fields: Mapping[tuple[str, str], str]
    numbers: Mapping[str, float]
    started_at_ms: int


@dataclass(frozen=True)
class AlikeCondition:
    """One condition that holds for the seed.

    Attributes:
        condition: {"field", "op", "value"}, another part under "also".
        words: "prompt version = faq@v7 and input language = de".
        n_bad: bad calls it holds for.
        share_bad, share_rest: share of the bad calls, and of a sample of the others, that it holds for.
        lift: share_bad / share_rest.
    """

    condition: dict[str, Any]
    words: str
    n_bad: int
    share_bad: float
    share_rest: float
    lift: float


def conditions_of(
    seed: Compared, bad: Sequence[Compared], rest: Sequence[Compared], zone: ZoneInfo
) -> tuple[AlikeCondition, ...]:
    """Return the conditions of the seed that set these bad calls apart, the one that does most first."""
    if len(bad) < BAD_MIN or not rest:
        return ()
    table = _Table(seed, bad, rest)
    singles = table.singles()
    pairs = [
        (Condition.all_of(sorted((one, other), key=lambda part: part.op == "within")), mask & other_mask, g)
        for i, (one, mask, g_one) in enumerate(singles)
        for other, other_mask, g_other in singles[i + 1 :]
        if one.field != other.field
        and (g := table.worth(mask & other_mask)) >= max(g_one, g_other) + PAIR_WORTH
    ]
    told: list[tuple[AlikeCondition, Mask]] = []
    for condition, mask, _g in sorted([*singles, *pairs], key=lambda one: -one[2]):
        if len(told) < SHOWN and all(_jaccard(mask, other) <= JACCARD_MAX for _told, other in told):
            told.append((table.tell(condition, mask, zone), mask))
    return tuple(one for one, _mask in told)


class _Table:
    """The bad calls, then the rest, as masks of the seed's values."""

    def __init__(self, seed: Compared, bad: Sequence[Compared], rest: Sequence[Compared]) -> None:
        self.seed, self.calls = seed, [*bad, *rest]
        self.bad = np.arange(len(self.calls)) < len(bad)
        self.n_bad, self.n = len(bad), len(self.calls)

    def singles(self) -> list[tuple[Condition, Mask, float]]:
        """Return the single conditions that stand out: (condition, calls, worth)."""
        found = [self._best([(self._is(*field), field_mask)]) for field, field_mask in self._named()]
        found += [self._best(self._thresholds(name, op)) for name, ops in SIDES.items() for op in ops]
        found.append(self._best(self._spans()))
        return [one for one in found if one is not None]

    def worth(self, mask: Mask) -> float:
        """Return how far a condition sets the bad calls apart (G); minus infinity where it is not told."""
        in_bad, n_in = float((mask & self.bad).sum()), float(mask.sum())
        share_bad, share_rest = in_bad / self.n_bad, (n_in - in_bad) / max(1, self.n - self.n_bad)
        if in_bad < BAD_MIN or share_bad < LIFT_MIN * share_rest:
            return -math.inf
        return float(g_statistic(np.array([in_bad]), np.array([n_in]), float(self.n_bad), float(self.n))[0])

    def tell(self, condition: Condition, mask: Mask, zone: ZoneInfo) -> AlikeCondition:
        n_bad = int((mask & self.bad).sum())
        n_rest = self.n - self.n_bad
        share_bad, share_rest = n_bad / self.n_bad, int((mask & ~self.bad).sum()) / n_rest
        return AlikeCondition(
            condition=condition.as_json(),
            words=condition.words(zone),
            n_bad=n_bad,
            share_bad=round(share_bad, 4),
            share_rest=round(share_rest, 4),
            lift=round(share_bad / max(share_rest, 1 / n_rest), 2),
        )

    def _best(self, tried: Sequence[tuple[Condition, Mask]]) -> tuple[Condition, Mask, float] | None:
        worths = [(self.worth(mask), i) for i, (_condition, mask) in enumerate(tried)]
        most = max((worth for worth, _i in worths), default=-math.inf)
        if most < G_MIN + 2 * math.log(max(1, len(tried))):
            return None
        # of those that do about as well, the one that is easiest to say
        near = [i for worth, i in worths if worth >= most - max(1.0, 0.02 * most)]
        best = min(near, key=lambda i: (_hard_to_say(tried[i][0]), -worths[i][0]))
        return (*tried[best], worths[best][0])

    def _named(self) -> list[tuple[tuple[tuple[str, str], str], Mask]]:
        return [
            ((field, value), np.array([call.fields.get(field) == value for call in self.calls]))
            for field, value in self.seed.fields.items()
        ]

    @staticmethod
    def _is(field: tuple[str, str], value: str) -> Condition:
        name, key = field
        return Condition(name, "=", value, key if name == "tag" else "")

    def _thresholds(self, name: str, op: str) -> list[tuple[Condition, Mask]]:
        own = self.seed.numbers.get(name)
        if own is None:
            return []
        values: Floats = np.array([call.numbers.get(name, np.nan) for call in self.calls])
        known = values[np.isfinite(values)]
        if not len(known):
            return []
        low, high = (float(known.min()), own) if op == ">" else (own, float(known.max()))
        said = [number for number in spoken_numbers(max(low, 1.0), high).tolist() if number != own]
        return [
            (Condition(name, op, number), values > number if op == ">" else values < number)
            for number in said
        ]

    def _spans(self) -> list[tuple[Condition, Mask]]:
        at = np.array([call.started_at_ms for call in self.calls])
        hour = self.seed.started_at_ms // HOUR_MS
        spans = sorted(
            {
                (first, first + length)
                for length in SPANS_H
                for first in range(hour - length + 1, hour + 1, max(1, length // 4))
            }
        )
        return [
            (
                Condition("started_at", "within", (first * HOUR_MS, end * HOUR_MS)),
                (at >= first * HOUR_MS) & (at < end * HOUR_MS),
            )
            for first, end in spans
        ]


def _hard_to_say(condition: Condition) -> float:
    if isinstance(condition.value, tuple):
        return float(condition.value[1] - condition.value[0])
    return roundness(condition.value) if isinstance(condition.value, float) else 0


def _jaccard(one: Mask, other: Mask) -> float:
    either = int((one | other).sum())
    return int((one & other).sum()) / either if either else 0.0
