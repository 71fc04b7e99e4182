"""What stops a server from starting is one clear line on stderr and a non-zero status, never a traceback."""

import os
import socket
import sqlite3
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from api import schema
from api.background import environment_of, start, stop
from api.cli import main
from ingest import logs
from ingest.settings import Settings


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command sets up logging for its own process, not for this one."""
    monkeypatch.setattr(logs, "set_up_logs", lambda *_: None)


def refused(settings: Settings, **environment: str) -> str:
    """Run `lowlight serve`, which must fail; return the one line it says."""
    found = CliRunner().invoke(main, ["serve"], env={**environment_of(settings), **environment})
    assert found.exit_code == 1
    assert isinstance(found.exception, SystemExit), found.exception
    assert found.stdout == ""
    (line,) = found.stderr.strip().splitlines()
    return line.removeprefix("Error: ")


def test_a_second_server_names_the_first(settings: Settings, tmp_path: Path) -> None:
    """In a process of its own, so that nothing of it but the line and the status can be seen."""
    process, address = start(settings, tmp_path / "server.log")
    try:
        second = subprocess.run(
            [sys.executable, "-m", "api.cli", "serve"],
            env=environment_of(settings),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    finally:
        stop(process)
    assert (second.returncode, second.stdout) == (1, "")
    (line,) = second.stderr.strip().splitlines()
    assert address in line
    assert settings.database_url.removeprefix("sqlite:///") in line


def test_a_port_in_use(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(settings, LOWLIGHT_PORT=str(port))
    assert f"Port {port}" in line
    assert "LOWLIGHT_PORT" in line


def test_a_locked_database(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty file must be migrated first, and another program holds it."""
    monkeypatch.setattr(schema, "LOCK_TIMEOUT_S", 0.1)
    path = tmp_path / "locked.db"
    other: Any = sqlite3.connect(path, isolation_level=None)
    other.execute("create table of_another_program (x)")
    other.execute("begin exclusive")
    line = refused(settings, LOWLIGHT_DATABASE_URL=f"sqlite:///{path}")
    other.close()
    assert "locked" in line
    assert "another program" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere; see the next test")
def test_a_folder_that_is_read_only(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o500)
    line = refused(settings, LOWLIGHT_DATABASE_URL=f"sqlite:///{folder / 'x.db'}")
    assert "writable" in line


def test_a_folder_that_takes_no_files(settings: Settings) -> None:
    """/proc refuses new files even to root, as a read-only disk does."""
    line = refused(settings, LOWLIGHT_DATABASE_URL="sqlite:////proc/lowlight.db")
    assert "/proc/lowlight.db" in line
    assert "writable" in line


def test_a_file_that_is_no_database(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("Dear diary, " * 1000)
    assert "not a database" in refused(settings, LOWLIGHT_DATABASE_URL=f"sqlite:///{path}")


@pytest.mark.parametrize("revision", [None, "abc123"])
def test_a_file_of_another_program_is_left_as_it_is(
    settings: Settings, tmp_path: Path, revision: str | None
) -> None:
    """Also where that program keeps its schema as we do."""
    path = tmp_path / "of-another.db"
    connection = sqlite3.connect(path)
    connection.execute("create table invoices (x)")
    if revision is not None:
        connection.execute("create table alembic_version (version_num)")
        connection.execute("insert into alembic_version values (?)", (revision,))
    connection.commit()
    connection.close()
    before = path.read_bytes()
    line = refused(settings, LOWLIGHT_DATABASE_URL=f"sqlite:///{path}")
    assert str(path) in line
    assert "invoices" in line
    assert "LOWLIGHT_DATABASE_URL" in line
    assert [name for (name,) in sqlite3.connect(path).execute("select name from sqlite_master")] == (
        ["invoices"] if revision is None else ["invoices", "alembic_version"]
    )
    assert path.read_bytes()[100:] == before[100:]


def test_a_url_that_is_none(settings: Settings) -> None:
    assert "LOWLIGHT_DATABASE_URL" in refused(settings, LOWLIGHT_DATABASE_URL="my database")


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "mysql://x/y", "oracle://x/y", "nosuch://x/y"]
)
def test_a_database_that_cannot_serve(settings: Settings, url: str) -> None:
    line = refused(settings, LOWLIGHT_DATABASE_URL=url)
    assert "LOWLIGHT_DATABASE_URL" in line
    assert "sqlite:///FILE" in line


@pytest.mark.skipif(find_spec("psycopg") is not None, reason="the driver is installed")
def test_a_database_whose_driver_is_not_installed(settings: Settings) -> None:
    line = refused(settings, LOWLIGHT_DATABASE_URL="postgresql+psycopg://me@127.0.0.1/lowlight")
    assert "psycopg" in line
    assert "install" in line


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "lowlight.example"])
def test_a_host_that_others_could_reach(settings: Settings, host: str) -> None:
    line = refused(settings, LOWLIGHT_HOST=host)
    assert "LOWLIGHT_HOST" in line
    assert "127.0.0.1" in line


def test_a_rubric_with_six_levels(settings: Settings, tmp_path: Path) -> None:
    rubrics = tmp_path / "rubrics"
    rubrics.mkdir()
    levels = ", ".join(f'"level {i}"' for i in range(6))
    source = f'{{% set question = "Is it kind?" %}}\n{{% set levels = [{levels}] %}}\n{{{{ output }}}}\n'
    (rubrics / "tone.jinja").write_text(source)
    line = refused(settings, LOWLIGHT_RUBRICS_DIR=str(rubrics))
    assert "tone.jinja:2" in line
    assert "seven" in line


def test_a_critic_without_its_key(settings: Settings) -> None:
    line = refused(settings, LOWLIGHT_CRITIC="openai:gpt-6-luna", OPENAI_API_KEY="")
    assert "OPENAI_API_KEY" in line


def test_a_budget_for_a_critic_whose_price_nobody_knows(settings: Settings) -> None:
    line = refused(
        settings,
        LOWLIGHT_CRITIC="openai:gpt-unheard-of",
        OPENAI_API_KEY="sk-none",
        LOWLIGHT_EGRESS="*",
        LOWLIGHT_CRITIC_BUDGET_USD="1",
    )
    assert "LOWLIGHT_CRITIC_BUDGET_USD" in line
    assert "openai:gpt-unheard-of" in line
    assert "LOWLIGHT_PRICES" in line


def test_an_unknown_critic(settings: Settings) -> None:
    assert "LOWLIGHT_CRITIC" in refused(settings, LOWLIGHT_CRITIC="oracle")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LOWLIGHT_PORT", "many"),
        ("LOWLIGHT_PORT", "70000"),
        ("LOWLIGHT_TIMEZONE", "Middle/Earth"),
        ("LOWLIGHT_SIGNAL_POLARITY", "refund"),
        ("LOWLIGHT_SIGNAL_POLARITY", '{"refund": -2}'),
        ("LOWLIGHT_REFRESH_S", "-1"),
    ],
)
def test_a_bad_setting_names_its_variable(settings: Settings, variable: str, value: str) -> None:
    assert variable in refused(settings, **{variable: value})
