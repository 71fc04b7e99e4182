"""The command line: its help answers at once and shows an example everywhere; doctor says what to do."""

import json
import sqlite3
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from api.background import environment_of, start, stop
from api.cli import _COMMANDS, main, serve
from api.operating import checkup
from ingest.disk import Disk
from ingest.lock import ServerLock
from ingest.settings import Settings

#: What takes long to import, and nothing that --help needs.
HEAVY = (
    "sqlalchemy",
    "sqlmodel",
    "fastapi",
    "starlette",
    "uvicorn",
    "pydantic",
    "numpy",
    "sklearn",
    "openai",
    "jinja2",
)


def test_the_help_imports_nothing_heavy() -> None:
    """It must answer in under 0.3 s; what it imports says so more steadily than a clock."""
    code = (
        "import sys\n"
        "from api.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for name in _COMMANDS:
        assert f"  {name} " in done.stdout


def commands(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
    """A command and all below it."""
    found = [(path, command)]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            found += commands(below, f"{path} {name}")
    return found


def test_every_help_contains_an_example() -> None:
    found = commands(main, "lowlight")
    assert len(found) > len(_COMMANDS)
    for path, command in found:
        words = command.get_help(click.Context(command, info_name=path))
        assert "Example" in words, path
        assert "lowlight" in words.partition("Example")[2], path


def test_an_unknown_command_is_refused() -> None:
    found = CliRunner().invoke(main, ["serv"])
    assert found.exit_code == 2
    assert "serv" in found.stderr


def test_db_upgrade_makes_the_schema_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    for _ in range(2):
        found = CliRunner().invoke(main, ["db", "upgrade", "--database-url", url])
        assert found.exit_code == 0
        assert "newest" in found.stdout
    with sqlite3.connect(tmp_path / "new.db") as connection:
        assert connection.execute("select count(*) from call").fetchone() == (0,)


def doctor(settings: Settings, **environment: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Run doctor; return its status, and mark and words by subject."""
    found = CliRunner().invoke(main, ["doctor"], env={**environment_of(settings), **environment})
    lines = (line.split(maxsplit=2) for line in found.stdout.splitlines())
    return found.exit_code, {subject: (mark, words) for mark, subject, words in lines}


def test_the_server_says_where_it_keeps_what_it_is_sent(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started in another folder it keeps another file."""
    monkeypatch.chdir(tmp_path)
    serve._say_ready("http://127.0.0.1:1", serve._kept_in("sqlite:///lowlight.db"))
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "Lowlight listens on http://127.0.0.1:1"
    assert said[-1] == f"What it is sent is kept in {tmp_path / 'lowlight.db'}"


def test_doctor_finds_a_sound_installation(settings: Settings) -> None:
    status, found = doctor(settings)
    assert status == 0
    assert {mark for mark, _words in found.values()} == {"ok"}
    assert "0 calls" in found["database"][1]
    assert "lowlight serve" in found["server"][1]


def test_doctor_asks_the_running_server(settings: Settings, tmp_path: Path) -> None:
    process, address = start(settings, tmp_path / "server.log")
    try:
        status, found = doctor(settings)
    finally:
        stop(process)
    assert status == 0
    assert f"{address} is ready" in found["server"][1]


@pytest.mark.parametrize(
    ("environment", "subject", "words"),
    [
        ({"LOWLIGHT_PORT": "many"}, "settings", "LOWLIGHT_PORT"),
        ({"LOWLIGHT_CRITIC": "openai:gpt-6-luna", "OPENAI_API_KEY": ""}, "critics", "OPENAI_API_KEY"),
        ({"LOWLIGHT_CRITIC": "openai:gpt-6-luna", "OPENAI_API_KEY": "k"}, "critics", "LOWLIGHT_EGRESS"),
        ({"LOWLIGHT_RUBRICS_DIR": "/nowhere"}, "rubrics", "/nowhere"),
        ({"LOWLIGHT_DATABASE_URL": "sqlite:////nowhere/x.db"}, "disk", "make it writable"),
        ({"LOWLIGHT_DATABASE_URL": "mine"}, "database", "LOWLIGHT_DATABASE_URL"),
        ({"LOWLIGHT_CRITICS": "none"}, "settings", "no setting; did you mean LOWLIGHT_CRITIC?"),
        (
            {"LOWLIGHT_CRITIC": "systemone:https://me:secret@h.example#m"},
            "critics",
            "'systemone:https://(left out)@h.example#m' names no address",
        ),
        ({"LOWLIGHT_REFRESH_S": "inf"}, "settings", "LOWLIGHT_REFRESH_S: Input should be a finite number"),
    ],
)
def test_doctor_says_what_to_do(
    settings: Settings, environment: dict[str, str], subject: str, words: str
) -> None:
    status, found = doctor(settings, **environment)
    assert status == 1
    assert found[subject][0] == "FIX"
    assert words in found[subject][1]


@pytest.mark.parametrize("url", ["postgresql://me:secret@127.0.0.1/x", "postgres:/ql//me:secret@127.0.0.1"])
def test_doctor_shows_no_password(settings: Settings, url: str) -> None:
    """What it prints is pasted into issues."""
    _status, found = doctor(settings, LOWLIGHT_DATABASE_URL=url)
    assert "secret" not in str(found)
    assert "(left out)@127.0.0.1" in str(found)


def test_doctor_knows_the_settings_of_the_sdk(settings: Settings) -> None:
    status, _found = doctor(settings, LOWLIGHT_URL="http://127.0.0.1:4545", LOWLIGHT_SPOOL="/tmp/spool")
    assert status == 0


def test_doctor_answers_as_json(settings: Settings) -> None:
    found = CliRunner().invoke(main, ["doctor", "--json"], env=environment_of(settings))
    told = json.loads(found.stdout)
    assert (found.exit_code, told["ok"]) == (0, True)
    assert {"python", "sqlite", "packages", "disk", "database", "server"} <= {
        finding["subject"] for finding in told["findings"]
    }
    bad = CliRunner().invoke(
        main, ["doctor", "--json"], env={**environment_of(settings), "LOWLIGHT_PORT": "x"}
    )
    assert (bad.exit_code, json.loads(bad.stdout)["ok"]) == (1, False)


class OfAnotherServer(BaseHTTPRequestHandler):
    """An older server that is not ready."""

    def do_GET(self) -> None:
        """Answer what doctor asks."""
        said: dict[str, Any] = {"version": "0.0.9", "schema": "0001"}
        if self.path == "/readyz":
            said = {"ready": False, "problems": ["The disk is full."], "warnings": ["A critic is paused."]}
        self.send_response(503 if self.path == "/readyz" else 200)
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def test_doctor_tells_a_server_of_another_version_and_what_ails_it(settings: Settings) -> None:
    with HTTPServer(("127.0.0.1", 0), OfAnotherServer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with ServerLock(Path(settings.database_url.removeprefix("sqlite:///"))) as lock:
            lock.tell(f"http://127.0.0.1:{server.server_port}")
            found = CliRunner().invoke(main, ["doctor"], env=environment_of(settings))
        server.shutdown()
        thread.join()
    assert found.exit_code == 1
    for words in ("runs 0.0.9 (schema 0001)", "restart it", "The disk is full.", "A critic is paused."):
        assert words in found.stdout


def test_doctor_sees_a_full_disk_and_a_swollen_log(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkup, "disk_of", lambda _path: Disk(5 << 20, 1 << 20, 0))
    assert "Make room" in doctor(settings)[1]["disk"][1]
    monkeypatch.setattr(checkup, "disk_of", lambda _path: Disk(5 << 40, 1 << 20, 5 << 30))
    status, found = doctor(settings)
    assert status == 1
    assert "its log 5.0 GiB" in found["disk"][1]


def test_doctor_names_a_sqlite_that_can_damage_a_log_and_one_that_is_too_old() -> None:
    assert "before 3.51.3" in checkup._sqlite((3, 40, 1)).words
    assert not checkup._sqlite((3, 31, 0)).ok
    assert checkup._sqlite((3, 51, 3)) == checkup.Finding("sqlite", True, "3.51.3")


def test_doctor_and_report_tell_what_is_no_database_of_ours(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("Dear diary, " * 1000)
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("create table invoices (x)")
    other.commit()
    other.close()
    sqlite3.connect(tmp_path / "empty.db").close()
    for name, words in (
        ("notes.db", "no SQLite file"),
        ("other.db", "belongs to another program: its tables are invoices"),
        ("empty.db", "is empty"),
    ):
        url = f"sqlite:///{tmp_path / name}"
        assert words in doctor(settings, LOWLIGHT_DATABASE_URL=url)[1]["database"][1]
        report = CliRunner().invoke(main, ["report", "--database-url", url])
        assert report.exit_code == 1
        assert words in report.stderr
        assert "db upgrade" not in report.stderr


def test_a_package_that_is_missing_after_a_pull_is_one_line(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['alembic'] = None; from api.cli import main; "
        f"main(['db', 'upgrade', '--database-url', 'sqlite:///{tmp_path / 'new.db'}'])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    (line,) = found.stderr.strip().splitlines()
    assert "alembic" in line
    assert "`make`" in line


@pytest.mark.parametrize(("was", "words"), [(None, "lost the revision"), ("9999", "a newer Lowlight")])
def test_doctor_sees_another_schema(settings: Settings, was: str | None, words: str) -> None:
    path = settings.database_url.removeprefix("sqlite:///")
    with sqlite3.connect(path) as connection:
        connection.execute("delete from alembic_version")
        if was is not None:
            connection.execute("insert into alembic_version values (?)", (was,))
    status, found = doctor(settings)
    assert status == 1
    assert words in found["database"][1]
