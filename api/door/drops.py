"""What applications had to drop before it could be sent, as their SDKs report it.

Flow: `X-Lowlight-Dropped: queue_full=12` on a write -> `ClientDrops.note` -> the log, /readyz, /metrics.
Counted since the server started; a call that never arrived can be counted nowhere else.
"""

import logging
import re
import threading
from collections import Counter

#: Why SDKs drop; what else a header says is counted under "other" and never repeated: anybody may send one.
REASONS = frozenset(
    (
        *("queue_full", "closed", "shutdown", "unreadable", "too_large", "spool_full", "spool_error"),
        *("refused", "unauthorised", "bad_address", "no_receipt", "server_error", "sdk_error"),
        *("unusable", "broken"),
    )
)
#: Pairs read of one header.
PAIRS_MAX = 20

_PAIR = re.compile(r"([a-z_]{1,40})=([0-9]{1,9})")

log = logging.getLogger(__name__)


class ClientDrops:
    """Counts of dropped items by reason. Safe to use from many threads."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._turn = threading.Lock()

    def note(self, header: str) -> None:
        """Add what one request's header says; what cannot be read is left out."""
        pairs = [_PAIR.fullmatch(part.strip()) for part in header.split(",")[:PAIRS_MAX]]
        found = [
            (pair[1] if pair[1] in REASONS else "other", int(pair[2])) for pair in pairs if pair is not None
        ]
        if not found:
            return
        with self._turn:
            for reason, n in found:
                self._counts[reason] += n
        log.warning(
            "an application dropped %s before they could be sent",
            ", ".join(f"{n} ({reason})" for reason, n in found),
        )

    def counts(self) -> dict[str, int]:
        """Return the counts so far."""
        with self._turn:
            return dict(self._counts)
