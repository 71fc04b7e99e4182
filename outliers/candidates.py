"""Conditions to try: every value of every field, every threshold a person would say, every span of hours.

Flow: outliers.frame -> `best_candidate` -> outliers.discovery. Each family of candidates is counted at once,
with NumPy.

Candidates are compared by G, the log-likelihood ratio of "another rate inside" (outliers.intervals), less
2 log(m) for a family of m candidates: fourteen thousand spans of hours must not beat one prompt by luck.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from outliers.conditions import Condition
from outliers.frame import Floats, Ints, Mask, WeekCalls
from outliers.intervals import g_statistic

HOUR_MS = 3_600_000

#: Fewest calls inside a condition, in the half that looks for it.
CALLS_MIN = 8
#: Longest span of hours that counts as an incident in time; a longer one is a change of another field.
SPAN_HOURS_MAX = 72
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


@dataclass(frozen=True)
class Need:
    """How far a condition's rate must stand above the rest's to be worth a person's week.

    Attributes:
        raise_min: rate inside less rate outside, at least.
        lift_min: rate inside over rate outside, at least.
    """

    raise_min: float
    lift_min: float


@dataclass(frozen=True)
class Candidate:
    """A condition with its worth (G less the price of its family) among the calls looked at."""

    condition: Condition
    worth: float
    n: int


def best_candidate(
    calls: WeekCalls, y: Floats, among: Mask, need: Need, sides: dict[str, tuple[str, ...]]
) -> Candidate | None:
    """Return the condition that sets the bad calls most apart, or None where none is worth looking at.

    Args:
        y: how bad (or whether slow) each call is, 0..1; shape (n,).
        among: the calls to look at.
        need: what a condition must reach.
        sides: numeric fields to try, and on which sides.
    """
    at = np.nonzero(among)[0]
    total, n = float(y[at].sum()), len(at)
    found = [
        *_named(calls, y, at, total, n, need),
        *_numeric(calls, y, at, total, n, need, sides),
        *_spans(calls, y, at, total, n, need),
    ]
    most = max((candidate.worth for candidate in found), default=0.0)
    # where two fields set apart nearly the same calls, the one that comes first names the cause best
    return next((one for one in found if one.worth >= most - max(2.0, 0.03 * most)), None)


def holds(condition: Condition, calls: WeekCalls) -> Mask:
    """Return for which calls a condition holds, shape (n,); never where a field of it is unknown."""
    if condition.also is not None:
        return np.asarray(np.logical_and.reduce([holds(part, calls) for part in condition.parts]))
    if isinstance(condition.value, tuple):
        since, until = condition.value
        return (calls.started_at_ms >= since) & (calls.started_at_ms < until)
    if isinstance(condition.value, str):
        key = (
            (condition.field, condition.value if condition.field == "tool" else condition.key)
            if condition.field in ("tag", "tool")
            else (condition.field, "")
        )
        column = calls.named.get(key)
        if column is None or condition.value not in column.names:
            return np.zeros(len(calls), dtype=np.bool_)
        return np.asarray(column.codes == column.names.index(condition.value))
    values = calls.numbers[condition.field]
    return np.asarray(values > condition.value if condition.op == ">" else values < condition.value)


def spoken_numbers(low: float, high: float) -> Floats:
    """Return the whole numbers in [low, high] that a person would say: two digits and zeros, 7 or 9,800."""
    if high < 1:
        return np.empty(0)
    tens = range(math.floor(math.log10(high)) + 1)
    numbers = np.unique([digits * 10.0**power for power in tens for digits in range(1, 100)])
    return numbers[(numbers >= low) & (numbers <= high)]


def _roundness(number: float) -> int:
    """Return 0 for 1, 2, 5, 10 ..., 1 for another single digit and zeros, 2 for 15 or 250, 3 for the rest."""
    digits = f"{number:.1e}"[:3]
    if digits in ("1.0", "2.0", "5.0"):
        return 0
    return 1 if digits[2] == "0" else 2 if digits[2] == "5" else 3


def _worths(bad_in: Floats, n_in: Floats, total: float, n: int, need: Need, price: float) -> Floats:
    """Return each group's worth; minus infinity for one that does not reach what is needed."""
    with np.errstate(divide="ignore", invalid="ignore"):
        rate_in, rate_out = bad_in / n_in, (total - bad_in) / (n - n_in)
        reaches = (
            (n_in >= CALLS_MIN)
            & (n - n_in >= CALLS_MIN)
            & (rate_in - rate_out >= need.raise_min)
            & (rate_in >= need.lift_min * rate_out)
        )
    return np.where(reaches, g_statistic(bad_in, n_in, total, n) - price, -np.inf)


