"""Critics named by an address, through the whole worker: what their answers leave in the score rows."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.settings import Settings
from ingest.store import OpenStore
from tests.providers import chat, systemone
from tests.providers.loopback import Fault, running
from tests.service.critic_runs import judge, scores, send, with_critics, write_rubric


@pytest.fixture
def chats() -> Iterator[chat.ChatProvider]:
    with running(chat.ChatProvider()) as made:
        yield made


@pytest.fixture
def jev() -> Iterator[systemone.SystemOneProvider]:
    with running(systemone.SystemOneProvider()) as made:
        yield made


def named(settings: Settings, folder: Path, critic: str, key: str) -> Settings:
    for name in ("accuracy", "tone"):
        write_rubric(folder, name)
    return with_critics(settings, folder, None, critic=critic, egress="*", critic_keys={"127.0.0.1": key})


def test_jev_is_asked_once_for_all_rubrics_of_a_view(
    settings: Settings, store: OpenStore, jev: systemone.SystemOneProvider, tmp_path: Path
) -> None:
    critic = f"systemone:{jev.url}#{systemone.MODEL}"
    jev.judge = lambda _sent, name: 2.25 if name == "tone" else 6.0
    one = named(settings, tmp_path / "rubrics", critic, systemone.KEY)
    send(store, one, {})
    judge(one, store)
    assert len(jev.requests) == 1
    accuracy, tone = scores(store)
    assert (accuracy["score"], tone["score"], tone["critic"]) == (6.0, 2.25, critic)
    assert (tone["p2"], tone["p3"], tone["draws"], tone["label_mass"]) == (0.75, 0.25, None, None)
    assert tone["model_reported"] == f"{systemone.MODEL}-1.13.0"


def test_what_went_to_no_level_is_kept_and_one_bad_rubric_costs_the_other_nothing(
    settings: Settings, store: OpenStore, chats: chat.ChatProvider, tmp_path: Path
) -> None:
    one = named(settings, tmp_path / "rubrics", f"chat-logprobs:{chats.url}#{chat.MODEL}", chat.KEY)
    chats.tokens = [{"2": 0.6, "4": 0.2, "The": 0.2}]
    refusal = Fault(400, "content_policy_violation")
    chats.fault_for = lambda sent: refusal if "Question tone" in sent.messages[0].content else None
    send(store, one, {})
    judge(one, store)
    accuracy, tone = scores(store)
    assert (accuracy["status"], tone["status"]) == ("scored", "refused")
    assert accuracy["label_mass"] == pytest.approx(0.2)
    assert accuracy["p2"] == pytest.approx(0.75)
    assert len(chats.requests) == 2


def test_the_share_that_a_critic_saw_stays_with_its_score(
    settings: Settings, store: OpenStore, chats: chat.ChatProvider, tmp_path: Path
) -> None:
    one = named(settings, tmp_path / "rubrics", f"chat-draws:{chats.url}#{chat.MODEL}", chat.KEY)
    small = one.model_copy(update={"critic_view_chars": 2_000})
    send(store, small, {"id": "short"}, {"id": "long", "input": "A" * 40_000})
    judge(small, store)
    seen = {row["call_id"]: row["seen_share"] for row in scores(store)}
    assert seen["short"] == 1.0
    assert 0.01 < seen["long"] < 0.05
    longest = max(chats.requests, key=lambda sent: len(sent.case))
    assert "are left out here]" in longest.case
    assert len(longest.case) < 2_200


def test_a_list_falls_through_to_the_next_when_a_server_is_set_up_wrong(
    settings: Settings, store: OpenStore, chats: chat.ChatProvider, tmp_path: Path
) -> None:
    critics = f"chat-logprobs:{chats.url}#{chat.MODEL},chat-draws:{chats.url}#{chat.MODEL}"
    chats.knows_logprobs = False
    one = named(settings, tmp_path / "rubrics", critics, chat.KEY)
    send(store, one, {})
    backlog = judge(one, store, until=lambda backlog: backlog.by_status.get("scored", 0) == 2)
    assert "chat-draws:" in backlog.paused[critics.partition(",")[0]]
    assert {row["draws"] for row in scores(store) if row["status"] == "scored"} == {3}
