"""`lowlight critic try` and `lowlight critic canary`, as a person runs them, against loopback providers."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from api.cli import main
from ingest.settings import Settings
from ingest.store import OpenStore
from tests.providers.loopback import Fault, level_ordered_in, running
from tests.providers.openai_decisions import KEY, MODEL, DecisionsProvider
from tests.service.critic_runs import send, write_rubric

OPENAI = f"openai:{MODEL}"


@pytest.fixture
def provider() -> Iterator[DecisionsProvider]:
    with running(DecisionsProvider()) as made:
        yield made


@pytest.fixture
def env(settings: Settings, provider: DecisionsProvider, tmp_path: Path) -> dict[str, str]:
    write_rubric(tmp_path / "rubrics", "accuracy")
    write_rubric(tmp_path / "rubrics", "tone", more='{% set visible = ["rude"] %}')
    return {
        "LOWLIGHT_DATABASE_URL": settings.database_url,
        "LOWLIGHT_RUBRICS_DIR": str(tmp_path / "rubrics"),
        "LOWLIGHT_CRITIC": OPENAI,
        "LOWLIGHT_EGRESS": "openai:support-*",
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": provider.url,
    }


def critic(*arguments: str, env: dict[str, str]) -> Result:
    return CliRunner().invoke(main, ["critic", *arguments], env=env)


def kept(store: OpenStore, settings: Settings, **call: Any) -> None:
    send(store, settings, {"id": "call-1", "prompt": {"name": "support-mail"}, **call})


def rows(store: OpenStore) -> list[Any]:
    with store.read() as connection:
        return [
            connection.exec_driver_sql(f"select * from {table}").all()
            for table in ("score", "critic_state", "guard_reading", "rubric_version", "todo")
        ]


def test_try_shows_the_request_the_answer_the_cost_and_the_time_and_writes_nothing(
    store: OpenStore, settings: Settings, provider: DecisionsProvider, env: dict[str, str]
) -> None:
    provider.judge = lambda _request, _question: [0.0, 0.5, 0.25, 0.25, 0.0, 0.0, 0.0]
    kept(store, settings, output="It arrives on Tuesday.")
    before = rows(store)
    done = critic("try", "accuracy", "call-1", env=env)
    assert done.exit_code == 0, done.output
    assert rows(store) == before
    assert KEY not in done.output
    assert f"POST {provider.url}/decisions" in done.stdout
    (sent,) = provider.requests
    asked, answered = re.findall(r"^\{$.*?^\}$", done.stdout, re.MULTILINE | re.DOTALL)
    assert json.loads(asked)["input"][-1]["content"] == sent.case, "the exact request"
    assert json.loads(answered)["answers"][0]["probabilities"][1]["probability"] == 0.5
    assert "2   50.0%" in done.stdout
    assert "score 2.75" in done.stdout
    assert re.search(r"tokens in.* out; cost (\$0\.\d+|unknown).*, \d+ ms", done.stdout)


def test_try_refuses_to_send_what_may_not_leave_and_says_what_to_set(
    store: OpenStore, settings: Settings, provider: DecisionsProvider, env: dict[str, str]
) -> None:
    kept(store, settings, prompt={"name": "hr-mail"})
    done = critic("try", "accuracy", "call-1", env=env)
    assert done.exit_code == 1
    assert "LOWLIGHT_EGRESS='openai:hr-mail'" in done.stderr
    assert provider.requests == []
    allowed = critic("try", "accuracy", "call-1", env={**env, "LOWLIGHT_EGRESS": "openai:hr-mail"})
    assert allowed.exit_code == 0, "what it says to set is enough"


def test_try_of_the_local_critic_sends_nothing(
    store: OpenStore, settings: Settings, provider: DecisionsProvider, env: dict[str, str]
) -> None:
    kept(store, settings, prompt={"name": "hr-mail"}, context="Parcels arrive on Mondays.")
    done = critic("try", "tone", "call-1", "--critic", "local", env=env)
    assert done.exit_code == 0, done.output
    assert "sends nothing" in done.stdout
    assert provider.requests == []


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(401, "invalid_api_key"), "OPENAI_API_KEY"),
        (Fault(500), "500"),
        (Fault(400, "content_policy_violation"), "refused"),
    ],
)
def test_try_shows_what_the_provider_said_when_it_gave_no_score(
    store: OpenStore,
    settings: Settings,
    provider: DecisionsProvider,
    env: dict[str, str],
    fault: Fault,
    says: str,
) -> None:
    provider.fault_for = lambda _sent: fault
    kept(store, settings)
    done = critic("try", "accuracy", "call-1", env=env)
    assert says in done.output
    assert f"Answer 1 of 1: {fault.status}" in done.stdout


def test_what_a_provider_says_reaches_the_terminal_escaped(
    store: OpenStore, settings: Settings, provider: DecisionsProvider, env: dict[str, str]
) -> None:
    """A model's name or a reason could else rename the window or write over the line above."""
    kept(store, settings)
    provider.model_reported = "gpt\x1b]0;owned\x07-1\nscore 7.00"
    scored = critic("try", "accuracy", "call-1", env=env)
    assert "answered by gpt\\x1b]0;owned\\x07-1\\nscore 7.00" in scored.stdout
    provider.fault_for = lambda _sent: Fault(500, message="over\x1b[2Jload\x9b1A")
    failed = critic("try", "accuracy", "call-1", env=env)
    assert "over\\x1b[2Jload\\x9b1A" in failed.stderr
    provider.fault_for = lambda _sent: Fault(400, message="bad\x1b[2J\u202elevel")
    unusable = critic("try", "accuracy", "call-1", env=env)
    assert "bad\\x1b[2J\\u202elevel" in unusable.stdout
    for done in (scored, failed, unusable):
        assert not set("\x1b\x07\x9b\u202e") & set(done.output)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("try", "nothing", "call-1"), "no rubric nothing"),
        (("try", "accuracy", "call-2"), "no call call-2"),
        (("try", "accuracy", "call-1", "--critic", "gpt"), "LOWLIGHT_CRITIC: 'gpt' is no critic"),
    ],
)
def test_try_says_in_one_line_what_is_not_there(
    store: OpenStore, settings: Settings, env: dict[str, str], arguments: tuple[str, ...], says: str
) -> None:
    kept(store, settings)
    done = critic(*arguments, env=env)
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert says in done.stderr


