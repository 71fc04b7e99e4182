"""The fields that conditions are made of, as columns of small numbers, for a week and for the weeks before.

Flow: outliers.frame (two frames) -> `axes_of` -> outliers.cohorts.expected, outliers.cohorts.candidates. A
code of -1 means that a call's value is unknown. Both frames share an axis's codes, so that a value has one
place in both.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from outliers.conditions import Condition
from outliers.frame import Codes, Floats, Ints, WeekCalls

#: Numeric fields and the sides on which trouble is looked for.
SIDES: dict[str, tuple[str, ...]] = {
    "input_tokens": (">", "<"),
    "input_chars": (">", "<"),
    "context_chars": (">", "<"),
    "user_age_days": ("<",),
    "calls_before": ("<",),
}
#: These are known only with the answer: they explain a slow tail and are no condition of a bad answer.
SIDES_OF_TAIL: dict[str, tuple[str, ...]] = {**SIDES, "output_tokens": (">",), "retries": (">",)}
#: Order of preference where two fields set apart nearly the same calls; numbers and spans come after.
NAMED = ("prompt_version", "prompt", "model", "provider", "release", "input_language", "environment")
#: Of two fields of which one says all of the other, no pair is made.
WITHIN = ({"prompt", "prompt_version"}, {"model", "provider"}, {"input_tokens", "input_chars"},
          {"user_age_days", "calls_before"})  # fmt: skip
#: Thresholds of a number that are tried together with another field; the best one is then made finer.
COARSE = 12


@dataclass(frozen=True)
class Axis:
    """One field: names, or a number cut at thresholds on one side.

    Attributes:
        field, key: as in a condition.
        op: "=", ">" or "<".
        codes, before: the place of each call's value, this week and before; -1 where unknown.
        names: of the places; empty for a number.
        thresholds: of a number, ascending: with ">" threshold j lies below the places j + 1 and more, with
            "<" above the places up to j.
    """

    field: str
    key: str
    op: str
    codes: Codes
    before: Codes
    names: tuple[str, ...] = ()
    thresholds: Floats | None = None

    @property
    def size(self) -> int:
        """How many places there are."""
        return len(self.names) if self.thresholds is None else len(self.thresholds) + 1

    def condition(self, place: int) -> Condition:
        """Return the test of one value, or of one threshold."""
        if self.thresholds is None:
            return Condition(self.field, "=", self.names[place], self.key if self.field == "tag" else "")
        return Condition(self.field, self.op, float(self.thresholds[place]))


def axes_of(calls: WeekCalls, before: WeekCalls | None, sides: dict[str, tuple[str, ...]]) -> list[Axis]:
    """Return every axis, those that name a cause best first; numbers are cut finely."""
    past: WeekCalls | None = before
    axes = []
    order = [(name, "") for name in NAMED] + sorted(key for key in calls.named if key[0] in ("tag", "tool"))
    for field, key in order:
        column = calls.named.get((field, key))
        if column is None:
            continue
        theirs = None if past is None else past.named.get((field, key))
        names, codes_before = column.names, np.full(0 if past is None else len(past), -1, dtype=np.int32)
        if theirs is not None:
            place = {name: i for i, name in enumerate(names)}
            names = (*names, *(name for name in theirs.names if name not in place))
            place |= {name: i for i, name in enumerate(names)}
            to = np.array([place[name] for name in theirs.names] + [-1], dtype=np.int32)
            codes_before = to[theirs.codes]
        axes.append(Axis(field, key, "=", column.codes, codes_before, names))
    for field, ops in sides.items():
        values = calls.numbers[field]
        known = values[~np.isnan(values)]
        finite = known[np.isfinite(known)]
        if not len(finite):
            continue
        thresholds = spoken_numbers(float(finite.min()), float(finite.max()))
        if not len(thresholds):
            continue
        old = np.empty(0) if past is None else past.numbers[field]
        axes += [numeric_axis(field, op, values, old, thresholds) for op in ops]
    return axes


def numeric_axis(field: str, op: str, values: Floats, before: Floats, thresholds: Floats) -> Axis:
    """Return a number cut at thresholds, on one side."""
    side: Literal["left", "right"] = "left" if op == ">" else "right"

    def _cut(column: Floats) -> Codes:
        place = np.searchsorted(thresholds, column, side=side).astype(np.int32)
        place[np.isnan(column)] = -1
        return place

    return Axis(field, "", op, _cut(values), _cut(before), thresholds=thresholds)


def coarse(axis: Axis) -> Axis:
    """Return a number with few thresholds: those nearest to equal shares of the calls, and to the far end."""
    if axis.thresholds is None or len(axis.thresholds) <= COARSE:
        return axis
    codes = axis.codes[axis.codes >= 0]
    counts = np.cumsum(np.bincount(codes, minlength=axis.size)) / max(1, len(codes))
    shares = np.array([0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99])
    kept = np.unique(np.clip(np.searchsorted(counts, shares), 0, len(axis.thresholds) - 1))
    # the new place is how many kept thresholds lie on the lower side of the old one, for either side
    to = np.append(np.searchsorted(kept, np.arange(axis.size)), -1).astype(np.int32)
    return Axis(
        axis.field, axis.key, axis.op, to[axis.codes], to[axis.before], thresholds=axis.thresholds[kept]
    )


def one_says_the_other(one: Axis, other: Axis) -> bool:
    """Whether a pair of these two fields says no more than one of them."""
    if one.field == other.field and one.key == other.key:
        return True
    return any({one.field, other.field} <= fields for fields in WITHIN)


def spoken_numbers(low: float, high: float) -> Floats:
    """Return the whole numbers in [low, high] that a person would say: two digits and zeros, 7 or 9,800."""
    if high < 1:
        return np.empty(0)
    tens = range(math.floor(math.log10(high)) + 1)
    numbers = np.unique([digits * 10.0**power for power in tens for digits in range(1, 100)])
    return numbers[(numbers >= low) & (numbers <= high)]


def roundness(number: float) -> int:
    """Return 0 for 1, 2, 5, 10 ..., 1 for another single digit and zeros, 2 for 15 or 250, 3 for the rest."""
    digits = f"{number:.1e}"[:3]
    if digits in ("1.0", "2.0", "5.0"):
        return 0
    return 1 if digits[2] == "0" else 2 if digits[2] == "5" else 3


def table_of_pairs(codes: Ints, weights: Floats | None, one: Axis, other: Axis) -> Floats:
    """Return the sum of weights (calls where None) of each two places, shape (one's, other's places).

    Args:
        codes: (place of one + 1) * (places of other + 1) + place of other + 1, where unknown is -1.
    """
    size = (one.size + 1) * (other.size + 1)
    table = np.bincount(codes, weights=weights, minlength=size).reshape(one.size + 1, other.size + 1)
    return cumulated(table[1:, 1:].astype(np.float64), other.op)


def cumulated(table: Floats, op: str) -> Floats:
    """Return the sums under each condition along the last axis: a threshold holds for many places."""
    if op == ">":
        return np.asarray(np.cumsum(table[..., ::-1], axis=-1)[..., ::-1][..., 1:], dtype=np.float64)
    if op == "<":
        return np.asarray(np.cumsum(table, axis=-1)[..., :-1], dtype=np.float64)
    return np.asarray(table, dtype=np.float64)
