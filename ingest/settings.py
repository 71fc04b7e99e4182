"""The settings: built once by the command line and handed down; nothing else reads the environment."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from ingest.errors import BadSettings


class Settings(BaseSettings):
    """Each field is the environment variable LOWLIGHT_<NAME>; its description is the README's table."""

    model_config = SettingsConfigDict(env_prefix="LOWLIGHT_", populate_by_name=True, frozen=True)

    database_url: str = Field(
        "sqlite:///lowlight.db",
        description="Where everything is kept: one SQLite file that needs no server.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on; only loopback while no key exists.")
    port: int = Field(4545, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    allowed_hosts: str = Field(
        "localhost,127.0.0.1,[::1]",
        description="Host headers answered, comma-separated, without port; others get 400.",
    )
    critic: str = Field(
        "local",
        description="Critics, first choice first, comma-separated: `local`, `openai:gpt-6-luna`, "
        "`anthropic:MODEL`, `systemone:URL#MODEL`, `chat-logprobs:URL#MODEL`, `chat-draws:URL#MODEL`; "
        "or `none`.",
    )
    egress: str = Field(
        "",
        description="Prompts whose texts may go to a named provider, comma-separated patterns: "
        "`support-*,faq`, or `*` for all; `openai:support-*` for one provider, `openai/shop:*` for another "
        "project. Empty: no text leaves this machine.",
    )
    openai_api_key: SecretStr | None = Field(
        None, validation_alias="OPENAI_API_KEY", description="Key of the `openai:` critic."
    )
    openai_base_url: str | None = Field(
        None, validation_alias="OPENAI_BASE_URL", description="Another address of the OpenAI API."
    )
    anthropic_api_key: SecretStr | None = Field(
        None, validation_alias="ANTHROPIC_API_KEY", description="Key of the `anthropic:` critic."
    )
    anthropic_base_url: str | None = Field(
        None, validation_alias="ANTHROPIC_BASE_URL", description="Another address of the Anthropic API."
    )
    critic_keys: dict[str, SecretStr] = Field(
        default_factory=dict,
        description='Keys of critics named by an address, by host, as JSON: `{"openrouter.ai": "..."}`.',
    )
    critic_view_chars: int | None = Field(
        None,
        ge=1000,
        le=200_000,
        description="Most characters of a call that a critic is shown; a longer one loses its middle. "
        "Default: 200000 for `openai:` and `anthropic:`, 48000 for a critic named by an address.",
    )
    critic_budget_usd: float | dict[str, float] | None = Field(
        None,
        description="Most that a provider's critic may spend a UTC day, in US dollars: a number for each of "
        'them, or by critic as JSON: `{"openai:gpt-6-luna": 2.5}`. Empty: no limit, every call is judged.',
    )
    critic_uniform_share: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Part of that budget kept for a uniform sample of all calls, which means rest on.",
    )
    prices: Path | None = Field(
        None,
        description="TOML file with prices of your own, before the shipped ones "
        "(`critic/spending/prices.toml` shows the form).",
    )
    critic_timeout_s: float = Field(
        30.0, gt=0, allow_inf_nan=False, description="Longest wait for one answer of a critic."
    )
    critic_in_flight_max: int = Field(
        100,
        ge=1,
        le=1000,
        description="Most judgements in flight at once, each critic; hung ones, five times as long as usual, "
        "are waited for beside them.",
    )
    critic_retry_s: float = Field(
        2.0,
        gt=0,
        allow_inf_nan=False,
        description="First wait after a provider gave no answer; doubles up to five minutes.",
    )
    critic_poll_s: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="How long the critic waits when it found no work."
    )
    otlp_quiet_s: float = Field(
        10.0,
        ge=0,
        allow_inf_nan=False,
        description="How long after its last OpenTelemetry span or log a call is counted and judged; "
        "exporters send every 5 s.",
    )
    otlp_open_s: float = Field(
        60.0,
        ge=0,
        allow_inf_nan=False,
        description="The same where a part of the call is known to be missing.",
    )
    reader: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether large bodies that wait for one another are read in a process of their own, "
        "which starts then and ends when idle: `auto` where the server may use two processors.",
    )
    refresh_s: float = Field(
        30.0,
        gt=0,
        allow_inf_nan=False,
        description="Least time between two rankings of the worst. Causes and the case follow once no call "
        "is new, or every tenth time.",
    )
    rubrics_dir: Path = Field(
        Path(__file__).resolve().parent.parent / "rubrics",
        description="Folder of the rubric files (`*.jinja`), best a folder of your own git repository.",
    )
    log_format: Literal["auto", "text", "json"] = Field(
        "auto",
        description="The log on stderr: `json` lines, `text`, or `auto`: text on a terminal, JSON elsewhere.",
    )
    timezone: str = Field("UTC", description="Time zone in which a week starts on Monday at 00:00.")
    base_rate: float = Field(
        0.02, gt=0, lt=1, description="Expected share of outputs with a visible failure, until labels say."
    )
    signal_polarity: dict[str, Annotated[float, Field(ge=-1, le=1)]] = Field(
        default_factory=dict,
        description='Your own signals, from -1 (bad) to 1 (good), as JSON: `{"refund": -1}`.',
    )

    @field_validator("critic_budget_usd", mode="before")
    @classmethod
    def _no_budget(cls, value: Any) -> Any:
        return None if value == "" else value

    @field_validator("critic_budget_usd")
    @classmethod
    def _budget_in_dollars(cls, value: float | dict[str, float] | None) -> float | dict[str, float] | None:
        amounts = value.values() if isinstance(value, dict) else () if value is None else (value,)
        if any(not 0 <= amount < float("inf") for amount in amounts):
            raise ValueError("a budget is a number of US dollars from 0 on")
        return value

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError("not a time zone of this machine; take a name such as Europe/Berlin")
        return value

    @property
    def zone(self) -> ZoneInfo:
        """The time zone that weeks are cut in."""
        return ZoneInfo(self.timezone)

    @property
    def critics(self) -> list[str]:
        """The configured critics, first choice first."""
        return [name.strip() for name in self.critic.split(",") if name.strip()]