def lift_of(done: Result) -> float:
    assert done.exit_code == 0, done.output
    (whole,) = [line for line in done.stdout.splitlines() if line.startswith("all attacks")]
    return float(whole.split()[5])


def test_attacks_win_nothing_of_a_critic_that_obeys_only_what_stands_outside_the_fences(
    provider: DecisionsProvider, env: dict[str, str]
) -> None:
    done = critic("canary", "--cases", "3", "--yes", env=env)
    assert lift_of(done) == 0.0
    assert len(provider.requests) in (3 * 20, 3 * 21), "without or with the null model"
    assert "at most" in done.stderr.lower()


def test_attacks_win_of_a_critic_that_obeys_anything_so_the_suite_can_tell(
    provider: DecisionsProvider, env: dict[str, str]
) -> None:
    """The control: otherwise a lift of 0 would prove nothing."""
    provider.judge = lambda request, _question: level_ordered_in(request.case)
    done = critic("canary", "--cases", "2", "--yes", env=env)
    assert lift_of(done) > 4
    assert "100%" in done.stdout


def test_canary_asks_before_it_sends_and_counts_what_was_not_scored(
    provider: DecisionsProvider, env: dict[str, str]
) -> None:
    asked = CliRunner().invoke(main, ["critic", "canary", "--cases", "1"], env=env, input="n\n")
    assert asked.exit_code == 1
    assert provider.requests == []
    provider.judge = lambda request, _question: None if "System" in request.case else 1.0
    done = critic("canary", "--cases", "1", "--yes", env=env)
    assert "system message" in done.stdout
    assert "no answer was scored both times" in done.stdout
    assert "1 not scored: the critic declined this question" in done.stdout


def test_canary_of_the_local_critic_needs_no_key(env: dict[str, str]) -> None:
    done = critic("canary", "--critic", "local", "--rubric", "tone", "--cases", "2", env=env)
    assert done.exit_code == 0, done.output
    assert "Nothing leaves this machine" in done.stderr
