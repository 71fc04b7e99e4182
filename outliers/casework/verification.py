"""Whether a fix worked: the calls under a case's condition before and after it, against all other calls.

Flow: outliers.casework.proof gathers the four groups of calls -> `judge` -> `Verdict` ->
outliers.casework.following keeps it. Pure arithmetic; no database.

The trouble is a case's excess: how much worse its calls went before the fix than all others. It is fixed when
more than half of the excess is gone, and unchanged when more than half is still there; the contrast

    gone = (before + rest before) / 2 - after

is positive in the one and negative in the other case. It is looked at every day, so its interval is a
confidence sequence: valid at all looks at once (a 95 % interval looked at daily errs in 20 %). The mean of
a growing sample minus a fixed one has independent increments in information time 1 / variance (Jennison and
Turnbull, Group Sequential Methods, section 3.1), so that Robbins' normal mixture bounds it for all times, as
in the asymptotic confidence sequences of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (Annals of
Statistics 52, 2024, equation 12). Variances are between persons, one person's calls before and after taken
together: one user's forty bad calls are one bad day.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from outliers.frame import Floats, Ints

#: Errors of all looks of one verdict together, both directions.
ALPHA = 0.05
#: Fewest calls and persons after the fix that a verdict is given on, and before it.
CALLS_MIN = 20
PEOPLE_MIN = 10
#: A cohort that is hardly worse than the rest is judged as if its excess were this.
EXCESS_MIN = 0.1
#: Calls of before that steady the spread of few calls after: ten calls that all went well prove little.
STEADY = 20
#: Days after the fix at which "too early" ends: what could not be told from before is no change.
HORIZON_DAYS = 56
#: Weights that make the mix of before that of after are held within a factor of five.
WEIGHT_MAX = 5.0
#: Fewest calls before of one kind of input for it to be weighed on its own.
STRATUM_MIN = 10

VERDICTS = ("fixed", "no_change", "worse", "too_early")


@dataclass(frozen=True)
class Outcomes:
    """How n calls went; arrays of shape (n,).

    Attributes:
        y: how bad each was, 0..1.
        people: whom it happened to; one number is one person in all groups of a case.
        stratum: what kind of input it was (language and length), one number a kind.
    """

    y: Floats
    people: Ints
    stratum: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Sides:
    """The four groups of a case: under its condition and not, before its fix and after."""

    before: Outcomes
    after: Outcomes
    rest_before: Outcomes
    rest_after: Outcomes


@dataclass(frozen=True)
class Verdict:
    """What is known about a fix now.

    Attributes:
        verdict: fixed, no_change, worse or too_early.
        sentence: the verdict with its figures, as a person reads it.
        before, after: mean badness under the condition, 0..1; None without calls. `before` is weighed to the
            kinds of input that came after.
        after_low, after_high: interval of `after` that holds at every look, 95 %; None without calls.
        rest_before, rest_after: mean badness of all other calls.
        n_before, n_after: calls under the condition; `people_before`, `people_after` persons.
        calls_needed: about so many more calls under the condition until a verdict; None with a verdict, and
            where the calls before the fix are too few for any.
    """

    verdict: str
    sentence: str
    before: float | None
    after: float | None
    after_low: float | None
    after_high: float | None
    rest_before: float | None
    rest_after: float | None
    n_before: int
    n_after: int
    people_before: int
    people_after: int
    calls_needed: int | None


def judge(sides: Sides, days_since_fix: float) -> Verdict:
    """Return the verdict on the calls that are known now; may be asked again every day.

    The rest serves twice: it says what "not in trouble" is, and how all calls moved meanwhile. A verdict has
    to hold both with and without taking that movement off, so that a quieter season is no fix.
    """
    before, after = sides.before, sides.after
    weights = mix_weights(before, after)
    n_before, n_after = len(before), len(after)
    people = len(np.unique(before.people)), len(np.unique(after.people))
    if n_before < CALLS_MIN or people[0] < PEOPLE_MIN or not len(sides.rest_before):
        sentence = (
            f"Too early: {_calls(n_before)} before the fix, which prove nothing; "
            "read the calls after it one by one."
        )
        return _verdict("too_early", sentence, sides, weights, None, None)
    was, rest = float(np.average(before.y, weights=weights)), float(sides.rest_before.y.mean())
    half = max(was - rest, EXCESS_MIN) / 2
    if not n_after:
        needed = _needed(half, half, _spread(before, weights), 0, _fixed_part(sides, weights))
        return _verdict("too_early", _early_sentence(0, needed), sides, weights, needed, None)
    moved = float(sides.rest_after.y.mean()) - rest if len(sides.rest_after) else 0.0
    is_now = float(after.y.mean())
    variance, variance_moved = _variances(sides, weights)
    radius, radius_moved = (sequence_radius(one, half) for one in (variance, variance_moved))
    gone = was - half - is_now
    enough = n_after >= CALLS_MIN and people[1] >= PEOPLE_MIN
    if enough and gone > radius and gone + moved > radius_moved:
        return _verdict(
            "fixed", _told("Fixed", was, is_now, n_after, people[1]), sides, weights, None, radius
        )
    worse = is_now - was
    if enough and worse > max(half, radius) and worse - moved > max(half, radius_moved):
        return _verdict(
            "worse", _told("Worse", was, is_now, n_after, people[1]), sides, weights, None, radius
        )
    still = gone < -radius and gone + moved < -radius_moved
    if enough and (still or days_since_fix >= HORIZON_DAYS):
        said = _told("No change seen", was, is_now, n_after, people[1])
        return _verdict("no_change", said, sides, weights, None, radius)
    likely = half if not enough else min(half, max(abs(gone), half / 2))
    spread = n_after * _after_variance(sides, weights)
    needed = _needed(half, likely, spread, n_after, _fixed_part(sides, weights))
    return _verdict("too_early", _early_sentence(n_after, needed), sides, weights, needed, radius)


def returned(before: float, rest: float, recent: Outcomes, spread: float) -> bool:
    """Say whether the trouble of a closed case is back in its newest calls.

    One look of many: the mean has to lie more than half an excess above the rest by four standard errors,
    which a year of daily looks at a case that stays fixed passes by chance less than once in a hundred years.

    Args:
        before, rest: mean badness of the calls under the condition and of all others, in its trouble.
        spread: `spread_per_call` of the calls before the fix.
    """
    if len(recent) < CALLS_MIN or len(np.unique(recent.people)) < PEOPLE_MIN:
        return False
    half = max(before - rest, EXCESS_MIN) / 2
    own = _influence_variance([(recent, np.ones(len(recent)), 1.0)])
    variance = max(own, STEADY * spread / (len(recent) + STEADY) / len(recent))
    return float(recent.y.mean()) - (rest + half) > RETURN_Z * math.sqrt(variance)


def spread_per_call(outcomes: Outcomes) -> float:
    """Return the variance of the mean times its calls: what one call adds, a person's calls as one."""
    return _spread(outcomes, np.ones(len(outcomes))) if len(outcomes) else 0.0


