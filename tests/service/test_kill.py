"""kill -9 under load: every call that was acknowledged is there afterwards, and none is there twice."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx2 as httpx

from api.background import environment_of, start, stop
from ingest.settings import Settings

SENDERS = 4
BATCH = 20


def batch_of(sender: int, number: int) -> dict[str, list[dict[str, object]]]:
    """A batch whose ids say which one it is."""
    return {
        "calls": [
            {"id": f"{sender}-{number}-{i}", "latency_ms": 100.0, "model": "m", "output": "x" * 500}
            for i in range(BATCH)
        ]
    }


def kept_ids(path: Path) -> list[str]:
    """Ids in the file, as often as they are there."""
    with sqlite3.connect(path) as connection:
        return [row[0] for row in connection.execute("select id from call")]


def counted(path: Path) -> tuple[int, int]:
    """Calls in the latency counts, and calls that should be there: those up to where counting has come."""
    with sqlite3.connect(path) as connection:
        (n,) = connection.execute("select coalesce(sum(n), 0) from latency_count").fetchone()
        (due,) = connection.execute(
            "select count(*) from call where seq <= (select through_seq from latency_counted)"
        ).fetchone()
        return n, due


def send_until_gone(address: str, sender: int, acknowledged: list[tuple[int, int]]) -> None:
    """Post batch after batch; note each one whose receipt came."""
    with httpx.Client(base_url=address, timeout=10) as client:
        for number in range(100_000):
            try:
                answer = client.post("/v1/calls", json=batch_of(sender, number))
            except httpx.TransportError:
                return
            assert answer.json()["accepted"] == BATCH
            acknowledged.append((sender, number))


def test_nothing_acknowledged_is_lost_by_kill_9(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "lowlight.db"
    process, address = start(settings, tmp_path / "server.log")
    acknowledged: list[tuple[int, int]] = []
    senders = [
        threading.Thread(target=send_until_gone, args=(address, sender, acknowledged))
        for sender in range(SENDERS)
    ]
    for sender in senders:
        sender.start()
    while len(acknowledged) < 40:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for thread in senders:
        thread.join()
    stop(process)

    first = kept_ids(path)
    expected = {f"{sender}-{number}-{i}" for sender, number in acknowledged for i in range(BATCH)}
    assert expected <= set(first)
    assert len(first) == len(set(first))
    n, due = counted(path)
    assert n == due

    # The clients never heard of the batches that were on their way: they send everything again.
    process, address = start(settings, tmp_path / "server.log")
    try:
        with httpx.Client(base_url=address, timeout=30) as client:
            for sender, number in acknowledged:
                assert client.post("/v1/calls", json=batch_of(sender, number)).json()["accepted"] == 0
    finally:
        stop(process)
    assert sorted(kept_ids(path)) == sorted(first)
    assert counted(path) == (len(first), len(first)), "each once, those too that the killed server had not"


def test_sigterm_answers_what_is_in_hand_and_ends_with_success(settings: Settings, tmp_path: Path) -> None:
    process, address = start(settings, tmp_path / "server.log")
    acknowledged: list[tuple[int, int]] = []
    sender = threading.Thread(target=send_until_gone, args=(address, 0, acknowledged))
    sender.start()
    while len(acknowledged) < 10:
        time.sleep(0.01)
    process.terminate()
    assert process.wait(30) == 0
    sender.join()
    stop(process)
    assert len(kept_ids(tmp_path / "lowlight.db")) >= len(acknowledged) * BATCH


def test_a_server_ends_with_the_program_that_started_it(settings: Settings, tmp_path: Path) -> None:
    """The demo killed by force leaves no server behind."""
    code = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from api.background import start\n"
        "from ingest.settings import load_settings\n"
        "process, address = start(load_settings(), Path(sys.argv[1]))\n"
        "print(process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "server.log")],
        env=environment_of(settings),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    server_pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{server_pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{server_pid}").exists()
