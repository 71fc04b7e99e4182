"""A server from the fork server is one as any other: what it says, how it ends, and what ends with it."""

import os
import signal
import time
from pathlib import Path

import httpx2 as httpx
import pytest

from api.background import stop
from api.errors import CannotServe
from ingest.settings import Settings
from tests.warm import background, start


def processes_with(name: str) -> list[int]:
    """Return the processes that have a file open whose path holds this name."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            files = [os.readlink(file) for file in (process / "fd").iterdir()]
        except OSError:
            continue
        if any(name in file for file in files):
            found.append(int(process.name))
    return found


def test_a_server_killed_leaves_no_child_and_its_file_to_the_next(settings: Settings, tmp_path: Path) -> None:
    log_path = tmp_path / "server.log"
    process, address = start(settings, log_path)
    assert httpx.get(f"{address}/readyz").json()["children"] == {"outliers": "running"}
    assert len(processes_with(str(log_path))) >= 2, "the server and its child write one log"
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    stop(process)
    until_s = time.monotonic() + 30
    while processes_with(str(log_path)):
        assert time.monotonic() < until_s
        time.sleep(0.02)
    with background(settings) as again:
        assert httpx.get(f"{again}/healthz").status_code == 200


def test_told_to_end_it_ends_with_success(settings: Settings, tmp_path: Path) -> None:
    process, _address = start(settings, tmp_path / "server.log")
    process.terminate()
    assert process.wait(30) == 0
    stop(process)


def test_what_it_cannot_serve_it_says(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(CannotServe, match="LOWLIGHT_HOST"):
        start(settings.model_copy(update={"host": "0.0.0.0"}), tmp_path / "server.log")
