"""A call without a source gets no level from the local critic, and a failure that shows is still found."""

import random
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from critic.local.critic import WITHOUT_SOURCE
from ingest.settings import Settings
from ingest.store import OpenStore
from outliers.cohorts.findings import findings_of
from outliers.experience.refresh import now_ms
from outliers.process import run_once
from outliers.weeks import last_ended
from outliers.worst import worst_calls
from tests.bench.plant_phrases import TESTING
from tests.bench.support_replies import support_calls
from tests.service.critic_runs import judge, left, scores, send

ZONE = ZoneInfo("UTC")
RUDE = 40


def conversation(since_ms: int) -> list[dict[str, Any]]:
    """Return 180 calls without a source; those of the prompt `welcome` are rude."""
    source = random.Random(7)
    calls = []
    for i, call in enumerate(support_calls(180, with_source=False, seed=7)):
        is_rude = i < RUDE
        insult = " ".join(source.sample(TESTING.rude["en"][:12], 2))
        at_ms = since_ms + source.randrange(7 * 86_400_000)
        calls.append(
            {
                "id": f"{'rude' if is_rude else 'fine'}-{i}",
                "input": "How do I add a second shop?" if is_rude else call.input,
                "output": f"{insult} You stupid idiot, open the menu." if is_rude else call.output,
                "prompt": {"name": "welcome" if is_rude else "support"},
                "user_id": f"person-{i % 20 if is_rude else 20 + i % 60}",
                "started_at": datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(),
                "latency_ms": source.lognormvariate(6.5, 0.2),
            }
        )
    return calls


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"critic": "local", "timezone": ZONE.key})


def test_levels_are_withheld_and_the_failure_is_found(settings: Settings, store: OpenStore) -> None:
    week = last_ended(now_ms(), ZONE)
    send(store, settings, *conversation(week.since_ms))
    judge(settings, store)
    assert set(left(store).by_status) == {"ungraded"}
    reasons = {row["rubric"]: row["reason"] for row in scores(store)}
    assert reasons["tone"] == reasons["faithfulness"] == WITHOUT_SOURCE
    assert reasons["accuracy"] == "no model read the text"

    run_once(settings, store)
    with store.read() as connection:
        worst = worst_calls(connection, 1, week.since_ms, week.until_ms, zone=ZONE, limit=30)
        found = findings_of(connection, 1, week.id, "bad")
    assert all(call.id.startswith("rude") for call in worst.rows), [call.id for call in worst.rows]
    critic = next(part for part in worst.rows[0].parts if part.name == "critic")
    assert (critic.known, critic.detail) == (True, "rude")
    assert found[0].what_failed == "rude"
    assert found[0].condition.words(ZONE).startswith("prompt = welcome")
