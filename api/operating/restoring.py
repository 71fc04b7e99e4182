"""Bringing a copy back, with or without a running server: what is replaced is kept beside it.

Flow: `lowlight restore FILE` -> `stage` (a checked copy beside the database, at this version's schema) ->
`replace` under the server's lock where none runs; else POST /v1/restore -> `Restores.ask` -> `api.serving`
answers what is in hand, closes the store, calls `Restores.carry_out`, and serves again on the same port.

Nothing in memory outlives that: slices, cursors and queues of the old database would be wrong for the new
one. Whoever may write beside the database may restore it: the request itself names no file.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from api.errors import ApiError, Refused
from api.schema import is_known, newest_revision, upgrade
from ingest.copying import Progress, copy_in, copy_out, damage_of
from ingest.disk import disk_of, in_words
from ingest.errors import IngestError

log = logging.getLogger(__name__)

#: Room for the log of the commits that follow, beyond the copies themselves.
SPARE_BYTES = 64 << 20


class BadCopy(ApiError):
    """A file that cannot be restored; the message says why and what to do."""


@dataclass(frozen=True)
class Contents:
    """What a database holds: its schema's revision, how many calls, when the newest of them arrived."""

    revision: str
    calls: int
    newest_at: datetime | None

    def __str__(self) -> str:
        newest = f", the newest of {self.newest_at:%Y-%m-%d %H:%M} UTC" if self.newest_at else ""
        return f"{self.calls:,} calls{newest}"


