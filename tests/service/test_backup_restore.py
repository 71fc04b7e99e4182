"""`lowlight backup` and `lowlight restore`, beside a server that goes on and without one."""

import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx2 as httpx
import pytest
from click.testing import CliRunner, Result

from api.background import environment_of
from api.cli import main
from api.operating import restoring
from ingest.lock import ServerLock
from ingest.settings import Settings
from tests.warm import background


def lowlight(settings: Settings, *arguments: str) -> Result:
    """Run a command on the database of `settings`."""
    return CliRunner().invoke(main, list(arguments), env=environment_of(settings))


def ids(path: Path) -> set[str]:
    """The ids of the calls in a file."""
    connection = sqlite3.connect(path)
    found = {row[0] for row in connection.execute("select id from call")}
    connection.close()
    return found


def send(client: httpx.Client, *call_ids: str) -> None:
    """Keep calls of these ids."""
    calls = [{"id": call_id, "model": f"m-{call_id}", "output": "x"} for call_id in call_ids]
    assert client.post("/v1/calls", json={"calls": calls}).json()["accepted"] == len(calls)


@pytest.fixture
def database(settings: Settings) -> Path:
    """The file of `settings`."""
    return Path(settings.database_url.removeprefix("sqlite:///"))


@pytest.fixture
def client(settings: Settings, tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of a running server of `settings`."""
    with (
        background(settings, log_path=tmp_path / "server.log") as address,
        httpx.Client(base_url=address, timeout=60) as opened,
    ):
        yield opened


def test_a_backup_beside_a_busy_server_is_of_one_moment(
    settings: Settings, client: httpx.Client, tmp_path: Path
) -> None:
    """Every call in it was sent before every call that is not, and writing went on."""
    send(client, "before")
    stop = threading.Event()
    sent: list[str] = []

    def keep_sending() -> None:
        while not stop.is_set():
            send(client, f"n{len(sent)}")
            sent.append(f"n{len(sent)}")

    sender = threading.Thread(target=keep_sending)
    sender.start()
    made = lowlight(settings, "backup", str(tmp_path / "copy.db"))
    stop.set()
    sender.join()
    assert made.exit_code == 0, made.output
    assert "sound" in made.output
    kept = ids(tmp_path / "copy.db")
    assert "before" in kept
    assert kept - {"before"} == set(sent[: len(kept) - 1])
    assert (tmp_path / "copy.db").stat().st_mode & 0o077 == 0
    assert not list(tmp_path.glob("copy.db?*"))


def test_a_backup_replaces_nothing(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_text("mine")
    refused = lowlight(settings, "backup", str(tmp_path / "copy.db"))
    assert refused.exit_code == 1
    assert "is there already" in refused.output
    assert "Copying" not in refused.output
    assert (tmp_path / "copy.db").read_text() == "mine"
    assert not list(tmp_path.glob("copy.db?*"))


def test_a_backup_of_nothing_and_into_nowhere(settings: Settings, tmp_path: Path) -> None:
    nothing = settings.model_copy(update={"database_url": f"sqlite:///{tmp_path / 'none.db'}"})
    assert "nothing was kept yet" in lowlight(nothing, "backup", str(tmp_path / "copy.db")).output
    nowhere = lowlight(settings, "backup", str(tmp_path / "no" / "copy.db")).output
    assert "make it first" in nowhere
    assert "Copying" not in nowhere, "nothing is copied before it is sure that it can be"
    postgres = settings.model_copy(update={"database_url": "postgresql://me@127.0.0.1/lowlight"})
    assert "psycopg" in lowlight(postgres, "backup", str(tmp_path / "copy.db")).output


def test_a_restore_under_a_running_server(
    settings: Settings, client: httpx.Client, database: Path, tmp_path: Path
) -> None:
    """It comes back at the same address with what the copy held; what was acknowledged since is kept."""
    send(client, "a", "b")
    assert lowlight(settings, "backup", str(tmp_path / "copy.db")).exit_code == 0
    send(client, "c")
    stop = threading.Event()
    answers: list[int] = []

    def keep_sending() -> None:
        with httpx.Client(base_url=client.base_url, timeout=60) as other:
            while not stop.is_set():
                try:
                    call = {"id": f"n{len(answers)}", "model": "another"}
                    answers.append(other.post("/v1/calls", json={"calls": [call]}).status_code)
                except httpx.TransportError:  # a kept-alive connection that the server had closed
                    answers.append(0)

    sender = threading.Thread(target=keep_sending)
    sender.start()
    done = lowlight(settings, "restore", str(tmp_path / "copy.db"), "--yes")
    assert done.exit_code == 0, done.output
    deadline = time.monotonic() + 30
    before = len(answers)
    while len(answers) < before + 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    sender.join()
    (kept,) = tmp_path.glob("lowlight.db.before-restore-*")
    assert str(kept) in done.output
    now = {call["id"] for call in client.get("/v1/calls").json()["calls"]}
    assert {"a", "b"} <= now
    assert "c" not in now
    assert {"a", "b", "c"} <= ids(kept)
    # Each acknowledged call is in one of the two, and in one only.
    acknowledged = {f"n{i}" for i, status in enumerate(answers) if status == 200}
    assert acknowledged <= ids(kept) | ids(database)
    assert not ids(kept) & ids(database) & acknowledged
    assert set(answers) <= {0, 200, 503}, "503: its body had not come when the server stepped aside"
    assert client.get("/readyz").json()["ready"]
    assert not restoring.staged_path(database).exists()
    # Slices are numbered anew: what the app had in memory of the old database is forgotten.
    send(client, "late")
    assert client.get("/v1/calls/late").json()["call"]["model"] == "m-late"


def test_a_restore_that_cannot_be_leaves_the_server_as_it_was(
    settings: Settings, client: httpx.Client, database: Path, tmp_path: Path
) -> None:
    """Another program's lock outlasts the wait; the server says so and goes on."""
    send(client, "a")
    (tmp_path / "damaged.db").write_bytes(database.read_bytes()[:5000])
    assert "damaged" in lowlight(settings, "restore", str(tmp_path / "damaged.db"), "--yes").output
    (tmp_path / "notes.db").write_text("Dear diary, " * 1000)
    refused = lowlight(settings, "restore", str(tmp_path / "notes.db"), "--yes")
    assert refused.exit_code == 1
    assert "no database of Lowlight's" in refused.output
    assert "is not there" in lowlight(settings, "restore", str(tmp_path / "none.db"), "--yes").output
    assert "the database itself" in lowlight(settings, "restore", str(database), "--yes").output
    answer = client.post("/v1/restore", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "nothing_staged")
    # What another version staged is not taken.
    staged = restoring.staged_path(database)
    shutil.copyfile(database, staged)
    other = sqlite3.connect(staged)
    other.execute("update alembic_version set version_num = '9999'")
    other.commit()
    other.close()
    assert client.post("/v1/restore", json={}).status_code == 202
    deadline = time.monotonic() + 30
    while (at := client.get("/v1/restore").json())["state"] == "asked" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert at["state"] == "failed"
    assert "two versions" in at["error"]
    assert [call["id"] for call in client.get("/v1/calls").json()["calls"]] == ["a"]


def test_a_restore_without_a_server(settings: Settings, database: Path, tmp_path: Path) -> None:
    """Also over a file that nothing can read any more, and of an older schema's copy."""
    assert lowlight(settings, "backup", str(tmp_path / "copy.db")).exit_code == 0
    database.write_text("overwritten by mistake" * 500)
    no = CliRunner().invoke(
        main, ["restore", str(tmp_path / "copy.db")], env=environment_of(settings), input="n\n"
    )
    assert no.exit_code == 1
    assert "overwritten" in database.read_text()
    assert not restoring.staged_path(database).exists()
    done = lowlight(settings, "restore", str(tmp_path / "copy.db"), "--yes")
    assert done.exit_code == 0, done.output
    assert ids(database) == set()
    (kept,) = tmp_path.glob("lowlight.db.before-restore-*")
    assert "overwritten" in kept.read_text()
    assert lowlight(settings, "doctor").exit_code == 0


def test_what_cannot_be_restored_is_named_with_what_to_do(
    settings: Settings, database: Path, tmp_path: Path
) -> None:
    newer = tmp_path / "newer.db"
    assert lowlight(settings, "backup", str(newer)).exit_code == 0
    with closing(sqlite3.connect(newer)) as connection, connection:
        connection.execute("update alembic_version set version_num = '9999'")
    (tmp_path / "text.db").write_text("no database")
    for given, words in (
        (newer, "a newer Lowlight made it. Install that version"),
        (tmp_path, "is no file"),
        (tmp_path / "gone.db", "is not there"),
        (tmp_path / "text.db", "is no database of Lowlight's"),
        (database, "is the database itself"),
    ):
        done = lowlight(settings, "restore", str(given), "--yes")
        assert done.exit_code == 1
        assert f"{given} " in done.output
        assert words in done.output
    assert ids(database) == set()
    assert not restoring.staged_path(database).exists()


def test_a_restore_killed_half_way_leaves_the_database_as_it_was(
    settings: Settings, database: Path, tmp_path: Path
) -> None:
    """In one transaction: kill -9 between two of its steps, and nothing of the copy is there."""
    for path, name, n in ((database, "old", 10), (tmp_path / "copy.db", "new", 30_000)):
        if path != database:
            shutil.copyfile(database, path)
        connection = sqlite3.connect(path)
        connection.executemany(
            "insert into project (name) values (?)", ((f"{name} {i} {'x' * 900}",) for i in range(n))
        )
        connection.commit()
        connection.execute("pragma wal_checkpoint(truncate)")
        connection.close()
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from ingest.copying import copy_in\n"
        "copy_in(Path(sys.argv[1]), Path(sys.argv[2]),"
        " lambda done, total: os.kill(os.getpid(), signal.SIGKILL) if done > total / 2 else None)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "copy.db"), str(database)], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    connection = sqlite3.connect(database)
    assert connection.execute("select count(*) from project where name like 'new%'").fetchone() == (0,)
    assert connection.execute("select count(*) from project where name like 'old%'").fetchone() == (10,)
    assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    connection.close()
    assert lowlight(settings, "restore", str(tmp_path / "copy.db"), "--yes").exit_code == 0
    connection = sqlite3.connect(database)
    assert connection.execute("select count(*) from project where name like 'new%'").fetchone() == (30_000,)
    connection.close()


def test_a_restore_waits_for_nobody_who_holds_the_lock(settings: Settings, tmp_path: Path) -> None:
    assert lowlight(settings, "backup", str(tmp_path / "copy.db")).exit_code == 0
    with ServerLock(tmp_path / "lowlight.db"):
        refused = lowlight(settings, "restore", str(tmp_path / "copy.db"), "--yes")
    assert refused.exit_code == 1
    assert "just starting" in refused.output


def test_a_disk_without_room_is_said_before_anything_is_touched(
    settings: Settings, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lowlight(settings, "backup", str(tmp_path / "copy.db")).exit_code == 0
    monkeypatch.setattr(restoring, "SPARE_BYTES", 1 << 60)
    refused = lowlight(settings, "restore", str(tmp_path / "copy.db"), "--yes")
    assert refused.exit_code == 1
    assert "Make room first" in refused.output
    assert not restoring.staged_path(database).exists()
