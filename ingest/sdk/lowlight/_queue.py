"""The queue between the application's threads and the one that sends: bounded in items and in bytes.

Flow: `record()` -> `waiting`, by itself or through `put` -> `take` (the sending thread) -> `settle` once the
server has answered. Both bounds hold for everything not settled yet, what is being sent included. A full
queue drops the newest: what was accepted keeps its order, and a large item never costs many small ones.

Far from the bounds `record()` appends without a lock (see `put`): after a pause nothing of what it runs is in
the processor's caches, and each further step costs ten times what it takes otherwise. The sender sleeps on a
bell (a lock used as one), and says by `ring_from_n` whether it wants to be woken at all.
"""

import math
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

#: Waking the sender takes the waking thread some 25 us. So where calls come all the time it looks by itself,
#: after so many seconds and then ever more rarely, until as many lingers have passed without any; only then
#: does it sleep until it is woken.
LOOK_FIRST_S = 0.005
QUIET_LINGERS = 10

#: "calls" or "signals", about how many bytes it holds, and the other values that `_fields` names. One flat
#: tuple: each container that is queued brings the garbage collector's next run nearer.
Entry = Tuple[Any, ...]

#: So near a bound the lock is taken: threads that were stopped between looking and appending, as many as may
#: be, would otherwise carry the queue beyond it.
_NEAR_N = 256
_NEAR_BYTES = 4 * 1024 * 1024


class Outbox:
    """See the module. One thread takes and settles; any thread puts and flushes.

    Attributes:
        waiting: what was put and not taken yet, oldest first.
        held_bytes: about what everything that is not settled holds. Threads add to it without a lock, which
            is exact where the interpreter runs one at a time and leaves no gap within `+=` (CPython from
            3.10); elsewhere an addition may get lost, until the queue is empty the next time.
        easy_n: with fewer waiting,
        easy_bytes: and with less held than this, an entry may be appended without more ado.
        ring_from_n: with so many waiting before an entry is appended, its thread rings.
    """

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
        self.waiting: Deque[Entry] = deque()
        self.held_bytes = 0
        self.easy_n = self.items_max - BATCH_ITEMS_MAX - _NEAR_N  # a batch is in hand perhaps
        self.easy_bytes = self.bytes_max - _NEAR_BYTES
        self.ring_from_n = 0
        self._crowd_n = self.items_max // 4
        self._taken_at_s = -math.inf
        self._in_hand: List[Entry] = []
        self._settled_n = 0
        self._given_up_n = 0
        self._flush_to = 0
        self._hurried = False
        self._stopping = False
        self._abandoned = False
        #: Whether something from an earlier time waits on the disk; a flush waits for that too.
        self.has_backlog = False

    def put(self, entry: Entry) -> str:
        """Queue an entry; return '' or the reason why it was dropped: `queue_full` or `closed`.

        The same as what `Client.record` does by itself, for the sake of the time it takes, where `easy_n` and
        `easy_bytes` allow it.
        """
        with self._lock:
            if self._stopping:
                return "closed"
            n = len(self.waiting)
            if n + len(self._in_hand) >= self.items_max or self.held_bytes + entry[1] > self.bytes_max:
                return "queue_full"
            # A signal handler may record after any step of these, so that none may rest on an earlier sum.
            self.held_bytes += entry[1]
            self.waiting.append(entry)
        if n >= self.ring_from_n:
            self.ring()
        return ""

    def take(self, until: Callable[[], float]) -> Optional[List[Entry]]:
        """Wait for entries and return the oldest, at most a batch; None once stopped and empty.

        Args:
            until: how many seconds the sender has at most before it has something else to do; then the
                answer may be an empty list.
        """
        look_s = LOOK_FIRST_S
        while not self.waiting:
            if self._stopping:
                return None
            patience_s = until()
            is_quiet = time.monotonic() - self._taken_at_s > QUIET_LINGERS * self._linger_s
            if is_quiet:
                # First the wish to be woken, then the look: who appends in between rings.
                self.ring_from_n = 0
                if self.waiting:
                    break
            nap_s = patience_s if is_quiet else min(patience_s, look_s)
            if not self._sleep(nap_s) and nap_s == patience_s:
                self.ring_from_n = self._crowd_n
                return []
            look_s = min(look_s * 2, self._linger_s)
        self.ring_from_n = self._crowd_n
        lingered_until_s = time.monotonic() + self._linger_s
        look_s = LOOK_FIRST_S
        while not self._is_worth_sending():
            left_s = lingered_until_s - time.monotonic()
            if not self._sleep(min(left_s, look_s)) and left_s <= look_s:
                break
            look_s *= 2
        taken: List[Entry] = []
        taken_bytes = 0
        with self._lock:
            while self.waiting and len(taken) < BATCH_ITEMS_MAX and taken_bytes < BATCH_BYTES_MAX:
                entry = self.waiting.popleft()
                taken.append(entry)
                taken_bytes += entry[1]
            self._in_hand = taken
        self._taken_at_s = time.monotonic()
        return taken

    def _is_worth_sending(self) -> bool:
        return len(self.waiting) >= BATCH_ITEMS_MAX or self.held_bytes >= BATCH_BYTES_MAX or self.is_pressed()

    def has_time(self) -> bool:
        """Whether the sender need not hurry: nobody waits for it, and the queue is far from full."""
        return not self.is_pressed() and self._held_n() * 4 < self.items_max

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
            freed_bytes = sum(entry[1] for entry in entries)
            self.held_bytes -= freed_bytes  # without a call between reading and writing it
            if not self.waiting:
                self.held_bytes = 0
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
            target = self._settled_n + self._held_n()
            self._flush_to = max(self._flush_to, target)
            self._hurried = True
        self.ring()
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
            self.easy_n = 0
        self.ring()

    def abandon(self) -> List[Entry]:
        """Give up what is not settled yet, and return it."""
        with self._changed:
            self._abandoned = True
            left = [*self._in_hand, *self.waiting]
            self.waiting.clear()
            self._in_hand = []
            self.held_bytes = 0
            self._given_up_n = len(left)
            self._changed.notify_all()
        self.ring()
        return left

    @property
    def put_n(self) -> int:
        """How many entries were accepted so far."""
        with self._lock:
            return self._settled_n + self._given_up_n + self._held_n()

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
            return self._held_n(), self.held_bytes

    def _held_n(self) -> int:
        return len(self._in_hand) + len(self.waiting)

    def ring(self) -> None:
        """Wake the sender; it says anew when it wants to be woken the next time."""
        self.ring_from_n = self.items_max
        if self._bell.locked():
            try:
                self._bell.release()
            except RuntimeError:  # somebody else has just rung it
                pass

    def _sleep(self, seconds: float) -> bool:
        """Sleep until the bell rings; False where the time is over."""
        return seconds > 0 and self._bell.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))
