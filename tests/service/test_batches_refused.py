"""Batches that may not go, or not yet: money, turned down files, missing endpoints, egress, settings."""

from pathlib import Path

import pytest
from sqlalchemy import text

from ingest.settings import Settings
from tests.providers.batches import ChatBatches
from tests.providers.loopback import Fault, running
from tests.service.batch_runs import CALLS, asking


def test_money_is_held_for_a_batch_until_it_ended(
    settings: Settings, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """At most half of what direct requests would hold; a new start does not take it for a dead worker's."""
    with running(ChatBatches()) as provider:
        made = asking("chat-draws", settings, tmp_path, provider, critic_budget_usd=10_000.0)
        request.addfinalizer(made.store.close)
        before_usd, _ = made.spent()
        provider.ends_as = None
        made.rescore()
        made.work(until=lambda _left: "look" in provider.asked)
        ((held_usd, batch),) = made.sql("select usd, batch from reservation")
        assert batch == 1
        assert list(made.spent()) == pytest.approx([before_usd, held_usd])
        made.work(until=lambda _left: provider.asked.count("look") > 3)
        provider.ends_as = "completed"
        made.work()
        cost_usd = sum(row["cost_usd"] for row in made.new_rows())
        assert 0 < cost_usd < held_usd
        assert list(made.spent()) == pytest.approx([before_usd + cost_usd, 0.0])
        assert made.sql("select * from reservation") == []


def test_what_does_not_fit_the_budget_waits(
    settings: Settings, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A batch takes as many calls as the day's money is enough for; the next one goes when there is more."""
    with running(ChatBatches()) as provider:
        made = asking("chat-draws", settings, tmp_path, provider, critic_budget_usd=10_000.0)
        request.addfinalizer(made.store.close)
        provider.ends_as = None
        made.rescore()
        made.work(until=lambda _left: provider.asked.count("look") > 0)
        ((held_usd,),) = made.sql("select usd from reservation")
        for_two_usd = made.spent()[0] + held_usd / CALLS * 2.5
        made.store.write(
            lambda connection: [
                connection.execute(text(query)).rowcount
                for query in (
                    "delete from critic_batch",
                    "delete from reservation",
                    "update critic_day set reserved_usd = 0",
                    "update score set batch = 0, lease_token = null, batch_request = null where seq > 4",
                )
            ]
        )
        provider.kept.clear()
        made.settings = made.settings.model_copy(
            update={"critic_budget_usd": {made.critic: for_two_usd / 0.9}}
        )
        made.settings = made.settings.model_copy(update={"critic_uniform_share": 0.1})
        made.work(until=lambda _left: made.sent == 1)
        assert len(provider.kept[0].requests) == 2 * made.draws
        provider.ends_as = "completed"
        made.work()
        assert [row["status"] for row in made.new_rows()] == ["scored"] * CALLS


def test_a_batch_that_is_turned_down_is_told_and_bounded(
    settings: Settings, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A bad file is tried three times; a full queue at the provider is waited for, uncounted."""
    with running(ChatBatches()) as provider:
        made = asking("chat-draws", settings, tmp_path, provider)
        request.addfinalizer(made.store.close)
        provider.ends_as, provider.error_code = "failed", "token_limit_exceeded"
        made.rescore()
        made.work(until=lambda _left: made.sent > 4)
        assert {(row["status"], row["attempts"]) for row in made.new_rows()} <= {
            ("pending", 0),
            ("pending", 1),
        }
        provider.error_code = "invalid_json_line"
        made.work()
        rows = made.new_rows()
        assert {row["status"] for row in rows} == {"failed"}
        assert "turned the batch down: as programmed" in rows[0]["reason"]


def test_one_digit_and_its_probabilities_go_by_batch_too(
    settings: Settings, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with running(ChatBatches()) as provider:
        made = asking("chat-logprobs", settings, tmp_path, provider)
        request.addfinalizer(made.store.close)
        provider.judge = lambda _request, _name: 5.25
        made.rescore()
        made.work()
        rows = made.new_rows()
        assert {(row["status"], row["draws"]) for row in rows} == {("scored", None)}
        assert [row["score"] for row in rows] == pytest.approx([5.25] * CALLS)
        assert len(provider.kept[0].requests) == CALLS


def test_a_server_without_the_endpoint_is_told_as_such(
    settings: Settings, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with running(ChatBatches()) as provider:
        made = asking("chat-draws", settings, tmp_path, provider)
        request.addfinalizer(made.store.close)
        provider.batch_faults["upload"].extend([Fault(404)] * 2)
        made.rescore()
        made.work(until=lambda _left: provider.asked.count("upload") == 2)
        told = made.rescore(dry_run=True).batches
        assert told is not None
        assert "has no batch endpoint (404 at" in told
        made.work()
        assert {(row["status"], row["attempts"]) for row in made.new_rows()} == {("scored", 1)}


def test_texts_that_may_no_longer_leave_are_in_no_batch(
    settings: Settings, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with running(ChatBatches()) as provider:
        made = asking("chat-draws", settings, tmp_path, provider)
        request.addfinalizer(made.store.close)
        made.rescore()
        made.settings = made.settings.model_copy(update={"egress": ""})
        made.work()
        assert {row["status"] for row in made.new_rows()} == {"ungraded"}
        assert provider.asked == []


def test_rows_of_a_critic_that_is_taken_out_are_closed(
    settings: Settings, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with running(ChatBatches()) as provider:
        made = asking("chat-draws", settings, tmp_path, provider)
        request.addfinalizer(made.store.close)
        provider.ends_as = None
        made.rescore()
        made.work(until=lambda _left: made.sent > 0)
        made.settings = made.settings.model_copy(update={"critic": "local"})
        made.work()
        batched = [row for row in made.new_rows() if row["critic"] == made.critic]
        assert {row["status"] for row in batched} == {"skipped"}
        assert "LOWLIGHT_CRITIC" in batched[0]["reason"]
        assert made.sql("select status from critic_batch") == [("lost",)]
