"""What waits for money and what a late signal brings back, on a real database."""

from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import select

from critic import queue
from critic.queue.deferral import deferred_calls, give_up, move_calls, revive
from critic.queue.rows import NO_BUDGET, NOT_SAMPLED, Finished, Leased, Move, NewScore
from critic.spending.budget import DAY_MS
from ingest.store import OpenStore

PAID = "openai:m"
DAY_0 = 20_000 * DAY_MS


def new(call_seq: int, rubric: str = "tone", **more: Any) -> NewScore:
    return NewScore(call_seq, rubric, f"blob-{rubric}", "view", PAID, **more)


def add(store: OpenStore, *scores: NewScore, now_ms: int = DAY_0) -> None:
    store.write(partial(queue.add_scores, scores=scores, now_ms=now_ms))


def lease(store: OpenStore, now_ms: int, calls_max: int = 100) -> list[Leased]:
    return store.write(partial(queue.lease, critic=PAID, calls_max=calls_max, now_ms=now_ms, lease_ms=1000))


def defer_all(store: OpenStore, now_ms: int = DAY_0) -> None:
    put_off = [
        Finished(row.seq, row.token, "deferred", NO_BUDGET, not_before_ms=now_ms + DAY_MS)
        for row in lease(store, now_ms)
    ]
    store.write(partial(queue.finish, results=put_off, now_ms=now_ms))


def rows(store: OpenStore) -> list[Any]:
    with store.read() as connection:
        return list(connection.execute(select(queue.SCORE).order_by(queue.SCORE.c.seq)).mappings())


def test_what_was_put_off_comes_back_after_the_reset_the_worst_first(store: OpenStore) -> None:
    urgencies = {1: 0.1, 2: 3.2, 3: 1.1, 4: 2.5}
    add(store, *(new(call, rubric, urgency=u) for call, u in urgencies.items() for rubric in ("tone", "fit")))
    defer_all(store)
    with store.read() as connection:
        assert deferred_calls(connection, PAID) == 4
    back = partial(revive, critic=PAID, calls_max=3)
    assert store.write(partial(back, now_ms=DAY_0 + DAY_MS - 1)) == 0, "not on the same day"
    assert store.write(partial(back, now_ms=DAY_0 + DAY_MS)) == 6, "whole calls, both rubrics"
    add(store, new(9, urgency=9.0), now_ms=DAY_0 + DAY_MS)
    order = [row.call_seq for row in lease(store, DAY_0 + DAY_MS)]
    assert order == [2, 2, 4, 4, 3, 3, 9]


def test_after_fourteen_days_it_is_skipped_and_counted(store: OpenStore) -> None:
    add(store, new(1), new(2))
    defer_all(store)
    first = rows(store)[0]["deferred_at_ms"]
    store.write(partial(revive, critic=PAID, calls_max=9, now_ms=DAY_0 + DAY_MS))
    defer_all(store, DAY_0 + DAY_MS)
    assert [row["deferred_at_ms"] for row in rows(store)] == [first, first], "counted from the first time"
    assert store.write(partial(give_up, now_ms=DAY_0 + 14 * DAY_MS - 1)) == 0
    before = max(row["changed"] for row in rows(store))
    assert store.write(partial(give_up, now_ms=DAY_0 + 14 * DAY_MS)) == 2
    assert [(row["status"], row["reason"]) for row in rows(store)] == [
        ("skipped", "no budget within 14 days")
    ] * 2
    assert all(row["changed"] > before for row in rows(store)), "readers that keep up see it"
    assert store.write(partial(give_up, now_ms=DAY_0 + 14 * DAY_MS)) == 0


def down(call_seq: int, **more: Any) -> Move:
    return replace(Move(call_seq, PAID, "thumbs_down", 1.0, 3.0, chosen=True), **more)


def test_a_late_thumbs_down_brings_back_what_was_left_out_put_off_or_not_judged(store: OpenStore) -> None:
    sampled = {"stratum": "usual", "inclusion": 0.1}
    add(
        store,
        new(1, status="skipped", reason=f"{NOT_SAMPLED}: usual", **sampled),
        new(2, status="ungraded", reason="no model read the text"),
        new(3, status="skipped", reason="its critic is no longer configured (LOWLIGHT_CRITIC)"),
        new(4, status="refused", reason="declined"),
        new(5, **sampled),
    )
    (waiting,) = lease(store, DAY_0)
    put_off = Finished(waiting.seq, waiting.token, "deferred", NO_BUDGET, not_before_ms=DAY_0 + DAY_MS)
    store.write(partial(queue.finish, results=[put_off], now_ms=DAY_0))
    moves = [down(call) for call in (1, 2, 3, 4, 5)]
    store.write(partial(move_calls, moves=moves, now_ms=DAY_0 + 7))
    kept = {row["call_seq"]: row for row in rows(store)}
    assert {call: row["status"] for call, row in kept.items()} == {
        1: "pending",
        2: "pending",
        3: "skipped",
        4: "refused",
        5: "pending",
    }
    assert {(row["stratum"], row["inclusion"]) for row in kept.values()} == {("thumbs_down", 1.0)}
    assert sorted(row.call_seq for row in lease(store, DAY_0 + 7)) == [1, 2, 5]


def test_the_same_signal_again_reopens_nothing(store: OpenStore) -> None:
    add(store, new(1, status="ungraded", reason="no model read the text"))
    for now_ms in (DAY_0, DAY_0 + 1):
        store.write(partial(move_calls, moves=[down(1)], now_ms=now_ms))
        again = [
            Finished(row.seq, row.token, "ungraded", "no model read the text") for row in lease(store, now_ms)
        ]
        assert len(again) == (1 if now_ms == DAY_0 else 0)
        store.write(partial(queue.finish, results=again, now_ms=now_ms))


def test_a_move_never_takes_a_call_out_of_the_sample(store: OpenStore) -> None:
    add(store, new(1, stratum="thumbs_down", inclusion=1.0), new(2, stratum="likely", inclusion=0.4))
    to_usual = [replace(down(call), stratum="usual", inclusion=0.1, chosen=False) for call in (1, 2)]
    store.write(partial(move_calls, moves=to_usual, now_ms=DAY_0))
    assert [(row["stratum"], row["inclusion"]) for row in rows(store)] == [
        ("thumbs_down", 1.0),
        ("likely", 0.4),
    ]


def test_an_unhappy_signal_brings_back_only_what_was_left_out_and_is_chosen_now(store: OpenStore) -> None:
    sampled = {"stratum": "usual", "inclusion": 0.1, "status": "skipped", "reason": f"{NOT_SAMPLED}: x"}
    add(store, new(1, **sampled), new(2, **sampled), new(3, status="ungraded", reason="no source"))
    unhappy = replace(down(0), stratum="unhappy", inclusion=0.6)
    moves = [
        replace(unhappy, call_seq=1),
        replace(unhappy, call_seq=2, chosen=False),
        replace(unhappy, call_seq=3, inclusion=1.0),
    ]
    store.write(partial(move_calls, moves=moves, now_ms=DAY_0))
    assert [(row["status"], row["inclusion"]) for row in rows(store)] == [
        ("pending", 0.6),
        ("skipped", 0.6),
        ("ungraded", 1.0),
    ]
