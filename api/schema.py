"""The schema: bring a database to the newest revision, or say how far it is.

Flow: `serve` and `lowlight db upgrade` -> `upgrade` -> api/migrations. A SQLite file is copied first.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect
from sqlalchemy.exc import SQLAlchemyError

from ingest.errors import StoreUnavailable
from ingest.store import sqlite_path, writing_engine

#: A server that cannot have its database should say so while somebody is looking.
LOCK_TIMEOUT_S = 5.0
#: Foreign tables named in an error.
NAMED_MAX = 5

MIGRATIONS = Path(__file__).parent / "migrations"


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def newest_revision() -> str:
    """Return the one head of the history.

    Raises:
        alembic.util.CommandError: the history has two heads.
    """
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    head = ScriptDirectory.from_config(config).get_current_head()
    assert head is not None
    return head


def is_known(revision: str) -> bool:
    """Whether a revision is part of this version's history; a newer version's is not."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    try:
        return ScriptDirectory.from_config(config).get_revision(revision) is not None
    except CommandError:
        return False


def revision_of(connection: Connection) -> str | None:
    """Return the revision a database is at; None for an empty one."""
    return MigrationContext.configure(connection).get_current_revision()


def upgrade(database_url: str, *, keep_copy: bool = True) -> Path | None:
    """Bring the database to the newest revision; return the copy made of a SQLite file, where one was.

    Args:
        keep_copy: whether a SQLite file that must be migrated is copied first.

    Raises:
        StoreUnavailable: it cannot be opened, locked or written, or a newer Lowlight made it; the message
            says what to do.
    """
    try:
        return _upgrade(database_url, keep_copy)
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        what = sqlite_path(database_url) or "The database"
        raise StoreUnavailable(f"{what} cannot be used: {remedy(error)}") from error


def _upgrade(database_url: str, keep_copy: bool) -> Path | None:
    copy: Path | None = None
    engine = writing_engine(database_url, lock_timeout_s=LOCK_TIMEOUT_S)
    try:
        with engine.connect() as connection:
            at = revision_of(connection)
            connection.rollback()
            path = sqlite_path(database_url)
            if at is None or not is_known(at):
                not_ours = _not_ours(connection, path or "The database", at)
                connection.rollback()
                if not_ours is not None:
                    raise StoreUnavailable(not_ours)
            if keep_copy and path is not None and at is not None and at != newest_revision():
                copy = path.with_name(f"{path.name}.before-{newest_revision()}")
                _copy_sqlite(path, copy)
            if at != newest_revision():
                with connection.begin():
                    command.upgrade(_config(connection), "head")
    finally:
        engine.dispose()
    return copy


def trouble_with(connection: Connection, what: Path | None) -> str | None:
    """Return why this version cannot read a database, and what to do; None where it can.

    Raises:
        SQLAlchemyError: it cannot be asked; `remedy` has words for that.
    """
    name = what or "The database"
    at = revision_of(connection)
    if at == newest_revision():
        return None
    if at is not None and is_known(at):
        return (
            f"{name} has the schema {at}, and this version needs {newest_revision()}. "
            "Run `lowlight db upgrade`, or start the server, which does so by itself for a SQLite file."
        )
    if at is None and not inspect(connection).get_table_names():
        return f"{name} is empty: nothing was kept yet. `lowlight serve` begins."
    return _not_ours(connection, name, at)


def _not_ours(connection: Connection, name: Path | str, at: str | None) -> str | None:
    """Say whose tables lie in a database that this version does not know; None in an empty one."""
    tables = sorted(inspect(connection).get_table_names())
    elsewhere = "set LOWLIGHT_DATABASE_URL to another one; a file that is not there yet is made"
    if "call" in tables and "todo" in tables:
        if at is None:
            return f"{name} has lost the revision of its schema; bring a backup back, or {elsewhere}."
        return (
            f"{name} has the schema {at}, which this version does not know: a newer Lowlight made it. "
            f"Start that version, or {elsewhere}."
        )
    if not tables:
        return None
    named = ", ".join(tables[:NAMED_MAX]) + (", ..." if len(tables) > NAMED_MAX else "")
    return f"{name} belongs to another program: its tables are {named}. Instead, {elsewhere}."


def remedy(error: Exception) -> str:
    """Return what a database said, and what to do about it."""
    words = str(getattr(error, "orig", None) or error).strip()
    remedies = {
        "locked": "another program holds it; close that program and try again.",
        "readonly": "make the file and its folder writable, or set LOWLIGHT_DATABASE_URL to another one.",
        "unable to open": "its folder must exist and be writable; see LOWLIGHT_DATABASE_URL.",
        "not a database": "it is no SQLite file; set LOWLIGHT_DATABASE_URL to another one.",
        "malformed": "it is damaged; bring a backup back with `lowlight restore FILE`.",
        "full": "free some space and start again.",
    }
    for sign, what_to_do in remedies.items():
        if sign in words:
            return f"{words}; {what_to_do}"
    return words


def _copy_sqlite(path: Path, copy: Path) -> None:
    """Copy a database file with what its write-ahead log still holds."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
