"""What became of everything recorded: counts, and warnings that are never a flood.

Drops are counted by reason and reported three ways: a warning of the logger `lowlight` (each kind once a
minute at most), `stats()`, and the header `X-Lowlight-Dropped` of the next request.
"""

import logging
import threading
import time
from collections import defaultdict
from typing import Any, DefaultDict, Dict

log = logging.getLogger("lowlight")

#: Between two warnings of one kind.
WARNING_INTERVAL_S = 60.0
_COUNTS = (
    *("recorded", "accepted", "duplicates", "rejected", "retries", "errors"),
    *("sampled_out", "spooled", "replayed"),
)
#: Kinds of warnings told apart; about four times as many as there are.
_KINDS_MAX = 200


class Tally:
    """Counts of one client; every method may be called from any thread, and none raises."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin at zero with a new lock: a fork may leave the old one held by a thread that is not there."""
        # Reentrant, for a signal handler may record while its own thread is counting; `+=` on an item takes
        # no step after which a handler could run.
        self._lock = threading.RLock()
        self._counts: DefaultDict[str, int] = defaultdict(int)
        self._dropped: DefaultDict[str, int] = defaultdict(int)
        self._unreported: DefaultDict[str, int] = defaultdict(int)
        self._warned_at_s: Dict[str, float] = {}
        self._unsaid: Dict[str, int] = {}

    def count(self, name: str, n: int = 1) -> None:
        """Add to one of the counts of `stats()`."""
        with self._lock:
            self._counts[name] += n

    def drop(self, reason: str, n: int, message: str) -> None:
        """Count `n` items that will never arrive, and say so."""
        with self._lock:
            self._dropped[reason] += n
            self._unreported[reason] += n
        self.warn(f"dropped:{reason}", f"{n} dropped: {message}")

    def warn(self, kind: str, message: str) -> None:
        """Log a warning, unless this kind was logged within the last minute."""
        with self._lock:
            now_s = time.monotonic()
            last_s = self._warned_at_s.get(kind)
            if last_s is not None and now_s - last_s < WARNING_INTERVAL_S:
                self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
                return
            if last_s is None and len(self._warned_at_s) >= _KINDS_MAX:
                return
            self._warned_at_s[kind] = now_s
            unsaid = self._unsaid.pop(kind, 0)
        try:
            more = f" (and {unsaid} times more since the last such line)" if unsaid else ""
            log.warning("%s%s", message, more)
        except Exception:  # the application's own log handler
            pass

    def dropped_header(self) -> str:
        """Return the drops not reported yet, as `reason=n, reason=n`; '' where there are none."""
        with self._lock:
            return ", ".join(f"{reason}={n}" for reason, n in sorted(self._unreported.items()))

    def reported(self, header: str) -> None:
        """Take off what a request that was answered had reported."""
        with self._lock:
            for pair in header.split(", ") if header else ():
                reason, _, n = pair.partition("=")
                left = self._unreported.get(reason, 0) - int(n)
                if left > 0:
                    self._unreported[reason] = left
                else:
                    self._unreported.pop(reason, None)

    def stats(self) -> Dict[str, Any]:
        """Return the counts so far."""
        with self._lock:
            return {**{name: self._counts.get(name, 0) for name in _COUNTS}, "dropped": dict(self._dropped)}
