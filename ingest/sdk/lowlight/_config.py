"""A client's settings: arguments first, then the environment. Read when a client is made, never at import."""

import os
from typing import Any, NamedTuple, Optional

DEFAULT_URL = "http://127.0.0.1:4545"


class Config(NamedTuple):
    """Where to send, and what every call carries."""

    url: str
    key: str
    enabled: bool
    environment: Optional[str]
    release: Optional[str]
    timeout_s: float


def read_config(
    url: Any = None,
    key: Any = None,
    enabled: Any = None,
    environment: Any = None,
    release: Any = None,
    timeout_s: Any = None,
) -> Config:
    """Return the settings; an argument that is None is taken from LOWLIGHT_<NAME>, then from the default."""
    given = os.environ.get("LOWLIGHT_ENABLED", "") if enabled is None else enabled
    try:
        seconds = float(timeout_s) if timeout_s is not None else 10.0
    except (TypeError, ValueError):
        seconds = 10.0
    return Config(
        url=_chosen(url, "LOWLIGHT_URL") or DEFAULT_URL,
        key=_chosen(key, "LOWLIGHT_KEY") or "",
        enabled=str(given).strip().lower() not in ("0", "false", "no", "off"),
        environment=_chosen(environment, "LOWLIGHT_ENVIRONMENT"),
        release=_chosen(release, "LOWLIGHT_RELEASE"),
        timeout_s=seconds if seconds > 0 else 10.0,
    )


def _chosen(value: Any, variable: str) -> Optional[str]:
    text = str(os.environ.get(variable, "") if value is None else value).strip()
    return text or None
