"""The disk below a SQLite file: what is free, and what the file and its write-ahead log take.

Flow: path -> `disk_of` -> /readyz, /metrics, `lowlight doctor`, backups.
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
