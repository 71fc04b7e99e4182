"""`lowlight rescore --batch`: each old call asked once by the provider's batch endpoint, whatever goes wrong.

Real store, real worker, real SDKs against loopback batch endpoints of both kinds.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from critic.process import run_critic
from ingest.children import Child
from ingest.settings import Settings
from tests.providers.batches import ChatBatches, MessageBatches
from tests.providers.loopback import Fault, running
from tests.service.batch_runs import CALLS, NOT_MEANWHILE, SOON, Asking, asking
from tests.service.critic_runs import scores


@pytest.fixture(params=["chat-draws", "anthropic"])
def old_calls(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Iterator[Asking]:
    provider = MessageBatches() if request.param == "anthropic" else ChatBatches()
    with running(provider):
        made = asking(request.param, settings, tmp_path, provider)
        yield made
        made.store.close()


def test_old_calls_go_in_one_batch_and_come_back_as_scores(old_calls: Asking) -> None:
    """Results come in reverse order; what was asked is what a direct request would have been."""
    each = old_calls.rescore(dry_run=True, batch=False).cost_usd_each
    page = old_calls.rescore()
    assert (page.made, page.batch_factor) == (CALLS, 0.5)
    assert each is not None
    assert page.cost_usd_each == pytest.approx(each / 2), "the estimate is half price"
    left = old_calls.work()

    assert left.pending == 0
    rows = old_calls.new_rows()
    assert [row["status"] for row in rows] == ["scored"] * CALLS
    assert {(row["score"], row["draws"], row["critic"]) for row in rows} == {(6.0, 3, old_calls.critic)}
    assert (old_calls.sent, len(old_calls.provider.kept[0].requests)) == (1, CALLS * old_calls.draws)
    assert old_calls.provider.requests == [], "nothing was asked one by one"
    direct = [row["cost_usd"] for row in scores(old_calls.store) if row["seq"] <= CALLS]
    assert sum(row["cost_usd"] for row in rows) == pytest.approx(sum(direct) / 2, rel=0.02)
    assert {row["answer_ms"] for row in rows} == {None}
    assert old_calls.rescore(dry_run=True, batch=False).cost_usd_each == pytest.approx(each, rel=0.02), (
        "answers that came by batch do not make the estimate of direct ones cheaper"
    )
    (batch,) = old_calls.sql("select status, provider_id, reason from critic_batch")
    assert batch == ("ended", old_calls.provider.kept[0].id, f"{CALLS} answers kept, 0 to ask again")
    assert "delete" in old_calls.provider.asked, "the texts do not stay at the provider"
    assert old_calls.rescore(dry_run=True).to_ask == 0


def test_a_request_that_failed_is_sent_again_and_one_that_cannot_be_is_told(old_calls: Asking) -> None:
    """Of four calls: all draws of the first fail once, one draw of the second, the third is no request."""
    draws = old_calls.draws

    def wrong(place: int) -> str | None:
        if old_calls.sent > 1:
            return None
        if place < draws or place == 2 * draws - 1:
            return "errored"
        return "invalid" if 2 * draws <= place < 3 * draws else None

    old_calls.provider.line_fault = wrong
    old_calls.rescore()
    old_calls.work()
    rows = old_calls.new_rows()
    assert [row["status"] for row in rows] == ["scored", "scored", "failed", "scored"]
    assert [row["draws"] for row in rows] == [3, 2, None, 3], "two draws of three are an answer"
    assert [row["attempts"] for row in rows] == [2, 1, 1, 1]
    assert "as programmed" in rows[2]["reason"]
    assert [len(batch.requests) for batch in old_calls.provider.kept] == [CALLS * draws, draws]


def test_requests_that_expire_each_time_end_as_failed(old_calls: Asking) -> None:
    old_calls.provider.line_fault = lambda _place: "expired"
    old_calls.provider.ends_as = "expired"
    old_calls.rescore()
    old_calls.work()
    rows = old_calls.new_rows()
    assert [row["status"] for row in rows] == ["failed"] * CALLS
    assert {row["reason"] for row in rows} == {
        "given up after 3 batches; the last: the batch expired before it was asked"
    }
    assert old_calls.sent == 3


def test_a_batch_that_somebody_cancelled_is_not_sent_again(old_calls: Asking) -> None:
    old_calls.provider.line_fault = lambda place: "canceled" if place >= old_calls.draws else None
    old_calls.provider.ends_as = "cancelled"
    old_calls.rescore()
    old_calls.work()
    assert [row["status"] for row in old_calls.new_rows()] == ["scored", "failed", "failed", "failed"]
    assert old_calls.sent == 1


def test_lines_that_come_twice_count_and_cost_once(old_calls: Asking) -> None:
    old_calls.provider.twice = True
    before_usd, _ = old_calls.spent()
    old_calls.rescore()
    old_calls.work()
    rows = old_calls.new_rows()
    assert {(row["status"], row["draws"]) for row in rows} == {("scored", 3)}
    assert old_calls.spent()[0] - before_usd == pytest.approx(sum(row["cost_usd"] for row in rows))


def test_a_provider_that_is_down_is_asked_again(old_calls: Asking) -> None:
    faults = old_calls.provider.batch_faults
    faults["look"].extend([Fault(503), Fault(500), Fault(429, headers={"retry-after": "0"})])
    faults["results"].extend([Fault(500), Fault(503)])
    old_calls.rescore()
    old_calls.work()
    assert [row["status"] for row in old_calls.new_rows()] == ["scored"] * CALLS
    assert old_calls.sent == 1


def test_a_file_that_breaks_off_is_fetched_again(old_calls: Asking) -> None:
    old_calls.provider.cut_to.extend([0.4, 0.9])
    old_calls.rescore()
    old_calls.work()
    assert {(row["status"], row["draws"]) for row in old_calls.new_rows()} == {("scored", 3)}
    assert (old_calls.sent, old_calls.provider.asked.count("results") >= 3) == (1, True)


def test_of_a_file_that_stays_broken_the_sound_lines_are_kept(old_calls: Asking) -> None:
    """What is missing is sent again, and may have been paid for: it is booked as unpriced.

    Half of Anthropic's lines are whole lines here, so that only their number tells.
    """
    old_calls.provider.cut_to.extend([0.5] * 3)
    old_calls.rescore()
    old_calls.work()
    assert [row["status"] for row in old_calls.new_rows()] == ["scored"] * CALLS
    assert old_calls.sent == 2
    assert len(old_calls.provider.kept[1].requests) < CALLS * old_calls.draws
    ((unpriced,),) = old_calls.sql("select sum(requests_unpriced) from critic_day")
    assert unpriced > 0


def test_a_batch_stays_at_the_provider_over_restarts(old_calls: Asking) -> None:
    """Stopped between sending and fetching; the ordinary lane never takes its rows meanwhile."""
    old_calls.provider.ends_as = None
    old_calls.rescore()
    old_calls.work(until=lambda _left: old_calls.sent > 0)
    rows = old_calls.sql("select status, batch from score where seq > 4")
    assert rows == [("pending", 1)] * CALLS
    old_calls.work(until=lambda _left: old_calls.provider.asked.count("look") > 2)
    old_calls.provider.ends_as = "completed"
    old_calls.work()
    assert [row["status"] for row in old_calls.new_rows()] == ["scored"] * CALLS
    assert (old_calls.sent, old_calls.provider.requests) == (1, [])


def test_a_batch_that_was_taken_without_a_word_is_found_again(old_calls: Asking) -> None:
    """The provider has it and said 500; as well a kill between its taking and our noting it."""
    old_calls.provider.takes_it_anyway = True
    old_calls.provider.batch_faults["create"].append(Fault(500))
    old_calls.rescore()
    old_calls.work(waits=NOT_MEANWHILE, until=lambda _left: old_calls.sent > 0)
    assert old_calls.sql("select status, provider_id from critic_batch") == [("sending", None)]
    old_calls.work()
    assert [row["status"] for row in old_calls.new_rows()] == ["scored"] * CALLS
    assert old_calls.sent == 1


def test_a_batch_that_never_arrived_is_sent_again_uncounted(old_calls: Asking) -> None:
    old_calls.provider.batch_faults["create"].append(Fault(500))
    old_calls.rescore()
    old_calls.work()
    rows = old_calls.new_rows()
    assert {(row["status"], row["attempts"]) for row in rows} == {("scored", 1)}
    assert old_calls.sent == 1
    statuses = old_calls.sql("select status, reason from critic_batch order by seq")
    assert [status for status, _reason in statuses] == ["failed", "ended"]
    assert statuses[0][1] == "it never came to the provider"


def test_answers_that_were_kept_before_a_kill_are_not_kept_twice(old_calls: Asking) -> None:
    """Killed after some rows were closed and before the batch was: the same file is fetched once more."""
    old_calls.rescore()
    old_calls.work()
    before = old_calls.sql("select seq, score, changed from score where seq > 4")
    spent = old_calls.spent()
    old_calls.provider.kept[0].deleted = False

    def undo(connection: Any) -> None:
        connection.execute(text("update critic_batch set status = 'sent', ended_at_ms = null"))
        connection.execute(text("delete from critic_day"))
        connection.execute(
            text(
                "update score set status = 'pending', score = null, p7 = null, lease_token = "
                "(select mark from critic_batch), not_before_ms = 253402300799000 where seq = 8"
            )
        )

    old_calls.store.write(undo)
    old_calls.work()
    after = old_calls.sql("select seq, score, changed from score where seq > 4")
    assert after[:3] == before[:3], "what was closed stays as it was"
    assert after[3][1] == 6.0
    batched_usd = sum(row["cost_usd"] for row in old_calls.new_rows())
    assert old_calls.spent()[0] == pytest.approx(batched_usd), f"booked once, of {spent} before"
    assert old_calls.sent == 1


def test_a_batch_that_is_gone_is_told_and_its_calls_are_asked_again(old_calls: Asking) -> None:
    def gone_once(batch_id: str, of: Any = old_calls.provider.of) -> Any:
        return None if batch_id.endswith("_0") else of(batch_id)

    old_calls.provider.of = gone_once
    old_calls.rescore()
    old_calls.work()
    assert [row["status"] for row in old_calls.new_rows()] == ["scored"] * CALLS
    assert [row["attempts"] for row in old_calls.new_rows()] == [2] * CALLS
    (first, second) = old_calls.sql("select status, reason from critic_batch order by seq")
    assert first[0] == "lost"
    assert "knows no batch" in first[1]
    assert second[0] == "ended"


@pytest.mark.usefixtures("warm_children")
def test_kill_9_between_sending_and_noting_loses_and_doubles_no_score(old_calls: Asking) -> None:
    """The provider has the batch and has not said so when the worker dies; the next one finds it."""
    old_calls.provider.takes_it_anyway = True
    old_calls.provider.batch_faults["create"].append(Fault(500, hang_s=5.0))
    old_calls.rescore()
    child = Child("critic", partial(run_critic, batch_waits=SOON), old_calls.settings, old_calls.store)
    try:
        wait_for(lambda: old_calls.sent == 1, "the batch is there")
        (pid,) = [one.pid for one in multiprocessing.active_children() if one.name == "lowlight-critic"]
        assert pid is not None
        assert old_calls.sql("select status from critic_batch") == [("sending",)]
        os.kill(pid, signal.SIGKILL)
        wait_for(
            lambda: not old_calls.sql("select seq from score where status = 'pending'"), "all are scored"
        )
    finally:
        child.stop()
    assert [row["status"] for row in old_calls.new_rows()] == ["scored"] * CALLS
    assert old_calls.sent == 1


def wait_for(done: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + 60.0
    while not done():
        assert time.monotonic() < until, f"not within a minute: {what}"
        time.sleep(0.02)