#: Variables of the SDK, which may run on this machine too, and of our tests.
_NOT_OURS = frozenset(
    f"LOWLIGHT_{name}"
    for name in (
        *("URL", "KEY", "ENABLED", "SAMPLE", "SPOOL", "ENVIRONMENT", "RELEASE"),
        *("DATA", "REQUIRE_DATA", "BROWSER", "FAULTS_SEED"),
    )
)


def unknown_variables(names: Iterable[str]) -> list[str]:
    """Say of each variable that is called like a setting and is none what it may have meant."""
    known = {f"LOWLIGHT_{field.upper()}" for field in Settings.model_fields} | _NOT_OURS
    found = []
    for name in sorted(name for name in names if name.startswith("LOWLIGHT_") and name not in known):
        near = get_close_matches(name, known, 1)
        found.append(f"{name} is no setting" + (f"; did you mean {near[0]}?" if near else ""))
    return found


def without_password(address: str) -> str:
    """Return an address as it may be shown: user and password before the host are left out."""
    return re.sub(r"//[^/?#]*@", "//(left out)@", address)


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment; `overrides` (field name to value) win where not None.

    Raises:
        BadSettings: names each variable that cannot be used, and why.
    """
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            name = str(problem["loc"][0]) if problem["loc"] else "?"
            variable = name if name.isupper() else f"LOWLIGHT_{name.upper()}"
            lines.append(f"{variable}: {problem['msg'].removeprefix('Value error, ')}")
        raise BadSettings("\n".join(lines)) from None
    except SettingsError as error:
        # A value that should be JSON and is not; pydantic names the field in its words only.
        named = [name for name in Settings.model_fields if f'"{name}"' in str(error)]
        variable = f"LOWLIGHT_{named[0].upper()}" if named else "A setting"
        raise BadSettings(f"{variable}: is not JSON; see the README's table for an example") from None
