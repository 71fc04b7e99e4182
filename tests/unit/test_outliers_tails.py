"""Quantiles from counted latencies, against the latencies themselves."""

import math
import random
from functools import partial
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from ddsketch import DDSketch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ingest.latency import OVER, RELATIVE_ERROR, bucket_of
from ingest.store import OpenStore
from outliers.errors import UnknownGrouping
from outliers.intervals import order_statistic_ranks
from outliers.latency.heat import latency_by_hour
from outliers.latency.quantiles import quantile_of
from outliers.latency.tails import QUANTILES, slowest, tails
from outliers.weeks import week_by_id
from tests.rows import HOUR_MS, put_calls

MONDAY_MS = week_by_id("2026-W46", ZoneInfo("UTC")).since_ms
latencies = st.lists(st.floats(0.01, 1e7), min_size=36, max_size=600)


def counted(calls: list[tuple[str, float, float]]) -> dict[tuple[str, int], list[float]]:
    """Count (outcome, latency, weight) as intake does."""
    cells: dict[tuple[str, int], list[float]] = {}
    for outcome, latency_ms, weight in calls:
        cell = cells.setdefault((outcome, bucket_of(latency_ms)), [0, 0.0])
        cell[0] += 1
        cell[1] += weight
    return cells


@given(latencies, st.sampled_from(QUANTILES))
@settings(max_examples=80, deadline=None)
def test_a_quantile_and_its_interval_are_the_sorted_latencies_own(many: list[float], q: float) -> None:
    got = quantile_of(counted([("answered", ms, 1.0) for ms in many]), q)
    ranks = order_statistic_ranks(len(many), q)
    if ranks is None:
        assert (got.status, got.value_ms, got.low_ms, got.high_ms) == ("too_few", None, None, None)
        assert got.needs_n > got.n
        return
    ordered = np.sort(many)
    expected = [ordered[math.ceil(q * len(many) - 1e-9) - 1], *(ordered[rank - 1] for rank in ranks)]
    assert [got.value_ms, got.low_ms, got.high_ms] == pytest.approx(expected, rel=RELATIVE_ERROR + 1e-9)


