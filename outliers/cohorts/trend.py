"""A cohort over time: since when, how it went day by day, and how the same calls fared in the weeks before.

Flow: outliers.cohorts.discovery.Tested -> `began_ms`, `trend` -> Finding (outliers.cohorts.describing).
"""

from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from outliers.cohorts.candidates import holds
from outliers.cohorts.discovery import Tested, expected_under
from outliers.cohorts.findings import Point
from outliers.conditions import Condition
from outliers.frame import Floats, Mask, WeekCalls
from outliers.weeks import Week, days_of, week_before

WEEKS_BEFORE = 4


def began_ms(calls: WeekCalls, tested: Tested, hit: Mask) -> int:
    """Return the first bad call of the stretch in which the condition's calls were bad beyond expectation.

    The stretch is the one with the largest sum of badness less the middle between the rate inside and the
    rate expected (Kadane's maximum subarray): a single bad call on Monday does not date what began on
    Thursday.

    Args:
        hit: the bad calls under the condition, at least one.
    """
    at = np.nonzero(tested.question.among & tested.mask)[0]
    y = tested.question.y[at]
    middle = (float(y.mean()) + float(expected_under(tested.question, tested.condition)[at].mean())) / 2
    summed = np.concatenate([[0.0], np.cumsum(y - middle)])
    lowest = np.minimum.accumulate(summed)
    end = int(np.argmax(summed - lowest))
    start = int(np.argmin(summed[: end + 1]))
    after = hit & (calls.started_at_ms >= calls.started_at_ms[at[min(start, len(at) - 1)]])
    return int(calls.started_at_ms[after if after.any() else hit].min())


def trend(calls: WeekCalls, tested: Tested, zone: ZoneInfo) -> dict[str, Any]:
    """Return `days`, `weeks_before`, `rate_before` and `n_before` of a finding.

    Before counts calls under the same condition at any time: a span of hours is of its own week.
    """
    question = tested.question
    inside = question.among & tested.mask
    days = _points(calls, question.y, inside, days_of(calls.week, zone))
    parts = [part for part in tested.condition.parts if part.op != "within"]
    past = question.before
    if past is None:
        return {"days": days}
    then = holds(Condition.all_of(parts), past) if parts else np.ones(len(past), dtype=np.bool_)
    then &= np.isfinite(past.p_bad if question.measure == "p_bad" else past.latency_ms)
    n = int(then.sum())
    weeks: list[Week] = []
    while len(weeks) < WEEKS_BEFORE:
        weeks.append(week_before(weeks[-1] if weeks else calls.week, zone))
    spans = [
        (week.since_ms, week.until_ms) for week in reversed(weeks) if week.since_ms >= past.week.since_ms
    ]
    y_before = question.ground.y_before
    return {
        "days": days,
        "weeks_before": _points(past, y_before, then, spans),
        "rate_before": float(y_before[then].mean()) if n else None,
        "n_before": n,
    }


def _points(calls: WeekCalls, y: Floats, inside: Mask, spans: list[tuple[int, int]]) -> tuple[Point, ...]:
    points = []
    for since_ms, until_ms in spans:
        mine = inside & (calls.started_at_ms >= since_ms) & (calls.started_at_ms < until_ms)
        points.append(Point(since_ms, int(mine.sum()), round(float(y[mine].sum()), 3)))
    return tuple(points)
