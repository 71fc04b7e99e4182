"""The disk below a SQLite file: what is free, what the file and its log take, and whether it is still there.

Flow: path -> `disk_of` -> /readyz, /metrics, `lowlight doctor`, backups; `SameFile` -> the writer's engine.
"""

import os
import shutil
from pathlib import Path
from typing import NamedTuple


class Disk(NamedTuple):
    """Sizes in bytes; 0 for a file that is not there."""

    free_bytes: int
    database_bytes: int
    wal_bytes: int


def disk_of(database: Path) -> Disk:
    """Return the disk of a SQLite file, whether or not the file is there yet.

    Raises:
        OSError: its folder is not there, or may not be looked at.
    """
    free_bytes = shutil.disk_usage(database.absolute().parent).free
    return Disk(free_bytes, _size(database), _size(database.with_name(f"{database.name}-wal")))


def in_words(size_bytes: int) -> str:
    """Return a size as people say it: 3.2 GiB, 120 MiB."""
    return f"{size_bytes / (1 << 30):.1f} GiB" if size_bytes >= 1 << 30 else f"{size_bytes >> 20} MiB"


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


class SameFile:
    """Whether a path still leads to the file that it led to first.

    SQLite goes on writing into a file that was removed or moved, and whatever is acknowledged then is gone
    with the process. Costs a microsecond a look.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: tuple[int, int] | None = None

    def check(self) -> None:
        """Remember the file, or hold it to be the one that is remembered.

        Raises:
            FileNotFoundError: it is gone, or another lies in its place.
        """
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            file = None
        else:
            file = found.st_dev, found.st_ino
        if self._known is None:
            self._known = file
        elif file != self._known:
            what = "was replaced by another" if file else "was removed or moved away"
            raise FileNotFoundError(f"the file {self._path} {what} while the server ran")