#: Standard errors beyond which a closed case reopens.
RETURN_Z = 4.0


def sequence_radius(variance: float, half: float, alpha: float = ALPHA) -> float:
    """Return the half-width of the confidence sequence of a contrast with this variance.

    Robbins' mixture with the parameter that makes it tightest where it is as wide as `half`: there it is
    about 3.0 standard errors wide, and a single look's interval 1.96.
    """
    bits = -2 * math.log(alpha)
    # information at which the sequence is as wide as `half`, by its width at the optimum
    rho = 9.2 / half**2 / (bits + math.log(bits) + 1)
    at = variance * rho
    return math.sqrt(variance * (1 + at) * (math.log((1 + at) / at) + bits))


def mix_weights(before: Outcomes, after: Outcomes) -> Floats:
    """Return weights of the calls before that give them the mix of inputs of the calls after, shape (n,).

    Post-stratification: were there fewer German questions after than before, fewer are counted before. Kinds
    with few calls before keep a weight of 1, and so do all while too few calls came after.
    """
    weights = np.ones(len(before))
    if len(after) < CALLS_MIN or not len(before) or len(before.stratum) != len(before):
        return weights
    kinds = int(max(before.stratum.max(), after.stratum.max())) + 1
    was = np.bincount(before.stratum, minlength=kinds).astype(np.float64)
    is_now = np.bincount(after.stratum, minlength=kinds).astype(np.float64)
    large = was >= STRATUM_MIN
    if not large.any() or not is_now[large].sum():
        return weights
    factor = np.ones(kinds)
    factor[large] = (is_now[large] / is_now[large].sum()) / (was[large] / was[large].sum())
    return np.clip(factor, 1 / WEIGHT_MAX, WEIGHT_MAX)[before.stratum]


Group = tuple[Outcomes, Floats, float]


