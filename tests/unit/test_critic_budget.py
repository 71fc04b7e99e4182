"""Accounts and reservations on a real database: a budget is never exceeded, whatever dies in between."""

from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, func, select
from sqlmodel import SQLModel

from critic.spending.budget import (
    DAY_MS,
    RESERVATION,
    SAMPLE,
    Account,
    Budget,
    NoRoom,
    Reserved,
    Spend,
    Wanted,
    account_of,
    count_sampled,
    reserve,
    settle_dead,
    settle_spends,
)
from ingest.store import OpenStore

CRITIC = "openai:m"
BUDGETS = {CRITIC: Budget(1.0, 0.2)}


def hold(store: OpenStore, *usd: float, uniform: bool = False, now_ms: int = 0) -> list[Reserved | NoRoom]:
    wanted = [Wanted(1, CRITIC, each, uniform) for each in usd]
    return store.write(
        partial(reserve, wanted=wanted, budgets=BUDGETS, now_ms=now_ms, until_ms=now_ms + 1000)
    )


def settle(store: OpenStore, usd: float | None, held: Any, now_ms: int = 0) -> None:
    spend = Spend(1, CRITIC, usd, held)
    store.write(partial(settle_spends, spends=[spend], now_ms=now_ms))


def account(store: OpenStore, day: int = 0) -> Account:
    with store.read() as connection:
        return account_of(connection, 1, CRITIC, day)


def test_money_is_held_before_and_given_back_after(store: OpenStore) -> None:
    (held,) = hold(store, 0.5)
    assert account(store).reserved_usd == pytest.approx(0.5)
    settle(store, 0.1, held)
    after = account(store)
    assert (after.spent_usd, after.reserved_usd, after.requests) == (pytest.approx(0.1), 0.0, 1)


def test_what_is_only_reserved_stands_in_the_way_for_a_moment_and_what_is_spent_for_the_day(
    store: OpenStore,
) -> None:
    (held, later) = hold(store, 0.6, 0.6)
    assert isinstance(held, Reserved)
    assert later == NoRoom(today=False, left_usd=pytest.approx(0.8))
    settle(store, 0.6, held)
    (never,) = hold(store, 0.6)
    assert never == NoRoom(today=True, left_usd=pytest.approx(0.2))
    (tomorrow,) = hold(store, 0.6, now_ms=DAY_MS)
    assert isinstance(tomorrow, Reserved)


def test_the_uniform_part_is_kept_for_the_uniform_sample(store: OpenStore) -> None:
    forced = hold(store, 0.8, 0.05)
    assert [isinstance(answer, Reserved) for answer in forced] == [True, False]
    uniform = hold(store, 0.15, 0.1, uniform=True)
    assert [isinstance(answer, Reserved) for answer in uniform] == [True, False], "the whole is the limit"
    assert isinstance(hold(store, 0.0)[0], Reserved)


def test_a_smaller_one_goes_where_a_larger_one_does_not_fit(store: OpenStore) -> None:
    answers = hold(store, 0.5, 0.5, 0.2)
    assert [isinstance(answer, Reserved) for answer in answers] == [True, False, True]


def test_a_dead_workers_reservation_is_settled_in_full_and_once(store: OpenStore) -> None:
    (held, alive) = hold(store, 0.25, 0.25)
    assert isinstance(alive, Reserved)
    settle(store, 0.01, alive)
    assert store.write(partial(settle_dead, now_ms=999)) == 0.0, "not before its lease has ended"
    assert store.write(partial(settle_dead, now_ms=1000)) == pytest.approx(0.25)
    assert store.write(partial(settle_dead, now_ms=None)) == 0.0
    settle(store, 0.02, held)  # the dead one comes back
    after = account(store)
    assert after.spent_usd == pytest.approx(0.26)
    assert after.in_doubt_usd == pytest.approx(0.25)
    assert after.reserved_usd == pytest.approx(0.0)


def test_a_cost_that_nobody_knows_is_booked_in_full_where_money_was_held(store: OpenStore) -> None:
    (held,) = hold(store, 0.25)
    settle(store, None, held)
    settle(store, None, None)
    after = account(store)
    assert (after.spent_usd, after.in_doubt_usd) == (pytest.approx(0.25), pytest.approx(0.25))
    assert (after.requests, after.requests_unpriced) == (2, 1), "without a budget it is counted as unpriced"


def test_projects_and_critics_have_their_own_accounts(store: OpenStore) -> None:
    two = {CRITIC: Budget(1.0, 0.0), "anthropic:m": Budget(1.0, 0.0)}
    wanted = [
        Wanted(1, CRITIC, 0.9, False),
        Wanted(2, CRITIC, 0.9, False),
        Wanted(1, "anthropic:m", 0.9, False),
    ]
    answers = store.write(partial(reserve, wanted=wanted, budgets=two, now_ms=0, until_ms=1))
    assert all(isinstance(answer, Reserved) for answer in answers)
    assert account(store).reserved_usd == pytest.approx(0.9)


def test_a_settlement_counts_on_the_day_of_its_reservation(store: OpenStore) -> None:
    (held,) = hold(store, 0.5, now_ms=DAY_MS - 1)
    settle(store, 0.4, held, now_ms=DAY_MS + 5)
    assert account(store, 0).spent_usd == pytest.approx(0.4)
    assert account(store, 1) == Account()


def test_samples_are_counted_by_day_and_stratum(store: OpenStore) -> None:
    for _ in range(2):
        store.write(partial(count_sampled, counts={(1, CRITIC, "usual"): (10, 3)}, now_ms=5))
    with store.read() as connection:
        assert connection.execute(select(SAMPLE.c.calls, SAMPLE.c.chosen)).all() == [(20, 6)]


_USD = st.floats(0, 0.4, allow_nan=False)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("hold"), _USD, st.booleans()),
        st.tuples(st.just("settle"), st.floats(0, 1), st.integers(0, 50)),
        st.tuples(st.just("die"), _USD, st.booleans()),
    ),
    max_size=40,
)


@given(_STEPS)
@hypothesis_settings(max_examples=60, deadline=None)
def test_no_order_of_holding_settling_and_dying_exceeds_the_budget(
    steps: list[tuple[str, float, int | bool]],
) -> None:
    """Each judgement costs at most what was held for it; the sum never passes the budget."""
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        SQLModel.metadata.create_all(connection)
        open_: list[Reserved] = []
        paid = 0.0
        for kind, number, choice in steps:
            if kind == "hold":
                one = Wanted(1, CRITIC, number, bool(choice))
                (answer,) = reserve(connection, [one], budgets=BUDGETS, now_ms=0, until_ms=10)
                if isinstance(answer, Reserved):
                    open_.append(answer)
            elif kind == "settle" and open_:
                held = open_.pop(int(choice) % len(open_))
                paid += number * held.usd
                settle_spends(connection, [Spend(1, CRITIC, number * held.usd, held)], now_ms=0)
            elif kind == "die":
                settle_dead(connection, now_ms=None)
                paid += sum(held.usd for held in open_)
                open_.clear()
            now = account_of(connection, 1, CRITIC, 0)
            assert paid <= now.spent_usd + 1e-9
            assert now.spent_usd + now.reserved_usd <= 1.0 + 1e-6
            assert now.spent_usd - now.uniform_spent_usd <= 0.8 + 1e-6, "the uniform part is not touched"
            _as_reserved(connection, now)


def _as_reserved(connection: Connection, now: Account) -> None:
    held = connection.scalar(select(func.coalesce(func.sum(RESERVATION.c.usd), 0.0)))
    assert held == pytest.approx(now.reserved_usd, abs=1e-9)
