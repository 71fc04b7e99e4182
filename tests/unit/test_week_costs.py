"""What a week cost: per field and day, beside the week before, and the money of bad experiences."""

import random
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ingest.store import OpenStore
from outliers.costs import Cost, costs_of, keep_costs, week_costs
from outliers.weeks import week_before, week_by_id
from tests.rows import HOUR_MS, frame_of, quiet_calls

UTC = ZoneInfo("UTC")
WEEK = week_by_id("2026-W46", UTC)
BEFORE = week_before(WEEK, UTC)


def priced(seed: int, since_ms: int, n: int, usd: float) -> list[dict[str, Any]]:
    """Return calls of which a fifth has no known cost, a third stands for four, and a quarter was bad."""
    source = random.Random(seed)
    calls = quiet_calls(source, since_ms, n)
    for call in calls:
        call["cost_usd"] = None if source.random() < 0.2 else usd * source.uniform(0.5, 1.5)
        call["sample_rate"] = 0.25 if source.random() < 0.3 else 1.0
        call["p_bad"] = None if source.random() < 0.1 else 0.9 if source.random() < 0.25 else 0.1
    return calls


def test_sums_are_those_of_the_calls_and_unknown_is_in_none() -> None:
    now, before = priced(1, WEEK.since_ms, 1500, 0.002), priced(2, BEFORE.since_ms, 900, 0.001)
    found = week_costs(frame_of(now, WEEK), frame_of(before, BEFORE), UTC)
    _same(found.now, now)
    _same(found.before, before)
    for field in ("prompt", "model", "prompt_version"):
        for line in found.by[field]:
            for cost, calls in ((line.now, now), (line.before, before)):
                _same(cost, [call for call in calls if _value(call, field) == line.value])
        spent = [line.now.cost_usd or 0.0 for line in found.by[field]]
        assert spent == sorted(spent, reverse=True)
        assert sum(spent) == pytest.approx(found.now.cost_usd)
        assert found.n_values[field] == len(found.by[field])
    assert sum(day.cost_usd or 0.0 for day in found.days) == pytest.approx(found.now.cost_usd)
    assert sum(day.before_usd or 0.0 for day in found.days) == pytest.approx(found.before.cost_usd)


def _value(call: dict[str, Any], field: str) -> str:
    if field == "prompt_version":
        return f"{call['prompt']}@{call['prompt_version']}"
    return str(call[field])


def _same(cost: Cost, calls: list[dict[str, Any]]) -> None:
    known = [call for call in calls if call["cost_usd"] is not None]
    assert (cost.n, cost.n_unknown) == (len(calls), len(calls) - len(known))
    bad = [call for call in calls if (call["p_bad"] or 0.0) >= 0.5]
    assert (cost.n_bad, cost.n_bad_unknown) == (len(bad), sum(call["cost_usd"] is None for call in bad))
    if not known:
        assert (cost.cost_usd, cost.per_call.value, cost.bad_usd) == (None, None, None)
        return
    usd = sum(call["cost_usd"] / call["sample_rate"] for call in known)
    assert cost.cost_usd == pytest.approx(usd)
    assert cost.per_call.n == len(known)
    assert cost.per_call.value == pytest.approx(usd / sum(1 / call["sample_rate"] for call in known))
    ranked = [call for call in known if call["p_bad"] is not None]
    money = dict.fromkeys((False, True), 0.0)
    for call in ranked:
        money[call["p_bad"] >= 0.5] += call["cost_usd"] / call["sample_rate"]
    assert cost.bad_share.value == pytest.approx(money[True] / sum(money.values()))
    assert cost.bad_share.low is not None
    assert cost.bad_share.high is not None
    assert cost.bad_share.low <= money[True] / sum(money.values()) <= cost.bad_share.high


def test_what_is_kept_is_what_was_computed_and_nothing_is_no_zero(store: OpenStore) -> None:
    empty = week_costs(frame_of([], WEEK), frame_of([], BEFORE), UTC)
    assert (empty.now.n, empty.now.cost_usd, empty.now.per_call.value) == (0, None, None)
    unpriced = [{**call, "cost_usd": None} for call in quiet_calls(random.Random(3), WEEK.since_ms, 50)]
    unknown = week_costs(frame_of(unpriced, WEEK), frame_of([], BEFORE), UTC)
    assert (unknown.now.n_unknown, unknown.now.cost_usd, unknown.now.bad_usd) == (50, None, None)
    found = week_costs(
        frame_of(priced(4, WEEK.since_ms + HOUR_MS, 200, 0.1), WEEK),
        frame_of(priced(5, BEFORE.since_ms, 100, 0.1), BEFORE),
        UTC,
    )
    for one in (empty, unknown, found):
        store.write(partial(keep_costs, project_id=1, week_id=WEEK.id, costs=one))
        with store.read() as connection:
            assert costs_of(connection, 1, WEEK) == one
            assert costs_of(connection, 1, BEFORE) is None
