"""Why slow calls were slow: labels whose shares add up, and rules that hold for the other half of people."""

import random
from functools import partial
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from ingest.store import OpenStore
from outliers.causes.tail_causes import LABELS, TailCauses, causes_of, find_causes, keep_causes
from outliers.causes.tail_rules import tail_rules
from outliers.frame import week_calls
from outliers.weeks import week_by_id
from tests.rows import HOUR_MS, frame_of, put_calls

ZONE = ZoneInfo("UTC")
WEEK = week_by_id("2026-W46", ZONE)
SLOW_HOUR = 30


def a_week(seed: int, n: int = 3_000) -> list[dict]:
    """Calls that take 200 ms, 1 ms a hundred input tokens and 10 ms an output token, times noise."""
    source = random.Random(seed)
    calls = []
    for i in range(n):
        read, written = int(source.lognormvariate(6.5, 0.4)), int(source.lognormvariate(4, 0.3))
        calls.append(
            {
                "started_at_ms": WEEK.since_ms + int(source.random() * 168 * HOUR_MS),
                "provider": "p",
                "model": "m",
                "prompt": source.choice(("faq", "draft")),
                "user_id": f"u{i % 400}",
                "input_tokens": read,
                "output_tokens": written,
                "first_token_ms": 150 + read / 100,
                "latency_ms": (200 + read / 100 + 10 * written) * source.lognormvariate(0, 0.05),
            }
        )
    return sorted(calls, key=lambda call: call["started_at_ms"])


def causes_in(store: OpenStore, calls: list[dict]) -> list[TailCauses]:
    store.write(partial(put_calls, calls=calls))
    return find_causes(store, 1, week_calls(store, 1, WEEK), ZONE)


def slower(call: dict, ms: float, **more: object) -> dict:
    return call | {"latency_ms": call["latency_ms"] + ms} | more


@pytest.mark.parametrize(
    ("label", "changed"),
    [
        ("long_input", lambda c: slower(c, 4_000, input_tokens=c["input_tokens"] + 400_000,
                                        first_token_ms=c["first_token_ms"] + 4_000)),
        ("long_output", lambda c: slower(c, 5_000, output_tokens=c["output_tokens"] + 500)),
        ("slow_first_token", lambda c: slower(c, 5_000, first_token_ms=c["first_token_ms"] + 5_000)),
        ("retries", lambda c: slower(c, 5_000, retries=2, first_token_ms=c["first_token_ms"] + 5_000)),
        ("tool_calls", lambda c: slower(c, 5_000, tools=["search"])),
        ("unexplained", lambda c: slower(c, 5_000)),
    ],
)  # fmt: skip
def test_each_cause_is_called_by_its_name(store: OpenStore, label: str, changed) -> None:
    calls = a_week(1)
    [tail] = causes_in(store, [changed(call) if i % 20 == 7 else call for i, call in enumerate(calls)])
    assert (tail.scope, tail.n, tail.n_tail, tail.words) == ("all", 3_000, 150, "the slowest 5 %")
    assert tail.labels[0].label == label
    assert tail.labels[0].share > 0.8
    assert tail.labels[0].words == LABELS[label]
    assert sum(one.share for one in tail.labels) == pytest.approx(1, abs=1e-3)
    assert sum(one.n for one in tail.labels) == tail.n_tail
    for call in tail.slowest:
        assert sum(call.shares.values()) == pytest.approx(1, abs=1e-3)
        assert call.label == max(call.shares, key=call.shares.__getitem__)


def test_a_slow_hour_of_the_provider_is_told_from_slow_calls(store: OpenStore) -> None:
    since = WEEK.since_ms + SLOW_HOUR * HOUR_MS
    calls = [
        call | {"latency_ms": call["latency_ms"] * 8, "first_token_ms": call["first_token_ms"] * 8}
        if since <= call["started_at_ms"] < since + HOUR_MS
        else call
        for call in a_week(2, 8_000)
    ]
    [tail] = causes_in(store, calls)
    in_hour = sum(since <= one.started_at_ms < since + HOUR_MS for one in tail.slowest)
    assert in_hour == len(tail.slowest)
    assert {one.label for one in tail.slowest} == {"slow_provider_hour"}


def test_a_rule_says_what_the_slow_calls_share_and_the_other_half_agrees(store: OpenStore) -> None:
    source = random.Random(5)
    calls = a_week(3, 6_000)
    long = [
        slower(call, 8_000 * source.lognormvariate(0, 0.2), input_tokens=9_800 + source.randrange(50_000))
        if i % 120 == 3
        else call
        for i, call in enumerate(calls)
    ]
    [tail] = causes_in(store, long)
    assert (tail.words, tail.n_tail) == ("the slowest 1 %", 60)
    rule = tail.rules[0]
    assert (rule.condition["field"], rule.condition["op"]) == ("input_tokens", ">")
    assert 2_000 < rule.condition["value"] < 10_000
    assert rule.n == 50
    assert rule.share_in == pytest.approx(50 / 60)
    assert rule.held_back_lift > 50
    assert rule.p_value < 1e-6
    assert rule.sentence.endswith("holds for 83 % of the slowest 1 % and 0 % of the rest")


def test_a_tail_by_chance_has_no_rule(store: OpenStore) -> None:
    """Fields that have nothing to do with latency: in forty weeks at most four say they do."""
    said = 0
    for seed in range(40):
        source = np.random.default_rng(seed)
        calls = frame_of(
            [
                call
                | {
                    "user_id": f"u{source.integers(2_000)}",
                    "tags": {"plan": ("free", "team")[int(source.integers(2))]},
                }
                for call in a_week(seed, 600)
            ],
            WEEK,
        )
        slow = source.random(600) < 0.05
        said += bool(tail_rules(calls, slow, np.ones(600, dtype=np.bool_)))
    assert said <= 4


def test_services_have_tails_of_their_own_and_the_projects_names_the_slow_one(store: OpenStore) -> None:
    slow = [
        call | {"model": "large", "latency_ms": call["latency_ms"] * 6, "first_token_ms": None}
        for call in a_week(6, 400)
    ]
    found = causes_in(store, sorted([*a_week(7, 4_000), *slow], key=lambda call: call["started_at_ms"]))
    everything, *services = found
    assert {one.scope for one in services} == {"large", "m"}
    assert everything.labels[0].label == "slow_service"
    assert everything.rules[0].condition["value"] == "large"
    assert all(label.label != "slow_service" for one in services for label in one.labels)


def test_few_answers_make_no_tail_and_what_is_kept_is_read_back(store: OpenStore) -> None:
    assert causes_in(store, a_week(8, 99)) == []
    found = causes_in(store, a_week(9, 300))
    for _twice in range(2):
        store.write(partial(keep_causes, project_id=1, week_id=WEEK.id, causes=found))
    with store.read() as connection:
        assert causes_of(connection, 1, WEEK.id) == tuple(found)
        assert causes_of(connection, 1, "2026-W01") == ()
