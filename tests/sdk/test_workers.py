"""The SDK in servers with several worker processes: gunicorn with preload, uvicorn workers, Celery."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.sdk.fake_server import FakeServer

#: Records at import (with preload: in the parent) and once a request; tells which process answered.
APPLICATION = """
import os, lowlight
lowlight.record("at import")

def wsgi(environ, start_response):
    call_id = lowlight.record(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {call_id}".encode()]

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    call_id = lowlight.record(scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"{os.getpid()} {call_id}".encode()})
"""


@contextmanager
def serving(folder: Path, url: str, *command: str) -> Iterator[str]:
    """Run a server of the application until the block ends, then end it gently; yield its address."""
    (folder / "application.py").write_text(APPLICATION)
    log = folder / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            env={**os.environ, "LOWLIGHT_URL": url, "PYTHONUNBUFFERED": "1"},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline_s = time.monotonic() + 30
        while not (found := re.search(r"http://127\.0\.0\.1:([1-9]\d*)", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline_s, log.read_text()
            time.sleep(0.02)
        yield found.group()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
    assert "Traceback" not in log.read_text(), log.read_text()


def ask_until_two_have_answered(address: str) -> dict[str, str]:
    """Ask until two workers have answered; return path -> call id of all requests."""
    ids: dict[str, str] = {}
    pids: set[str] = set()
    deadline_s = time.monotonic() + 60
    while len(pids) < 2 or len(ids) < 20:
        assert time.monotonic() < deadline_s, f"only {pids} have answered"
        path = f"/{len(ids)}"
        try:
            pid, ids[path] = httpx2.get(address + path).text.split()
        except httpx2.TransportError:  # a worker that is still to come up
            time.sleep(0.05)
            continue
        pids.add(pid)
    return ids


def wait_for_calls(server: FakeServer, ids: dict[str, str]) -> None:
    server.wait_for(lambda fake: set(ids.values()) <= set(fake.calls), timeout_s=60)
    assert {call["output"] for call in server.calls.values()} == {*ids, "at import"}
    sent = [call["id"] for request in server.requests for call in request.body["calls"]]
    assert len(sent) == len(set(sent))  # no process sends what another has recorded


@pytest.mark.parametrize("preload", [True, False])
def test_gunicorn_workers(server: FakeServer, tmp_path: Path, preload: bool) -> None:
    pytest.importorskip("gunicorn")
    options = ["--workers", "2", "--bind", "127.0.0.1:0", *(["--preload"] if preload else [])]
    with serving(tmp_path, server.url, "gunicorn", *options, "application:wsgi") as address:
        ids = ask_until_two_have_answered(address)
        wait_for_calls(server, ids)
    at_import = [call for call in server.calls.values() if call["output"] == "at import"]
    assert len(at_import) == 1 if preload else len(at_import) >= 2


def test_uvicorn_workers(server: FakeServer, tmp_path: Path) -> None:
    command = ("uvicorn", "--workers", "2", "--port", "0", "application:asgi")
    with serving(tmp_path, server.url, *command) as address:
        ids = ask_until_two_have_answered(address)
        wait_for_calls(server, ids)


TASKS = """
import os, sys, lowlight
from celery import Celery
folder = os.environ["FOLDER"]
app = Celery("tasks", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": folder, "data_folder_out": folder, "control_folder": folder + "/control",
    "polling_interval": 0.05,
}
lowlight.record("at import")

@app.task
def answer(n):
    lowlight.record(f"task {n}")
"""


def test_celery_prefork(server: FakeServer, tmp_path: Path) -> None:
    """Its children end by os._exit, without atexit: what they recorded is sent by threads of their own."""
    pytest.importorskip("celery")
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "broker").mkdir()
    environment = {**os.environ, "LOWLIGHT_URL": server.url, "FOLDER": str(tmp_path / "broker")}
    subprocess.run(
        [sys.executable, "-c", "import tasks\nfor n in range(20): tasks.answer.delay(n)"],
        cwd=tmp_path,
        env={**environment, "LOWLIGHT_ENABLED": "false"},
        check=True,
        timeout=60,
    )
    worker = subprocess.Popen(
        [
            *(sys.executable, "-m", "celery", "-A", "tasks", "worker", "--pool", "prefork", "-c", "2"),
            *("--without-mingle", "--without-gossip", "--without-heartbeat"),
        ],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def everything(fake: FakeServer) -> bool:
        return {f"task {n}" for n in range(20)} <= {call["output"] for call in list(fake.calls.values())}

    try:
        server.wait_for(everything, timeout_s=60)
    finally:
        os.killpg(worker.pid, signal.SIGKILL)  # a gentle end takes Celery five seconds
        worker.wait(timeout=30)
    assert sorted(call["output"] for call in server.calls.values()).count("at import") == 1
    sent = [call["id"] for request in server.requests for call in request.body["calls"]]
    assert len(sent) == len(set(sent)) == 21
