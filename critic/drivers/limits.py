"""What a provider's headers say is left of its rate limits.

Flow: the headers of any answer -> `limits_of` -> `Driver.limits` -> critic.working.lane, which sets its pace
by it.
"""

import math
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

#: Headers of the requests left, of the tokens left, and of when either is whole again. OpenAI and what copies
#: it; Anthropic.
_REQUESTS = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
)
_TOKENS = (
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
)
_REQUESTS_MAX = ("x-ratelimit-limit-requests", "anthropic-ratelimit-requests-limit")


@dataclass(frozen=True)
class Limits:
    """What is left until the limits are whole again. None where the provider does not say.

    Attributes:
        requests_left, tokens_left: of the present window; of several token limits the tightest.
        requests_max: requests of a whole window.
        resets_in_s: seconds until the tighter of those that are used up is whole again; where none is,
            until the first is.
        at_s: `time.monotonic()` of the answer.
    """

    requests_left: int | None
    tokens_left: int | None
    requests_max: int | None
    resets_in_s: float | None
    at_s: float

    @property
    def spent(self) -> bool:
        """Whether nothing may be sent before the reset."""
        return self.requests_left == 0 or self.tokens_left == 0


def limits_of(headers: Mapping[str, str], *, now_s: float | None = None) -> Limits | None:
    """Return what headers say about limits; None where they say nothing.

    Args:
        headers: must find names in any case, as the SDKs' own do.
        now_s: the wall clock, for resets that are named as a time of day.
    """
    requests = list(_left(headers, _REQUESTS, now_s))
    tokens = list(_left(headers, _TOKENS, now_s))
    if not requests and not tokens:
        return None
    requests_max = next((n for name in _REQUESTS_MAX if (n := _whole(headers.get(name))) is not None), None)
    resets = [(left, reset_s) for left, reset_s in (*requests, *tokens) if reset_s is not None]
    used_up = [reset_s for left, reset_s in resets if left == 0]
    return Limits(
        requests_left=min((left for left, _reset_s in requests), default=None),
        tokens_left=min((left for left, _reset_s in tokens), default=None),
        requests_max=requests_max,
        resets_in_s=max(used_up) if used_up else min((reset_s for _left, reset_s in resets), default=None),
        at_s=time.monotonic(),
    )


def _left(
    headers: Mapping[str, str], names: Iterable[tuple[str, str]], now_s: float | None
) -> Iterable[tuple[int, float | None]]:
    for remaining, reset in names:
        left = _whole(headers.get(remaining))
        if left is not None:
            yield left, span_s(headers.get(reset), now_s)


def _whole(sent: str | None) -> int | None:
    # Some gateways send "149984.0"; anything but a number from 0 on says nothing.
    try:
        number = float(sent or "")
    except ValueError:
        return None
    return int(number) if math.isfinite(number) and number >= 0 else None


def span_s(sent: str | None, now_s: float | None = None) -> float | None:
    """Return seconds from "6m0s", "120ms", "1.5" or an RFC 3339 time; None where it is none of them."""
    if not sent:
        return None
    text = sent.strip()
    if _SPAN.sub("", text) == "":
        return math.fsum(float(number) * _SECONDS[unit] for number, unit in _SPAN.findall(text))
    try:
        seconds = float(text)
        return seconds if math.isfinite(seconds) and seconds >= 0 else None
    except ValueError:
        pass
    try:
        until_s = datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
    return max(0.0, until_s - (time.time() if now_s is None else now_s))
