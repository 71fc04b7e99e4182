"""The critic with a daily budget, against a loopback OpenAI: what is asked, put off, left out and paid."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from api.door.drops import ClientDrops
from api.operating.readiness import readiness
from critic import drivers, queue
from critic.process import run_critic
from critic.queue import deferral
from critic.spending import budget
from critic.spending.budget import DAY_MS, Account, account_of, day_of
from critic.spending.money import money_for
from critic.working import purse
from dashboards.queries.freshness import critic_work
from ingest import children
from ingest.children import Child
from ingest.errors import BadSettings, StoreUnavailable
from ingest.settings import Settings
from ingest.store import OpenStore
from tests.providers.loopback import Fault, running
from tests.providers.openai_decisions import DecisionsProvider
from tests.service.critic_runs import (
    OPENAI,
    judge,
    left,
    scores,
    send,
    send_signal,
    with_critics,
    write_rubric,
)
from tests.service.test_critic_process import critic_pid, wait_for

#: One request reserves about a cent (a byte is taken for a token) and costs a fifth of that.
PRICES = """
[[price]]
provider = "openai"
model = "gpt-6-luna"
valid_from = 2020-01-01
input = 1.0
output = 1.0
"""
LONG = "Where is my parcel? " * 400
#: Noon of a day, so that a test never meets a real reset.
NOON_MS = 20_800 * DAY_MS + DAY_MS // 2


@pytest.fixture
def provider() -> Iterator[DecisionsProvider]:
    with running(DecisionsProvider()) as made:
        made.judge = lambda _request, _question: 5.0
        yield made


@pytest.fixture
def paid(settings: Settings, tmp_path: Path, provider: DecisionsProvider, monkeypatch: Any) -> Any:
    """Return settings with a budget."""
    monkeypatch.setattr(purse, "MOMENT_MS", 20)
    write_rubric(tmp_path / "rubrics", "accuracy")
    (tmp_path / "prices.toml").write_text(PRICES)

    def _with(usd: float, **more: Any) -> Settings:
        given = {"prices": tmp_path / "prices.toml", "critic_budget_usd": usd, "critic_uniform_share": 0.0}
        return with_critics(settings, tmp_path / "rubrics", provider, **{**given, **more})

    return _with


def account(store: OpenStore, at_ms: int) -> Account:
    with store.read() as connection:
        return account_of(connection, 1, OPENAI, day_of(at_ms))


def from_(start_ms: int) -> Callable[[], int]:
    """Return a clock that stands at `start_ms` now, and runs."""
    began = time.monotonic()
    return lambda: start_ms + int((time.monotonic() - began) * 1000)


def statuses(store: OpenStore, critic: str = OPENAI) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in scores(store):
        if row["critic"] == critic:
            found[row["status"]] = found.get(row["status"], 0) + 1
    return found


def settled(backlog: queue.Backlog) -> bool:
    return backlog.todo == 0 and backlog.pending == 0


def test_the_budget_is_never_exceeded_and_what_is_put_off_is_scored_after_the_reset(
    paid: Any, store: OpenStore, provider: DecisionsProvider
) -> None:
    held = paid(0.05)
    provider.answer_s = 0.02
    for i in range(40):
        send(store, held, {"id": f"c{i}", "input": LONG})
        send_signal(store, held, id=f"s{i}", call_id=f"c{i}", kind="thumbs_down")
    judge(held, store, until=settled, clock_ms=from_(NOON_MS))
    spent = account(store, NOON_MS)
    by_status = statuses(store)
    assert by_status["scored"] == len(provider.requests) == spent.requests
    assert 0 < by_status["deferred"] < 40
    paid_for = sum(row["cost_usd"] for row in scores(store) if row["status"] == "scored")
    assert paid_for == pytest.approx(spent.spent_usd)
    assert spent.spent_usd <= 0.05, "hard"
    assert spent.spent_usd > 0.03, "and used"
    assert spent.reserved_usd == pytest.approx(0.0, abs=1e-12)
    put_off = next(row for row in scores(store) if row["status"] == "deferred")
    assert put_off["reason"].startswith("no budget today: it can cost $0.0")
    assert put_off["not_before_ms"] == (day_of(NOON_MS) + 1) * DAY_MS
    day, asked = NOON_MS, len(provider.requests)
    while statuses(store).get("deferred"):
        day += DAY_MS
        judge(
            held,
            store,
            # First what is due, then what waits: between the two it can only have become less.
            until=lambda _before, day=day: not _due(store, held, day) and settled(left(store)),
            clock_ms=from_(day),
        )
        assert account(store, day).spent_usd <= 0.05
        assert len(provider.requests) > asked, "each day some more"
        asked = len(provider.requests)
    assert statuses(store) == {"scored": 40}
    assert len(provider.requests) == 40, "nothing twice"


def _due(store: OpenStore, settings: Settings, now_ms: int) -> bool:
    """Whether something deferred could still be taken up today."""
    due = sum(row["status"] == "deferred" and row["not_before_ms"] <= now_ms for row in scores(store))
    return due > 0


def test_a_sample_is_judged_the_rest_is_skipped_and_the_local_critic_sees_all(
    paid: Any, store: OpenStore, provider: DecisionsProvider
) -> None:
    held = paid(0.2, critic=f"{OPENAI},local", critic_uniform_share=0.5)
    send(store, held, *({"id": f"c{i}", "input": LONG} for i in range(150)))
    judge(held, store, until=settled, clock_ms=from_(NOON_MS))
    by_status = statuses(store)
    assert by_status["skipped"] > 20
    assert by_status["scored"] == len(provider.requests) > 5
    assert sum(statuses(store, "local").values()) == 150, "it costs nothing and is never sampled"
    ours = [row for row in scores(store) if row["critic"] == OPENAI]
    assert all(0 < row["inclusion"] < 1 for row in ours)
    left_out = next(row for row in ours if row["status"] == "skipped")
    assert left_out["reason"].startswith("not sampled: the budget is for ")
    assert {row["inclusion"] for row in scores(store) if row["critic"] == "local"} == {1.0}
    with store.read() as connection:
        counted = connection.execute(text("select sum(calls), sum(chosen) from sample_count")).one()
    assert tuple(counted) == (150, 150 - by_status["skipped"])

    send_signal(store, held, id="late", call_id=left_out["call_id"], kind="thumbs_down")
    # On another day: of this one's money there may be too little left to reserve.
    judge(held, store, until=settled, clock_ms=from_(NOON_MS + DAY_MS))
    (moved,) = [
        row for row in scores(store) if row["call_id"] == left_out["call_id"] and row["critic"] == OPENAI
    ]
    assert (moved["status"], moved["stratum"], moved["inclusion"]) == ("scored", "thumbs_down", 1.0)


def test_a_budget_for_everything_samples_nothing(
    paid: Any, store: OpenStore, provider: DecisionsProvider
) -> None:
    held = paid(1000.0, critic_uniform_share=0.2)
    send(store, held, *({"id": f"c{i}"} for i in range(30)))
    judge(held, store, until=settled, clock_ms=from_(NOON_MS))
    assert statuses(store) == {"scored": 30}
    assert {row["inclusion"] for row in scores(store)} == {1.0}


def test_a_budget_of_nothing_asks_nothing(paid: Any, store: OpenStore, provider: DecisionsProvider) -> None:
    held = paid(0.0)
    send(store, held, {"id": "c"})
    send_signal(store, held, id="s", call_id="c", kind="thumbs_down")
    judge(held, store, until=settled, clock_ms=from_(NOON_MS))
    assert provider.requests == []
    assert statuses(store) == {"deferred": 1}


def test_readiness_warns_of_a_budget_that_is_spent_for_today_and_stays_ready(
    paid: Any, store: OpenStore
) -> None:
    held = paid(0.0)
    assert readiness(store, {}, ClientDrops())["warnings"] == []
    send(store, held, {"id": "c"})
    send_signal(store, held, id="s", call_id="c", kind="thumbs_down")
    judge(held, store, until=settled)
    state = readiness(store, {}, ClientDrops())
    assert state["ready"]
    assert state["critic"]["out_of_money"] == [OPENAI]
    (warning,) = state["warnings"]
    assert warning.startswith(f"The budget of {OPENAI} is spent for today")
    with store.read() as connection:
        tomorrow_ms = time.time_ns() // 1_000_000 + DAY_MS
        assert critic_work(connection, tomorrow_ms).out_of_money == ()


def test_an_answer_without_usage_is_booked_in_full(
    paid: Any, store: OpenStore, provider: DecisionsProvider
) -> None:
    levels = [{"label": str(i), "probability": float(i == 4), "value": i - 1} for i in range(1, 8)]
    answer = {"type": "score", "name": "accuracy", "confidence": 1.0, "score": 3.0, "probabilities": levels}
    provider.faults.append(Fault(body={"answers": [answer], "model": "gpt-6-luna", "usage": None}))
    held = paid(1.0)
    send(store, held, {"id": "c"})
    judge(held, store, until=settled, clock_ms=from_(NOON_MS))
    (row,) = scores(store)
    assert (row["status"], row["cost_usd"]) == ("scored", None), "unknown, and never 0"
    booked = account(store, NOON_MS)
    assert booked.spent_usd == booked.in_doubt_usd > 0.0005


def test_a_hang_is_booked_in_full_and_a_429_is_not(
    paid: Any, store: OpenStore, provider: DecisionsProvider
) -> None:
    provider.faults.extend([Fault(429, "rate_limit_exceeded"), Fault(hang_s=6.0)])
    held = paid(1.0, critic_timeout_s=2.5)
    send(store, held, {"id": "c"})
    judge(held, store, until=settled)
    booked = account(store, time.time_ns() // 1_000_000)
    assert statuses(store) == {"scored": 1}
    (row,) = scores(store)
    assert booked.requests == 2, "the one that hung and the one that was answered"
    assert booked.spent_usd == pytest.approx(booked.in_doubt_usd + row["cost_usd"])


def test_a_budget_for_a_critic_whose_price_is_unknown_is_refused(paid: Any, tmp_path: Path) -> None:
    nameless = paid(1.0, critic="openai:gpt-unheard-of")
    with pytest.raises(BadSettings, match=r"price of openai:gpt-unheard-of is not known.*LOWLIGHT_PRICES"):
        money_for(nameless, drivers.build(nameless), NOON_MS)
    for_another = paid({OPENAI: 1.0}, critic=f"{OPENAI},openai:gpt-unheard-of")
    assert set(money_for(for_another, drivers.build(for_another), NOON_MS).budgets) == {OPENAI}
    misspelt = paid({"openai:gpt-6-lunar": 1.0})
    with pytest.raises(BadSettings, match=r"'openai:gpt-6-lunar' is not in LOWLIGHT_CRITIC"):
        money_for(misspelt, drivers.build(misspelt), NOON_MS)
    assert (
        money_for(paid(1.0, critic="local"), drivers.build(paid(1.0, critic="local")), NOON_MS).budgets == {}
    )


class Deadly:
    """A store that kills the worker around chosen writes, once each, in this order."""

    def __init__(self, store: OpenStore, moments: list[tuple[Callable[..., Any], str]]) -> None:
        self._store = store
        self.moments = moments

    def write(self, job: Any) -> Any:
        """Do the job; kill whoever asked before or after it where that is the next moment."""
        wanted = job.func if hasattr(job, "func") else None
        whole = wanted is not queue.settle or bool(job.keywords["finished"])
        if not self.moments or wanted is not self.moments[0][0] or not whole:
            return self._store.write(job)
        _func, when = self.moments[0]
        if when == "after":
            result = self._store.write(job)
            if wanted in (queue.lease, budget.reserve) and not result:
                return result  # nothing was in it
        self.moments.pop(0)
        os.kill(critic_pid(), signal.SIGKILL)
        raise StoreUnavailable("killed")


@pytest.mark.usefixtures("warm_children")
def test_kill_9_around_any_write_loses_and_doubles_no_score_and_keeps_to_the_budget(
    paid: Any, store: OpenStore, provider: DecisionsProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each commit that the worker never heard of, and between an answer and its commit."""
    monkeypatch.setattr(children, "RESTART_PAUSE_MIN_S", 0.05)
    monkeypatch.setattr(children, "RESTART_PAUSE_MAX_S", 0.05)
    held = paid(1.0, critic_in_flight_max=4)
    send(store, held, *({"id": f"c{i}", "input": LONG} for i in range(12)))
    deadly = Deadly(
        store,
        [
            (deferral.take_sampled, "after"),
            (queue.lease, "after"),
            (budget.reserve, "after"),
            (queue.settle, "before"),
            (queue.settle, "after"),
        ],
    )
    child = Child("critic", run_critic, held, deadly)  # type: ignore[arg-type]
    try:
        wait_for(lambda: not deadly.moments, "five deaths", 120)
        wait_for(lambda: left(store).todo + left(store).pending == 0, "everything is scored")
    finally:
        child.stop()
    kept = scores(store)
    assert len({row["call_id"] for row in kept}) == len(kept) == 12
    assert {(row["status"], row["score"]) for row in kept} == {("scored", 5.0)}
    booked = account(store, time.time_ns() // 1_000_000)
    assert booked.reserved_usd == pytest.approx(0.0, abs=1e-12)
    known = sum(row["cost_usd"] for row in kept)
    assert booked.spent_usd >= known, "what was asked twice is paid for twice, and counted"
    assert booked.in_doubt_usd > 0
    assert booked.spent_usd <= 1.0
    each = known / 12
    assert booked.spent_usd >= each * len(provider.requests) - 1e-9, "nothing that was asked is missing"
