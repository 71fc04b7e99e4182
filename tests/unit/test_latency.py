"""The buckets' guarantee: any quantile read from counts is within 1.1 % of the latency it stands for."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.latency import (
    OVER,
    OVER_MS,
    RELATIVE_ERROR,
    UNDER,
    UNDER_MS,
    ZERO,
    bucket_bounds_ms,
    bucket_of,
    per_output_token_ms,
    value_ms,
)

#: Bounds are computed by a power and buckets by a logarithm; at an edge the two may differ by a rounding.
ROUNDING = 1e-9

counted = st.floats(UNDER_MS, OVER_MS)


def quantile_from_counts(counts: Counter[int], q: float) -> float:
    """Nearest rank, as the latency page reads it."""
    rank = max(1, math.ceil(q * counts.total()))
    for bucket in sorted(counts):
        rank -= counts[bucket]
        if rank <= 0:
            return value_ms(bucket)
    raise AssertionError("a rank lies within its counts")


@given(st.lists(counted, min_size=1, max_size=300), st.floats(0.01, 1.0))
def test_a_quantile_is_within_its_promise(latencies_ms: list[float], q: float) -> None:
    """The oracle is numpy's nearest rank on the latencies themselves."""
    found = quantile_from_counts(Counter(map(bucket_of, latencies_ms)), q)
    rank = max(1, math.ceil(q * len(latencies_ms)))
    true = float(np.partition(np.asarray(latencies_ms), rank - 1)[rank - 1])
    assert abs(found - true) <= true * (RELATIVE_ERROR + ROUNDING)
    assert RELATIVE_ERROR < 0.011


@given(counted)
def test_a_latency_lies_in_its_bucket(ms: float) -> None:
    low, high = bucket_bounds_ms(bucket_of(ms))
    assert low * (1 - ROUNDING) < ms <= high * (1 + ROUNDING)


@given(st.floats(0, 1e12), st.floats(0, 1e12))
def test_a_longer_latency_never_sorts_before_a_shorter_one(one_ms: float, other_ms: float) -> None:
    """Sentinels included: a quantile is read by walking the buckets in order."""
    short, long = sorted((one_ms, other_ms))
    assert bucket_of(short) <= bucket_of(long)


@settings(max_examples=20)
@given(st.lists(counted, min_size=2, max_size=50), st.integers(1, 49))
def test_counts_of_two_hours_merge_by_adding(latencies_ms: list[float], cut: int) -> None:
    both = Counter(map(bucket_of, latencies_ms[:cut])) + Counter(map(bucket_of, latencies_ms[cut:]))
    assert both == Counter(map(bucket_of, latencies_ms))


@pytest.mark.parametrize(
    ("ms", "bucket"), [(0.0, ZERO), (1e-6, UNDER), (1024.0, 319), (1.0, -1), (2e9, OVER)]
)
def test_edges(ms: float, bucket: int) -> None:
    """A power of two is the upper end of its bucket, as OpenTelemetry has it."""
    assert bucket_of(ms) == bucket


def test_a_token_rate_needs_the_first_token_and_two_tokens() -> None:
    assert per_output_token_ms(1000.0, 100.0, 10) == 100.0
    assert per_output_token_ms(1000.0, None, 10) is None
    assert per_output_token_ms(1000.0, 100.0, 1) is None
    assert per_output_token_ms(100.0, 150.0, 5) == 0.0
