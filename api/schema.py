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
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from ingest.errors import StoreUnavailable
from ingest.store import sqlite_path, writing_engine

#: A server that cannot have its database should say so while somebody is looking.
LOCK_TIMEOUT_S = 5.0

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


def upgrade(database_url: str) -> Path | None:
    """Bring the database to the newest revision; return the copy made of a SQLite file, where one was.

    Raises:
        StoreUnavailable: it cannot be opened, locked or written, or a newer Lowlight made it; the message
            says what to do.
    """
    try:
        return _upgrade(database_url)
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        what = sqlite_path(database_url) or "The database"
        raise StoreUnavailable(f"{what} cannot be used: {_remedy(error)}") from error


def _upgrade(database_url: str) -> Path | None:
    copy: Path | None = None
    engine = writing_engine(database_url, lock_timeout_s=LOCK_TIMEOUT_S)
    try:
        with engine.connect() as connection:
            at = revision_of(connection)
            connection.rollback()
            path = sqlite_path(database_url)
            if at is not None and not is_known(at):
                raise StoreUnavailable(
                    f"{path or 'The database'} has the schema {at}, which this version does not know: a "
                    "newer Lowlight made it. Start that version, or set LOWLIGHT_DATABASE_URL to another one."
                )
            if path is not None and at is not None and at != newest_revision():
                copy = path.with_name(f"{path.name}.before-{newest_revision()}")
                _copy_sqlite(path, copy)
            if at != newest_revision():
                with connection.begin():
                    command.upgrade(_config(connection), "head")
    finally:
        engine.dispose()
    return copy


def _remedy(error: Exception) -> str:
    words = str(getattr(error, "orig", None) or error).strip()
    remedies = {
        "locked": "another program holds it; close that program and start again.",
        "readonly": "make the file and its folder writable, or set LOWLIGHT_DATABASE_URL to another one.",
        "unable to open": "its folder must exist and be writable; see LOWLIGHT_DATABASE_URL.",
        "not a database": "it is no SQLite file; set LOWLIGHT_DATABASE_URL to another one.",
        "full": "free some space and start again.",
    }
    for sign, remedy in remedies.items():
        if sign in words:
            return f"{words}; {remedy}"
    return words


def _copy_sqlite(path: Path, copy: Path) -> None:
    """Copy a database file with what its write-ahead log still holds."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
