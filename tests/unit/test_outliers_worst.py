"""Who had it worst: the order of the lists, their pages, and what is counted beside them."""

import random
from collections import defaultdict
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import event, insert

from ingest.settings import Settings
from ingest.store import OpenStore
from ingest.tables import columns
from outliers.errors import BadCursor
from outliers.experience.refresh import refresh_experience
from outliers.tables import Experience
from outliers.weeks import week_by_id
from outliers.worst import experience_of, worst_calls, worst_sessions, worst_users
from tests.rows import HOUR_MS, put_calls

UTC = ZoneInfo("UTC")
WEEK = week_by_id("2026-W46", UTC)
DAY_MS = 24 * HOUR_MS
#: Wednesday of the week before to Wednesday of the week after: three weeks are touched.
SINCE_MS, UNTIL_MS = WEEK.since_ms - 100 * HOUR_MS, WEEK.until_ms + 60 * HOUR_MS


@pytest.fixture
def ranked(store: OpenStore) -> tuple[OpenStore, list[dict[str, Any]]]:
    """900 calls over four weeks with random P(bad), many alike, of sixty users; some without one."""
    source = random.Random(5)
    sent = [
        {
            "seq": seq,
            "started_at_ms": WEEK.since_ms + source.randrange(-14 * 24, 14 * 24) * HOUR_MS,
            "user_id": f"u{source.randrange(60)}" if source.random() < 0.9 else None,
            "session_id": f"s{source.randrange(200)}" if source.random() < 0.8 else None,
            "p_bad": round(source.random() ** 3, 1),
        }
        for seq in range(1, 901)
    ]
    store.write(partial(put_calls, calls=[{**call, "latency_ms": None} for call in sent]))
    rows = [
        {
            "call_seq": call["seq"],
            "project_id": 1,
            "week": f"2026-W{46 + (call['started_at_ms'] - WEEK.since_ms) // (168 * HOUR_MS)}",
            "p_bad": call["p_bad"],
            "parts": {},
        }
        for call in sent
    ]
    store.write(lambda connection: connection.execute(insert(columns(Experience)), rows))
    inside = [call for call in sent if SINCE_MS <= call["started_at_ms"] < UNTIL_MS]
    return store, inside


def all_pages(store: OpenStore, worst_of: Any, limit: int) -> list[Any]:
    rows: list[Any] = []
    cursor = None
    while True:
        with store.read() as connection:
            page = worst_of(connection, 1, SINCE_MS, UNTIL_MS, zone=UTC, limit=limit, cursor=cursor)
        rows += page.rows
        assert len(page.rows) <= limit
        cursor = page.cursor
        if cursor is None:
            return rows


@pytest.mark.parametrize("limit", [7, 50, 1000])
def test_pages_of_calls_are_the_whole_order_cut(ranked: Any, limit: int) -> None:
    store, inside = ranked
    expected = sorted(inside, key=lambda call: (-call["p_bad"], -call["seq"]))
    assert [call.seq for call in all_pages(store, worst_calls, limit)] == [call["seq"] for call in expected]


@pytest.mark.parametrize("limit", [4, 25, 1000])
@pytest.mark.parametrize(("worst_of", "key"), [(worst_users, "user_id"), (worst_sessions, "session_id")])
def test_a_person_is_ranked_by_the_worst_of_their_calls_and_listed_once(
    ranked: Any, worst_of: Any, key: str, limit: int
) -> None:
    store, inside = ranked
    of: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for call in inside:
        if call[key] is not None:
            of[call[key]].append(call)
    worst = {name: max((call["p_bad"], call["seq"]) for call in calls) for name, calls in of.items()}
    rows = all_pages(store, worst_of, limit)
    assert [getattr(row, key) for row in rows] == sorted(of, key=lambda name: worst[name], reverse=True)
    for row in rows:
        calls = of[getattr(row, key)]
        assert (row.n, row.n_bad) == (len(calls), sum(call["p_bad"] >= 0.5 for call in calls))
        assert (row.p_bad, row.worst.seq) == worst[getattr(row, key)]


def test_a_cursor_that_is_none_of_ours_is_refused(store: OpenStore) -> None:
    with store.read() as connection, pytest.raises(BadCursor, match="start again"):
        worst_calls(connection, 1, SINCE_MS, UNTIL_MS, zone=UTC, cursor="page-2")


def test_a_call_that_is_not_ranked_yet_has_no_experience(store: OpenStore, settings: Settings) -> None:
    store.write(partial(put_calls, calls=[{"started_at_ms": WEEK.since_ms, "user_id": "u1"}]))
    with store.read() as connection:
        assert experience_of(connection, 1, "call-1") is None
    refresh_experience(store, settings)
    with store.read() as connection:
        call = experience_of(connection, 1, "call-1")
        [user] = worst_users(connection, 1, WEEK.since_ms, WEEK.until_ms, zone=UTC).rows
        assert worst_users(connection, 2, WEEK.since_ms, WEEK.until_ms, zone=UTC).rows == ()
    assert call is not None
    assert (user.worst, user.first_seen_at_ms) == (call, WEEK.since_ms)


@pytest.mark.parametrize("worst_of", [worst_calls, worst_users, worst_sessions])
def test_a_window_of_decades_asks_no_more_of_the_database(
    ranked: tuple[OpenStore, list[dict[str, Any]]], worst_of: Any
) -> None:
    store, _inside = ranked
    asked: list[str] = []
    with store.read() as connection:
        month = worst_of(connection, 1, WEEK.since_ms - 15 * DAY_MS, WEEK.until_ms + 8 * DAY_MS, zone=UTC)
        event.listen(connection, "before_cursor_execute", lambda *sent: asked.append(sent[2]))
        decades = worst_of(connection, 1, 0, 7_000_000_000_000, zone=UTC)
    assert decades == month
    assert len(asked) < 30
