"""What a client has queued, for tests that look at it before it is sent."""

from typing import Any

import lowlight


def queued(client: lowlight.Client) -> tuple[Any, ...]:
    """The one entry in a client's queue, taken out; see `lowlight._fields` for its order."""
    waiting = client._outbox._waiting
    assert len(waiting) == 1
    entry = waiting.pop()
    client._outbox._held_bytes = client._outbox._held_n = 0
    return entry
