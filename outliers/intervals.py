"""The few pieces of statistics that every figure here comes with: intervals, exact tests, false discoveries.

Plain NumPy: scipy.stats alone takes a second and 60 MB to import, and pages use these too.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

#: Two-sided 95 %.
ALPHA = 0.05
Z95 = NormalDist().inv_cdf(1 - ALPHA / 2)


def calls_needed(q: float) -> int:
    """Return the fewest calls for which a two-sided 95 % order-statistic interval of quantile q exists.

    Each side may be missed by at most 2.5 %, so max(q, 1 - q) ** n <= .025: 6, 36, 72, 368 and 3,688 calls
    for p50, p90, p95, p99 and p99.9.
    """
    return math.ceil(math.log(ALPHA / 2) / math.log(max(q, 1 - q)))


@lru_cache(maxsize=4096)
def order_statistic_ranks(n: int, q: float) -> tuple[int, int] | None:
    """Return the ranks (low, high), 1-based, whose values enclose the q-quantile with at least 95 %.

    P(X_(low) > x_q) = P(B < low) and P(X_(high) < x_q) = P(B >= high) for B ~ Binomial(n, q); each is at most
    2.5 % (David and Nagaraja, Order Statistics, 3rd ed., section 7.1). No distribution is assumed.

    Returns:
        None where n is below `calls_needed(q)`: no such interval exists.
    """
    if n < calls_needed(q):
        return None
    first, masses = _binomial_masses(n, q)
    below = np.cumsum(masses)  # P(B <= first + i)
    low = first + int(np.searchsorted(below, ALPHA / 2, side="right"))
    above = np.cumsum(masses[::-1])[::-1]  # P(B >= first + i)
    fits = np.nonzero(above <= ALPHA / 2)[0]
    high = first + int(fits[0]) if len(fits) else first + len(masses)
    # `low` is the largest rank with P(B < low) <= 2.5 %: the first rank whose own cumulated mass exceeds it.
    return max(low, 1), min(high, n)


def _binomial_masses(n: int, q: float) -> tuple[int, NDArray[np.float64]]:
    """Return (k0, P(B = k0 ..)) over all that carries mass, going outwards from the mode."""
    mode = min(n, int((n + 1) * q))
    reach = int(40 * math.sqrt(n * q * (1 - q))) + 40
    first, last = max(0, mode - reach), min(n, mode + reach)
    log_mode = (
        math.lgamma(n + 1)
        - math.lgamma(mode + 1)
        - math.lgamma(n - mode + 1)
        + mode * math.log(q)
        + (n - mode) * math.log1p(-q)
    )
    odds = math.log(q) - math.log1p(-q)
    up = np.arange(mode, last, dtype=np.float64)
    down = np.arange(mode, first, -1, dtype=np.float64)
    rising = np.cumsum(np.log((n - up) / (up + 1)) + odds)
    falling = np.cumsum(np.log(down / (n - down + 1)) - odds)
    logs = np.concatenate([falling[::-1], [0.0], rising]) + log_mode
    return first, np.exp(logs)


def wilson(bad: float, n: float) -> tuple[float, float]:
    """Return the 95 % interval of a share of `bad` in `n` (Wilson 1927); (0, 1) where n is 0.

    `n` may be an effective number of calls, smaller than the calls where they cluster by user.
    """
    if n <= 0:
        return 0.0, 1.0
    share = min(1.0, max(0.0, bad / n))
    centre = share + Z95**2 / (2 * n)
    spread = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    scale = 1 + Z95**2 / n
    # clipped by the share itself, which rounding may leave outside at 0 and 1
    return max(0.0, min(share, (centre - spread) / scale)), min(1.0, max(share, (centre + spread) / scale))


def n_even(weights: NDArray[np.float64]) -> float:
    """Return how many values of one weight say as much as these of many weights (Kish 1965); at least one."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def ratio_interval(bad_in: float, n_in: float, bad_out: float, n_out: float) -> tuple[float, float]:
    """Return the 95 % interval of (bad_in / n_in) / (bad_out / n_out), by its logarithm (Katz 1978).

    Half a call is added on each side, so that a clean rest gives a wide interval and not an infinite one.
    """
    ratio = ((bad_in + 0.5) / (n_in + 0.5)) / ((bad_out + 0.5) / (n_out + 0.5))
    variance = 1 / (bad_in + 0.5) - 1 / (n_in + 0.5) + 1 / (bad_out + 0.5) - 1 / (n_out + 0.5)
    spread = Z95 * math.sqrt(max(variance, 0.0))
    return ratio * math.exp(-spread), ratio * math.exp(spread)


@lru_cache(maxsize=4)
def _log_factorials(n: int) -> NDArray[np.float64]:
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1, dtype=np.float64)))])


def hypergeometric_tail(k: int, n_in: int, bad: int, n: int) -> float:
    """Return P(at least k of the `bad` are among `n_in` of `n` calls) by chance: Fisher, one-sided."""
    low, high = max(k, n_in + bad - n, 0), min(n_in, bad)
    if k <= max(0, n_in + bad - n):
        return 1.0
    if low > high:
        return 0.0
    logs = _log_factorials(1 << max(10, int(n).bit_length()))
    at = np.arange(low, high + 1)
    masses = (
        logs[bad]
        - logs[at]
        - logs[bad - at]
        + logs[n - bad]
        - logs[n_in - at]
        - logs[n - bad - n_in + at]
        - (logs[n] - logs[n_in] - logs[n - n_in])
    )
    return float(min(1.0, np.exp(masses).sum()))


def g_statistic(
    bad_in: NDArray[np.float64], n_in: NDArray[np.float64], bad: float, n: float
) -> NDArray[np.float64]:
    """Return the signed log-likelihood ratio of "other rate inside" over "one rate", for many groups at once.

    2 * sum of observed * log(observed / expected) over the four cells; negative where the inside is better
    than the rest. Counts may be sums of probabilities.
    """
    rest_bad, rest = bad - bad_in, n - n_in
    with np.errstate(divide="ignore", invalid="ignore"):
        rate_in, rate_out, rate = bad_in / n_in, rest_bad / rest, bad / n
        g = 2 * (
            _x_log_y(bad_in, rate_in / rate)
            + _x_log_y(n_in - bad_in, (1 - rate_in) / (1 - rate))
            + _x_log_y(rest_bad, rate_out / rate)
            + _x_log_y(rest - rest_bad, (1 - rate_out) / (1 - rate))
        )
        signed = np.where(rate_in >= rate_out, g, -g)
    return np.nan_to_num(np.where((n_in > 0) & (rest > 0), signed, 0.0), nan=0.0, posinf=0.0, neginf=0.0)


def _x_log_y(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(x > 1e-12, x * np.log(np.where(y > 0, y, 1.0)), 0.0)


def discoveries(p_values: Sequence[float], rate: float = 0.1) -> list[bool]:
    """Say which p-values stand with false discoveries held at `rate` (Benjamini and Hochberg 1995)."""
    m = len(p_values)
    ranked = sorted(range(m), key=lambda i: p_values[i])
    stands = [False] * m
    last = max((r for r, i in enumerate(ranked, 1) if p_values[i] <= rate * r / m), default=0)
    for i in ranked[:last]:
        stands[i] = True
    return stands


def two_sided_p(z: float) -> float:
    """Return the two-sided p-value of a standard normal deviate."""
    return math.erfc(abs(z) / math.sqrt(2))
