"""What a client has queued, for tests that look at it before it is sent."""

from typing import Any

import lowlight


def queued(client: lowlight.Client) -> tuple[Any, ...]:
    """The one entry in a client's queue, taken out; see `lowlight._fields` for its order."""
    waiting = client._outbox.waiting
    assert len(waiting) == 1
    entry = waiting.pop()
    client._outbox.held_bytes = 0
    return entry
