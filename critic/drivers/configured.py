"""From LOWLIGHT_CRITIC to drivers, first choice first.

Flow: Settings.critics ("openai:gpt-6-luna", "local") -> `build` -> critic.working.worker. Providers' packages
are imported by the driver that needs them, at its first judgement, so that the server can check the settings
with this and stay small.
"""

from collections.abc import Callable
from typing import Any

from pydantic import SecretStr

from critic.drivers.address import address_of
from critic.drivers.base import Driver
from critic.drivers.watching import Watch
from ingest.errors import BadSettings
from ingest.settings import Settings, without_password

KINDS = (
    "local, openai:MODEL, anthropic:MODEL, systemone:URL#MODEL, chat-logprobs:URL#MODEL, "
    "chat-draws:URL#MODEL or none"
)
#: Whose key is used where LOWLIGHT_CRITIC_KEYS has none for the host.
_OPENAI_HOST = "api.openai.com"


def wanted(settings: Settings) -> bool:
    """Tell whether any critic is configured; `LOWLIGHT_CRITIC=none` runs the server without one.

    Todo rows are kept meanwhile: a critic that is configured later takes them up.
    """
    return settings.critics not in ([], ["none"])


def build(settings: Settings) -> list[Driver]:
    """Return a driver per configured critic, in the configured order; none for `none`.

    Raises:
        BadSettings: an unknown critic, one named twice, or a provider without its key.
    """
    if not wanted(settings):
        return []
    drivers: list[Driver] = []
    for name in settings.critics:
        if any(driver.name == name for driver in drivers):
            raise BadSettings(f"LOWLIGHT_CRITIC: {name!r} is named twice; name each critic once")
        drivers.append(build_one(name, settings))
    return drivers


def build_one(name: str, settings: Settings, *, watch: Watch | None = None) -> Driver:
    """Return the driver of one critic's name, whether or not the settings list it.

    Args:
        watch: is told of every request and what came back.

    Raises:
        BadSettings: an unknown critic, or a provider without its key.
    """
    kind, _, of_what = name.partition(":")
    shared: dict[str, Any] = {
        "timeout_s": settings.critic_timeout_s,
        "view_chars_max": settings.critic_view_chars,
        "watch": watch,
    }
    if name == "local":
        from critic.drivers.local import LocalDriver

        return LocalDriver(settings.base_rate)
    if kind == "openai" and of_what:
        from critic.drivers.openai_decisions import OpenAIDecisions

        key, url = _key(name, "OPENAI_API_KEY", settings.openai_api_key), settings.openai_base_url
        return OpenAIDecisions(name, of_what, api_key=key, base_url=url, **shared)
    if kind == "anthropic" and of_what:
        from critic.drivers.anthropic_messages import AnthropicMessages

        key, url = _key(name, "ANTHROPIC_API_KEY", settings.anthropic_api_key), settings.anthropic_base_url
        return AnthropicMessages(name, of_what, api_key=key, base_url=url, **shared)
    if kind in ("systemone", "chat-logprobs", "chat-draws"):
        return _by_address(name, kind, of_what, settings, shared)
    raise BadSettings(f"LOWLIGHT_CRITIC: {name!r} is no critic; take {KINDS}, comma-separated")


def _by_address(name: str, kind: str, where: str, settings: Settings, shared: dict[str, Any]) -> Driver:
    from critic.drivers.chat_draws import ChatDraws
    from critic.drivers.chat_logprobs import ChatLogprobs
    from critic.drivers.systemone import SystemOne

    kinds: dict[str, Callable[..., Driver]] = {
        "systemone": SystemOne,
        "chat-logprobs": ChatLogprobs,
        "chat-draws": ChatDraws,
    }
    path = "/systemone" if kind == "systemone" else "/chat/completions"
    address = address_of(where, path=path)
    if address is None:
        raise BadSettings(
            f"LOWLIGHT_CRITIC: {without_password(name)!r} names no address and model; write "
            f"{kind}:URL#MODEL, for example {kind}:http://127.0.0.1:11434#MODEL (a key or password goes into "
            "LOWLIGHT_CRITIC_KEYS)"
        )
    return kinds[kind](name, address, api_key=_key_for(address.host, settings), **shared)


def _key_for(host: str, settings: Settings) -> str | None:
    """Return the key of a host. It goes nowhere else, and a host without one is asked without."""
    by_host = {named.lower(): key.get_secret_value().strip() for named, key in settings.critic_keys.items()}
    if host not in by_host and host == _OPENAI_HOST and settings.openai_api_key is not None:
        return settings.openai_api_key.get_secret_value().strip()
    return by_host.get(host) or None


def _key(critic: str, variable: str, value: SecretStr | None) -> str:
    if value is None or not value.get_secret_value().strip():
        raise BadSettings(f"{variable} is not set, and the critic {critic} needs it; set it to your key")
    return value.get_secret_value().strip()