def _variances(sides: Sides, weights: Floats) -> tuple[float, float]:
    """Return the variance of `gone`, as it is and with the movement of the rest taken off."""
    groups: list[Group] = [
        (sides.before, weights, 0.5),
        (sides.after, np.ones(len(sides.after)), -1.0),
        (sides.rest_before, np.ones(len(sides.rest_before)), 0.5),
    ]
    moved: list[Group] = [*groups[:2], (sides.rest_before, groups[2][1], -0.5)]
    if len(sides.rest_after):
        moved.append((sides.rest_after, np.ones(len(sides.rest_after)), 1.0))
    more = _after_variance(sides, weights) - _influence_variance([groups[1]])
    return (
        _influence_variance(groups) + max(0.0, more),
        _influence_variance(moved) + max(0.0, more),
    )


def _after_variance(sides: Sides, weights: Floats) -> float:
    """Return the variance of the mean after, steadied by the spread of before."""
    n = len(sides.after)
    own = _influence_variance([(sides.after, np.ones(n), 1.0)])
    steadied = (n * (n * own) + STEADY * _spread(sides.before, weights)) / (n + STEADY) / n
    return max(own, steadied)


def _fixed_part(sides: Sides, weights: Floats) -> float:
    """Return the variance of `gone` that more calls after the fix do not lessen."""
    ones = np.ones(len(sides.rest_before))
    return _influence_variance([(sides.before, weights, 0.5), (sides.rest_before, ones, 0.5)])


def _spread(outcomes: Outcomes, weights: Floats) -> float:
    """Return the variance of a mean times its calls: what one call adds, clustering counted."""
    return len(outcomes) * _influence_variance([(outcomes, weights, 1.0)])


def _influence_variance(groups: list[Group]) -> float:
    """Return the variance of a sum of (factor * weighted mean), clustered by person over all groups.

    By the linearised ratio estimator (Cochran, Sampling Techniques, 3rd ed., section 6.4).
    """
    people = np.concatenate([group.people for group, _weights, _factor in groups])
    if not len(people):
        return 0.0
    pulls = [
        factor * weights * (group.y - np.average(group.y, weights=weights)) / weights.sum()
        for group, weights, factor in groups
        if len(group)
    ]
    _who, of_person = np.unique(people, return_inverse=True)
    sums = np.bincount(of_person, weights=np.concatenate(pulls))
    persons = len(sums)
    return float((sums**2).sum()) * persons / max(1, persons - 1)


def _needed(half: float, likely: float, spread: float, n: int, fixed_part: float) -> int | None:
    """Return about how many more calls a verdict takes, were `gone` then as large as is likely.

    Args:
        spread: variance of the mean after times its calls.
        fixed_part: variance that stays however many calls come.
    """
    low, high = 1e-12, 1.0
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if sequence_radius(middle, half) < likely else (low, middle)
    if low <= fixed_part:
        return None
    people_and_calls = max(CALLS_MIN - n, math.ceil(spread / (low - fixed_part)) - n, 1)
    return _two_digits(people_and_calls)


def _two_digits(n: int) -> int:
    """Round up to two digits: 137 -> 140, as one speaks of a number that is an estimate."""
    tens = int(10 ** max(0, len(str(n)) - 2))
    return -(-n // tens) * tens


def _verdict(
    verdict: str, sentence: str, sides: Sides, weights: Floats, needed: int | None, radius: float | None
) -> Verdict:
    def mean(outcomes: Outcomes, by: NDArray[np.float64] | None = None) -> float | None:
        return float(np.average(outcomes.y, weights=by)) if len(outcomes) else None

    is_now = mean(sides.after)
    spread = radius or 1.0
    return Verdict(
        verdict=verdict,
        sentence=sentence,
        before=mean(sides.before, weights),
        after=is_now,
        after_low=None if is_now is None else max(0.0, is_now - spread),
        after_high=None if is_now is None else min(1.0, is_now + spread),
        rest_before=mean(sides.rest_before),
        rest_after=mean(sides.rest_after),
        n_before=len(sides.before),
        n_after=len(sides.after),
        people_before=len(np.unique(sides.before.people)),
        people_after=len(np.unique(sides.after.people)),
        calls_needed=needed,
    )


def _told(verdict: str, was: float, is_now: float, n: int, people: int) -> str:
    return (
        f"{verdict}: {_percent(was)} bad before, {_percent(is_now)} in the {_calls(n)} "
        f"of {people:,} people since."
    )


def _early_sentence(n: int, needed: int | None) -> str:
    if needed is None:
        return (
            f"Too early: {_calls(n)} since the fix; those before it are too few for any verdict, "
            "read the calls one by one."
        )
    return f"Too early: {_calls(n)} since the fix, about {needed:,} more needed."


def _calls(n: int) -> str:
    return "1 call" if n == 1 else f"{n:,} calls"


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")
