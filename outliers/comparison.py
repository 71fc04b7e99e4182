"""Two weeks side by side: which figures moved beyond their own noise.

Flow: outliers.frame.WeekCalls of a week and of the one before -> `compare` -> outliers.changes.

A share's noise is taken between persons, not calls (a ratio estimator, clustered: Cochran, Sampling
Techniques, 3rd ed., section 6.4): one user's forty bad calls are one bad day. The noise of a sum is taken
between days: it is as many times Poisson's as the days of the two weeks differ. False discoveries are held
at 10 % over all figures compared.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from outliers.changes import MEASURES, Change, Estimate
from outliers.experience import BAD_FROM
from outliers.frame import DAY_MS, Floats, Mask, WeekCalls
from outliers.intervals import Z95, discoveries, order_statistic_ranks, two_sided_p, wilson

#: Prompts compared, busiest first, and the calls one needs in either week.
PROMPTS_MAX = 12
PROMPT_CALLS_MIN = 30
#: Whole days needed before a sum can be told from the days' own swings.
DAYS_MIN = 3
FALSE_DISCOVERIES = 0.1

UNKNOWN = Estimate(None, None, None, 0)


def compare(now: WeekCalls, before: WeekCalls) -> list[Change]:
    """Return every figure of both weeks, all calls first, then the busiest prompts.

    Args:
        before: the week before; for a week that still runs, the same part of it.
    """
    changes = []
    for prompt in (None, *_busiest(now, before)):
        mine, theirs = _of_prompt(now, prompt), _of_prompt(before, prompt)
        for measure, compared in _COMPARED.items():
            was, is_now, p_value = compared(before, theirs, now, mine)
            if was.value is not None or is_now.value is not None:
                changes.append(Change(measure, prompt, was, is_now, False, None, p_value))
    known = [place for place, change in enumerate(changes) if change.p_value is not None]
    moved = discoveries([changes[place].p_value or 0.0 for place in known], FALSE_DISCOVERIES)
    for place, has_moved in zip(known, moved, strict=True):
        if has_moved:
            changes[place] = replace(changes[place], moved=True, worse=_worse(changes[place]))
    return changes


def _worse(change: Change) -> bool | None:
    more_is_worse = MEASURES[change.measure]
    if more_is_worse is None or change.now.value is None or change.before.value is None:
        return None
    return (change.now.value > change.before.value) == more_is_worse


def _busiest(now: WeekCalls, before: WeekCalls) -> list[str]:
    n: dict[str, int] = {}
    for calls in (now, before):
        column = calls.named.get(("prompt", ""))
        if column is not None:
            for name, count in zip(
                column.names, np.bincount(column.codes, minlength=len(column.names)).tolist(), strict=True
            ):
                n[name] = max(n.get(name, 0), count)
    busiest = sorted((name for name in n if name), key=lambda name: (-n[name], name))
    # with one prompt, its figures are those of all calls
    return [name for name in busiest if n[name] >= PROMPT_CALLS_MIN][:PROMPTS_MAX] if len(n) > 1 else []


def _of_prompt(calls: WeekCalls, prompt: str | None) -> Mask:
    if prompt is None:
        return np.ones(len(calls), dtype=np.bool_)
    column = calls.named.get(("prompt", ""))
    if column is None or prompt not in column.names:
        return np.zeros(len(calls), dtype=np.bool_)
    return np.asarray(column.codes == column.names.index(prompt))


Compared = tuple[Estimate, Estimate, float | None]


def _share(
    values_of: Callable[[WeekCalls], Floats],
) -> Callable[[WeekCalls, Mask, WeekCalls, Mask], Compared]:
    """Return the comparison of a share; `values_of` gives 0, 1 or NaN for each call."""

    def _compared(before: WeekCalls, theirs: Mask, now: WeekCalls, mine: Mask) -> Compared:
        was, was_variance = _clustered(before, values_of(before), theirs)
        is_now, variance = _clustered(now, values_of(now), mine)
        if was.value is None or is_now.value is None:
            return was, is_now, None
        z = (is_now.value - was.value) / math.sqrt(was_variance + variance)
        return was, is_now, two_sided_p(z)

    return _compared


def _clustered(calls: WeekCalls, values: Floats, among: Mask) -> tuple[Estimate, float]:
    """Return a share with its interval, and its variance between persons."""
    known = among & np.isfinite(values)
    n = int(known.sum())
    if not n:
        return UNKNOWN, math.nan
    of_person = np.bincount(calls.people[known])
    hits = np.bincount(calls.people[known], weights=values[known])
    persons = int((of_person > 0).sum())
    share = float(hits.sum() / n)
    between = float(((hits - share * of_person) ** 2).sum()) / n**2 * persons / max(1, persons - 1)
    # a share of exactly 0 or 1 has no spread of its own: take that of half a hit more
    smoothed = (float(hits.sum()) + 0.5) / (n + 1)
    variance = max(between, smoothed * (1 - smoothed) / n)
    n_effective = min(n, smoothed * (1 - smoothed) / variance)
    low, high = wilson(share * n_effective, n_effective)
    return Estimate(share, low, high, n), variance


def _p95(before: WeekCalls, theirs: Mask, now: WeekCalls, mine: Mask) -> Compared:
    was, was_spread = _quantile(before, theirs)
    is_now, spread = _quantile(now, mine)
    if was.value is None or is_now.value is None or not (was.value > 0 and is_now.value > 0):
        return was, is_now, None
    z = math.log(is_now.value / was.value) / math.hypot(was_spread, spread)
    return was, is_now, two_sided_p(z)


def _quantile(calls: WeekCalls, among: Mask) -> tuple[Estimate, float]:
    """Return the p95 of answered calls with its interval, and the standard error of its logarithm."""
    latencies = np.sort(calls.latency_ms[among & calls.answered & np.isfinite(calls.latency_ms)])
    n = len(latencies)
    ranks = order_statistic_ranks(n, 0.95)
    if ranks is None:
        return Estimate(None, None, None, n), math.nan
    value = float(latencies[math.ceil(0.95 * n) - 1])
    low, high = (float(latencies[rank - 1]) for rank in ranks)
    spread = math.log(max(high, 1e-3) / max(low, 1e-3)) / (2 * Z95)
    return Estimate(value, low, high, n), max(spread, 1e-3)


def _sum(values_of: Callable[[WeekCalls], Floats]) -> Callable[[WeekCalls, Mask, WeekCalls, Mask], Compared]:
    """Return the comparison of a sum over calls; NaN values are unknown and left out."""

    def _compared(before: WeekCalls, theirs: Mask, now: WeekCalls, mine: Mask) -> Compared:
        weeks = [_by_day(before, values_of(before), theirs), _by_day(now, values_of(now), mine)]
        if not all(n for _days, _squares, n in weeks):
            return (*(_estimate(*week, 1.0) for week in weeks), None)  # type: ignore[return-value]
        noise = _noise([days for days, _squares, _n in weeks], [squares for _days, squares, _n in weeks])
        was, is_now = (_estimate(*week, noise or 1.0) for week in weeks)
        if noise is None or not was.value or not is_now.value:
            return was, is_now, None
        variance = sum(noise * squares / days.sum() ** 2 for days, squares, _n in weeks)
        return was, is_now, two_sided_p(math.log(is_now.value / was.value) / math.sqrt(variance))

    return _compared


def _by_day(calls: WeekCalls, values: Floats, among: Mask) -> tuple[Floats, float, int]:
    """Return (sums of the week's days, sum of squares over calls, calls with a known value)."""
    known = among & np.isfinite(values)
    day = np.minimum((calls.started_at_ms[known] - calls.week.since_ms) // DAY_MS, 6)
    return (
        np.bincount(day, weights=values[known], minlength=7).astype(np.float64),
        float((values[known] ** 2).sum()),
        int(known.sum()),
    )


def _noise(days: Sequence[Floats], squares: Sequence[float]) -> float | None:
    """Return how many times more than Poisson's the days of the two weeks differ, at least 1.

    Pearson's statistic of the days' ratios around the weeks' own ratio, by its degrees of freedom; None
    where fewer than three days have calls in both weeks.
    """
    was, is_now = days
    both = (was > 0) & (is_now > 0)
    if both.sum() < DAYS_MIN:
        return None
    share = is_now.sum() / (was.sum() + is_now.sum())
    pooled = was[both] + is_now[both]
    # what one unit of the sum weighs: 1 for counts, the mean cost by its own size for costs
    unit = sum(squares) / (was.sum() + is_now.sum())
    pearson = ((is_now[both] - share * pooled) ** 2 / (share * (1 - share) * pooled * unit)).sum()
    return max(1.0, float(pearson) / int(both.sum() - 1))


def _estimate(days: Floats, squares: float, n: int, noise: float) -> Estimate:
    if not n:
        return UNKNOWN
    total = float(days.sum())
    spread = Z95 * math.sqrt(noise * squares) / total if total else 0.0
    return Estimate(total, total * math.exp(-spread), total * math.exp(spread), n)


def _bad(calls: WeekCalls) -> Floats:
    return np.where(np.isfinite(calls.p_bad), calls.p_bad >= BAD_FROM, np.nan)


_COMPARED: dict[str, Callable[[WeekCalls, Mask, WeekCalls, Mask], Compared]] = {
    "bad_rate": _share(_bad),
    "thumbs_down_rate": _share(lambda calls: 1.0 - calls.thumb),
    "latency_p95_ms": _p95,
    "error_rate": _share(lambda calls: calls.failed.astype(np.float64)),
    "calls": _sum(lambda calls: np.ones(len(calls))),
    "cost_usd": _sum(lambda calls: calls.cost_usd),
}
