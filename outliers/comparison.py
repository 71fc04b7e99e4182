"""Two weeks side by side: which figures moved beyond their own noise.

Flow: outliers.frame.WeekCalls of a week, of the one before and of those before that -> `compare` ->
outliers.changes.

Calls that an application sampled, or a critic with a budget, count for those they stand for (weights 1 /
(sample_rate * inclusion): Horvitz and Thompson 1952); n is then the calls that are counted from. The noise of
a share and of a cost per call is taken between persons, not calls (a ratio estimator, clustered:
Cochran, Sampling Techniques, 3rd ed., section 6.4): one user's forty bad calls are one bad day. The noise of
the number of calls is taken between days: it is as many times Poisson's as the days of the two weeks differ.
Weeks differ by more than their persons and days tell (a campaign, a holiday): where earlier weeks are known,
their differences from one to the next say by how much, for each figure, held to what all figures of a kind
show. False discoveries are held at 10 % over all figures compared.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from outliers.changes import MEASURES, Change, Estimate
from outliers.experience.parts import BAD_FROM
from outliers.frame import DAY_MS, Floats, Mask, WeekCalls
from outliers.intervals import Z95, discoveries, n_even, order_statistic_ranks, two_sided_p, wilson

#: What is told apart, and of each the busiest values, with so many calls in either week.
FIELDS = ("prompt", "prompt_version", "model")
VALUES_MAX = 12
CALLS_MIN = 30
#: A version with so large a share of its prompt's calls is the prompt.
WHOLE = 0.95
#: Earlier differences that what all figures of a kind show is worth, and the most that one of them counts.
NOISE_PRIOR = 4.0
NOISE_MAX = 25.0
#: Median of a squared standard normal deviate.
CHI2_MEDIAN = 0.4549
#: Whole days needed before a number of calls can be told from the days' own swings.
DAYS_MIN = 3
FALSE_DISCOVERIES = 0.1

UNKNOWN = Estimate(None, None, None, 0)


Group = tuple[str, str] | None
Compared = tuple[Estimate, Estimate, float | None]


def compare(now: WeekCalls, before: WeekCalls, earlier: Sequence[WeekCalls] = ()) -> list[Change]:
    """Return every figure of both weeks: all calls first, then the busiest prompts, versions and models.

    Args:
        before: the week before; for a week that still runs, the same part of it.
        earlier: the weeks before that (or their same parts), newest first.
    """
    groups: list[Group] = [None, *_busiest(now, before)]
    noises = _noises([before, *earlier], groups)
    changes = []
    for group in groups:
        mine, theirs = _of_group(now, group), _of_group(before, group)
        by, value = group or (None, None)
        for measure, compared in _COMPARED.items():
            was, is_now, z = compared(before, theirs, now, mine)
            if was.value is None and is_now.value is None:
                continue
            noise = noises.get((measure, group), 1.0)
            p_value = None if z is None else two_sided_p(z / math.sqrt(noise))
            changes.append(Change(measure, by, value, was, is_now, False, None, p_value, round(noise, 2)))
    known = [place for place, change in enumerate(changes) if change.p_value is not None]
    moved = discoveries([changes[place].p_value or 0.0 for place in known], FALSE_DISCOVERIES)
    for place, has_moved in zip(known, moved, strict=True):
        if has_moved:
            changes[place] = replace(changes[place], moved=True, worse=_worse(changes[place]))
    return changes


def _noises(weeks: Sequence[WeekCalls], groups: Sequence[Group]) -> dict[tuple[str, Group], float]:
    """Return by how much weeks differed more than they tell themselves, at least 1, for each figure.

    A figure's own few differences (z squared, 1 on average) are held to the median of all figures of its
    measure; one week that had an incident counts for at most `NOISE_MAX`.
    """
    squares: dict[tuple[str, Group], list[float]] = {}
    for now, before in pairwise(weeks):
        for group in groups:
            mine, theirs = _of_group(now, group), _of_group(before, group)
            for measure, compared in _COMPARED.items():
                _was, _now, z = compared(before, theirs, now, mine)
                if z is not None:
                    squares.setdefault((measure, group), []).append(min(z * z, NOISE_MAX))
    usual = {}
    for measure in _COMPARED:
        every = [z2 for (of, _group), many in squares.items() if of == measure for z2 in many]
        usual[measure] = max(1.0, float(np.median(every)) / CHI2_MEDIAN) if every else 1.0
    return {
        (measure, group): max(1.0, (sum(many) + NOISE_PRIOR * usual[measure]) / (len(many) + NOISE_PRIOR))
        for (measure, group), many in squares.items()
    }


def _worse(change: Change) -> bool | None:
    more_is_worse = MEASURES[change.measure]
    if more_is_worse is None or change.now.value is None or change.before.value is None:
        return None
    return (change.now.value > change.before.value) == more_is_worse


def _busiest(now: WeekCalls, before: WeekCalls) -> list[tuple[str, str]]:
    """Return the busiest values of each field.

    None of a field that has one, and no version that is nearly all of its prompt: the same figures told twice
    would count as two discoveries.
    """
    found: list[tuple[str, str]] = []
    prompts: dict[str, int] = {}
    for field in FIELDS:
        n: dict[str, int] = {}
        for calls in (now, before):
            column = calls.named.get((field, ""))
            if column is not None:
                # a code of -1 is a call without the field
                counts = np.bincount(column.codes + 1, minlength=len(column.names) + 1)[1:]
                for name, count in zip(column.names, counts.tolist(), strict=True):
                    n[name] = max(n.get(name, 0), count)
        busiest = sorted((name for name in n if name), key=lambda name: (-n[name], name))
        if field == "prompt":
            prompts = n
        if field == "prompt_version":
            most = {name: WHOLE * prompts.get(name.rpartition("@")[0], 0) for name in busiest}
            busiest = [name for name in busiest if n[name] < most[name]]
        if len(n) > 1:
            found += [(field, name) for name in busiest if n[name] >= CALLS_MIN][:VALUES_MAX]
    return found


def _of_group(calls: WeekCalls, group: Group) -> Mask:
    if group is None:
        return np.ones(len(calls), dtype=np.bool_)
    field, value = group
    column = calls.named.get((field, ""))
    if column is None or value not in column.names:
        return np.zeros(len(calls), dtype=np.bool_)
    return np.asarray(column.codes == column.names.index(value))


def _share(
    values_of: Callable[[WeekCalls], Floats],
    weights_of: Callable[[WeekCalls], Floats] = lambda calls: calls.weight,
) -> Callable[[WeekCalls, Mask, WeekCalls, Mask], Compared]:
    """Return the comparison of a share; `values_of` gives 0, 1 or NaN for each call.

    A comparison returns both weeks and their difference in standard errors, None where either is unknown.
    """

    def _compared(before: WeekCalls, theirs: Mask, now: WeekCalls, mine: Mask) -> Compared:
        was, was_variance = weighted_share(before, values_of(before), theirs, weights_of(before))
        is_now, variance = weighted_share(now, values_of(now), mine, weights_of(now))
        if was.value is None or is_now.value is None:
            return was, is_now, None
        return was, is_now, (is_now.value - was.value) / math.sqrt(was_variance + variance)

    return _compared


def weighted_share(calls: WeekCalls, values: Floats, among: Mask, weights: Floats) -> tuple[Estimate, float]:
    """Return a share with its interval, and its variance between persons.

    Args:
        values: 0, 1 or NaN for each call.
        weights: calls that each stands for; one of 0 is not counted.
    """
    known = among & np.isfinite(values) & (weights > 0)
    n = int(known.sum())
    if not n:
        return UNKNOWN, math.nan
    weight, of_person, hits = _by_person(calls, values, weights, known)
    evenly = n_even(weights[known])
    persons = int((of_person > 0).sum())
    share = float(hits.sum() / weight)
    between = float(((hits - share * of_person) ** 2).sum()) / weight**2 * persons / max(1, persons - 1)
    # a share of exactly 0 or 1 has no spread of its own: take that of half a hit more
    smoothed = (share * evenly + 0.5) / (evenly + 1)
    variance = max(between, smoothed * (1 - smoothed) / evenly)
    n_effective = min(evenly, smoothed * (1 - smoothed) / variance)
    low, high = wilson(share * n_effective, n_effective)
    return Estimate(share, low, high, n), variance


def _by_person(
    calls: WeekCalls, values: Floats, weights: Floats, known: Mask
) -> tuple[float, Floats, Floats]:
    """Return the sum of weights, and by person that sum and the weighted sum of values."""
    people, w = calls.people[known], weights[known]
    of_person, sums = (np.bincount(people, weights=of).astype(np.float64) for of in (w, w * values[known]))
    return float(w.sum()), of_person, sums


def _p95(before: WeekCalls, theirs: Mask, now: WeekCalls, mine: Mask) -> Compared:
    was, was_spread = _quantile(before, theirs)
    is_now, spread = _quantile(now, mine)
    if was.value is None or is_now.value is None or not (was.value > 0 and is_now.value > 0):
        return was, is_now, None
    return was, is_now, math.log(is_now.value / was.value) / math.hypot(was_spread, spread)


def _quantile(calls: WeekCalls, among: Mask) -> tuple[Estimate, float]:
    """Return the p95 of answered calls with its interval, and the standard error of its logarithm."""
    known = np.nonzero(among & calls.answered & np.isfinite(calls.latency_ms))[0]
    n = len(known)
    evenly = int(n_even(calls.weight[known]) + 1e-6) if n else 0
    ranks = order_statistic_ranks(evenly, 0.95)
    if ranks is None:
        return Estimate(None, None, None, n), math.nan
    known = known[np.argsort(calls.latency_ms[known], kind="stable")]
    latencies, at_most = calls.latency_ms[known], np.cumsum(calls.weight[known])
    # as in outliers.latency.quantiles: (rank - 1/2) / n lies inside the rank's own step
    shares = [0.95 - 1e-9, *((rank - 0.5) / evenly for rank in ranks)]
    value, low, high = latencies[np.searchsorted(at_most / at_most[-1], shares)].tolist()
    spread = math.log(max(high, 1e-3) / max(low, 1e-3)) / (2 * Z95)
    return Estimate(value, low, high, n), max(spread, 1e-3)


def _cost_per_call(before: WeekCalls, theirs: Mask, now: WeekCalls, mine: Mask) -> Compared:
    was, was_spread = cost_per_call(before, theirs)
    is_now, spread = cost_per_call(now, mine)
    if not was.value or not is_now.value or not (was_spread or spread):
        return was, is_now, None
    return was, is_now, math.log(is_now.value / was.value) / math.hypot(was_spread, spread)


def cost_per_call(calls: WeekCalls, among: Mask) -> tuple[Estimate, float]:
    """Return the mean of the known costs, with its interval, and the standard error of its logarithm."""
    values = calls.cost_usd
    known = among & np.isfinite(values)
    n = int(known.sum())
    if not n:
        return UNKNOWN, math.nan
    weight, of_person, sums = _by_person(calls, values, calls.weight, known)
    persons = int((of_person > 0).sum())
    mean = float(sums.sum() / weight)
    if not mean:
        return Estimate(0.0, None, None, n), math.nan
    between = float(((sums - mean * of_person) ** 2).sum()) / weight**2 * persons / max(1, persons - 1)
    own = float(np.average((values[known] - mean) ** 2, weights=calls.weight[known]))
    variance = max(between, own / n_even(calls.weight[known]))
    spread = math.sqrt(variance) / mean
    return Estimate(mean, mean * math.exp(-Z95 * spread), mean * math.exp(Z95 * spread), n), spread


def _volume(before: WeekCalls, theirs: Mask, now: WeekCalls, mine: Mask) -> Compared:
    was_days, days = _by_day(before, theirs), _by_day(now, mine)
    weights = np.concatenate([before.weight[theirs], now.weight[mine]])
    # a call that stands for ten comes or stays away with all ten
    least = float((weights**2).sum() / weights.sum()) if len(weights) else 1.0
    noise = _noise(was_days, days, least)
    was = _total(was_days, noise or least, int(theirs.sum()))
    is_now = _total(days, noise or least, int(mine.sum()))
    if noise is None or not was.value or not is_now.value:
        return was, is_now, None
    variance = noise * (1 / was.value + 1 / is_now.value)
    return was, is_now, math.log(is_now.value / was.value) / math.sqrt(variance)


def _by_day(calls: WeekCalls, among: Mask) -> Floats:
    """Return the calls that those of each of the week's days stand for."""
    day = np.minimum((calls.started_at_ms[among] - calls.week.since_ms) // DAY_MS, 6)
    return np.bincount(day, weights=calls.weight[among], minlength=7).astype(np.float64)


def _noise(was: Floats, is_now: Floats, least: float) -> float | None:
    """Return how many times more than Poisson's the days of the two weeks differ, at least `least`.

    Pearson's statistic of the days' ratios around the weeks' own ratio, by its degrees of freedom; None
    where fewer than three days have calls in both weeks.
    """
    both = (was > 0) & (is_now > 0)
    if both.sum() < DAYS_MIN:
        return None
    share = is_now.sum() / (was.sum() + is_now.sum())
    pooled = was[both] + is_now[both]
    pearson = ((is_now[both] - share * pooled) ** 2 / (share * (1 - share) * pooled)).sum()
    return max(least, float(pearson) / int(both.sum() - 1))


def _total(days: Floats, noise: float, n: int) -> Estimate:
    if not n:
        return UNKNOWN
    total = float(days.sum())
    spread = Z95 * math.sqrt(noise / total)
    return Estimate(total, total * math.exp(-spread), total * math.exp(spread), n)


def bad_share(calls: WeekCalls, among: Mask) -> Estimate:
    """Return the share of calls with P(bad) of at least one half, as all pages tell it."""
    return weighted_share(calls, _bad(calls), among, _judged(calls))[0]


def _bad(calls: WeekCalls) -> Floats:
    return np.where(np.isfinite(calls.p_bad), calls.p_bad >= BAD_FROM, np.nan)


def _judged(calls: WeekCalls) -> Floats:
    return calls.weight * calls.judged_for


_COMPARED: dict[str, Callable[[WeekCalls, Mask, WeekCalls, Mask], Compared]] = {
    "bad_rate": _share(_bad, _judged),
    "thumbs_down_rate": _share(lambda calls: 1.0 - calls.thumb),
    "latency_p95_ms": _p95,
    "error_rate": _share(lambda calls: calls.failed.astype(np.float64)),
    "calls": _volume,
    "cost_per_call_usd": _cost_per_call,
}
