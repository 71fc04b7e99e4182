"""What sets a week's bad calls, or its slow tail, apart: found on half of the people, tested on the others.

Flow: outliers.frame.WeekCalls -> `discover` -> Finding rows (outliers.findings).

1. Among the people of one half, the condition worth most is taken, its calls are set aside, and the next one
   is looked for among the rest: what one condition explains is not explained again by another.
2. Conditions that cover nearly the same calls (Jaccard above .5) are one.
3. Each is tested among the people of the other half, where a person counts once inside and once outside it,
   however many calls they made: Fisher's exact test on sums of P(bad), rounded down. A sum of probabilities
   varies less than a count with the same mean, so the test errs on the silent side.
4. False discoveries are held at 10 % (Benjamini and Hochberg) over those tests.

Bad is P(bad) itself and not a count of calls above some threshold: sixty calls that a critic finds half bad
are an incident too. Where a sentence counts calls it counts those with P(bad) >= .5.
"""

import math
from dataclasses import dataclass

import numpy as np

from outliers.candidates import SIDES, SIDES_OF_TAIL, Need, best_candidate, holds
from outliers.conditions import Condition
from outliers.frame import Floats, Mask, WeekCalls
from outliers.intervals import discoveries, hypergeometric_tail

#: Fewest calls of a week worth looking at.
CALLS_ENOUGH = 100
#: Fewest calls and people of a cohort: below that the worst list shows them one by one.
COHORT_CALLS_MIN = 20
COHORT_PEOPLE_MIN = 5
#: Conditions looked for at most: a week has one case, and a page shows few.
FOUND_MAX = 8
NEED_BAD = Need(raise_min=0.1, lift_min=2.0)
NEED_TAIL = Need(raise_min=0.05, lift_min=3.0)
#: In the other half the rate must stand out by at least half as much.
NEED_AGAIN = 0.5
JACCARD_MAX = 0.5
FALSE_DISCOVERIES = 0.1


@dataclass(frozen=True)
class Tested:
    """A condition that stood the test, with the p-value of the half that did not find it."""

    condition: Condition
    mask: Mask
    p_value: float


@dataclass(frozen=True)
class Question:
    """What is looked for in a week.

    Attributes:
        about: "bad" or "tail".
        y: how bad each call is (P(bad)), or whether it is slow (0 or 1); shape (n,).
        among: the calls with an answer to that.
        words: "the bad calls", "the slowest 1 %".
    """

    about: str
    y: Floats
    among: Mask
    words: str
    need: Need
    sides: dict[str, tuple[str, ...]]


def about_bad(calls: WeekCalls) -> Question:
    """Ask what sets the bad calls apart; calls that are not ranked yet are left out."""
    ranked = np.isfinite(calls.p_bad)
    return Question("bad", np.nan_to_num(calls.p_bad), ranked, "the bad calls", NEED_BAD, SIDES)


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
    return Question(
        "tail", slow, among, f"the slowest {share:.0%}".replace("%", " %"), NEED_TAIL, SIDES_OF_TAIL
    )


def discover(calls: WeekCalls, question: Question) -> list[Tested]:
    """Return the conditions that stand, the one that explains most first; empty in a quiet week."""
    if question.among.sum() < CALLS_ENOUGH:
        return []
    found: list[tuple[Condition, Mask, float]] = []
    left = question.among.copy()
    while len(found) < FOUND_MAX:
        looking = left & ~calls.held_back
        best = best_candidate(calls, question.y, looking, question.need, question.sides)
        # 2 log-likelihood above what its family of candidates costs: about p < .01 for the best of them
        if best is None or best.worth < 6.6:
            break
        mask = holds(best.condition, calls) & question.among
        if all(_jaccard(mask, other) <= JACCARD_MAX for _condition, other, _p in found):
            testing = left & calls.held_back
            found.append((best.condition, mask, _tested(calls, question, mask, testing)))
        left &= ~mask
    large = [one for one in found if _is_cohort(calls, one[1])]
    stands = discoveries([p for _condition, _mask, p in large], FALSE_DISCOVERIES)
    return [Tested(*one) for one, stood in zip(large, stands, strict=True) if stood]


def _tested(calls: WeekCalls, question: Question, mask: Mask, testing: Mask) -> float:
    """Return the p-value of a condition among the people who did not find it."""
    inside, outside = (
        by_person(calls, question.y, mask & testing),
        by_person(calls, question.y, testing & ~mask),
    )
    if not len(inside) or not len(outside):
        return 1.0
    rate_in, rate_out = float(inside.mean()), float(outside.mean())
    need = question.need
    if rate_in - rate_out < NEED_AGAIN * need.raise_min or rate_in < 1.5 * rate_out:
        return 1.0
    bad_in = math.floor(inside.sum() + 1e-9)
    bad = bad_in + math.ceil(outside.sum() - 1e-9)
    return hypergeometric_tail(
        bad_in, len(inside), min(bad, len(inside) + len(outside)), len(inside) + len(outside)
    )


def by_person(calls: WeekCalls, y: Floats, among: Mask) -> Floats:
    """Return the mean of y of each person with a call among these."""
    people = calls.people[among]
    n = np.bincount(people)
    sums = np.bincount(people, weights=y[among])
    return sums[n > 0] / n[n > 0]


def _is_cohort(calls: WeekCalls, mask: Mask) -> bool:
    """Whether enough calls and people are in it."""
    people = len(np.unique(calls.people[mask]))
    return int(mask.sum()) >= COHORT_CALLS_MIN and people >= COHORT_PEOPLE_MIN


def _jaccard(one: Mask, other: Mask) -> float:
    either = int((one | other).sum())
    return int((one & other).sum()) / either if either else 0.0
