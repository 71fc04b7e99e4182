"""Backups of a SQLite database: made beside a running server, and checked before they get their name.

Flow: `lowlight backup FILE` -> `backup` -> `ingest.copying` -> a file that `lowlight restore` takes.
"""

from pathlib import Path

from api.errors import ApiError
from api.operating.restoring import BadCopy, Contents, contents_of
from ingest.copying import Progress, copy_out, damage_of
from ingest.disk import disk_of, in_words
from ingest.store import sqlite_path


class CannotBackUp(ApiError):
    """No backup was made; the message says why and what to do."""


def sqlite_file(database_url: str) -> Path:
    """Return the file of a SQLite database.

    Raises:
        CannotBackUp: it is PostgreSQL, or no file.
    """
    path = sqlite_path(database_url)
    if path is None:
        raise CannotBackUp(
            "A PostgreSQL database is backed up with its own tools: pg_dump --format=custom, and pg_restore "
            "to bring it back with the server stopped."
        )
    return path


def backup(database_url: str, target: Path, progress: Progress | None = None) -> Contents:
    """Copy the database into a new file and check the copy; return what it holds.

    Raises:
        CannotBackUp: there is nothing to copy, no room for it, or the copy is damaged.
        StoreUnavailable: `target` is there already, or one of the two cannot be read or written.
    """
    database = sqlite_file(database_url)
    if not database.exists():
        raise CannotBackUp(f"{database} does not exist: nothing was kept yet. See LOWLIGHT_DATABASE_URL.")
    if not target.absolute().parent.is_dir():
        raise CannotBackUp(f"{target.absolute().parent} is no folder; make it first.")
    disk, free_bytes = disk_of(database), disk_of(target).free_bytes
    needed_bytes = disk.database_bytes + disk.wal_bytes
    if free_bytes < needed_bytes and not target.exists():
        raise CannotBackUp(
            f"{target} may take {in_words(needed_bytes)}, and {in_words(free_bytes)} are free there. "
            "Make room, or name a file on another disk."
        )
    contents_of(database)
    copy_out(database, target, progress)
    try:
        contents = contents_of(target)
        damage = damage_of(target)
    except BadCopy as error:
        damage = str(error)
    if damage is not None:
        bad = target.with_name(f"{target.name}.damaged")
        target.rename(bad)
        raise CannotBackUp(
            f"The copy is damaged ({damage}): so is the database, or a disk is failing. It lies at {bad}. "
            "Keep your older backups, and see `lowlight doctor`."
        )
    return contents
