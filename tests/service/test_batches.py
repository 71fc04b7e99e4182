"""`lowlight rescore --batch`: each old call asked once by the provider's batch endpoint, whatever goes wrong.

Real store, real worker, real SDKs against loopback batch endpoints of both kinds.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from api.rescore_routes import RescoreAsked, RescorePage, rescore
from critic.batches_lane import Waits
from critic.queue import Backlog
from ingest.settings import Settings
from ingest.store import OpenStore
from tests.providers import anthropic_messages, chat
from tests.providers.batches import ChatBatches, MessageBatches
from tests.providers.loopback import Fault, running
from tests.service.critic_runs import judge, scores, send, write_rubric

CALLS = 4
SOON = Waits(gather_s=0.0, ask_s=0.02, ask_max_s=0.05, find_s=0.0, find_max_s=0.3, pause_s=0.05)
NOT_MEANWHILE = Waits(gather_s=0.0, ask_s=0.02, ask_max_s=0.05, find_s=600.0, find_max_s=600.0)
#: US dollars per million tokens: prices that make sums easy to tell apart.
PRICES = """[[price]]
provider = "{provider}"
model = "{model}*"
valid_from = 2020-01-01
input = 1000.0
cached_input = 1000.0
output = 1000.0
batch_factor = 0.5
"""


@dataclass
class Asking:
    """One kind of critic with a batch endpoint, its loopback provider, and old calls to ask about."""

    critic: str
    provider: Any
    settings: Settings
    store: OpenStore
    draws: int

    def rescore(self, *, dry_run: bool = False, batch: bool = True) -> RescorePage:
        asked = RescoreAsked(
            rubric="tone", since=datetime(2026, 1, 1, tzinfo=UTC), batch=batch, dry_run=dry_run
        )
        return rescore(asked, self.store, self.settings)

    def work(self, *, waits: Waits = SOON, until: Callable[[Backlog], bool] | None = None) -> Backlog:
        return judge(self.settings, self.store, batch_waits=waits, until=until)

    def new_rows(self) -> list[Any]:
        """The rows of the rubric's second version."""
        return [row for row in scores(self.store) if row["seq"] > CALLS]

    def sql(self, query: str) -> list[Any]:
        with self.store.read() as connection:
            return list(connection.execute(text(query)).all())

    def spent(self) -> tuple[float, float]:
        """What the day's accounts say: spent and reserved, US dollars."""
        ((spent_usd, reserved_usd),) = self.sql("select sum(spent_usd), sum(reserved_usd) from critic_day")
        return round(spent_usd, 6), round(reserved_usd, 6)

    @property
    def sent(self) -> int:
        """Batches that the provider took."""
        return len(self.provider.kept)


def asking(kind: str, settings: Settings, folder: Path, provider: Any, **more: Any) -> Asking:
    """Have calls answered one by one under a first version, then edit the rubric."""
    if kind == "anthropic":
        critic = f"anthropic:{anthropic_messages.MODEL}"
        keys: dict[str, Any] = {
            "anthropic_api_key": anthropic_messages.KEY,
            "anthropic_base_url": provider.url,
        }
        names = {"provider": "anthropic", "model": anthropic_messages.MODEL}
    else:
        critic = f"{kind}:{provider.url}#{chat.MODEL}"
        keys = {"critic_keys": {"127.0.0.1": chat.KEY}}
        names = {"provider": "127.0.0.1", "model": chat.MODEL}
    prices = folder / "prices.toml"
    prices.write_text(PRICES.format(**names))
    rubrics = folder / "rubrics"
    write_rubric(rubrics, "tone")
    changed = {
        "critic": critic,
        "egress": "*",
        "rubrics_dir": rubrics,
        "prices": prices,
        "critic_retry_s": 0.02,
        "critic_poll_s": 0.02,
        **keys,
        **more,
    }
    kept = settings.model_dump(exclude={"anthropic_api_key", "critic_keys"})
    made = Asking(
        critic,
        provider,
        Settings(**{**kept, **changed}),
        OpenStore(settings.database_url),
        1 if kind == "chat-logprobs" else 3,
    )
    provider.judge = lambda _request, _name: 6.0 if kind != "anthropic" else 6
    send(made.store, made.settings, *({} for _ in range(CALLS)))
    made.work()
    write_rubric(rubrics, "tone", question="Was it kind?")
    provider.requests.clear()
    return made


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
    faults = old_calls.provider.faults
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
    old_calls.provider.faults["create"].append(Fault(500))
    old_calls.rescore()
    old_calls.work(waits=NOT_MEANWHILE, until=lambda _left: old_calls.sent > 0)
    assert old_calls.sql("select status, provider_id from critic_batch") == [("sending", None)]
    old_calls.work()
    assert [row["status"] for row in old_calls.new_rows()] == ["scored"] * CALLS
    assert old_calls.sent == 1


def test_a_batch_that_never_arrived_is_sent_again_uncounted(old_calls: Asking) -> None:
    old_calls.provider.faults["create"].append(Fault(500))
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
        assert (batch, made.spent()) == (1, (before_usd, pytest.approx(held_usd)))
        made.work(until=lambda _left: provider.asked.count("look") > 3)
        provider.ends_as = "completed"
        made.work()
        cost_usd = sum(row["cost_usd"] for row in made.new_rows())
        assert 0 < cost_usd < held_usd
        assert made.spent() == (pytest.approx(before_usd + cost_usd), 0.0)
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
        provider.faults["upload"].extend([Fault(404)] * 2)
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
