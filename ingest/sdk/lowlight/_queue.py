"""The queue between the application's threads and the one that sends: bounded in items and in bytes.

Flow: `record()` -> `put` -> `take` (the sending thread) -> `settle` once the server has answered. Both bounds
hold for everything not settled yet, what is being sent included. A full queue drops the newest: what was
accepted keeps its order, and a large item never costs many small ones.
"""

import os
import threading
from collections import deque
from typing import Any, Deque, Dict, List, Optional, Tuple

ITEMS_MAX = 10_000
BYTES_MAX = 64 * 1024 * 1024
#: In one request; the server takes 1,000.
BATCH_ITEMS_MAX = 500
BATCH_BYTES_MAX = 4 * 1024 * 1024

#: ("calls" or "signals", the fields as given, about how many bytes they hold)
Entry = Tuple[str, Dict[str, Any], int]


class Outbox:
    """See the module. One thread takes and settles; any thread puts and flushes."""

    def __init__(self, items_max: int, bytes_max: int, linger_s: float) -> None:
        self.items_max = items_max
        self.bytes_max = bytes_max
        self._linger_s = linger_s
        self.restart()

    def restart(self) -> None:
        """Become empty, with new locks: after a fork the parent's items are the parent's to send."""
        self.pid = os.getpid()
        # Reentrant, for a signal handler or a finaliser may record while its own thread is recording.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._waiting: Deque[Entry] = deque()
        self._held_bytes = 0
        self._in_hand = 0
        self._put_n = 0
        self._settled_n = 0
        self._flush_to = 0
        self._hurried = False
        self._stopping = False
        self._abandoned = False

    def put(self, entry: Entry) -> str:
        """Queue an entry; return '' or the reason why it was dropped: `queue_full` or `closed`."""
        with self._lock:
            n = len(self._waiting)
            if self._stopping:
                return "closed"
            if n + self._in_hand >= self.items_max or self._held_bytes + entry[2] > self.bytes_max:
                return "queue_full"
            self._waiting.append(entry)
            self._held_bytes += entry[2]
            self._put_n += 1
            # The sender need not be woken in between: it waits for the first, then lingers for a full batch.
            if n == 0 or n + 1 == BATCH_ITEMS_MAX:
                self._changed.notify_all()
            return ""

    def take(self) -> Optional[List[Entry]]:
        """Wait for entries and return the oldest, at most a batch; None once stopped and empty."""
        with self._changed:
            while not self._waiting:
                if self._stopping:
                    return None
                self._changed.wait()
            self._changed.wait_for(self._is_worth_sending, self._linger_s)
            taken: List[Entry] = []
            taken_bytes = 0
            while self._waiting and len(taken) < BATCH_ITEMS_MAX and taken_bytes < BATCH_BYTES_MAX:
                entry = self._waiting.popleft()
                taken.append(entry)
                taken_bytes += entry[2]
            self._in_hand = len(taken)
            return taken

    def _is_worth_sending(self) -> bool:
        return (
            len(self._waiting) >= BATCH_ITEMS_MAX
            or self._held_bytes >= BATCH_BYTES_MAX
            or self._settled_n < self._flush_to
            or self._stopping
        )

    def settle(self, entries: List[Entry]) -> None:
        """Forget entries whose fate is known: kept, refused or dropped."""
        with self._changed:
            self._settled_n += len(entries)
            self._in_hand = 0
            self._held_bytes -= sum(entry[2] for entry in entries)
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything put so far is settled; False where that took longer than `timeout_s`."""
        with self._changed:
            target = self._put_n
            self._flush_to = max(self._flush_to, target)
            self._hurried = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._settled_n >= target, timeout_s)

    def pause(self, seconds: float, *, may_hurry: bool) -> None:
        """Wait between two tries; a flush ends it early where `may_hurry`, giving up always does."""
        with self._changed:
            self._changed.wait_for(lambda: self._abandoned or (may_hurry and self._hurried), seconds)
            self._hurried = (
                False  # each flush hurries one try, or a dead server would be asked without a pause
            )

    def stop(self) -> None:
        """Take no more entries; `take` hands out the rest, then None."""
        with self._changed:
            self._stopping = True
            self._hurried = True
            self._changed.notify_all()

    def abandon(self) -> int:
        """Give up what is not settled yet; return how many entries that is."""
        with self._changed:
            self._abandoned = True
            n = len(self._waiting) + self._in_hand
            self._waiting.clear()
            self._changed.notify_all()
            return n

    @property
    def put_n(self) -> int:
        """How many entries were accepted so far."""
        return self._put_n

    @property
    def abandoned(self) -> bool:
        """Whether the entries in hand are given up: nothing about them counts any more."""
        return self._abandoned

    def held(self) -> Tuple[int, int]:
        """Return how many entries are not settled yet, and about how many bytes they hold."""
        with self._changed:
            return len(self._waiting) + self._in_hand, self._held_bytes
