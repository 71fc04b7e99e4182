"""Where a command writes: through the server that runs for the database, or into the store itself.

Flow: `open_door(settings)` -> the lock file tells -> `HttpDoor` (POST /v1/calls, /v1/signals) or `StoreDoor`
(`ingest.intake`, under the server's own lock) -> receipts.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from api.errors import ApiError
from api.terminal import plain
from ingest.errors import StoreUnavailable
from ingest.intake import Intake
from ingest.lock import ServerLock, server_of
from ingest.settings import Settings
from ingest.store import OpenStore, sqlite_path
from ingest.tables import DEFAULT_PROJECT
from ingest.wire import Receipt, calls_of, signals_of

TIMEOUT_S = 60.0
#: Tries of one request while the server says that it is busy.
TRIES = 5

#: The server is on this machine: no proxy that the environment names lies between.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_NOTHING = Receipt(accepted=0, duplicates=0, rejected=[], unknown_fields=[])


class ServerTrouble(ApiError):
    """A running server did not answer, or refused; the message says which and what it said.

    Attributes:
        status: HTTP status; None where there was no answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class HttpDoor:
    """Writes through a running server."""

    def __init__(self, address: str) -> None:
        self.address = address

    def send(self, calls: list[dict[str, Any]], signals: list[dict[str, Any]]) -> tuple[Receipt, Receipt]:
        """See `api.files.importing.Door`."""
        kept = self._post("calls", calls) if calls else _NOTHING
        return kept, self._post("signals", signals) if signals else _NOTHING

    def _post(self, name: str, items: list[dict[str, Any]]) -> Receipt:
        return Receipt.model_validate(ask(f"{self.address}/v1/{name}", {name: items}))


class StoreDoor:
    """Writes into the store itself."""

    def __init__(self, store: OpenStore, settings: Settings) -> None:
        self.store = store
        self._intake = Intake(store, settings)

    def send(self, calls: list[dict[str, Any]], signals: list[dict[str, Any]]) -> tuple[Receipt, Receipt]:
        """See `api.files.importing.Door`."""
        kept = self._intake.accept_calls(DEFAULT_PROJECT, calls_of(calls)) if calls else _NOTHING
        noted = self._intake.accept_signals(DEFAULT_PROJECT, signals_of(signals)) if signals else _NOTHING
        return kept, noted


def running_server(settings: Settings) -> str | None:
    """Return the address of the server of this database; None where none runs (or none can be known).

    Raises:
        AlreadyServed: one is just starting.
    """
    path = sqlite_path(settings.database_url)
    return server_of(path) if path is not None else None


@contextmanager
def open_door(settings: Settings) -> Iterator[HttpDoor | StoreDoor]:
    """Open the door for one command; no server can start on the file meanwhile.

    Raises:
        IngestError: the database is locked, missing its folder, or cannot be written.
    """
    address = running_server(settings)
    if address is not None:
        yield HttpDoor(address)
        return
    from api.schema import upgrade

    path = sqlite_path(settings.database_url)
    if path is None:
        yield StoreDoor(OpenStore(settings.database_url), settings)
        return
    with ServerLock(path):
        upgrade(settings.database_url)
        store = OpenStore(settings.database_url)
        try:
            yield StoreDoor(store, settings)
        finally:
            store.close()


def ask(url: str, body: dict[str, Any] | None = None) -> Any:
    """GET, or POST a body, and return the JSON of the answer; a busy server is asked again.

    Raises:
        ServerTrouble: no answer, or an error; the message holds what the server said.
    """
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310 (our own)
    for attempt in range(1, TRIES + 1):
        try:
            with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")
            if error.code != 503 or attempt == TRIES:
                raise ServerTrouble(_told(url, error.code, said), error.code) from None
            time.sleep(float(error.headers.get("Retry-After") or 1))
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise ServerTrouble(f"{url} does not answer: {reason}. Is `lowlight serve` still up?") from None
    raise StoreUnavailable(f"{url} stayed busy.")


def _told(url: str, status: int, said: str) -> str:
    """Return a refusal's message alone, as without a server; what is no answer of ours has its URL."""
    try:
        return str(json.loads(said)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{url} answered {status}: {plain(said[:200])}"
