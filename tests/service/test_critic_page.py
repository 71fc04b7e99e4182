"""The critic's page over what a worker really did: coverage, money, failures, latencies, what goes where."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from sqlalchemy import Connection, text

from dashboards.drawing.render import Frame, as_json, render
from dashboards.filters import WindowQuery, window_of
from dashboards.pages import critic as page
from dashboards.pages import rubrics as rubrics_page
from dashboards.queries.rubrics import uses
from ingest.settings import Settings
from ingest.store import OpenStore
from tests.providers.loopback import Fault, running
from tests.providers.openai_decisions import DecisionsProvider
from tests.service.critic_runs import OPENAI, judge, send, with_critics, write_rubric

PRICES = """
[[price]]
provider = "openai"
model = "gpt-6-luna"
valid_from = 2020-01-01
input = 1.0
output = 1.0
"""


@pytest.fixture
def provider() -> Iterator[DecisionsProvider]:
    with running(DecisionsProvider()) as made:
        made.judge = lambda _request, _question: 5.0
        yield made


def build(settings: Settings, store: OpenStore) -> page.CriticPage:
    with store.read() as connection:
        return page.build(connection, settings, WindowQuery(), datetime.now(UTC))


def html(built: page.CriticPage) -> str:
    return render("critic.html", built, Frame("critic", "http://h", "/critic.json", UTC))  # type: ignore[arg-type]


def test_the_page_says_how_far_the_critic_got_what_it_cost_and_what_went_where(
    settings: Settings, store: OpenStore, provider: DecisionsProvider, tmp_path: Path
) -> None:
    write_rubric(tmp_path / "rubrics", "accuracy")
    (tmp_path / "prices.toml").write_text(PRICES)
    held = with_critics(
        settings,
        tmp_path / "rubrics",
        provider,
        critic=f"{OPENAI},local",
        egress="openai:support-*",
        prices=tmp_path / "prices.toml",
        critic_budget_usd=100.0,
    )
    provider.fault_for = lambda request: (
        Fault(422, message=f"no view in request {len(provider.requests)}") if "BAD" in request.case else None
    )
    calls = [{"id": f"good-{i}", "prompt": {"name": "support-mail"}} for i in range(24)]
    calls += [{"id": f"bad-{i}", "prompt": {"name": "support-mail"}, "input": "BAD"} for i in range(2)]
    calls += [{"id": "<b>kept</b>", "prompt": {"name": "hr"}}]
    send(store, held, *calls)
    judge(held, store)
    built = build(held, store)
    assert built.coverage.data is not None
    ours = built.coverage.data.critics[0]
    assert (ours.critic, ours.scored_calls) == (OPENAI, 24)
    assert (ours.by_status["scored"], ours.by_status["failed"], ours.by_status["ungraded"]) == (24, 2, 1)
    assert built.coverage.data.calls == 27
    assert built.headline == "89 % of 27 calls have a score."

    assert built.money.data is not None
    (money,) = built.money.data
    assert money.budget_usd == 100.0
    assert money.today.requests == 26
    assert 0 < money.today.spent_usd < 0.01
    assert (money.today.reserved_usd, money.today.in_doubt_usd) == (0.0, 0.0), "a 422 is not charged"
    assert sum(stratum.calls for stratum in money.strata) == 26

    assert built.failures.data is not None
    failed = next(found for found in built.failures.data if found.status == "failed")
    assert (failed.n, sorted(failed.examples)) == (2, ["bad-0", "bad-1"])
    assert "answered N: no view in request N" in failed.reason, "what differs in numbers alone is one class"

    assert built.speeds.data is not None
    speed = next(found for found in built.speeds.data if found.critic == OPENAI)
    assert (speed.n, speed.p95_ms is not None) == (26, True)
    assert 0 < speed.p50_ms <= (speed.p95_ms or 0)

    assert built.egress.data is not None
    assert [(d.critic, d.leaves, d.rules) for d in built.egress.data.destinations] == [
        (OPENAI, True, (("default", "support-*"),)),
        ("local", False, ()),
    ]
    by_prompt = {
        shown.prompt: (shown.may[OPENAI], shown.sent.get(OPENAI, 0)) for shown in built.egress.data.prompts
    }
    assert by_prompt == {"support-mail": (True, 26), "hr": (False, 0)}

    shown = html(built)
    assert "<b>kept</b>" not in shown, "ids are data"
    for said in ("of $100.00 a day", "stays here", "may go there, 26 calls went", 'href="/calls/bad-0"'):
        assert said in shown, said
    assert orjson.loads(as_json(built))["money"]["data"][0]["today"]["requests"] == 26


def test_a_paused_critic_is_named_with_its_reason_and_its_work(
    settings: Settings, store: OpenStore, provider: DecisionsProvider, tmp_path: Path
) -> None:
    write_rubric(tmp_path / "rubrics", "accuracy")
    held = with_critics(settings, tmp_path / "rubrics", provider)
    provider.fault_for = lambda _request: Fault(429, "insufficient_quota", "insufficient_quota")
    send(store, held, {})
    judge(held, store, until=lambda backlog: bool(backlog.paused))
    built = build(held, store)
    assert built.queue.data is not None
    (pause,) = built.queue.data.work.pauses
    assert "quota" in (pause.reason or "")
    assert built.queue.data.work.answers_waiting == 1
    assert built.queue.data.longest_due_at is not None
    assert "quota" in html(built)


def test_without_a_critic_or_a_key_the_page_still_stands(settings: Settings, store: OpenStore) -> None:
    built = build(settings, store)
    assert built.headline.startswith("No critic is configured")
    assert "LOWLIGHT_CRITIC" in html(built)
    no_key = settings.model_copy(update={"critic": OPENAI, "openai_api_key": None})
    assert build(no_key, store).egress.error is None


def test_a_rubric_that_applies_to_no_call_is_named_with_what_it_waits_for(
    settings: Settings, store: OpenStore, provider: DecisionsProvider, tmp_path: Path
) -> None:
    """A mistyped prompt name would else be a rubric that is silently missing from every page."""
    folder = tmp_path / "rubrics"
    write_rubric(folder, "accuracy")
    write_rubric(folder, "billing", more='{% set applies_to = {"prompts": ["<b>biling-*"]} %}')
    held = with_critics(settings, folder, provider)
    send(store, held, {"prompt": {"name": "billing-mail"}})
    judge(held, store)
    with store.read() as connection:
        built = rubrics_page.build(connection, held, WindowQuery(), datetime.now(UTC))
    assert built.rubrics.data is not None
    assert [line.newest.name for line in built.rubrics.data] == ["accuracy"]
    assert built.unasked.data is not None
    (waiting,) = built.unasked.data
    assert (waiting.name, waiting.applies_to) == ("billing", "prompts <b>biling-*")
    shown = render("rubrics.html", built, Frame("rubrics", "http://h", "/rubrics.json", UTC))  # type: ignore[arg-type]
    assert "Asked about no call so far" in shown
    assert "&lt;b&gt;biling-*" in shown


def test_a_mean_weighs_each_call_by_what_it_stands_for(
    settings: Settings, store: OpenStore, provider: DecisionsProvider, tmp_path: Path
) -> None:
    """Bad calls are sampled more often; unweighted they would make the rubric look worse than the traffic."""
    write_rubric(tmp_path / "rubrics", "accuracy")
    held = with_critics(settings, tmp_path / "rubrics", provider)
    provider.judge = lambda request, _question: 1.0 if "BAD" in request.case else 7.0
    bad = [{"id": f"bad-{i}", "output": "BAD"} for i in range(4)]
    send(store, held, *bad, *({"id": f"good-{i}"} for i in range(4)))
    judge(held, store)

    def sampled(connection: Connection) -> None:
        """As if the good ones had been chosen with a probability of .1, and so stand for ten each."""
        connection.execute(
            text(
                "update score set inclusion = 0.1 "
                "where call_seq in (select seq from call where id like 'good%')"
            )
        )

    store.write(sampled)
    with store.read() as connection:
        window = window_of(WindowQuery(), held.zone, datetime.now(UTC))
        (use,) = uses(connection, 1, window)
    assert use.mean is not None
    assert use.p_low is not None
    assert use.mean.value == pytest.approx((4 * 1 + 40 * 7) / 44)
    assert use.p_low.value == pytest.approx(4 / 44)
    assert sum(use.levels) == pytest.approx(1.0)
    assert use.mean.low is not None
    assert use.mean.low < use.mean.value
