"""The critic as a process: killed at any moment it loses and doubles no score; its bugs are bounded."""

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from critic import queue
from critic.drivers.base import Answer, Case, Usage, Verdict
from critic.drivers.local import LocalDriver
from critic.local import LocalCritic
from critic.process import run_critic
from critic.queue.plan import Plan
from critic.queue.work import Work
from critic.working.refit import Refitting, is_due, newest_fit
from critic.working.taking import Taking
from ingest.children import Child
from ingest.settings import Settings
from ingest.store import OpenStore
from tests.providers.loopback import Fault, running
from tests.providers.openai_decisions import DecisionsProvider
from tests.service.critic_runs import judge, left, scores, send, with_critics, write_rubric


@pytest.fixture
def provider() -> Iterator[DecisionsProvider]:
    with running(DecisionsProvider()) as made:
        yield made


@pytest.fixture
def rubrics_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "rubrics"
    write_rubric(folder, "accuracy")
    write_rubric(folder, "tone", view="{{ output }}", more='{% set visible = ["rude"] %}')
    return folder


def wait_for(condition: Callable[[], bool], what: str, wait_s: float = 90.0) -> None:
    until_s = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < until_s, f"not within {wait_s} s: {what}"
        time.sleep(0.02)


def critic_pid() -> int:
    (child,) = [child for child in multiprocessing.active_children() if child.name == "lowlight-critic"]
    assert child.pid is not None
    return child.pid


def test_kill_9_in_the_middle_loses_and_doubles_no_score(
    settings: Settings, store: OpenStore, provider: DecisionsProvider, rubrics_dir: Path
) -> None:
    provider.answer_s = 0.1
    provider.judge = lambda _request, _question: 5.0
    few_at_once = with_critics(settings, rubrics_dir, provider, critic_in_flight_max=4)
    send(store, few_at_once, *({"output": f"OUTPUT {i}."} for i in range(30)))
    child = Child("critic", run_critic, few_at_once, store)
    try:
        wait_for(lambda: len(provider.requests) >= 12, "12 requests")
        os.kill(critic_pid(), signal.SIGKILL)
        killed_at = len(provider.requests)
        wait_for(lambda: left(store).todo + left(store).pending == 0, "everything is scored")
    finally:
        child.stop()
    assert len(provider.requests) > killed_at, "it was killed before it was done"
    kept = scores(store)
    assert len({(row["call_id"], row["rubric"]) for row in kept}) == len(kept) == 60
    assert {(row["status"], row["score"]) for row in kept} == {("scored", 5.0)}
    asked_twice = len(provider.requests) - 60
    assert 0 <= asked_twice <= 12, "only what was in flight or not yet written is paid for twice"


@pytest.mark.usefixtures("warm_children")
def test_told_to_stop_it_finishes_what_it_has_in_hand(
    settings: Settings, store: OpenStore, provider: DecisionsProvider, rubrics_dir: Path
) -> None:
    provider.answer_s = 0.4
    few_at_once = with_critics(settings, rubrics_dir, provider, critic_in_flight_max=4)
    send(store, few_at_once, *({} for _ in range(20)))
    child = Child("critic", run_critic, few_at_once, store)
    wait_for(lambda: provider.in_flight == 4, "four in flight")
    child.stop()
    kept = scores(store)
    assert sum(row["status"] == "scored" for row in kept) == len(provider.requests)
    assert sum(row["attempts"] for row in kept) == len(provider.requests), "what was not begun is uncounted"
    assert all(row["lease_token"] is None for row in kept), "and free for whoever comes next"


@pytest.mark.usefixtures("warm_children")
def test_without_a_critic_the_process_waits_and_keeps_the_work(settings: Settings, store: OpenStore) -> None:
    send(store, settings, {})
    child = Child("critic", run_critic, settings, store)
    wait_for(lambda: child.alive, "the process runs")
    child.stop()
    assert left(store).todo == 1


def test_two_workers_on_one_database_ask_about_no_call_twice(
    settings: Settings, store: OpenStore, provider: DecisionsProvider, rubrics_dir: Path
) -> None:
    provider.answer_s = 0.03
    provider.judge = lambda _request, _question: 5.0
    few_at_once = with_critics(settings, rubrics_dir, provider, critic_in_flight_max=3)
    send(store, few_at_once, *({"output": f"OUTPUT {i}."} for i in range(20)))
    with ThreadPoolExecutor(2) as workers:
        for left_over in workers.map(lambda _n: judge(few_at_once, store), range(2)):
            assert left_over.pending == 0
    kept = scores(store)
    assert len({(row["call_id"], row["rubric"]) for row in kept}) == len(kept) == 40
    assert {(row["status"], row["attempts"]) for row in kept} == {("scored", 1)}
    assert len(provider.requests) == 40, "the leases kept them apart"
    assert len({row["changed"] for row in kept}) == 40, "whoever reads on from the largest misses none"


