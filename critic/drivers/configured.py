"""From LOWLIGHT_CRITIC to drivers, first choice first.

Flow: Settings.critics ("openai:gpt-6-luna", "local") -> `build` -> critic.worker. Providers' packages are
imported by the driver that needs them, at its first judgement, so that the server can check the settings
with this and stay small.
"""

from pydantic import SecretStr

from critic.drivers.base import Driver
from ingest.errors import BadSettings
from ingest.settings import Settings

KINDS = "local, openai:MODEL, anthropic:MODEL or none"


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
        drivers.append(_driver(name, settings))
    return drivers


def _driver(name: str, settings: Settings) -> Driver:
    kind, _, model = name.partition(":")
    if name == "local":
        from critic.drivers.local import LocalDriver

        return LocalDriver(settings.base_rate)
    if kind == "openai" and model:
        from critic.drivers.openai_decisions import OpenAIDecisions

        return OpenAIDecisions(
            name,
            model,
            api_key=_key(name, "OPENAI_API_KEY", settings.openai_api_key),
            base_url=settings.openai_base_url,
            timeout_s=settings.critic_timeout_s,
        )
    if kind == "anthropic" and model:
        from critic.drivers.anthropic_messages import AnthropicMessages

        return AnthropicMessages(
            name,
            model,
            api_key=_key(name, "ANTHROPIC_API_KEY", settings.anthropic_api_key),
            base_url=settings.anthropic_base_url,
            timeout_s=settings.critic_timeout_s,
        )
    raise BadSettings(f"LOWLIGHT_CRITIC: {name!r} is no critic; take {KINDS}, comma-separated")


def _key(critic: str, variable: str, value: SecretStr | None) -> str:
    if value is None or not value.get_secret_value().strip():
        raise BadSettings(f"{variable} is not set, and the critic {critic} needs it; set it to your key")
    return value.get_secret_value().strip()
