"""The spool: a folder that keeps batches which could not be sent, over the end of the process too.

Flow: `_sender` cannot reach the server -> `write` -> one file a batch -> `oldest` -> sent again -> `remove`.

A file holds items as they would have been sent, redacted and under their ids, one a line; so a batch that is
sent twice (its receipt was lost, or its process killed between sending and removing) is kept once. It is
written under another name and then renamed: a process killed meanwhile leaves no half batch. Any number of
processes share a folder. Each writes its own files, and whoever holds the lock file's lock, which the system
takes from a process that dies, sends all of them, oldest first. A file belongs to the key it was recorded
for, so that no project's calls go to another.
"""

import os
import time
from collections import deque
from typing import Any, Deque, List, NamedTuple, Optional

#: A file takes whole blocks of the disk.
_BLOCK_BYTES = 4096
#: A file that was being written for so long has no writer any more.
_STALE_S = 3600.0
#: Between two looks at what all processes together have in the folder.
_LOOK_INTERVAL_S = 2.0


class Spooled(NamedTuple):
    """One batch on the disk: "calls" or "signals", its items as JSON, and how many more are damaged."""

    name: str
    kind: str
    bodies: List[bytes]
    broken_n: int


class Spool:
    """See the module. Used by the sending thread alone; what the disk refuses is an OSError."""

    def __init__(self, folder: str, key: str, bytes_max: int) -> None:
        import hashlib

        folder = os.path.expanduser(folder)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self.folder = folder
        self.bytes_max = bytes_max
        self._key_mark = hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:12] if key else "nokey"
        self._written_n = 0
        self._names: Deque[str] = deque()
        self._bytes = 0
        self._looked_at_s = -_LOOK_INTERVAL_S
        self._unreadable: List[str] = []
        self._lock_file: Optional[int] = None

    def write(self, kind: str, bodies: List[bytes]) -> bool:
        """Keep a batch; False where the folder is full."""
        size = _on_disk(sum(map(len, bodies)) + len(bodies))
        if time.monotonic() - self._looked_at_s >= _LOOK_INTERVAL_S:
            self._look()
        if self._bytes + size > self.bytes_max:
            return False
        self._written_n += 1
        name = f"{time.time_ns():020d}-{os.getpid()}-{self._written_n}.{self._key_mark}.{kind}"
        unfinished = os.path.join(self.folder, f".{name}.part")
        file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(file, "wb") as out:
                out.write(b"\n".join(bodies))
            os.rename(unfinished, os.path.join(self.folder, name))
        except OSError:
            os.unlink(unfinished)
            raise
        self._bytes += size
        return True

    def oldest(self) -> Optional[Spooled]:
        """Return the oldest batch for our key, whichever process wrote it; None where there is none."""
        for _ in range(2):
            while self._names:
                name = self._names[0]
                try:
                    with open(os.path.join(self.folder, name), "rb") as kept:
                        lines = kept.read().split(b"\n")
                    bodies = [line for line in lines if _is_whole(line)]
                    broken_n = sum(map(bool, lines)) - len(bodies)
                    return Spooled(name, name.rpartition(".")[2], bodies, broken_n)
                except FileNotFoundError:  # another process has sent it
                    self._names.popleft()
                except OSError:
                    self._unreadable.append(self._names.popleft())
            self._look()
        return None

    def is_empty(self) -> bool:
        """Whether nothing for our key lies in the folder."""
        self._look()
        return not self._names

    def remove(self, batch: Spooled) -> None:
        """Forget a batch whose fate is known."""
        path = os.path.join(self.folder, batch.name)
        try:
            size = os.path.getsize(path)
            os.unlink(path)
            self._bytes -= _on_disk(size)
        except FileNotFoundError:
            pass
        if self._names and self._names[0] == batch.name:
            self._names.popleft()

    def take_turn(self) -> bool:
        """Become the process that sends; False while another one is."""
        if self._lock_file is not None:
            return True
        file = os.open(os.path.join(self.folder, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
        if not _locked(file):
            os.close(file)
            return False
        self._lock_file = file
        self._names.clear()  # what another one had sent meanwhile need not be looked for
        return True

    def end_turn(self) -> None:
        """Let another process send. A forked child gives its copy of the lock back: the parent's stays."""
        file, self._lock_file = self._lock_file, None
        if file is not None:
            os.close(file)

    def _look(self) -> None:
        """List the folder: the files for our key, oldest first, and how much all of them take."""
        self._looked_at_s = time.monotonic()
        names = []
        total = 0
        with os.scandir(self.folder) as entries:
            for entry in entries:
                try:
                    stat = entry.stat()
                except OSError:  # gone meanwhile
                    continue
                total += _on_disk(stat.st_size)
                if entry.name.endswith(".part"):
                    if time.time() - stat.st_mtime > _STALE_S:
                        _unlink(entry.path)
                elif entry.name.endswith((f".{self._key_mark}.calls", f".{self._key_mark}.signals")):
                    names.append(entry.name)
        self._bytes = total
        self._names = deque(sorted(name for name in names if name not in self._unreadable))


def _is_whole(line: bytes) -> bool:
    """Whether a line is an item as it was written, and not what a loss of power leaves: cut, or zeros."""
    return line.startswith(b"{") and line.endswith(b"}") and b"\0" not in line


def _on_disk(size: int) -> int:
    return -(-size // _BLOCK_BYTES) * _BLOCK_BYTES


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def _locked(file: int) -> bool:
    """Lock a file without waiting; the lock goes with its last file descriptor, or the process."""
    try:
        lock: Any = __import__("fcntl")
    except ImportError:
        lock = None
    try:
        if lock is not None:
            lock.flock(file, lock.LOCK_EX | lock.LOCK_NB)
        else:
            windows: Any = __import__("msvcrt")
            windows.locking(file, windows.LK_NBLCK, 1)
    except OSError:
        return False
    return True
