"""The disk is full: 503, nothing half written, and calls are taken again as soon as there is room.

Twice: on a real file system of 48 MiB, and, where none can be mounted, with a limit on the size of files.
"""

import errno
import os
import resource
import shutil
import sqlite3
import time
from pathlib import Path

import httpx2 as httpx
import pytest

from api.background import stop
from ingest.settings import Settings
from tests.faults.senders import Kept, Senders
from tests.warm import background, start


def wait_until(client: httpx.Client, ready: bool) -> dict[str, object]:
    """Wait until /readyz says so; return what it says."""
    deadline = time.monotonic() + 60
    while True:
        answer = client.get("/readyz")
        state: dict[str, object] = answer.json()
        if state["ready"] == ready:
            assert answer.status_code == (200 if ready else 503)
            return state
        assert time.monotonic() < deadline, state
        time.sleep(0.1)


def fill(folder: Path) -> Path:
    """Write until the disk takes no more; return the file that fills it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * (1 << 16))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    return filler


def wait_for_refusals(senders: Senders, n: int) -> None:
    """Wait until this many requests got 503."""
    deadline = time.monotonic() + 60
    while senders.statuses[503] < n:
        assert time.monotonic() < deadline, senders.statuses
        time.sleep(0.02)


def test_a_full_disk(settings: Settings, migrated_file: Path, small_disk: Path, tmp_path: Path) -> None:
    path = small_disk / "lowlight.db"
    shutil.copyfile(migrated_file, path)
    on_it = settings.model_copy(update={"database_url": f"sqlite:///{path}"})
    senders = Senders(4)
    with (
        background(on_it, log_path=tmp_path / "server.log") as address,
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        with senders.sending(address):
            senders.wait_for(4)
            filler = fill(small_disk)
            state = wait_until(client, ready=False)
            assert "full" in str(state["problems"])
            assert "Free some space" in str(state["problems"])
            wait_for_refusals(senders, 4)
            assert client.get("/v1/calls").status_code == 200
            filler.unlink()
            senders.wait_for(4)
        wait_until(client, ready=True)
    Kept(path).check(senders)
    assert set(senders.statuses) <= {200, 503}


@pytest.mark.long
def test_a_file_that_may_not_grow(settings: Settings, tmp_path: Path) -> None:
    """The limit of the process's files, as a quota; taken back while it runs."""
    path = tmp_path / "lowlight.db"
    process, address = start(settings, tmp_path / "server.log")
    senders = Senders(4)
    try:
        with httpx.Client(base_url=address, timeout=60) as client:
            with senders.sending(address):
                senders.wait_for(4)
                sizes = [path.stat().st_size, path.with_name("lowlight.db-wal").stat().st_size]
                hard = limit_files(process.pid, max(sizes))
                wait_for_refusals(senders, 4)
                assert not client.get("/readyz").json()["ready"]
                limit_files(process.pid, hard)
                senders.wait_for(4)
            wait_until(client, ready=True)
        assert process.poll() is None
    finally:
        stop(process)
    Kept(path).check(senders)
    assert set(senders.statuses) <= {200, 503}


def limit_files(pid: int, size_bytes: int) -> int:
    """Let no file of a process grow beyond a size; return the most that may be asked for."""
    _soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, hard))
    return hard


def test_a_write_that_fails_half_way_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    """A batch of a thousand that does not fit is not there at all, neither calls, texts nor counts."""
    path = tmp_path / "lowlight.db"
    process, address = start(settings, tmp_path / "server.log")
    try:
        with httpx.Client(base_url=address, timeout=60) as client:
            calls = [
                {"id": f"big-{i}", "latency_ms": 5.0, "output": os.urandom(2500).hex()} for i in range(1000)
            ]
            assert client.post("/v1/calls", json={"calls": calls[:1]}).status_code == 200
            wal = path.with_name("lowlight.db-wal").stat().st_size
            hard = limit_files(process.pid, max(wal, path.stat().st_size) + 200_000)
            answer = client.post("/v1/calls", json={"calls": calls})
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "store_unavailable"
            assert int(answer.headers["Retry-After"]) >= 1
            limit_files(process.pid, hard)
            with sqlite3.connect(path) as connection:
                assert connection.execute("select id from call").fetchall() == [("big-0",)]
                assert connection.execute("select count(*) from todo").fetchone() == (1,)
            again = client.post("/v1/calls", json={"calls": calls}).json()
            assert (again["accepted"], again["duplicates"]) == (999, 1)
    finally:
        stop(process)
