"""The schema: one linear history, and tables that are what the history makes."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import text
from sqlmodel import SQLModel

from api import schema
from api.schema import MIGRATIONS, newest_revision, revision_of, upgrade
from ingest.errors import StoreUnavailable
from ingest.store import writing_engine


def test_the_history_has_one_head() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [newest_revision()]


def test_migrations_make_exactly_the_tables_of_the_models(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'fresh.db'}"
    assert upgrade(url) is None, "an empty database needs no copy"
    with writing_engine(url).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []
        assert revision_of(connection) == newest_revision()


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "newer.db"
    upgrade(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("update alembic_version set version_num = '9999'")
    with pytest.raises(StoreUnavailable, match=r"9999.*a newer Lowlight.*LOWLIGHT_DATABASE_URL"):
        upgrade(f"sqlite:///{path}")
    assert not list(tmp_path.glob("newer.db.before-*"))


def test_a_file_of_another_revision_is_copied_before_it_is_migrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever becomes of the migration, the file as it was lies beside it, the newest commits included."""
    path = tmp_path / "old.db"
    upgrade(f"sqlite:///{path}")
    engine = writing_engine(f"sqlite:///{path}")
    with engine.connect() as connection, connection.begin():
        connection.execute(text("insert into project (name) values ('kept')"))
        connection.execute(text("update alembic_version set version_num = 'unknown'"))
    engine.dispose()

    monkeypatch.setattr(schema, "is_known", lambda _revision: True)  # there is only one so far
    with pytest.raises(CommandError, match="unknown"):
        upgrade(f"sqlite:///{path}")

    (copy,) = tmp_path.glob("old.db.before-*")
    with closing(sqlite3.connect(copy)) as kept:
        assert kept.execute("select name from project").fetchall() == [("kept",)]
