"""What is asked of a week: which calls went badly, which were slow for what they are, which are its tail.

Flow: outliers.frame (the week, the 28 days before) -> outliers.cohorts.axes, outliers.cohorts.expected ->
`about_bad`, `about_slow`, `about_tail` -> outliers.cohorts.discovery.
"""

import math
from dataclasses import dataclass

import numpy as np

from outliers.cohorts.axes import SIDES, SIDES_OF_TAIL, Axis, axes_of
from outliers.cohorts.candidates import Ground, Need
from outliers.cohorts.expected import expected_rates, slow_calls, slowness
from outliers.experience.parts import BAD_FROM, WEIGHTS
from outliers.frame import Floats, Mask, WeekCalls

#: Fewest calls of the weeks before worth learning from.
CALLS_BEFORE_ENOUGH = 500
#: Bad calls that failed in one way, from which on it is asked about alone; and how many ways at most.
FAILED_SO_MIN = 20
FAILURES_MAX = 16
NEED_BAD = Need(raise_min=0.1, lift_min=1.5)
NEED_SLOW = Need(raise_min=0.25, lift_min=2.5)
NEED_TAIL = Need(raise_min=0.05, lift_min=3.0)


@dataclass(frozen=True)
class Question:
    """What is looked for in a week.

    Attributes:
        about: "bad" or "tail".
        measure: "p_bad" or "latency".
        among: the calls with an answer to that, shape (n,).
        words: "the bad calls", "the slowest 1 %".
        ground: how bad (or slow) each call is, what was expected of it, and the fields to search.
        before: the calls of the weeks before; None where there are too few to learn from.
        weight: how much one such call counts against a bad one.
        wider: the question whose words and figures its answers are told in, where they hold in these
            too; None for its own.
        failed_as: the one way to fail that it asks about: "error Timeout", "wrong_language"; "" for all.
    """

    about: str
    measure: str
    among: Mask
    words: str
    ground: Ground
    before: WeekCalls | None
    weight: float = 1.0
    wider: "Question | None" = None
    failed_as: str = ""

    @property
    def y(self) -> Floats:
        """How bad (or slow) each call is, 0..1; shape (n,)."""
        return self.ground.y

    @property
    def need(self) -> Need:
        """What a condition must reach."""
        return self.ground.need


def about_bad(calls: WeekCalls, before: WeekCalls | None = None) -> Question:
    """Ask what sets the bad calls apart; calls that are not ranked yet are left out.

    Args:
        before: the weeks before; without them a lasting difference counts as an incident.
    """
    among = np.isfinite(calls.p_bad)
    y = np.nan_to_num(calls.p_bad)
    past = before if before is not None and np.isfinite(before.p_bad).sum() >= CALLS_BEFORE_ENOUGH else None
    axes = axes_of(calls, past, SIDES)
    if past is None:
        expected, y_before, expected_before = flat_rate(y, among), np.empty(0), np.empty(0)
    else:
        y_before = np.nan_to_num(past.p_bad)
        expected, expected_before = expected_rates(axes, calls, past, y_before, np.isfinite(past.p_bad))
        expected_before = np.where(np.isfinite(past.p_bad), expected_before, 0.0)
    ground = Ground(calls, y, expected, y_before, expected_before, axes, NEED_BAD)
    return Question("bad", "p_bad", among, "the bad calls", ground, past)


def about_slow(
    calls: WeekCalls,
    before: WeekCalls | None = None,
    *,
    for_its_answer: bool = True,
    axes: list[Axis] | None = None,
) -> Question:
    """Ask under what conditions calls were slow for what they are; only answered calls have an answer.

    Args:
        before: the weeks before; without them only what changed within the week can be told.
        for_its_answer: whether a long answer may take longer; else answers that grew long are slow too.
        axes: of the same calls, where another question has them: they are the largest part of one.
    """
    enough = before is not None and np.isfinite(before.latency_ms).sum() >= CALLS_BEFORE_ENOUGH
    past = before if enough else None
    if not axes or len(axes[0].before) != (0 if past is None else len(past)):
        axes = axes_of(calls, past, SIDES)  # the other question found another past to learn from
    late, late_before = slowness(axes, calls, past, for_its_answer=for_its_answer)
    y, y_before = slow_calls(axes, late, late_before)
    among = np.isfinite(late)
    if past is None:
        expected, expected_before = flat_rate(y, among), np.empty(0)
    else:
        known = np.isfinite(late_before)
        expected, expected_before = expected_rates(axes, calls, past, y_before, known)
        expected_before = np.where(known, expected_before, 0.0)
    ground = Ground(calls, y, expected, y_before, expected_before, axes, NEED_SLOW, only_spans=past is None)
    return Question(
        "bad", "latency", among, "the calls slow for what they are", ground, past, WEIGHTS["latency"]
    )


def about_failures(calls: WeekCalls, bad: Question) -> list[Question]:
    """Ask of each way to fail (an error, a finish reason, the guard's kind) what sets its bad calls apart.

    Fifty empty answers in one night are few among all bad calls and many among the empty ones.

    Args:
        bad: the question about all bad calls, which the answers are told in.
    """
    column = calls.named.get(("failed_as", ""))
    if column is None:
        return []
    past = None if bad.before is None else bad.before.named.get(("failed_as", ""))
    ground = bad.ground
    asked = []
    for place, name in enumerate(column.names):
        y = np.where(column.codes == place, ground.y, 0.0)
        if int((y[bad.among] >= BAD_FROM).sum()) < FAILED_SO_MIN:
            continue
        expected, y_before, expected_before = flat_rate(y, bad.among), np.empty(0), np.empty(0)
        if bad.before is not None:
            there = past is not None and name in past.names
            mine = past.codes == past.names.index(name) if past is not None and there else False
            y_before = np.where(mine, ground.y_before, 0.0)
            known = np.isfinite(bad.before.p_bad)
            expected, expected_before = expected_rates(ground.axes, calls, bad.before, y_before, known)
            expected_before = np.where(known, expected_before, 0.0)
        own = Ground(calls, y, expected, y_before, expected_before, ground.axes, NEED_BAD)
        words = f"{bad.words} with {name.replace('_', ' ')}"
        asked.append(Question("bad", "p_bad", bad.among, words, own, bad.before, wider=bad, failed_as=name))
    return asked[:FAILURES_MAX]


def about_tail(calls: WeekCalls) -> Question:
    """Ask what sets the slowest answered calls apart: 1 % of them, or 5 % of fewer than 5,000."""
    among = calls.answered & np.isfinite(calls.latency_ms)
    n = int(among.sum())
    share = 0.01 if n >= 5000 else 0.05
    slow = np.zeros(len(calls))
    if n:
        rank = max(1, math.floor(n * share))
        least = np.partition(calls.latency_ms[among], n - rank)[n - rank]
        slow[among & (calls.latency_ms >= least)] = 1.0
    axes = axes_of(calls, None, SIDES_OF_TAIL)
    nothing = np.empty(0)
    ground = Ground(calls, slow, flat_rate(slow, among), nothing, nothing, axes, NEED_TAIL, pairs=False)
    words = f"the slowest {share:.0%}".replace("%", " %")
    return Question("tail", "latency", among, words, ground, None)


def flat_rate(y: Floats, among: Mask) -> Floats:
    """Return the mean of y among these calls, for every call: what to expect where no past tells more."""
    return np.full(len(y), float(y[among].mean()) if among.any() else 0.0)
