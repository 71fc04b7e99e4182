"""Latencies as counts in buckets: quantiles of any window by SUM, whatever the database.

Flow: a call's row -> `counted_latencies` -> `ingest.counting` -> rows of `latency_count`; outliers sum `n` by
bucket and read a quantile back with `value_ms`. Latencies are milliseconds.

The buckets are those of an OpenTelemetry exponential histogram at scale 5 (32 to a doubling, base
2^(1/32) = 1.0219): bucket b holds the latencies in (2^(b/32), 2^((b+1)/32)]. `value_ms` is the point whose
relative distance to both ends is equal, as in DDSketch (Masson, Rim, Lee 2019, lemma 2): it is off by at most
(base - 1) / (base + 1) = 1.09 % from any latency of its bucket, and so is a nearest-rank quantile read from
the counts.
"""

import math

#: Buckets to a doubling of the latency.
BUCKETS_PER_DOUBLING = 32
_BASE = 2 ** (1 / BUCKETS_PER_DOUBLING)
#: Largest relative error of `value_ms` for any latency between UNDER_MS and OVER_MS.
RELATIVE_ERROR = (_BASE - 1) / (_BASE + 1)

#: Below this (1 microsecond) a latency is counted as UNDER, above OVER_MS (12.4 days) as OVER.
UNDER_MS = 2.0**-10
OVER_MS = 2.0**30

#: Sentinels; they sort as the latencies they stand for.
ZERO = -32768
UNDER = -32767
#: Also a failed call whose latency is unknown: a failed call counts as slower than any.
OVER = 32767

#: Combinations of provider, model, prompt ... counted apart in one project; later ones share `OTHER_SLICE`.
SLICES_MAX = 5_000
#: What each field of the overflow slice says.
OTHER_SLICE = "other"


def bucket_of(ms: float) -> int:
    """Return the bucket of a latency.

    Args:
        ms: finite, not negative.
    """
    if ms < UNDER_MS:
        return ZERO if ms == 0 else UNDER
    if ms > OVER_MS:
        return OVER
    return math.ceil(math.log2(ms) * BUCKETS_PER_DOUBLING) - 1


def bucket_bounds_ms(bucket: int) -> tuple[float, float]:
    """Return (low, high]: the latencies that a bucket holds. OVER's high end is infinity."""
    if bucket == ZERO:
        return (0.0, 0.0)
    if bucket == UNDER:
        return (0.0, UNDER_MS)
    if bucket == OVER:
        return (OVER_MS, math.inf)
    return (2 ** (bucket / BUCKETS_PER_DOUBLING), 2 ** ((bucket + 1) / BUCKETS_PER_DOUBLING))


def value_ms(bucket: int) -> float:
    """Return the latency that stands for a bucket; infinity for OVER, 0 for ZERO and UNDER."""
    low, high = bucket_bounds_ms(bucket)
    if bucket in (ZERO, UNDER):
        return 0.0
    if bucket == OVER:
        return math.inf
    return 2 * low * high / (low + high)


def per_output_token_ms(
    latency_ms: float | None, first_token_ms: float | None, output_tokens: int | None
) -> float | None:
    """Return the mean time between two tokens of the answer; None where it cannot be known.

    It needs the time to the first token: without it the wait for the prompt would count as writing, and
    streamed and unstreamed calls of one model could not be compared.
    """
    if latency_ms is None or first_token_ms is None or output_tokens is None or output_tokens < 2:
        return None
    return max(0.0, latency_ms - first_token_ms) / (output_tokens - 1)


def counted_latencies(
    latency_ms: float | None, first_token_ms: float | None, output_tokens: int | None, outcome: str
) -> list[tuple[str, int]]:
    """Return (measure, bucket) of each latency of a call that is known."""
    counted = []
    if latency_ms is not None:
        counted.append(("total", bucket_of(latency_ms)))
    elif outcome == "failed":
        counted.append(("total", OVER))  # slower than any, whenever it failed
    if first_token_ms is not None:
        counted.append(("first_token", bucket_of(first_token_ms)))
        per_token_ms = per_output_token_ms(latency_ms, first_token_ms, output_tokens)
        if per_token_ms is not None:
            counted.append(("per_output_token", bucket_of(per_token_ms)))
    return counted
