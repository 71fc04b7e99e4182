"""What a provider's refusal of a request means: for this case, or for the critic as a whole.

Flow: an SDK's status error -> `Failure` -> `verdict_on` -> a verdict, or an error for the worker.
The statuses mean the same at every provider; which codes mean a spent quota is each driver's own knowledge.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from critic.drivers.base import (
    CannotJudge,
    CriticMisconfigured,
    CriticUnavailable,
    Refused,
    Unusable,
    Verdict,
)
from critic.drivers.waits import retry_after_s

#: The part of a provider's own words that is kept as a reason.
REASON_CHARS_MAX = 300


@dataclass(frozen=True)
class Failure:
    """A request that a provider answered with an error status.

    Attributes:
        quota_spent, wrong_model, too_long, declined: what its code says beyond the status.
    """

    critic: str
    status: int
    message: str
    headers: Mapping[str, str]
    key_variable: str
    quota_spent: bool = False
    wrong_model: bool = False
    too_long: bool = False
    declined: bool = False


def verdict_on(failure: Failure) -> Verdict:
    """Return what a failure means for its case.

    Raises:
        CriticUnavailable: 408, 409, 429 and 5xx; worth another try. Where a gateway gave up waiting (408,
            504, 524) the model behind it may have gone on.
        CriticMisconfigured: bad key, no permission, no such model, quota spent, 3xx.
    """
    status = failure.status
    said = f"{failure.critic} answered {status}: {short(failure.message)}"
    if failure.quota_spent or failure.wrong_model or 300 <= status < 400 or status in (401, 402, 403, 404):
        raise CriticMisconfigured(_what_to_do(failure))
    if status in (408, 409, 429) or status >= 500:
        raise CriticUnavailable(
            said,
            retry_after_s=retry_after_s(failure.headers),
            busy=status in (429, 503, 529),
            blames_call=status in (408, 409),
            in_doubt=status in (504, 524),
        )
    if failure.too_long or status == 413:
        return CannotJudge(f"the call is longer than {failure.critic} reads")
    if failure.declined:
        return Refused(said, charged=False)
    return Unusable(said, charged=False)


def _what_to_do(failure: Failure) -> str:
    """Return the remedy in our own words: a provider's words on a bad key quote the key."""
    critic, status = failure.critic, failure.status
    if 300 <= status < 400:
        return f"{critic} points elsewhere ({status}): name the address that answers; no text follows"
    if failure.quota_spent:
        return f"the quota of {critic} is spent ({status}): see the account's billing"
    if failure.wrong_model or status == 404:
        return f"{critic} is not there ({status}): see the model's name and the provider's address"
    if status == 401:
        return f"{critic} did not accept the key (401): set {failure.key_variable} and start again"
    if status == 402:
        return f"{critic} wants payment (402): see the account's billing"
    return f"{critic} does not allow this key to ask ({status}): see the key's permissions"


def may_have_arrived(error: BaseException | None) -> bool:
    """Whether a request that a connection failed under may have reached the provider, and be charged."""
    import httpx2

    return not isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)


def short(said: object) -> str:
    """Return what was said, or its type where it is empty, cut to a length that a page can show."""
    text = str(said) or type(said).__name__
    return text if len(text) <= REASON_CHARS_MAX else f"{text[:REASON_CHARS_MAX]} ..."