def _named(calls: WeekCalls, y: Floats, at: Ints, total: float, n: int, need: Need) -> Iterator[Candidate]:
    order = [(name, "") for name in NAMED] + sorted(key for key in calls.named if key[0] in ("tag", "tool"))
    for key in order:
        column = calls.named.get(key)
        if column is None:
            continue
        codes = column.codes[at] + 1
        n_in = np.bincount(codes, minlength=len(column.names) + 1)[1:].astype(np.float64)
        bad_in = np.bincount(codes, weights=y[at], minlength=len(column.names) + 1)[1:].astype(np.float64)
        tried = int((n_in >= CALLS_MIN).sum())
        worths = _worths(bad_in, n_in, total, n, need, 2 * math.log(max(1, tried)))
        best = int(np.argmax(worths)) if len(worths) else -1
        if best >= 0 and worths[best] > 0:
            field, name = key
            condition = Condition(field, "=", column.names[best], name if field == "tag" else "")
            yield Candidate(condition, float(worths[best]), int(n_in[best]))


def _numeric(
    calls: WeekCalls,
    y: Floats,
    at: Ints,
    total: float,
    n: int,
    need: Need,
    sides: dict[str, tuple[str, ...]],
) -> Iterator[Candidate]:
    for field, ops in sides.items():
        values = calls.numbers[field][at]
        known = np.isfinite(values)
        if known.sum() < 2 * CALLS_MIN:
            continue
        order = np.argsort(values[known], kind="stable")
        ordered = values[known][order]
        summed = np.concatenate([[0.0], np.cumsum(y[at][known][order])])
        thresholds = spoken_numbers(float(ordered[0]), float(ordered[-1]))
        if not len(thresholds):
            continue
        for op in ops:
            below = np.searchsorted(ordered, thresholds, side="right" if op == ">" else "left")
            n_in = np.asarray(len(ordered) - below if op == ">" else below, dtype=np.float64)
            bad_in = summed[-1] - summed[below] if op == ">" else summed[below]
            # neighbouring thresholds say nearly the same: their number counts for less than that of names
            worths = _worths(bad_in, n_in, total, n, need, math.log(len(thresholds)))
            if worths.max() <= 0:
                continue
            # of those that set apart about as well, the one that is easiest to say
            near = np.nonzero(worths >= worths.max() - max(1.0, 0.02 * worths.max()))[0]
            best = min(near.tolist(), key=lambda i: (_roundness(float(thresholds[i])), -worths[i]))
            yield Candidate(
                Condition(field, op, float(thresholds[best])), float(worths[best]), int(n_in[best])
            )


def _spans(calls: WeekCalls, y: Floats, at: Ints, total: float, n: int, need: Need) -> Iterator[Candidate]:
    first_ms = calls.week.since_ms
    hours = -(-(calls.week.until_ms - first_ms) // HOUR_MS)
    hour = (calls.started_at_ms[at] - first_ms) // HOUR_MS
    n_to = np.concatenate([[0], np.cumsum(np.bincount(hour, minlength=hours))]).astype(np.float64)
    bad_to = np.concatenate([[0.0], np.cumsum(np.bincount(hour, weights=y[at], minlength=hours))])
    start, end = np.triu_indices(hours + 1, k=1)
    short = end - start <= SPAN_HOURS_MAX
    start, end = start[short], end[short]
    worths = _worths(
        bad_to[end] - bad_to[start], n_to[end] - n_to[start], total, n, need, 2 * math.log(len(start))
    )
    best = int(np.argmax(worths))
    if worths[best] > 0:
        span = (first_ms + int(start[best]) * HOUR_MS, first_ms + int(end[best]) * HOUR_MS)
        yield Candidate(
            Condition("started_at", "within", span),
            float(worths[best]),
            int(n_to[end[best]] - n_to[start[best]]),
        )
