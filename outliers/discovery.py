"""What sets a week's bad calls, or its slow tail, apart: found on half of the people, tested on the others.

Flow: outliers.frame.WeekCalls -> `discover` -> Finding rows (outliers.findings).

1. Among the people of one half, the condition worth most is taken, its calls are set aside, and the next one
   is looked for among the rest.
2. Each is tested among the people of the other half, where a person counts once inside and once outside it,
   however many calls they made: Fisher's exact test on sums of P(bad), rounded down. A sum of probabilities
   varies less than a count with the same mean, so the test errs on the silent side.
3. Then the halves change places: a trouble that hit few people may lie almost wholly in one of them.
4. Conditions that cover nearly the same calls (Jaccard above .5) are one; false discoveries are held at 10 %
   (Benjamini and Hochberg) over those that remain; what one condition explains is not told again by another.

Bad is P(bad) itself and not a count of calls above some threshold: sixty calls that a critic finds half bad
are an incident too. Where a sentence counts calls it counts those with P(bad) >= .5.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from outliers.candidates import SIDES, SIDES_OF_TAIL, Need, best_candidate, holds
from outliers.conditions import Condition
from outliers.frame import Floats, Mask, WeekCalls
from outliers.intervals import discoveries, g_statistic, hypergeometric_tail

#: Fewest calls of a week worth looking at.
CALLS_ENOUGH = 100
#: Fewest calls and people of a cohort: below that the worst list shows them one by one.
COHORT_CALLS_MIN = 20
COHORT_PEOPLE_MIN = 5
#: Conditions looked for at most: a week has one case, and a page shows few.
FOUND_MAX = 8
NEED_BAD = Need(raise_min=0.1, lift_min=1.5)
NEED_TAIL = Need(raise_min=0.05, lift_min=3.0)
#: In the other half the rate must stand out by at least half as much.
NEED_AGAIN = 0.5
JACCARD_MAX = 0.5
#: G above the price of its family from which a condition is worth a test: the best of one family passes by
#: chance about once in a hundred times (chi-squared, one degree of freedom).
WORTH_MIN = 6.6
FALSE_DISCOVERIES = 0.1


@dataclass(frozen=True)
class Tested:
    """A condition that one half found, with its p-value in the other half.

    Attributes:
        mask: the calls it holds for, shape (n,).
    """

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
    found = [
        *_search(calls, question, finding=~calls.held_back),
        *_search(calls, question, finding=calls.held_back),
    ]
    found = [one for one in found if _is_cohort(calls, one.mask)]
    apart = {id(one): _apart(question, one.mask) for one in found}
    merged: list[Tested] = []
    for one in sorted(found, key=lambda one: -apart[id(one)]):
        place = next(
            (i for i, other in enumerate(merged) if _jaccard(one.mask, other.mask) > JACCARD_MAX), None
        )
        if place is None:
            merged.append(one)
        else:
            # found in both halves: the better of two tests, at the price of having had two
            better = min(1.0, 2 * min(one.p_value, merged[place].p_value))
            merged[place] = replace(merged[place], p_value=better)
    stands = discoveries([one.p_value for one in merged], FALSE_DISCOVERIES)
    return _not_explained(question, [one for one, stood in zip(merged, stands, strict=True) if stood])


def _search(calls: WeekCalls, question: Question, finding: Mask) -> list[Tested]:
    """Find conditions among the people of one half, each in what those before it leave, and test them."""
    inside: list[tuple[Condition, Mask, Mask]] = []
    left = question.among.copy()
    while len(inside) < FOUND_MAX:
        best = best_candidate(calls, question.y, left & finding, question.need, question.sides)
        if best is None or best.worth < WORTH_MIN:
            break
        mask = holds(best.condition, calls) & question.among
        inside.append((best.condition, mask, mask & left & ~finding))
        left &= ~mask
    # The rest is what no condition holds for: another trouble would make this one look small.
    rest = left & ~finding
    return [Tested(condition, mask, _tested(calls, question, mine, rest)) for condition, mask, mine in inside]


def _tested(calls: WeekCalls, question: Question, mine: Mask, rest: Mask) -> float:
    """Return the p-value of a condition among people who did not find it.

    Args:
        mine: their calls under the condition.
        rest: their other calls.
    """
    inside, outside = by_person(calls, question.y, mine), by_person(calls, question.y, rest)
    if not len(inside) or not len(outside):
        return 1.0
    rate_in, rate_out = float(inside.mean()), float(outside.mean())
    need = question.need
    if rate_in - rate_out < NEED_AGAIN * need.raise_min:
        return 1.0
    if rate_in < (1 + NEED_AGAIN * (need.lift_min - 1)) * rate_out:
        return 1.0
    n = len(inside) + len(outside)
    bad_in = math.floor(inside.sum() + 1e-9)
    bad = min(n, bad_in + math.ceil(outside.sum() - 1e-9))
    return hypergeometric_tail(bad_in, len(inside), bad, n)


def _apart(question: Question, mask: Mask) -> float:
    """Return how far a condition sets the bad calls apart over both halves (G)."""
    y, among = question.y, question.among
    inside, n_in = np.array([y[mask].sum()]), np.array([float(mask.sum())])
    return float(g_statistic(inside, n_in, float(y[among].sum()), float(among.sum()))[0])


def _not_explained(question: Question, found: list[Tested]) -> list[Tested]:
    """Leave out a condition that does not stand apart in the calls that those before it leave."""
    kept: list[Tested] = []
    left = question.among.copy()
    rest = left.copy()
    for one in found:
        rest &= ~one.mask
    for one in found:
        inside = left & one.mask
        if inside.any() and rest.any():
            rate_in, rate_out = question.y[inside].mean(), question.y[rest].mean()
            need = question.need
            if rate_in - rate_out >= need.raise_min and rate_in >= need.lift_min * rate_out:
                kept.append(one)
                left &= ~one.mask
    return kept


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