@given(latencies, st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_failed_calls_are_slower_than_any(many: list[float], failed: int) -> None:
    """As if each failed call had taken for ever, whenever it failed."""
    cells = counted([("answered", ms, 1.0) for ms in many] + [("failed", 5.0, 1.0)] * failed)
    got = quantile_of(cells, 0.9)
    ordered = np.sort([*many, *[math.inf] * failed])
    expected = ordered[math.ceil(0.9 * len(ordered) - 1e-9) - 1]
    if math.isinf(expected):
        assert (got.status, got.value_ms) == ("beyond", None)
    else:
        assert got.value_ms == pytest.approx(expected, rel=RELATIVE_ERROR + 1e-9)


def test_a_failed_call_of_unknown_latency_is_counted_too() -> None:
    cells = {("answered", bucket_of(100.0)): [90, 90.0], ("failed", OVER): [10, 10.0]}
    assert quantile_of(cells, 0.5).value_ms == pytest.approx(100, rel=RELATIVE_ERROR)
    assert quantile_of(cells, 0.95).status == "beyond"


def test_an_aborted_call_says_only_that_it_would_have_taken_longer() -> None:
    """Kaplan and Meier by hand: 5 answered at 100 of 10, 4 stopped at 200, the last answered at 800."""
    few = [("answered", 100.0, 1.0)] * 5 + [("aborted", 200.0, 1.0)] * 4 + [("answered", 800.0, 1.0)]
    cells = counted(few * 8)
    assert quantile_of(cells, 0.5).value_ms == pytest.approx(100, rel=RELATIVE_ERROR)
    # of the one in ten left at risk all answer at 800: every quantile above .5 lies there
    assert quantile_of(cells, 0.9).value_ms == pytest.approx(800, rel=RELATIVE_ERROR)
    # as answered at 200, they would hide it
    hidden = quantile_of(counted([("answered", ms, w) for _outcome, ms, w in few * 8]), 0.9)
    assert hidden.value_ms == pytest.approx(200, rel=RELATIVE_ERROR)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_a_sampled_call_stands_for_its_weight(seed: int) -> None:
    """The weighted quantile is the first latency with the wanted share of the weight at or below it."""
    source = random.Random(seed)
    calls = [("answered", source.lognormvariate(6, 1), source.choice((1.0, 10.0))) for _ in range(400)]
    got = quantile_of(counted(calls), 0.9)
    assume(got.status == "known")
    calls.sort(key=lambda call: call[1])
    passed = np.cumsum([weight for _, _, weight in calls])
    first = int(np.searchsorted(passed, 0.9 * passed[-1] - 1e-6))
    assert got.value_ms == pytest.approx(calls[first][1], rel=RELATIVE_ERROR + 1e-9)


def test_a_few_heavy_calls_do_not_pretend_to_be_many() -> None:
    """100 calls of which 10 stand for 100 each carry the information of some twelve."""
    calls = [("answered", float(ms), 1.0) for ms in range(1, 91)]
    calls += [("answered", float(ms), 100.0) for ms in range(91, 101)]
    assert quantile_of(counted(calls), 0.9).status == "too_few"


def test_tails_of_a_store_by_group_and_window(store: OpenStore) -> None:
    source = random.Random(3)
    sent = [
        {
            "started_at_ms": MONDAY_MS + i * 60_000,
            "model": "large" if i % 4 else "small",
            "prompt": "faq",
            "prompt_version": f"v{i % 2}",
            "latency_ms": source.lognormvariate(6, 0.5) * (3 if i % 4 else 1),
            "outcome": "failed" if i % 50 == 0 else "answered",
        }
        for i in range(800)
    ]
    store.write(partial(put_calls, calls=sent))
    until_ms = MONDAY_MS + 24 * HOUR_MS
    with store.read() as connection:
        by_model = {t.group: t for t in tails(connection, 1, MONDAY_MS, until_ms, group_by="model")}
        [everything] = tails(connection, 1, MONDAY_MS, until_ms)
        by_version = [t.group for t in tails(connection, 1, MONDAY_MS, until_ms, group_by="prompt_version")]
        only = tails(connection, 1, MONDAY_MS, until_ms, group_by="model", only={"prompt_version": "v1"})
        worst = slowest(connection, 1, MONDAY_MS, until_ms, group_by="model", group="small", limit=3)
        of_version = slowest(
            connection, 1, MONDAY_MS, until_ms, group_by="prompt_version", group="faq@v1", limit=900
        )
        nothing = tails(connection, 1, until_ms, until_ms + HOUR_MS)
        other_project = tails(connection, 2, MONDAY_MS, until_ms)
    assert (everything.n, everything.n_failed, by_model["large"].n, by_model["small"].n) == (
        800,
        16,
        600,
        200,
    )
    large = [
        call["latency_ms"] for call in sent if call["model"] == "large" and call["outcome"] == "answered"
    ]
    assert by_model["large"].answered_p99.value_ms == pytest.approx(
        np.sort(large)[math.ceil(0.99 * len(large)) - 1], rel=RELATIVE_ERROR
    )
    assert by_model["small"].answered_p99.status == "too_few", "196 calls make no p99: the slowest are listed"
    small = sorted((call["latency_ms"] for call in sent if call["model"] == "small"), reverse=True)
    assert [call.value_ms for call in worst] == pytest.approx(small[:3])
    assert sorted(by_version) == ["faq@v0", "faq@v1"]
    assert sum(t.n for t in only) == len(of_version) == 400
    assert nothing == other_project == []


def test_one_model_at_two_providers_is_two_services(store: OpenStore) -> None:
    sent = [
        {
            "started_at_ms": MONDAY_MS + i * 60_000,
            "provider": provider,
            "model": model,
            "prompt": f"p{i % 2}",
            "latency_ms": latency_ms + i,
        }
        for provider, model, latency_ms in (
            ("together", "llama 13b", 9_000),
            ("groq", "llama 13b", 100),
            ("", "own", 5),
        )
        for i in range(4)
    ]
    store.write(partial(put_calls, calls=sent))
    window = (1, MONDAY_MS, MONDAY_MS + HOUR_MS)
    with store.read() as connection:
        n = {t.group: t.n for t in tails(connection, *window, group_by="service")}
        [one] = tails(connection, *window, group_by="service", only={"provider": "groq"})
        slow = slowest(connection, *window, group_by="service", group="groq llama 13b", limit=2)
    assert n == {"together llama 13b": 4, "groq llama 13b": 4, "own": 4}
    assert one.group == "groq llama 13b"
    assert [call.value_ms for call in slow] == [103, 102]


def test_with_one_provider_a_service_goes_by_its_model(store: OpenStore) -> None:
    sent = [
        {"started_at_ms": MONDAY_MS, "provider": "groq", "model": model, "latency_ms": 5} for model in "ab"
    ]
    store.write(partial(put_calls, calls=sent))
    with store.read() as connection:
        found = tails(connection, 1, MONDAY_MS, MONDAY_MS + HOUR_MS, group_by="service")
    assert [tail.group for tail in found] == ["a", "b"]


@given(st.lists(st.floats(1.0, 1e6), min_size=400, max_size=900), st.sampled_from((0.5, 0.9, 0.95, 0.99)))
@settings(max_examples=30, deadline=None)
def test_the_sketch_that_others_use_answers_the_same(many: list[float], q: float) -> None:
    """DDSketch (Masson, Rim, Lee 2019) of the same relative error, as an oracle."""
    sketch = DDSketch(RELATIVE_ERROR)
    for ms in many:
        sketch.add(ms)
    # it answers for rank q * (n - 1): the nearest rank of ours is at most one away
    ordered = np.sort(many)
    ours = quantile_of(counted([("answered", ms, 1.0) for ms in many]), q).value_ms
    rank = math.ceil(q * len(many) - 1e-9) - 1
    theirs = sketch.get_quantile_value(rank / (len(many) - 1))
    assert ours == pytest.approx(ordered[rank], rel=RELATIVE_ERROR + 1e-9)
    assert ours == pytest.approx(theirs, rel=2 * RELATIVE_ERROR + 1e-3)


def test_several_fields_and_the_hour_make_groups_of_their_own(store: OpenStore) -> None:
    sent = [
        {
            "started_at_ms": MONDAY_MS + hour * HOUR_MS + i,
            "model": model,
            "environment": environment,
            "latency_ms": (100 if model == "a" else 400) * (hour + 1),
        }
        for hour in (0, 1)
        for model in "ab"
        for environment in ("live", "test")
        for i in range(9)
    ]
    store.write(partial(put_calls, calls=sent))
    window = (1, MONDAY_MS, MONDAY_MS + 24 * HOUR_MS)
    with store.read() as connection:
        both = {t.group: t.n for t in tails(connection, *window, group_by="model,environment")}
        hours = {t.group: t.quantiles[0].value_ms for t in tails(connection, *window, group_by="model,hour")}
        of_one = tails(connection, *window, group_by="hour", only={"model": "b"})
        slow = slowest(connection, *window, group_by="model,environment", group="b · test", limit=2)
        heat = latency_by_hour(connection, *window, group_by="model")
        long = latency_by_hour(connection, 1, MONDAY_MS, MONDAY_MS + 60 * 24 * HOUR_MS)
        with pytest.raises(UnknownGrouping, match="ends"):
            slowest(connection, *window, group_by="hour", group="x")
        with pytest.raises(UnknownGrouping, match="cells"):
            latency_by_hour(connection, *window, group_by="model,hour")
    assert both == {"a · live": 18, "a · test": 18, "b · live": 18, "b · test": 18}
    near = partial(pytest.approx, rel=RELATIVE_ERROR)
    assert hours == {
        "a · 2026-11-09T00:00Z": near(100),
        "a · 2026-11-09T01:00Z": near(200),
        "b · 2026-11-09T00:00Z": near(400),
        "b · 2026-11-09T01:00Z": near(800),
    }
    assert [tail.n for tail in of_one] == [18, 18]
    assert [call.value_ms for call in slow] == [800, 800]
    assert [row.group for row in heat.rows] == ["a", "b"]
    assert [(cell.since_ms - MONDAY_MS, cell.n, cell.p50_ms) for cell in heat.rows[1].cells] == [
        (0, 18, near(400)),
        (HOUR_MS, 18, near(800)),
    ]
    assert heat.rows[0].cells[0].p95_ms is None, "18 calls make no p95"
    assert (heat.step_hours, long.step_hours, len(long.rows[0].cells)) == (1, 24, 1)


def test_a_cell_of_the_heat_strip_is_the_tail_of_its_hour(store: OpenStore) -> None:
    """With failed, aborted and sampled calls, too: what `tails` says of the hour alone."""
    source = random.Random(8)
    sent = [
        {
            "started_at_ms": MONDAY_MS + source.randrange(30 * HOUR_MS),
            "model": source.choice("ab"),
            "prompt": source.choice(("faq", "draft")),
            "latency_ms": source.lognormvariate(6, 1),
            "outcome": source.choices(("answered", "failed", "aborted"), (90, 6, i % 5))[0],
            "sample_rate": source.choice((1.0, 0.5)),
        }
        for i in range(4_000)
    ]
    store.write(partial(put_calls, calls=sent))
    with store.read() as connection:
        heat = latency_by_hour(connection, 1, MONDAY_MS, MONDAY_MS + 30 * HOUR_MS, group_by="model")
        for row in heat.rows:
            for cell in row.cells:
                [tail] = tails(
                    connection, 1, cell.since_ms, cell.since_ms + HOUR_MS, only={"model": row.group}
                )
                by_q = {quantile.q: quantile.value_ms for quantile in tail.quantiles}
                assert (cell.n, cell.n_failed) == (tail.n, tail.n_failed)
                assert (cell.p50_ms, cell.p95_ms) == (by_q[0.5], by_q[0.95])
    assert [len(row.cells) for row in heat.rows] == [30, 30]


def test_a_grouping_that_is_none_is_refused_with_those_that_are(store: OpenStore) -> None:
    with store.read() as connection:
        with pytest.raises(UnknownGrouping, match="prompt_version"):
            tails(connection, 1, 0, 1, group_by="user")
        with pytest.raises(UnknownGrouping, match="first_token"):
            slowest(connection, 1, 0, 1, measure="last_token")
