"""Who had it worst by score, signal or latency alone: against sorting everything in Python."""

import random
from collections import defaultdict
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import insert

from ingest.store import OpenStore
from ingest.tables import columns
from outliers.errors import BadCursor
from outliers.experience.parts import PARTS, WEIGHTS, Seen, SliceMeans, parts_as_json, rank
from outliers.tables import Experience, ExperienceFit
from outliers.weeks import week_by_id
from outliers.worst_by import By, worst_by
from tests.rows import HOUR_MS, put_calls

UTC = ZoneInfo("UTC")
WEEK = week_by_id("2026-W46", UTC)
SINCE_MS, UNTIL_MS = WEEK.since_ms - 100 * HOUR_MS, WEEK.until_ms + 60 * HOUR_MS
#: Of an earlier fit: calls that were ranked with it stand lower than their part is bad.
LOW_WEIGHTS = {"critic": 0.3, "signals": 0.1, "latency": 0.5}
PART = {"score": "critic", "signal": "signals"}


@pytest.fixture
def known(store: OpenStore) -> tuple[OpenStore, list[dict[str, Any]]]:
    """700 calls over four weeks: parts known and unknown, praise, two sets of weights, ties, no latency."""
    source = random.Random(11)
    sent = [
        {
            "seq": seq,
            "started_at_ms": WEEK.since_ms + source.randrange(-14 * 24, 14 * 24) * HOUR_MS,
            "user_id": f"u{source.randrange(50)}" if source.random() < 0.9 else None,
            "session_id": f"s{source.randrange(150)}" if source.random() < 0.8 else None,
            "latency_ms": None if source.random() < 0.1 else float(source.randrange(100, 400)),
        }
        for seq in range(1, 701)
    ]
    store.write(partial(put_calls, calls=sent))
    rows = []
    for call in sent:
        if source.random() < 0.05:
            continue  # not ranked yet
        seen = {name: Seen(None) for name in PARTS} | {"error": Seen(0.0)}
        if source.random() < 0.8:
            seen["critic"] = Seen(source.choice((0.01, 0.2, 0.97, source.random())))
        if source.random() < 0.4:
            seen["signals"] = Seen(source.choice((0.0, 0.6, 1.0)))
        weights = {**WEIGHTS, **(LOW_WEIGHTS if source.random() < 0.3 else {})}
        ranked = rank(seen, source.choice((0.0, 0.0, 1.0)), 1, SliceMeans(0.02), weights)
        call["parts"] = {part.name: part for part in ranked.parts}
        call["p_bad"] = ranked.p_bad
        rows.append(
            {
                "call_seq": call["seq"],
                "project_id": 1,
                "week": f"2026-W{46 + (call['started_at_ms'] - WEEK.since_ms) // (168 * HOUR_MS)}",
                "p_bad": ranked.p_bad,
                "parts": parts_as_json(ranked.parts),
            }
        )
    fit = {"project_id": 1, "fitted_at_ms": 0, "weights": LOW_WEIGHTS, "figures": {}}
    store.write(lambda connection: connection.execute(insert(columns(ExperienceFit)), [fit]))
    store.write(lambda connection: connection.execute(insert(columns(Experience)), rows))
    return store, [call for call in sent if SINCE_MS <= call["started_at_ms"] < UNTIL_MS]


def all_pages(store: OpenStore, by: By, per: str, limit: int) -> list[Any]:
    rows: list[Any] = []
    cursor = None
    while True:
        with store.read() as connection:
            page = worst_by(
                connection, 1, SINCE_MS, UNTIL_MS, by=by, per=per, zone=UTC, limit=limit, cursor=cursor
            )
        rows += page.rows
        assert len(page.rows) <= limit
        cursor = page.cursor
        if cursor is None:
            return rows


def place(call: dict[str, Any], by: By) -> tuple[float, float, int] | None:
    """What a call is ordered by; None where it does not rank."""
    if by == "latency":
        return None if call["latency_ms"] is None else (call["latency_ms"], 0.0, call["seq"])
    part = call["parts"][PART[by]] if "parts" in call else None
    if part is None or not part.known or part.b == 0:
        return None
    return part.b, call["p_bad"], call["seq"]


@pytest.mark.parametrize("limit", [7, 60, 1000])
@pytest.mark.parametrize("by", ["score", "signal", "latency"])
def test_pages_of_calls_are_the_whole_order_cut(known: Any, by: By, limit: int) -> None:
    store, inside = known
    expected = sorted(filter(None, (place(call, by) for call in inside)), reverse=True)
    assert len(expected) > 60
    rows = all_pages(store, by, "call", limit)
    assert [(row.value, row.seq) for row in rows] == [(value, seq) for value, _p_bad, seq in expected]
    bad = {call["seq"] for call in inside if call.get("p_bad", 0) >= 0.5}
    assert {row.seq for row in rows if row.n_bad} == bad & {row.seq for row in rows}


@pytest.mark.parametrize("limit", [4, 25, 1000])
@pytest.mark.parametrize("by", ["score", "signal", "latency"])
@pytest.mark.parametrize("per", ["user", "session"])
def test_people_stand_where_their_worst_call_does_and_once(known: Any, by: By, per: str, limit: int) -> None:
    store, inside = known
    of: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for call in inside:
        if call[f"{per}_id"] is not None:
            of[call[f"{per}_id"]].append(call)
    worst = {
        name: max(found)
        for name, calls in of.items()
        if (found := [at for at in (place(call, by) for call in calls) if at is not None])
    }
    rows = all_pages(store, by, per, limit)
    assert [row.name for row in rows] == sorted(worst, key=lambda name: worst[name], reverse=True)
    for row in rows:
        bad = sum(call.get("p_bad", 0) >= 0.5 for call in of[row.name])
        assert (row.value, row.seq) == (worst[row.name][0], worst[row.name][2])
        assert (row.n, row.n_bad) == (len(of[row.name]), bad)


@pytest.mark.parametrize("cursor", ["page-2", "0.5_0.5", "nan_0.5_3", f"0.5_0.5_{2**63}", "0.5_0.5_-1"])
def test_a_cursor_that_is_none_of_ours_is_refused(store: OpenStore, cursor: str) -> None:
    with store.read() as connection, pytest.raises(BadCursor, match="start again"):
        worst_by(connection, 1, SINCE_MS, UNTIL_MS, by="score", per="call", zone=UTC, limit=5, cursor=cursor)