def contents_of(path: Path) -> Contents:
    """Look into a Lowlight database.

    Raises:
        BadCopy: there is none in that file.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            connection.execute("pragma query_only = on")
            connection.execute("pragma wal_autocheckpoint = 0")
            (revision,) = connection.execute("select version_num from alembic_version").fetchone() or (None,)
            calls, newest_ms = connection.execute("select count(*), max(received_at_ms) from call").fetchone()
    except sqlite3.Error as error:
        raise BadCopy(
            f"{path} is no database of Lowlight's ({error}). Give a file that `lowlight backup` made."
        ) from None
    newest_at = None if newest_ms is None else datetime.fromtimestamp(newest_ms / 1000, UTC)
    return Contents(str(revision), calls, newest_at)


def stage(source: Path, database: Path) -> Contents:
    """Put a checked copy of `source` beside the database, at this version's schema; return what it holds.

    Raises:
        BadCopy: it is missing, damaged, none of Lowlight's or a newer one's, or the disk has no room for it.
        StoreUnavailable: it cannot be copied.
    """
    if not source.is_file():
        what = "is no file" if source.exists() else "is not there"
        raise BadCopy(f"{source} {what}. Give a file that `lowlight backup` made.")
    if database.exists() and source.samefile(database):
        raise BadCopy(f"{source} is the database itself. Give a file that `lowlight backup` made.")
    contents = contents_of(source)
    if not is_known(contents.revision):
        raise BadCopy(
            f"{source} has the schema {contents.revision}, which this version does not know: "
            "a newer Lowlight made it. Install that version to restore it, or take an older backup."
        )
    damage = damage_of(source)
    if damage is not None:
        raise BadCopy(f"{source} is damaged ({damage}). Take an older backup.")
    disk, new_bytes = disk_of(database), disk_of(source).database_bytes
    needed_bytes = disk.database_bytes + 3 * new_bytes + SPARE_BYTES
    if disk.free_bytes < needed_bytes:
        raise BadCopy(
            f"Restoring takes {in_words(needed_bytes)} beside {database} for a while, as what is replaced is "
            f"kept, and {in_words(disk.free_bytes)} are free. Make room first."
        )
    unstage(database)
    copy_out(source, staged_path(database))
    upgrade(f"sqlite:///{staged_path(database)}", keep_copy=False)
    return contents


def replace(database: Path, progress: Progress | None = None) -> Path | None:
    """Put the staged copy in the place of what the database holds; return the copy made of that.

    Must run under the database's lock, with no connection of ours open.

    Raises:
        BadCopy: nothing is staged, or another version staged it.
        StoreUnavailable: the database could not be read, written or locked; it is as it was.
    """
    staged = staged_path(database)
    if not staged.exists():
        raise BadCopy(f"{staged} is not there: nothing to restore. Run lowlight restore FILE.")
    revision = contents_of(staged).revision
    if revision != newest_revision():
        raise BadCopy(
            f"{staged} has the schema {revision}, and this server {newest_revision()}: two versions of "
            "Lowlight. Restart the server with the installed one, then restore again."
        )
    kept = None
    if database.exists():
        kept = _keep(database)
    copy_in(staged, database, progress)
    unstage(database)
    return kept


def unstage(database: Path) -> None:
    """Remove what is staged, if anything is."""
    staged = staged_path(database)
    for suffix in ("", "-wal", "-shm"):
        staged.with_name(staged.name + suffix).unlink(missing_ok=True)


def staged_path(database: Path) -> Path:
    """Return where a copy waits to be put in the place of a database."""
    return database.with_name(f"{database.name}.restore")


def _keep(database: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
    kept = database.with_name(f"{database.name}.before-restore-{stamp}Z")
    try:
        copy_out(database, kept)
    except IngestError as error:
        if not isinstance(error.__cause__, sqlite3.DatabaseError) or "not a database" not in str(
            error.__cause__
        ):
            raise
        # Nothing that SQLite could read: it is set aside as it lies there, with whatever log it has.
        for suffix in ("", "-wal", "-shm"):
            part = database.with_name(database.name + suffix)
            if part.exists():
                part.rename(kept.with_name(kept.name + suffix))
    return kept


@dataclass(frozen=True)
class Restored:
    """How far a restore is.

    Attributes:
        state: none (since the server started), asked, done, failed.
        number: counts the restores of this server, so that whoever asked knows its own.
        kept: where the replaced database lies, once done.
        error: what went wrong; the server then goes on with the database as it was.
    """

    state: Literal["none", "asked", "done", "failed"]
    number: int = 0
    kept: str | None = None
    error: str | None = None


class Restores:
    """One server's restores: asked for by a request, carried out between two lives of the app."""

    def __init__(self, database: Path | None) -> None:
        self._database = database
        self._turn = threading.Lock()
        self._at = Restored("none")
        #: ends the app's present life; set by `api.serving` while one runs
        self.step_aside: Callable[[], Any] | None = None

    @property
    def at(self) -> Restored:
        """How far the newest one is."""
        return self._at

    @property
    def wanted(self) -> bool:
        """Whether one was asked for and not carried out."""
        return self._at.state == "asked"

    def ask(self) -> Restored:
        """Ask for what is staged to be restored, as soon as the requests in hand are answered.

        Raises:
            Refused: 409 where nothing is staged or one is under way, 501 where this server cannot.
        """
        if self._database is None or self.step_aside is None:
            raise Refused(501, "cannot_restore", "Only a server of a SQLite file restores; use pg_restore.")
        with self._turn:
            if self.wanted:
                raise Refused(409, "restoring", "A restore is under way; wait for it.")
            if not staged_path(self._database).exists():
                message = "Nothing is staged; run lowlight restore FILE, which asks by itself."
                raise Refused(409, "nothing_staged", message)
            self._at = Restored("asked", self._at.number + 1)
        log.info("a restore was asked for: this server closes its database, replaces it, and comes back")
        self.step_aside()
        return self._at

    def carry_out(self) -> None:
        """Restore, and remember how it went; never raises for what an operator can mend."""
        assert self._database is not None
        number = self._at.number
        try:
            kept = replace(self._database)
        except (ApiError, IngestError) as error:
            log.error("the restore failed, the database is as it was: %s", error)
            self._at = Restored("failed", number, error=str(error))
        else:
            log.info("the database was restored; as it was before: %s", kept)
            self._at = Restored("done", number, kept=None if kept is None else str(kept.absolute()))
