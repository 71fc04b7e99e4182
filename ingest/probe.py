"""Whether what is written now would be kept: asked of the writer, and by a write of its own where it matters.

Flow: /readyz -> `WriteProbe.trouble` -> None, or what is wrong and what to do about it.
"""

import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet

from sqlalchemy import Connection

from ingest.disk import disk_of, in_words
from ingest.errors import IngestError
from ingest.store import OpenStore, sqlite_path
from ingest.writer import WAITING_MAX

#: A commit within this time is proof enough; beyond it the probe writes.
FRESH_S = 5.0
#: A group that takes longer waits for a lock, or for a disk that is no use; the slowest honest one takes 1 s.
SLOW_S = 2.0
#: A disk with less free takes no batch of calls; SQLite says so only when one comes.
FREE_BYTES_MIN = 1 << 20
#: A full disk still takes a small write now and then; for this long after a refusal that proves nothing.
REFUSED_S = 5.0
#: Signs of a refusal after which a small write does prove that the trouble is over.
_OVER_AT_ONCE = ("locked", "while the server ran")


class WriteProbe:
    """Asks one store's writer. Safe to use from many threads; at most one probe is on its way."""

    def __init__(self, store: OpenStore) -> None:
        self._store = store
        self._turn = threading.Lock()
        self._pending: Future[None] | None = None

    def trouble(self) -> str | None:
        """Return why a call sent now would not be kept, with the remedy; None where it would.

        Takes two seconds at most, where the database is locked and nobody else has tried to write.
        """
        writer = self._store.writer
        if not writer.alive:
            return "The writer has ended. Start the server again; its log says why it ended."
        full = self._full()
        if full is not None:
            return full
        if writer.waiting >= WAITING_MAX:
            return f"The write queue is full ({WAITING_MAX} requests wait). Send less, or wait."
        if writer.in_hand_s > SLOW_S:
            return _held(writer.in_hand_s)
        refusal = writer.last_refusal
        if (
            refusal is not None
            and not any(sign in refusal.error for sign in _OVER_AT_ONCE)
            and time.time_ns() // 1_000_000 - refusal.at_ms < REFUSED_S * 1000
        ):
            return _refused(refusal.error)
        committed_s = writer.last_commit_s
        if (
            writer.last_failure is None
            and committed_s is not None
            and time.monotonic() - committed_s < FRESH_S
        ):
            return None
        return self._written()

    def _full(self) -> str | None:
        path = sqlite_path(self._store.database_url)
        if path is None:
            return None
        try:
            free_bytes = disk_of(path).free_bytes
        except OSError as error:
            return f"The folder of {path} cannot be looked at: {error.strerror}. Bring it back."
        if free_bytes < FREE_BYTES_MIN:
            return (
                f"The disk of {path} is full ({in_words(free_bytes)} free). Free some space; "
                "calls are taken again as soon as there is room."
            )
        return None

    def _written(self) -> str | None:
        try:
            with self._turn:
                if self._pending is None or self._pending.done():
                    self._pending = self._store.begin(_write_nothing)
                pending = self._pending
            pending.result(SLOW_S)
        except NotYet:
            return _held(self._store.writer.in_hand_s)
        except IngestError as error:
            return _refused(str(error.__cause__ or error))
        return None


def _write_nothing(connection: Connection) -> None:
    """Write job: take the lock and commit one page, changing nothing that anybody reads."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("pragma user_version = 0")
    else:
        connection.exec_driver_sql("select 1")


def _held(in_hand_s: float) -> str:
    return (
        f"The write in hand has taken {in_hand_s:.0f} s: another program holds the database locked, or its "
        "disk hangs. Close that program (a database browser, a copy in progress); nothing else is needed."
    )


def _refused(error: str) -> str:
    words = error.splitlines()[0].rstrip(".") if error else "it did not say why"
    remedies = {
        "locked": "Close the program that holds it; nothing else is needed.",
        "full": "Free some space; calls are taken again as soon as there is room.",
        "readonly": "Make the file and its folder writable.",
        "I/O": "Look at the disk: the kernel's log says more.",
        "moved away": "Put it back, or start the server again: it begins a new one.",
        "replaced": "Start the server again: it goes on with the file that lies there now.",
        "malformed": "Stop the server and bring a backup back: lowlight restore FILE.",
    }
    remedy = next(
        (remedy for sign, remedy in remedies.items() if sign in words), "The server's log says more."
    )
    return f"The database does not take what is written: {words}. {remedy}"
