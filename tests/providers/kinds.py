"""The drivers that ask a provider, each with the loopback server it asks: what the suite runs over."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from critic.drivers import build_one
from critic.drivers.base import Driver, Verdict
from critic.drivers.watching import Watch
from ingest.settings import Settings
from tests.providers import anthropic_messages, chat, openai_decisions, systemone
from tests.providers.cases import case_of
from tests.providers.loopback import Fault

T = TypeVar("T")


@dataclass(frozen=True)
class Kind:
    """One kind of driver and the provider that it asks.

    Attributes:
        named: the critic's name at an address, for a model.
        settings: what the settings must say, for an address and a key.
        quota: how this provider says that the quota is spent.
        one_refused: whether it can refuse one question among several.
    """

    name: str
    make: Callable[[], Any]
    model: str
    key: str
    named: Callable[[str, str], str]
    settings: Callable[[str, str], dict[str, Any]]
    key_variable: str
    quota: Fault
    one_refused: bool = False


def _keys(_url: str, key: str) -> dict[str, Any]:
    return {"critic_keys": {"127.0.0.1": key}}


QUOTA = Fault(429, "insufficient_quota", "insufficient_quota", headers={"retry-after": "1"})
KINDS = [
    Kind(
        "openai",
        openai_decisions.DecisionsProvider,
        openai_decisions.MODEL,
        openai_decisions.KEY,
        lambda _url, model: f"openai:{model}",
        lambda url, key: {"openai_api_key": key, "openai_base_url": url},
        "OPENAI_API_KEY",
        QUOTA,
        one_refused=True,
    ),
    Kind(
        "anthropic",
        anthropic_messages.MessagesProvider,
        anthropic_messages.MODEL,
        anthropic_messages.KEY,
        lambda _url, model: f"anthropic:{model}",
        lambda url, key: {"anthropic_api_key": key, "anthropic_base_url": url},
        "ANTHROPIC_API_KEY",
        Fault(429, "contract_spend_limit_reached"),
    ),
    Kind(
        "systemone",
        systemone.SystemOneProvider,
        systemone.MODEL,
        systemone.KEY,
        lambda url, model: f"systemone:{url}#{model}",
        _keys,
        "LOWLIGHT_CRITIC_KEYS",
        QUOTA,
        one_refused=True,
    ),
    Kind(
        "chat-logprobs",
        chat.ChatProvider,
        chat.MODEL,
        chat.KEY,
        lambda url, model: f"chat-logprobs:{url}#{model}",
        _keys,
        "LOWLIGHT_CRITIC_KEYS",
        QUOTA,
    ),
    Kind(
        "chat-draws",
        chat.ChatProvider,
        chat.MODEL,
        chat.KEY,
        lambda url, model: f"chat-draws:{url}#{model}",
        _keys,
        "LOWLIGHT_CRITIC_KEYS",
        QUOTA,
    ),
]


@dataclass
class Asked:
    """A kind with its provider up."""

    kind: Kind
    provider: Any
    settings: Settings

    def driver(self, *, model: str | None = None, watch: Watch | None = None, **more: Any) -> Driver:
        """Return the driver, or one with another model, time limit or key."""
        url = more.pop("url", self.provider.url)
        key = more.pop("key", self.kind.key)
        kept = self.settings.model_dump(exclude={"openai_api_key", "anthropic_api_key", "critic_keys"})
        changed = Settings(**{**kept, **self.kind.settings(url, key), **more})
        return build_one(self.kind.named(url, model or self.kind.model), changed, watch=watch)

    def judge(self, case: Any = None, **more: Any) -> Sequence[Verdict]:
        """Return the verdicts on one case; the driver is closed after."""
        return judged(self.driver(**more), case or case_of())


def judged(driver: Driver, case: Any) -> Sequence[Verdict]:
    async def _judged() -> Sequence[Verdict]:
        try:
            return await driver.judge(case)
        finally:
            await driver.close()

    return run(_judged())


def run(what: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(what)