def test_a_clock_set_back_by_an_hour_holds_nothing_up(
    settings: Settings, store: OpenStore, provider: DecisionsProvider, rubrics_dir: Path
) -> None:
    """While leases are out and retries wait: their ends were written by the clock of before."""
    back_ms = 0
    provider.judge = lambda _request, _question: 5.0
    provider.answer_s = 0.1
    provider.faults.extend([None, Fault(429), Fault(500)])
    provider.fault_for = lambda _request: set_back() if len(provider.requests) == 4 else None

    def set_back() -> None:
        nonlocal back_ms
        back_ms = 3_600_000

    few_at_once = with_critics(settings, rubrics_dir, provider, critic_in_flight_max=2)
    send(store, few_at_once, *({"output": f"OUTPUT {i}."} for i in range(8)))
    judge(few_at_once, store, clock_ms=lambda: time.time_ns() // 1_000_000 - back_ms)
    assert back_ms
    kept = scores(store)
    assert [row["status"] for row in kept] == ["scored"] * 16
    assert len({(row["call_id"], row["rubric"]) for row in kept}) == 16


class Buggy:
    """A driver that raises what no driver should, for calls whose output says so."""

    name = "buggy"
    leaves_machine = False
    reads_view = False
    asks_together = True
    view_chars_max = 0
    limits = None

    def at_most(self, case: Case) -> Usage:
        return Usage(0, 0)

    async def judge(self, case: Case) -> Sequence[Verdict]:
        await asyncio.sleep(0.01)
        if "POISON" in case.call.output:
            raise ZeroDivisionError("a bug")
        return [Answer((0, 0, 0, 1, 0, 0, 0)) for _rubric in case.rubrics]

    async def close(self) -> None:
        """Nothing is open."""


def test_a_bug_ends_the_worker_and_the_call_that_met_it_fails_in_the_end(
    settings: Settings, store: OpenStore, rubrics_dir: Path
) -> None:
    """However often the worker is started again; its neighbours in hand are scored all the same."""
    settings = with_critics(settings, rubrics_dir, None)
    send(store, settings, {"output": "POISON"}, *({} for _ in range(5)))
    ended = 0
    for _start in range(queue.ATTEMPTS_MAX + 3):
        try:
            judge(settings, store, configured=[Buggy()])
            break
        except* ZeroDivisionError:
            ended += 1
    kept = scores(store)
    assert ended >= queue.ATTEMPTS_MAX
    poisoned = [row for row in kept if row["call_id"] == "call-0"]
    assert {row["status"] for row in poisoned} == {"failed"}
    assert "ZeroDivisionError: a bug" in poisoned[0]["reason"]
    assert {row["status"] for row in kept if row["call_id"] != "call-0"} == {"scored"}


@pytest.mark.parametrize(
    ("seen", "at_last_fit", "due"),
    [
        (199, 0, False),
        (200, 0, True),
        (999, 200, False),
        (1_000, 200, True),
        (1_000, 999, True),
        (1_999, 1_000, False),
        (2_000, 1_000, True),
        (3_999, 2_500, False),
        (70_000, 2_500, True),
        (70_000, 64_000, False),
        (150, 70_000, False),
    ],
)
def test_the_guard_is_refitted_at_200_at_1000_and_at_each_doubling(
    seen: int, at_last_fit: int, due: bool
) -> None:
    assert is_due(seen, at_last_fit) is due


def test_a_refit_is_kept_and_read_with_from_then_on(
    settings: Settings, store: OpenStore, rubrics_dir: Path
) -> None:
    settings = with_critics(settings, rubrics_dir, None)
    cities = ("Oslo", "Lima", "Cairo", "Pune", "Perth")
    answers = (
        {
            "input": f"When does train {i} leave for {cities[i % 5]}?",
            "output": f"Train {i} leaves for {cities[i % 5]} at {i % 24}:30 from platform {i % 9}.",
        }
        for i in range(210)
    )
    send(store, settings, *answers)
    local = LocalDriver(settings.base_rate)
    judge(settings, store, configured=[local])
    assert "shipped" in local.critic.version

    async def _refit() -> None:
        work = Work(store, Plan([local], (), ""))
        taking = Taking(work, local, poll_s=1.0)
        taking.outputs_read = 210
        refitting = Refitting(work, taking, local, settings.base_rate)
        await refitting.begin()
        assert await refitting.refit_if_due()
        assert not await refitting.refit_if_due(), "once a threshold"

    asyncio.run(_refit())
    assert "own 210" in local.critic.version
    with store.read() as connection:
        model, seen = newest_fit(connection)
    assert seen == 210
    assert LocalCritic(settings.base_rate, model).version == local.critic.version
