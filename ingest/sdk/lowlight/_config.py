"""A client's settings: arguments first, then the environment. Read at the first use, never at import."""

import os
from typing import Any, Callable, NamedTuple, Optional

from lowlight._limits import NAME_CHARS_MAX

DEFAULT_URL = "http://127.0.0.1:4545"
SPOOL_BYTES_MAX = 256 * 1024 * 1024
TIMEOUT_S = 10.0

#: What an application may do to each text before it leaves the process.
Redact = Callable[[str], str]


class Given(NamedTuple):
    """What the application's code asked for; None where it left that to the environment."""

    url: Any = None
    key: Any = None
    enabled: Any = None
    environment: Any = None
    release: Any = None
    sample: Any = None
    capture_content: Any = None
    redact: Any = None
    spool: Any = None
    spool_bytes_max: Any = None
    timeout_s: Any = None


class Config(NamedTuple):
    """Where to send, and what every call carries."""

    url: str
    key: str
    enabled: bool
    environment: Optional[str]
    release: Optional[str]
    sample: float
    capture_content: bool
    redact: Optional[Redact]
    spool: Optional[str]
    spool_bytes_max: int
    timeout_s: float


#: Takes a kind of warning and what is to be said.
Warn = Callable[[str, str], None]


def read_config(given: Given, warn: Warn) -> Config:
    """Return the settings; what is None in `given` is taken from LOWLIGHT_<NAME>, then from the default.

    What cannot be read is told to `warn`, and the default stands in.
    """

    def number(name: str, value: Any, default: float, most: float) -> float:
        if value is None:
            return default
        try:
            found = float(value)
        except Exception:
            found = -1.0
        if 0 <= found <= most:
            return found
        warn(name, f"{name}={value!r:.100} is no number of 0 to {most:g}; {default:g} is taken")
        return default

    return Config(
        url=_chosen(given.url, "LOWLIGHT_URL") or DEFAULT_URL,
        key=_chosen(given.key, "LOWLIGHT_KEY") or "",
        enabled=_is_enabled(_chosen(given.enabled, "LOWLIGHT_ENABLED"), warn),
        environment=_name(_chosen(given.environment, "LOWLIGHT_ENVIRONMENT")),
        release=_name(_chosen(given.release, "LOWLIGHT_RELEASE")),
        sample=number("LOWLIGHT_SAMPLE", _chosen(given.sample, "LOWLIGHT_SAMPLE"), 1.0, 1.0),
        # a text that cannot be read as yes is no: better a text too few sent than one too many
        capture_content=given.capture_content is None or _is_on(given.capture_content),
        redact=given.redact,
        spool=_chosen(given.spool, "LOWLIGHT_SPOOL"),
        spool_bytes_max=int(number("spool_bytes_max", given.spool_bytes_max, SPOOL_BYTES_MAX, 2.0**50)),
        timeout_s=number("timeout_s", given.timeout_s, TIMEOUT_S, 3600.0) or TIMEOUT_S,
    )


_OFF = ("0", "false", "no", "off")
_ON = ("1", "true", "yes", "on")


def _is_on(value: Any) -> bool:
    return str(value).strip().lower() not in _OFF


def _is_enabled(text: Optional[str], warn: Warn) -> bool:
    if text is not None and text.lower() not in (*_OFF, *_ON):
        warn("LOWLIGHT_ENABLED", f"LOWLIGHT_ENABLED={text!r:.100} is neither true nor false; true is taken")
    return text is None or _is_on(text)


def _name(text: Optional[str]) -> Optional[str]:
    return text and text[:NAME_CHARS_MAX]


def _chosen(value: Any, variable: str) -> Optional[str]:
    text = str(os.environ.get(variable, "") if value is None else value).strip()
    return text or None
