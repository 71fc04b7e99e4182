"""Whole copies of a SQLite file: out of one that is being written, and back into one that others may read.

Flow: database -> `copy_out` -> a file of its own; such a file -> `copy_in` -> database. Both go through
SQLite's backup interface, which honours the locks of every program that has the file open; a file that is
renamed or copied below an open connection can lose its write-ahead log.
"""

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from ingest.errors import StoreUnavailable

#: Pages in one step, 8 MiB: how often progress is told and a lock looked at again.
STEP_PAGES = 2048
#: How long to wait for another program's lock.
LOCKED_S = 20.0

#: (pages done, pages in all)
Progress = Callable[[int, int], None]


def copy_out(database: Path, target: Path, progress: Progress | None = None) -> None:
    """Copy a database as it is now into a new file, also while it is being written.

    It reads in one transaction, so the copy is of one moment and begins anew for no write; it stops nobody,
    but the write-ahead log cannot be folded back while it runs. The copy is one file without a log, on the
    disk when this returns, readable by its owner alone: it holds texts.

    Raises:
        StoreUnavailable: there is a file of that name already, or one of the two cannot be read or written.
    """
    partial = target.with_name(f"{target.name}.partial")
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_RDWR | os.O_TRUNC, 0o600))
        if target.exists():
            raise FileExistsError
        with closing(_reader(database)) as source, closing(sqlite3.connect(partial)) as copy:
            source.execute("begin")
            source.execute("select count(*) from sqlite_master").fetchone()
            _backup(source, copy, progress)
            copy.execute("pragma journal_mode = delete")
        _sync(partial)
        _name(partial, target)
        _sync(target.parent)
    except FileExistsError:
        raise StoreUnavailable(f"{target} is there already; name another file, or remove it first.") from None
    except (sqlite3.Error, OSError) as error:
        raise StoreUnavailable(f"{database} could not be copied to {target}: {_said(error)}.") from error
    finally:
        partial.unlink(missing_ok=True)


def copy_in(source: Path, database: Path, progress: Progress | None = None) -> None:
    """Replace what is in a database by what is in another file, as one transaction.

    Whoever reads meanwhile sees the old state to the end of its transaction; a process that is killed
    half-way leaves the old state behind.

    Raises:
        StoreUnavailable: one of the two cannot be read, written or locked; the database is as it was.
    """
    try:
        with closing(_reader(source)) as given, closing(sqlite3.connect(database, timeout=LOCKED_S)) as live:
            live.isolation_level = None
            live.execute("pragma journal_mode = wal")
            live.execute("pragma synchronous = full")
            live.execute("pragma wal_autocheckpoint = 0")
            _backup(given, live, progress)
            live.execute("pragma wal_checkpoint(truncate)")
    except (sqlite3.Error, OSError) as error:
        raise StoreUnavailable(
            f"{database} could not be replaced by {source}: {_said(error)}. It is as it was."
        ) from error


def damage_of(path: Path) -> str | None:
    """Return what SQLite finds wrong in a file; None where it is sound."""
    try:
        with closing(_reader(path)) as connection:
            (verdict,) = connection.execute("pragma quick_check(1)").fetchone()
    except (sqlite3.Error, OSError) as error:
        return _said(error)
    return None if verdict == "ok" else str(verdict)


def _reader(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=LOCKED_S)
    connection.isolation_level = None
    connection.execute("pragma query_only = on")
    connection.execute("pragma wal_autocheckpoint = 0")
    return connection


def _backup(source: sqlite3.Connection, target: sqlite3.Connection, progress: Progress | None) -> None:
    locked_since_s: float | None = None

    def told(status: int, remaining: int, total: int) -> None:
        nonlocal locked_since_s
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):  # Python would try for ever
            locked_since_s = locked_since_s or time.monotonic()
            if time.monotonic() - locked_since_s > LOCKED_S:
                raise sqlite3.OperationalError("another program holds the database locked; close it")
            return
        locked_since_s = None
        if progress is not None:
            progress(total - remaining, total)

    source.backup(target, pages=STEP_PAGES, progress=told, sleep=0.05)


def _name(partial: Path, target: Path) -> None:
    """Give a finished file its name, never replacing another."""
    try:
        os.link(partial, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if target.exists():
            raise FileExistsError from None
        partial.rename(target)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _said(error: Any) -> str:
    return str(getattr(error, "strerror", None) or error).strip().rstrip(".") or type(error).__name__
