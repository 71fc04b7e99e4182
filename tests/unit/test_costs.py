"""What calls cost: sums per group, sampling, unknown costs, and an interval that counts a user once."""

import math
import random
from collections import defaultdict
from datetime import UTC, datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import insert

from critic.spending.budget import DAY_MS
from critic.tables import CriticDay
from dashboards.filters import week_window
from dashboards.queries.costs import Costs, costs
from ingest.store import OpenStore
from ingest.tables import columns
from outliers.weeks import week_by_id
from tests.rows import HOUR_MS, put_calls

WEEK = week_by_id("2026-W46", ZoneInfo("UTC"))
WINDOW = week_window(WEEK, ZoneInfo("UTC"), datetime(2026, 11, 22, tzinfo=UTC))


def read(store: OpenStore, group_by: str, limit: int = 50) -> Costs:
    with store.read() as connection:
        return costs(connection, 1, WINDOW, group_by=group_by, limit=limit)


@pytest.fixture
def kept(store: OpenStore) -> tuple[OpenStore, list[dict[str, Any]]]:
    """300 calls of two weeks; some sampled, some of unknown cost, some of nobody."""
    source = random.Random(3)
    calls = [
        {
            "started_at_ms": WEEK.since_ms + source.randrange(-3 * 24, 8 * 24) * HOUR_MS,
            "prompt": source.choice(("faq", "summary", "")),
            "prompt_version": source.choice(("v1", "v2")),
            "provider": source.choice(("aurora", "together")),
            "model": source.choice(("small", "large")),
            "cost_usd": None if source.random() < 0.3 else source.random() / 100,
            "input_tokens": source.choice((None, 100, 2000)),
            "output_tokens": 50,
            "sample_rate": source.choice((1.0, 0.25)),
            "user_id": f"u{source.randrange(20)}" if source.random() < 0.8 else None,
        }
        for _ in range(300)
    ]
    store.write(partial(put_calls, calls=calls))
    return store, [call for call in calls if WEEK.since_ms <= call["started_at_ms"] < WEEK.until_ms]


@pytest.mark.parametrize(
    ("group_by", "name"),
    [
        ("prompt", lambda call: call["prompt"]),
        ("prompt_version", lambda call: f"{call['prompt']}@{call['prompt_version']}"),
        ("service", lambda call: f"{call['provider']} {call['model']}"),
        ("model,hour", lambda call: f"{call['model']} · {_hour(call)}"),
        ("none", lambda _call: "all"),
    ],
)
def test_a_groups_sums_are_those_of_its_calls(kept: Any, group_by: str, name: Any) -> None:
    store, inside = kept
    of: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for call in inside:
        of[name(call)].append(call)
    found = read(store, group_by, limit=500)
    assert {line.group for line in found.groups} == set(of)
    assert found.n_groups == len(of)
    assert found.total.n == len(inside)
    for line in found.groups:
        calls = of[line.group]
        known = [call for call in calls if call["cost_usd"] is not None]
        assert (line.n, line.n_unknown) == (len(calls), len(calls) - len(known))
        assert line.calls == pytest.approx(sum(1 / call["sample_rate"] for call in calls))
        told = [call for call in calls if call["input_tokens"] is not None]
        tokens = sum(call["input_tokens"] / call["sample_rate"] for call in told)
        assert line.input_tokens == (pytest.approx(tokens) if told else None)
        if not known:
            assert (line.cost_usd, line.cost_per_call_usd) == (None, None), "unknown is not zero"
            continue
        cost = sum(call["cost_usd"] / call["sample_rate"] for call in known)
        assert line.cost_usd == pytest.approx(cost)
        assert line.cost_per_call_usd == pytest.approx(cost / sum(1 / call["sample_rate"] for call in known))
    spent = [line.cost_usd for line in found.groups if line.cost_usd is not None]
    assert spent == sorted(spent, reverse=True)
    assert read(store, group_by, limit=1).groups == found.groups[:1]


def _hour(call: dict[str, Any]) -> str:
    return datetime.fromtimestamp(call["started_at_ms"] / 1000, UTC).strftime("%Y-%m-%dT%H:00Z")


def test_the_interval_counts_a_users_calls_once(store: OpenStore) -> None:
    """Ten users, each with calls of one price: a hundred calls each say no more than one does."""
    for n in (1, 100):
        calls = [
            {
                "started_at_ms": WEEK.since_ms + n,
                "user_id": f"{n}-{user}",
                "cost_usd": user / 1000,
                "prompt": f"p{n}",
            }
            for user in range(10)
            for _ in range(n)
        ]
        store.write(partial(put_calls, calls=calls))
    by_prompt = {line.group: line for line in read(store, "prompt").groups}
    one, hundred = by_prompt["p1"], by_prompt["p100"]
    assert (one.low_usd, one.high_usd) == pytest.approx((hundred.low_usd, hundred.high_usd))
    values = [user / 1000 for user in range(10)]
    spread = math.sqrt(sum((value - 0.0045) ** 2 for value in values) / 9 / 10)
    assert one.high_usd == pytest.approx(0.0045 + 1.959964 * spread)


def test_nothing_is_unknown_and_few_users_have_no_interval(store: OpenStore) -> None:
    empty = read(store, "model")
    assert (empty.total.n, empty.total.cost_usd, empty.groups, empty.critics) == (0, None, (), ())
    store.write(
        partial(put_calls, calls=[{"started_at_ms": WEEK.since_ms, "user_id": "u1", "cost_usd": 0.5}])
    )
    total = read(store, "model").total
    assert (total.cost_usd, total.low_usd, total.high_usd) == (0.5, None, None)


def test_critics_are_summed_over_the_windows_days(store: OpenStore) -> None:
    first = WEEK.since_ms // DAY_MS
    rows = [
        {"project_id": 1, "critic": "openai:m", "day": first + day, "spent_usd": 1.0, "requests": 10,
         "requests_unpriced": 1, "in_doubt_usd": 0.25}
        for day in (-1, 0, 6, 7)
    ]  # fmt: skip
    store.write(lambda connection: connection.execute(insert(columns(CriticDay)), rows))
    [critic] = read(store, "prompt").critics
    assert (critic.critic, critic.spent_usd, critic.requests, critic.requests_unpriced) == (
        "openai:m",
        2,
        20,
        2,
    )
