"""The queue between the application's threads and the one that sends: bounded in items and in bytes.

Flow: `record()` -> `put` -> `take` (the sending thread) -> `settle` once the server has answered. Both bounds
hold for everything not settled yet, what is being sent included. A full queue drops the newest: what was
accepted keeps its order, and a large item never costs many small ones.

`put` holds its lock for a few additions, and the sender holds it no longer than it takes to pick up a batch.
The sender sleeps on a bell (a lock used as one), not on the lock: ringing it costs next to nothing, and
waiting for it nothing at all.
"""

import os
import threading
import time
from collections import deque
from typing import Any, Callable, Deque, List, Optional, Tuple

ITEMS_MAX = 10_000
BYTES_MAX = 64 * 1024 * 1024
#: In one request; the server takes 1,000.
BATCH_ITEMS_MAX = 500
BATCH_BYTES_MAX = 4 * 1024 * 1024

#: "calls" or "signals", about how many bytes it holds, and the other values that `_fields` names. One flat
#: tuple: each container that is queued brings the garbage collector's next run nearer.
Entry = Tuple[Any, ...]


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
        self._bell = threading.Lock()
        self._bell.acquire()
        self._waiting: Deque[Entry] = deque()
        self._in_hand: List[Entry] = []
        self._held_n = 0
        self._held_bytes = 0
        self._put_n = 0
        self._settled_n = 0
        self._flush_to = 0
        self._hurried = False
        self._stopping = False
        self._abandoned = False
        #: Whether something from an earlier time waits on the disk; a flush waits for that too.
        self.has_backlog = False

    def put(self, entry: Entry) -> str:
        """Queue an entry; return '' or the reason why it was dropped: `queue_full` or `closed`."""
        lock = self._lock
        lock.acquire()  # `with` takes twice as long where nothing is in the processor's caches
        try:
            if self._stopping:
                return "closed"
            if self._held_n >= self.items_max or self._held_bytes + entry[1] > self.bytes_max:
                return "queue_full"
            # A signal handler may record after any step of these, so that none may rest on an earlier sum.
            self._held_n += 1
            self._held_bytes += entry[1]
            self._put_n += 1
            self._waiting.append(entry)
            n = len(self._waiting)
        finally:
            lock.release()
        # The sender need not be woken in between: it waits for the first, then lingers for a full batch.
        if n == 1 or n == BATCH_ITEMS_MAX:
            self._ring()
        return ""

    def take(self, until: Callable[[], float]) -> Optional[List[Entry]]:
        """Wait for entries and return the oldest, at most a batch; None once stopped and empty.

        Args:
            until: how many seconds the sender has at most before it has something else to do; then the
                answer may be an empty list.
        """
        while not self._waiting:
            if self._stopping:
                return None
            patience_s = until()
            if not self._sleep(patience_s):
                return []
        lingered_until_s = time.monotonic() + self._linger_s
        while not self._is_worth_sending():
            if not self._sleep(lingered_until_s - time.monotonic()):
                break
        taken: List[Entry] = []
        taken_bytes = 0
        with self._lock:
            while self._waiting and len(taken) < BATCH_ITEMS_MAX and taken_bytes < BATCH_BYTES_MAX:
                entry = self._waiting.popleft()
                taken.append(entry)
                taken_bytes += entry[1]
            self._in_hand = taken
        return taken

    def _is_worth_sending(self) -> bool:
        return (
            len(self._waiting) >= BATCH_ITEMS_MAX or self._held_bytes >= BATCH_BYTES_MAX or self.is_pressed()
        )

    def has_time(self) -> bool:
        """Whether the sender need not hurry: nobody waits for it, and the queue is far from full."""
        return not self.is_pressed() and self._held_n * 4 < self.items_max

    def is_pressed(self) -> bool:
        """Whether somebody waits for what is held: a flush, or the end of the process."""
        return self._settled_n < self._flush_to or self._stopping

    def settle(self, entries: List[Entry]) -> None:
        """Forget entries whose fate is known: kept, refused, dropped, or written to the disk."""
        with self._changed:
            if self._abandoned:
                return
            self._in_hand = []
            self._settled_n += len(entries)
            self._held_n -= len(entries)
            self._held_bytes -= sum(entry[1] for entry in entries)
            self._changed.notify_all()

    def note_backlog(self, exists: bool) -> None:
        """Say whether something waits on the disk."""
        if exists != self.has_backlog:
            with self._changed:
                self.has_backlog = exists
                self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything put so far is settled; False where that took longer than `timeout_s`."""
        target = self.hurry()
        with self._changed:
            return self._changed.wait_for(lambda: self.is_settled(target), timeout_s)

    def hurry(self) -> int:
        """Ask that what was put so far be sent at once; return what `is_settled` takes."""
        with self._changed:
            target = self._put_n
            self._flush_to = max(self._flush_to, target)
            self._hurried = True
        self._ring()
        return target

    def is_settled(self, target: int) -> bool:
        """Whether the first `target` entries are settled, and nothing waits on the disk."""
        return self._settled_n >= target and not self.has_backlog

    def is_hurried(self) -> bool:
        """Whether a flush asks for a try now; true once, or a dead server would be asked without a pause."""
        hurried, self._hurried = self._hurried, False
        return hurried

    def pause(self, seconds: float, *, may_hurry: bool) -> None:
        """Wait between two tries; a flush ends it early where `may_hurry`, giving up always does."""
        until_s = time.monotonic() + seconds
        while not self._abandoned and not (may_hurry and self._hurried):
            if not self._sleep(until_s - time.monotonic()):
                break
        self._hurried = False

    def stop(self) -> None:
        """Take no more entries; `take` hands out the rest, then None."""
        with self._changed:
            self._stopping = True
            self._hurried = True
        self._ring()

    def abandon(self) -> List[Entry]:
        """Give up what is not settled yet, and return it."""
        with self._changed:
            self._abandoned = True
            left = [*self._in_hand, *self._waiting]
            self._waiting.clear()
            self._in_hand = []
            self._held_n = 0
            self._held_bytes = 0
            self._changed.notify_all()
        self._ring()
        return left

    @property
    def put_n(self) -> int:
        """How many entries were accepted so far."""
        return self._put_n

    @property
    def stopping(self) -> bool:
        """Whether nothing more is taken."""
        return self._stopping

    @property
    def abandoned(self) -> bool:
        """Whether the entries in hand are given up: nothing about them counts any more."""
        return self._abandoned

    def held(self) -> Tuple[int, int]:
        """Return how many entries are not settled yet, and about how many bytes they hold."""
        with self._lock:
            return self._held_n, self._held_bytes

    def _ring(self) -> None:
        if self._bell.locked():
            try:
                self._bell.release()
            except RuntimeError:  # somebody else has just rung it
                pass

    def _sleep(self, seconds: float) -> bool:
        """Sleep until the bell rings; False where the time is over."""
        return seconds > 0 and self._bell.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))
