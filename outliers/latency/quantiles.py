"""Quantiles and the tail curve of counted latencies, with failed and aborted calls as they must count.

Flow: cells of `latency_count` (outliers.latency.tails, outliers.latency.heat) -> `quantile_of`, `curve_of`.
Pure arithmetic; no database. A cell is (outcome, bucket) -> [n, weight]; latencies are milliseconds.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from ingest.latency import value_ms
from outliers.intervals import calls_needed, order_statistic_ranks

#: Points of a tail curve at most while the share that is slower halves.
CURVE_STEPS = 8


@dataclass(frozen=True)
class Quantile:
    """One quantile of one group, shown only where a two-sided 95 % interval exists.

    Attributes:
        q: 0.99 for p99.
        n: calls it is computed from.
        needs_n: the fewest calls for which an interval exists (p99: 368).
        status: "known"; "too_few" (n < needs_n: list the slowest calls instead); "beyond" (so many calls
            failed or were aborted that no answered latency reaches this quantile).
        value_ms: the quantile, within 1.1 %; None unless known.
        low_ms: lower end of the interval; None unless known.
        high_ms: upper end; None unless known, and where it reaches into failed or aborted calls.
    """

    q: float
    n: int
    needs_n: int
    status: str
    value_ms: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None


@dataclass(frozen=True)
class CurvePoint:
    """One point of a tail curve: a share of the answered calls took longer than `value_ms`."""

    value_ms: float
    slower: float


def curve_of(cells: Mapping[tuple[str, int], list[float]]) -> tuple[CurvePoint, ...]:
    """Return the share of answered calls slower than each latency, thinned to `CURVE_STEPS` a halving."""
    done = {key: cell for key, cell in cells.items() if key[0] != "failed"}
    steps = distribution(done, sum(cell[1] for cell in done.values()))
    points: list[CurvePoint] = []
    at = 1.0
    for place, (share, latency) in enumerate(steps):
        slower = max(0.0, 1 - share)
        last = place == len(steps) - 1
        if last or slower <= at * 2 ** (-1 / CURVE_STEPS):
            points.append(CurvePoint(latency, slower))
            at = slower
    return tuple(points)


def quantile_of(
    cells: Mapping[tuple[str, int], list[float]], q: float, steps: list[tuple[float, float]] | None = None
) -> Quantile:
    """Return one quantile of counted latencies.

    The weighted distribution is read at q and, for the interval, at the two ranks of the binomial order
    statistics divided by n, the effective number of calls: (sum of weights)^2 / sum of squared weights.

    Args:
        cells: (outcome, bucket) -> [n, weight], as `latency_count` has them.
        steps: their distribution, where it is at hand.
    """
    n = int(sum(count for count, _weight in cells.values()))
    needs = calls_needed(q)
    weight = sum(cell[1] for cell in cells.values())
    squares = sum(w * w / count for count, w in cells.values() if count)
    n_effective = min(n, int(weight * weight / squares + 1e-6)) if squares else 0
    ranks = order_statistic_ranks(n_effective, q)
    if ranks is None:
        return Quantile(q, n, needs, "too_few")
    curve = distribution(cells, weight) if steps is None else steps
    value = _read(curve, q)
    if value is None:
        return Quantile(q, n, needs, "beyond")
    # (rank - 1/2) / n lies inside the rank's own step, whichever way the sum of weights was rounded.
    low, high = (_read(curve, (rank - 0.5) / n_effective) for rank in ranks)
    return Quantile(q, n, needs, "known", value, low, high)


def distribution(cells: Mapping[tuple[str, int], list[float]], weight: float) -> list[tuple[float, float]]:
    """Return (share of calls at most this slow, latency) at each bucket with answers: Kaplan-Meier's product.

    A failed call stays at risk to the end; at a tie the answered come before the aborted.
    """
    by_bucket: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for (outcome, bucket), (_count, w) in cells.items():
        if outcome != "failed":
            by_bucket[bucket][outcome == "aborted"] += w
    at_risk, slower, curve = weight, 1.0, []
    for bucket in sorted(by_bucket):
        answered, aborted = by_bucket[bucket]
        latency = value_ms(bucket)
        if answered and at_risk > 0 and math.isfinite(latency):
            slower *= max(0.0, 1 - answered / at_risk)
            curve.append((1 - slower, latency))
        at_risk -= answered + aborted
    return curve


def _read(curve: list[tuple[float, float]], q: float) -> float | None:
    """Return the first latency that at least a share q of the calls does not exceed; None past the last."""
    return next((latency for share, latency in curve if share >= q - 1e-9), None)
