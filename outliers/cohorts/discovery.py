"""What sets a week's bad calls, or its slow ones, apart: found on half of the people, tested on the others.

Flow: outliers.frame (the week, the 28 days before) -> outliers.cohorts.expected -> `discover` -> Tested ->
Finding rows (outliers.cohorts.describing).

1. Among the people of one half, the condition under which most went wrong beyond what the weeks before let
   expect is taken (outliers.cohorts.candidates), its calls are set aside, and the next one is looked for.
2. Each is tested among the people of the other half, where a person counts once, however many calls they
   made: against their other calls (Fisher's exact test on sums, rounded down), and against what was expected
   of the same calls (binomial). The worse of the two p-values counts: an incident stands out from the rest
   of its week and from its own past. A sum of probabilities varies less than a count with the same mean, so
   both tests err on the silent side.
3. Then the halves change places: a trouble that hit few people may lie almost wholly in one of them.
4. Conditions that cover nearly the same calls (Jaccard above .5) are one; false discoveries are held at 10 %
   (Benjamini and Hochberg) over those that remain; what one condition explains is not told again by another.

Bad is P(bad) itself and not a count of calls above some threshold: sixty calls that a critic finds half bad
are an incident too. Where a sentence counts calls it counts those with P(bad) >= .5. A call is slow when it
took longer than its service, length and hour explain (outliers.cohorts.expected): a large model is no
incident.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from outliers.cohorts.candidates import PRIOR_OF_PAIR, best_candidate, holds, scan_statistic
from outliers.cohorts.expected import RATE_MAX
from outliers.cohorts.questions import Question, flat_rate
from outliers.conditions import Condition
from outliers.frame import Floats, Mask, WeekCalls
from outliers.intervals import discoveries, hypergeometric_tail, ratio_interval

#: Fewest calls of a week worth looking at.
CALLS_ENOUGH = 100
#: Fewest calls and people of a cohort: below that the worst list shows them one by one.
COHORT_CALLS_MIN = 20
COHORT_PEOPLE_MIN = 5
#: Conditions looked for at most by each half and question.
FOUND_MAX = 8
#: In the other half the rate must stand out by at least half as much.
NEED_AGAIN = 0.5
JACCARD_MAX = 0.5
#: G above the price of its family from which a condition is worth a test: the best of one family passes by
#: chance about once in a hundred times (chi-squared, one degree of freedom).
WORTH_MIN = 6.6
FALSE_DISCOVERIES = 0.1
#: No condition stands on less than this, however few were tested.
P_MAX = 0.01


@dataclass(frozen=True)
class Tested:
    """A condition that one half found, with its p-value in the other half.

    Attributes:
        mask: the calls it holds for, shape (n,).
        question: what was asked when it was found.
        excess: how much went wrong under it beyond what was expected; a slow call weighs less than a bad one.
        found_among: the half that found it: "held_back", "others" or "both".
    """

    condition: Condition
    mask: Mask
    p_value: float
    question: Question
    excess: float
    found_among: str


def discover(calls: WeekCalls, *questions: Question) -> list[Tested]:
    """Return the conditions that stand, those with most gone wrong first; empty in a quiet week."""
    found = [
        one
        for question in questions
        if question.among.sum() >= CALLS_ENOUGH
        for finding, name in ((~calls.held_back, "others"), (calls.held_back, "held_back"))
        for one in _search(calls, question, finding, name)
    ]
    merged: list[Tested] = []
    for one in sorted((one for one in found if _is_cohort(calls, one.mask)), key=lambda one: -_g(one)):
        place = next(
            (i for i, other in enumerate(merged) if _jaccard(one.mask, other.mask) > JACCARD_MAX), None
        )
        if place is None:
            merged.append(one)
            continue
        other = merged[place]
        both = one.question is other.question and one.found_among != other.found_among
        # found in both halves: the better of two tests, at the price of having had two
        better = min(1.0, 2 * min(one.p_value, other.p_value))
        among = "both" if both else other.found_among
        merged[place] = replace(other, p_value=better, found_among=among)
    stands = discoveries([one.p_value for one in merged], FALSE_DISCOVERIES)
    standing = [one for one, stood in zip(merged, stands, strict=True) if stood and one.p_value <= P_MAX]
    told = [_in_wider_words(calls, one) for one in _not_explained(standing)]
    told = [one for one in told if _sets_apart(calls, one.question, one.mask)]
    return sorted(told, key=lambda one: -one.excess)


def _in_wider_words(calls: WeekCalls, one: Tested) -> Tested:
    """Return what was found by one way to fail with the figures of all bad calls.

    Only where these set it apart too: few fail in one way, and among all bad calls they may pass for chance.
    """
    wider = one.question.wider
    if wider is None or not _sets_apart(calls, wider, one.mask):
        return one
    return replace(one, question=wider, excess=_excess(wider, one.condition, one.mask))


def _excess(question: Question, condition: Condition, mask: Mask) -> float:
    expected = expected_under(question, condition)
    return float((question.y - expected)[mask].sum()) * question.weight


def lift_interval(calls: WeekCalls, question: Question, mask: Mask) -> tuple[float, float]:
    """Return the 95 % interval of the rate under a condition over that of all other calls, by person."""
    among = question.among
    inside, outside = by_person(calls, question.y, among & mask), by_person(calls, question.y, among & ~mask)
    return ratio_interval(float(inside.sum()), len(inside), float(outside.sum()), len(outside))


def _sets_apart(calls: WeekCalls, question: Question, mask: Mask) -> bool:
    """Whether the interval that is shown excludes chance: what is named must not read as luck."""
    return lift_interval(calls, question, mask)[0] > 1


def always_so(calls: WeekCalls, question: Question, incidents: Sequence[Tested]) -> list[Tested]:
    """Return conditions on one field under which calls go worse than the rest in every week: no incidents.

    Args:
        question: with the weeks before; without them nothing can be told to be lasting.
        incidents: what was found of this week; what they explain is not told again.
    """
    if question.before is None:
        return []
    nothing = np.empty(0)
    ground = replace(
        question.ground, y_before=nothing, expected_before=nothing, pairs=False, lasting={},
        expected=flat_rate(question.y, question.among),
    )  # fmt: skip
    found = []
    for one in discover(calls, replace(question, ground=ground, before=None)):
        if any(part.op == "within" for part in one.condition.parts):
            continue
        elsewhere = one.mask.copy()
        for other in incidents:
            elsewhere &= ~other.mask
        if 2 * int(elsewhere.sum()) > int(one.mask.sum()):
            found.append(replace(one, question=question))
    return found


def _search(calls: WeekCalls, question: Question, finding: Mask, name: str) -> list[Tested]:
    """Find conditions among the people of one half, each in what those before it leave, and test them."""
    inside: list[tuple[Condition, Mask, Mask]] = []
    left = question.among.copy()
    while len(inside) < FOUND_MAX:
        best = best_candidate(question.ground, left & finding)
        if best is None or best.worth < WORTH_MIN:
            break
        mask = holds(best.condition, calls) & question.among
        if not (mask & left & finding).any():
            break
        inside.append((best.condition, mask, mask & left & ~finding))
        left &= ~mask
    # The rest is what no condition holds for: another trouble would make this one look small.
    rest = left & ~finding
    tested = []
    for condition, mask, mine in inside:
        expected = expected_under(question, condition)
        excess = _excess(question, condition, mask)
        p_value = _tested(calls, question, expected, mine, rest)
        tested.append(Tested(condition, mask, p_value, question, excess, name))
    return tested


def confirm(
    question: Question, proposals: Sequence[tuple[Condition, str]], found: Sequence[Tested]
) -> list[Tested]:
    """Test conditions that another source proposed, in the calls that those found leave.

    Args:
        proposals: (condition, the half that proposed it: "others" or "held_back").
        found: conditions that stand; their p-values count in the false discoveries.

    Returns:
        those that stand, each a cohort, those with most gone wrong first.
    """
    calls = question.ground.calls
    left = question.among.copy()
    for one in found:
        left &= ~one.mask
    tested: list[Tested] = []
    for condition, name in proposals:
        other = calls.held_back if name == "others" else ~calls.held_back
        mask = holds(condition, calls) & question.among
        # no field's factor knows of it: its own past rate is what is expected at least
        expected = np.maximum(expected_under(question, condition), _rate_before(question, condition))
        p_value = _tested(calls, question, expected, left & mask & other, left & ~mask & other)
        excess = float((question.y - expected)[mask].sum()) * question.weight
        one = Tested(condition, mask, p_value, question, excess, name)
        same = next((i for i, had in enumerate(tested) if _jaccard(mask, had.mask) > JACCARD_MAX), None)
        if same is not None:
            better = min(1.0, 2 * min(p_value, tested[same].p_value))
            tested[same] = replace(tested[same], p_value=better, found_among="both")
        elif _is_cohort(calls, left & mask):
            tested.append(one)
    stands = discoveries([one.p_value for one in (*found, *tested)], FALSE_DISCOVERIES)
    standing = zip(tested, stands[len(found) :], strict=True)
    confirmed = [
        one
        for one, stood in standing
        if stood and one.p_value <= P_MAX and _sets_apart(calls, question, one.mask)
    ]
    return sorted(confirmed, key=lambda one: -one.excess)


def _rate_before(question: Question, condition: Condition) -> float:
    """Return how much went wrong under a condition before, as if two more calls had done as all did."""
    ground, past = question.ground, question.before
    if past is None:
        return 0.0
    inside = holds(condition, past)
    usual = float(ground.y_before.mean())
    return (float(ground.y_before[inside].sum()) + 2 * usual) / (float(inside.sum()) + 2)


def expected_under(question: Question, condition: Condition) -> Floats:
    """Return what was expected of each call, shape (n,), with the condition's own past counted in.

    A prompt version that is new is expected to do as its prompt did.
    """
    ground, past = question.ground, question.before
    if past is None:
        return ground.expected
    parts = [before for part in condition.parts if (before := _as_before(part, past)) is not None]
    if not parts:
        return ground.expected
    inside = holds(Condition.all_of(parts), past)
    seen, thought = float(ground.y_before[inside].sum()), float(ground.expected_before[inside].sum())
    worse = max(1.0, (seen + PRIOR_OF_PAIR) / (thought + PRIOR_OF_PAIR))
    return np.minimum(ground.expected * worse, RATE_MAX)


def _as_before(part: Condition, past: WeekCalls) -> Condition | None:
    """Return what a part of a condition was called before; None for what was not there, and for spans."""
    if part.op == "within" or part.field == "release":
        return None
    if part.op != "=" or holds(part, past).any():
        return part
    if part.field == "prompt_version":
        return Condition("prompt", "=", str(part.value).rpartition("@")[0])
    return None


def _tested(calls: WeekCalls, question: Question, expected: Floats, mine: Mask, rest: Mask) -> float:
    """Return the p-value of a condition among people who did not find it.

    Args:
        mine: their calls under the condition.
        rest: their other calls.
    """
    inside, outside = by_person(calls, question.y, mine), by_person(calls, question.y, rest)
    if not len(inside) or not len(outside):
        return 1.0
    thought = by_person(calls, expected, mine)
    need, rate = question.need, float(inside.mean())
    usual = [float(outside.mean())] + ([] if question.before is None else [float(thought.mean())])
    for against in usual:
        if rate - against < NEED_AGAIN * need.raise_min:
            return 1.0
        if rate < (1 + NEED_AGAIN * (need.lift_min - 1)) * against:
            return 1.0
    n = len(inside) + len(outside)
    bad_in = math.floor(inside.sum() + 1e-9)
    bad = min(n, bad_in + math.ceil(outside.sum() - 1e-9))
    by_rest = hypergeometric_tail(bad_in, len(inside), bad, n)
    if question.before is None:
        return by_rest
    return max(by_rest, _binomial_tail(bad_in, len(inside), float(thought.mean())))


def _binomial_tail(k: int, n: int, rate: float) -> float:
    """Return P(X >= k) for X binomial: of n people, each bad at this rate, at least k are."""
    if k <= 0:
        return 1.0
    rate = min(max(rate, 1e-9), 1 - 1e-9)
    logs = (
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1)
        + i * math.log(rate) + (n - i) * math.log1p(-rate)
        for i in range(k, n + 1)
    )  # fmt: skip
    return min(1.0, sum(map(math.exp, logs)))


def _g(one: Tested) -> float:
    """Return how far a condition stands above what was expected, over both halves."""
    expected = expected_under(one.question, one.condition)[one.mask]
    bad = np.array([one.question.y[one.mask].sum()])
    return float(scan_statistic(bad, np.array([expected.sum()]))[0])


def _not_explained(found: Sequence[Tested]) -> list[Tested]:
    """Leave out a condition that does not stand apart in the calls that those before it leave."""
    kept: list[Tested] = []
    for one in found:
        question = one.question
        left = question.among.copy()
        for other in kept:
            left &= ~other.mask
        rest = left & ~one.mask
        for other in found:
            rest &= ~other.mask
        inside = left & one.mask
        if not inside.any() or not rest.any():
            continue
        rate_in = question.y[inside].mean()
        thought = expected_under(question, one.condition)[inside].mean()
        rate_out = float(question.y[rest].mean())
        if question.before is not None:
            rate_out = max(rate_out, float(thought))
        need = question.need
        if rate_in - rate_out >= need.raise_min and rate_in >= need.lift_min * rate_out:
            kept.append(one)
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
