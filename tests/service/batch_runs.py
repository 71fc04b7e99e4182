"""Re-scoring by batch in a test: old calls answered once, their rubric edited, a loopback batch endpoint."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import text

from api.routes.rescore import RescoreAsked, RescorePage, rescore
from critic.batching.lane import Waits
from critic.queue import Backlog
from ingest.settings import Settings
from ingest.store import OpenStore
from tests.providers import anthropic_messages, chat
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
        asked = RescoreAsked.model_validate(
            {"rubric": "tone", "since": "2026-01-01T00:00:00Z", "batch": batch, "dry_run": dry_run}
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
