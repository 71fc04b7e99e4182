"""Send the demo's traffic as an application would: through the real SDK, over HTTP.

Flow: `Traffic` -> `lowlight.Client.record` and `.signal` -> the server. Some signals overtake their call. The
SDK never raises; what it could not deliver is in its figures, and we read them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import lowlight

from api.demo.traffic import Traffic
from api.errors import ApiError

#: Items between two flushes: the progress bar moves, and little waits in memory.
STRIDE = 250
FLUSH_TIMEOUT_S = 60.0


class NotSent(ApiError):
    """The traffic did not reach the server; the message says how much and why."""


@dataclass(frozen=True)
class Sent:
    """What the server said: new calls and signals, and those that it had already."""

    accepted: int
    duplicates: int


def send(address: str, traffic: Traffic, advanced: Callable[[int], None] = lambda _n: None) -> Sent:
    """Send everything and wait until the server has answered for all of it.

    Args:
        advanced: called with how many items were delivered since the last time.

    Raises:
        NotSent: the server refused something, or did not answer.
    """
    client = lowlight.Client(address, enabled=True)
    try:
        for n in _recorded(client, traffic):
            if not client.flush(FLUSH_TIMEOUT_S):
                raise NotSent(
                    f"{address} took nothing for {FLUSH_TIMEOUT_S:.0f} s while the demo was sending; "
                    "its log says why."
                )
            advanced(n)
        stats: dict[str, Any] = client.stats()
    finally:
        client.shutdown()
    lost = sum(stats["dropped"].values()) + stats["rejected"]
    if lost:
        raise NotSent(
            f"{lost} of {stats['recorded']} calls and signals of the demo were not kept "
            f"(refused: {stats['rejected']}, dropped: {stats['dropped']}); the server's log says why."
        )
    return Sent(stats["accepted"], stats["duplicates"])


def _recorded(client: lowlight.Client, traffic: Traffic) -> Iterator[int]:
    """Record all of it, early signals first; yield after each stride how many items it had."""
    n = 0
    for take, items in (
        (client.signal, traffic.early),
        (client.record, traffic.calls),
        (client.signal, traffic.signals),
    ):
        for item in items:
            take(**item)
            n += 1
            if n == STRIDE:
                yield n
                n = 0
    yield n
