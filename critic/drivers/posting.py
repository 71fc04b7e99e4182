"""Asking a server that is named by its address: one POST, its JSON back, or a classed error.

Flow: critic.drivers.systemone, .chat_logprobs, .chat_draws -> `Posting.post` -> parsed JSON, or the verdict
that an error status is. No retry, no redirect; the key goes to this host only.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from critic.drivers.base import CriticUnavailable, Verdict
from critic.drivers.limits import Limits, limits_of
from critic.drivers.openai_errors import failure_of
from critic.drivers.statuses import may_have_arrived, short, verdict_on
from critic.drivers.watching import Watch

if TYPE_CHECKING:
    import httpx2

KEY_VARIABLE = "LOWLIGHT_CRITIC_KEYS"


class Posting:
    """See the module; opened at the first request.

    Attributes:
        limits: what the headers of the last answer said is left.
    """

    def __init__(
        self, critic: str, base_url: str, api_key: str | None, timeout_s: float, watch: Watch | None
    ) -> None:
        self.limits: Limits | None = None
        self._critic = critic
        self._base_url = base_url
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._watch = watch
        self._opened: httpx2.AsyncClient | None = None

    async def post(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any] | Verdict:
        """Return the object that came back, or the verdict that stands for an error status.

        Raises:
            CriticUnavailable: no connection, no answer in time, no JSON, 408, 409, 429, 5xx.
            CriticMisconfigured: bad key, no permission, no such model or address, quota spent.
        """
        import httpx2

        try:
            # httpx2's own time-outs are between two bytes: a server that drips would never meet them.
            async with asyncio.timeout(self._timeout_s):
                response = await self._client.post(f"{self._base_url}{path}", json=body)
        except (TimeoutError, httpx2.TimeoutException) as error:
            said = f"{self._critic} gave no answer within {self._timeout_s:g} s"
            raise CriticUnavailable(said, blames_call=may_have_arrived(error)) from error
        except httpx2.HTTPError as error:
            said = f"{self._critic} could not be reached: {short(error)}"
            raise CriticUnavailable(said, in_doubt=may_have_arrived(error)) from error
        self.limits = limits_of(response.headers) or self.limits
        if response.status_code >= 300:
            failure = failure_of(
                self._critic,
                response.status_code,
                _parsed(response.content),
                response.headers,
                key_variable=KEY_VARIABLE,
            )
            return verdict_on(failure)
        parsed = _parsed(response.content)
        if not isinstance(parsed, dict):
            said = f"{self._critic} sent an answer that is no JSON object"
            raise CriticUnavailable(said, blames_call=True)
        return parsed

    async def close(self) -> None:
        """Close the connections."""
        if self._opened is not None:
            await self._opened.aclose()

    @property
    def _client(self) -> "httpx2.AsyncClient":
        if self._opened is None:
            import httpx2

            headers = {"authorization": f"Bearer {self._api_key}"} if self._api_key else {}
            self._opened = httpx2.AsyncClient(
                headers=headers,
                timeout=self._timeout_s,
                follow_redirects=False,
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100),
                event_hooks=self._watch.hooks() if self._watch else {},
            )
        return self._opened


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return content.decode("utf-8", "replace")
