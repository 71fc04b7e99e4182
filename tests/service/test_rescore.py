"""`lowlight rescore`: work for old calls, counted and priced first, made once, with a server or without."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from api.cli import main
from ingest.settings import Settings
from ingest.store import OpenStore
from tests.providers.loopback import running
from tests.providers.openai_decisions import KEY, MODEL, DecisionsProvider
from tests.service.critic_runs import OPENAI, judge, scores, send, with_critics, write_rubric
from tests.warm import background

SINCE = "2026-01-01"
CALLS = 30


@pytest.fixture
def provider() -> Iterator[DecisionsProvider]:
    with running(DecisionsProvider()) as served:
        served.judge = lambda _request, _question: 6.0
        yield served


@pytest.fixture
def rubrics_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "rubrics"
    write_rubric(folder, "tone", more='{% set applies_to = {"prompts": ["faq"]} %}')
    return folder


@pytest.fixture
def critics(settings: Settings, rubrics_dir: Path, provider: DecisionsProvider) -> Settings:
    return with_critics(settings, rubrics_dir, provider)


@pytest.fixture
def env(critics: Settings, provider: DecisionsProvider) -> dict[str, str]:
    return {
        "LOWLIGHT_DATABASE_URL": critics.database_url,
        "LOWLIGHT_RUBRICS_DIR": str(critics.rubrics_dir),
        "LOWLIGHT_CRITIC": OPENAI,
        "LOWLIGHT_EGRESS": "*",
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": provider.url,
    }


def rescore(env: dict[str, str], *arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(main, ["rescore", *arguments], env=env, input=typed)


def test_rescore_stands_under_rubric_too(env: dict[str, str]) -> None:
    asked = ("--rubric", "tone", "--since", SINCE, "--dry-run")
    there = CliRunner().invoke(main, ["rubric", "rescore", *asked], env=env)
    here = rescore(env, *asked)
    assert (there.exit_code, there.stdout) == (0, here.stdout)
    assert "of 0 calls" in here.stdout


def answered_and_edited(critics: Settings, store: OpenStore, rubrics_dir: Path) -> None:
    """Have 30 calls answered (10 of another prompt, 10 of another model), then edit the rubric."""
    send(
        store,
        critics,
        *({"prompt": {"name": "faq"}, "model": "small" if i < 10 else "large"} for i in range(20)),
        *({"id": f"other-{i}", "prompt": {"name": "chat"}} for i in range(10)),
    )
    judge(critics, store)
    write_rubric(
        rubrics_dir, "tone", question="Was it kind?", more='{% set applies_to = {"prompts": ["faq"]} %}'
    )


def test_old_calls_are_counted_priced_and_asked_once(
    critics: Settings, env: dict[str, str], provider: DecisionsProvider, rubrics_dir: Path
) -> None:
    store = OpenStore(critics.database_url)
    answered_and_edited(critics, store, rubrics_dir)
    store.write(lambda connection: connection.execute(text("update score set cost_usd = 0.002")).rowcount)
    store.close()
    asked = ("--rubric", "tone", "--since", SINCE)

    told = rescore(env, *asked, "--dry-run")
    assert told.exit_code == 0, told.output
    assert "20 of 20 calls have no answer under tone " in told.stdout
    assert "They will cost about 0.04 USD, by the mean of the last 20 answers." in told.stdout
    refused = rescore(env, *asked, typed="n\n")
    assert refused.exit_code == 1
    store = OpenStore(critics.database_url)
    assert len(scores(store)) == 20, "nothing is made before somebody says yes"
    store.close()

    some = rescore(env, *asked, "--where", "model=small", "--yes")
    assert "10 answers are due." in some.stdout, some.output
    assert "No server runs" in some.stdout
    rest = rescore(env, *asked, "--yes")
    assert "10 of 20 calls have no answer" in rest.stdout, "what was made is not made again"
    again = rescore(env, *asked, "--yes")
    assert "Nothing to do: of 20 calls each has an answer" in again.stdout

    store = OpenStore(critics.database_url)
    requests = len(provider.requests)
    judge(critics, store)
    assert len(provider.requests) == requests + 20
    by_version = {row["rubric_blob"] for row in scores(store)}
    assert len(by_version) == 2
    assert [row["status"] for row in scores(store)] == ["scored"] * 40
    store.close()


def test_with_a_server_the_work_goes_through_it_and_a_bar_ends_when_all_are_answered(
    critics: Settings, env: dict[str, str], rubrics_dir: Path
) -> None:
    store = OpenStore(critics.database_url)
    answered_and_edited(critics, store, rubrics_dir)
    store.close()
    with background(critics):
        done = rescore(env, "--rubric", "tone", "--since", SINCE, "--yes")
        assert done.exit_code == 0, done.output
        assert "20 answers are due." in done.stdout
        reader = OpenStore(critics.database_url)
        until = time.monotonic() + 20
        while sum(row["status"] == "scored" for row in scores(reader)) < 40:
            assert time.monotonic() < until, "the bar ended before the answers were there"
            time.sleep(0.1)
        reader.close()
        wrong = rescore(env, "--rubric", "kindness", "--since", SINCE)
        assert wrong.exit_code == 1
        assert wrong.stderr.strip() == "Error: There is no rubric 'kindness'; there are tone.", (
            "as where no server runs"
        )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--rubric", "kindness"], "There is no rubric 'kindness'; there are tone."),
        (["--rubric", "tone", "--critic", "local"], f"'local' is not among the configured critics: {OPENAI}"),
        (["--rubric", "tone", "--where", "mood=bad"], "mood is no field to ask by; take provider, model"),
        (["--rubric", "tone", "--where", "model"], "'model' is not FIELD=VALUE"),
    ],
)
def test_a_wrong_question_is_one_line(
    critics: Settings, env: dict[str, str], arguments: list[str], told: str
) -> None:
    done = rescore(env, *arguments, "--since", SINCE)
    assert done.exit_code != 0
    assert told in done.stderr


def test_no_database_is_made_by_mistake(env: dict[str, str], tmp_path: Path) -> None:
    missing = tmp_path / "nowhere.db"
    done = rescore(
        {**env, "LOWLIGHT_DATABASE_URL": f"sqlite:///{missing}"}, "--rubric", "tone", "--since", SINCE
    )
    assert done.exit_code == 1
    assert f"There is no database {missing}" in done.stderr
    assert not missing.exists()


def test_by_batch_a_critic_without_the_endpoint_names_the_one_that_has_it(
    critics: Settings, env: dict[str, str]
) -> None:
    """Decisions have no batch endpoint; another way of asking is another critic, so nobody is swapped in."""
    done = rescore(env, "--rubric", "tone", "--since", SINCE, "--batch")
    assert done.exit_code == 1
    assert f"{OPENAI} asks OpenAI Decisions, which has no batch endpoint" in done.stderr
    assert f"chat-draws:https://api.openai.com/v1#{MODEL}" in done.stderr
    local = rescore({**env, "LOWLIGHT_CRITIC": "local"}, "--rubric", "tone", "--since", SINCE, "--batch")
    assert "local has no batch endpoint; leave --batch out." in local.stderr


def test_by_batch_the_estimate_is_half_and_the_work_waits_for_a_batch(
    critics: Settings, env: dict[str, str], rubrics_dir: Path
) -> None:
    """The price table's `batch_factor`; broken off half-way, the same command makes the rest."""
    store = OpenStore(critics.database_url)
    answered_and_edited(critics, store, rubrics_dir)
    priced = text("update score set cost_usd = 0.02, critic = 'anthropic:claude-sonnet-4-5'")
    store.write(lambda connection: connection.execute(priced).rowcount)
    store.close()
    anthropic = {**env, "LOWLIGHT_CRITIC": "anthropic:claude-sonnet-4-5", "ANTHROPIC_API_KEY": "sk-test"}
    asked = ("--rubric", "tone", "--since", SINCE, "--batch")

    told = rescore(anthropic, *asked, "--dry-run")
    assert "They will cost about 0.20 USD, by the mean of the last 20 answers." in told.stdout, told.output
    assert "By batch: the answers come within a day, at 0.5 of the price" in told.stdout
    some = rescore(anthropic, *asked, "--where", "model=small", "--yes")
    assert "10 answers are due." in some.stdout, some.output
    rest = rescore(anthropic, *asked, "--yes")
    assert "10 answers are due." in rest.stdout, rest.output
    store = OpenStore(critics.database_url)
    with store.read() as connection:
        waiting = text("select count(*), min(not_before_ms) from score where batch = 0")
        n, not_before_ms = connection.execute(waiting).one()
    store.close()
    assert n == 20
    assert not_before_ms > time.time() * 1000 * 100, "the ordinary queue never meets them"
