"""What really went over the wire, for whoever wants to see it: `lowlight critic try`.

Flow: a driver made with `watch` -> its HTTP client's hooks -> one `Exchange` a request. Keys are left out.
"""

from dataclasses import dataclass, field
from typing import Any

#: Headers that carry a key, by any provider's name for it.
_SECRET = ("authorization", "x-api-key", "api-key", "proxy-authorization", "cookie")


@dataclass
class Exchange:
    """One request and what came back; `status` and `answer` are None where nothing did."""

    method: str
    url: str
    headers: dict[str, str]
    body: str
    status: int | None = None
    answer: str | None = None


@dataclass
class Watch:
    """Collects the exchanges of the clients that were made with its hooks, in the order sent."""

    exchanges: list[Exchange] = field(default_factory=list)

    def hooks(self) -> dict[str, list[Any]]:
        """Return httpx2's `event_hooks`."""
        return {"request": [self._sent], "response": [self._came]}

    async def _sent(self, request: Any) -> None:
        headers = {
            name: "(left out)" if name.lower() in _SECRET else value
            for name, value in request.headers.items()
        }
        body = (await request.aread()).decode("utf-8", "replace")
        exchange = Exchange(request.method, str(request.url), headers, body)
        request.extensions["lowlight"] = exchange
        self.exchanges.append(exchange)

    async def _came(self, response: Any) -> None:
        exchange = response.request.extensions["lowlight"]
        exchange.status = response.status_code
        exchange.answer = (await response.aread()).decode("utf-8", "replace")
