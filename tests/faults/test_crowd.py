"""Fifty clients at once, more than the server can take: 503 with Retry-After, bounded memory, nothing lost.

The server's capacity is taken away altogether, by a lock on its database: what fifty clients send meanwhile
is a multiple of what it may hold. Servers that nothing was imported for beforehand (`tests.warm`): their
memory is looked at.
"""

import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import lowlight
import pytest

from api.background import background, start, stop
from api.door.bodies import HELD_BYTES_MAX
from ingest.settings import Settings
from tests.faults.figures import figure

CLIENTS = 50
#: 250 MB is the goal for realistic texts (`make bench BENCH=intake`); these 100 MB do not compress, and all
#: at once, as bodies, objects and rows, they would take three times that.
MEMORY_BYTES_MAX = 280_000_000


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let nobody write while the block runs."""
    other = sqlite3.connect(path, isolation_level=None, timeout=30)
    other.execute("begin immediate")
    try:
        yield
    finally:
        other.execute("rollback")
        other.close()


def at_once(work: object, *, callers: int = CLIENTS) -> list[threading.Thread]:
    """Start as many threads of `work(number)`."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(callers)]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    return threads


def ids(path: Path) -> list[str]:
    """Ids in the file, as often as they are there."""
    connection = sqlite3.connect(path, timeout=30)
    found = [row[0] for row in connection.execute("select id from call")]
    connection.close()
    return found


@pytest.mark.long
def test_fifty_clients_with_more_than_the_server_may_hold(settings: Settings, tmp_path: Path) -> None:
    """Each sends 2 MiB until it is taken; whoever finds no room is told when to come again."""
    path = tmp_path / "lowlight.db"
    answers: Counter[int] = Counter()
    wrong: list[str] = []
    turn = threading.Lock()
    texts = [os.urandom(5_000).hex() for _ in range(200)]

    def send(number: int) -> None:
        calls = [{"id": f"{number}-{i}", "output": text} for i, text in enumerate(texts)]
        with httpx.Client(base_url=address, timeout=120) as client:
            while True:
                answer = client.post("/v1/calls", json={"calls": calls})
                with turn:
                    answers[answer.status_code] += 1
                if answer.status_code == 200:
                    return
                wait_s = int(answer.headers.get("Retry-After", 0))
                if answer.status_code not in (429, 503) or not 1 <= wait_s <= 60:
                    wrong.append(f"{answer.status_code} {answer.headers} {answer.text}")
                    return
                time.sleep(wait_s)

    assert CLIENTS * 200 * 10_000 > 2 * HELD_BYTES_MAX
    with (
        background(settings, log_path=tmp_path / "server.log") as address,
        httpx.Client(base_url=address, timeout=120) as operator,
    ):
        with locked(path):
            threads = at_once(send)
            deadline = time.monotonic() + 60
            while answers[503] < CLIENTS // 2 and time.monotonic() < deadline:
                assert operator.get("/healthz").status_code == 200
                assert figure(operator, "process_resident_memory_bytes") < MEMORY_BYTES_MAX
                time.sleep(0.1)
        for thread in threads:
            thread.join()
        assert figure(operator, "process_resident_memory_bytes") < MEMORY_BYTES_MAX
        assert operator.get("/readyz").json()["ready"]
    assert wrong == []
    assert answers[503] >= CLIENTS // 2
    assert answers[200] == CLIENTS
    kept = ids(path)
    assert len(kept) == len(set(kept)) == CLIENTS * 200


@pytest.mark.long
def test_the_spools_of_fifty_applications_bring_everything_in(settings: Settings, tmp_path: Path) -> None:
    """Locked, then gone; the applications end meanwhile. Whoever starts next brings in what they left."""
    path, spool = tmp_path / "lowlight.db", tmp_path / "spool"
    recorded: list[str] = []
    dropped: Counter[str] = Counter()
    turn = threading.Lock()
    process, address = start(settings, tmp_path / "server.log")
    port = int(address.rpartition(":")[2])
    may_end = threading.Event()

    def application(number: int) -> None:
        client = lowlight.Client(address, spool=str(spool), linger_s=0.01, timeout_s=2)
        ours = [client.record(f"question {i}", output="x" * 2000, user_id=f"u{number}") for i in range(40)]
        client.signal("thumbs_down", call_id=ours[-1])
        may_end.wait(120)
        ours += [client.record(f"late {i}", output="y" * 2000) for i in range(10)]
        client.shutdown(20)
        with turn:
            recorded.extend(ours)
            dropped.update(client.stats()["dropped"])

    with locked(path):
        threads = at_once(application)
        deadline = time.monotonic() + 60
        while not any(spool.glob("*.calls")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.kill()
        process.wait()
        stop(process)
        may_end.set()
        for thread in threads:
            thread.join()
    assert dropped == {}
    assert len(recorded) == CLIENTS * 50
    process, again = start(settings.model_copy(update={"port": port}), tmp_path / "server.log")
    try:
        assert again == address
        with lowlight.Client(address, spool=str(spool)) as next_one:
            assert next_one.flush(120)
        assert not [*spool.glob("*.calls"), *spool.glob("*.signals")]
    finally:
        stop(process)
    kept = ids(path)
    assert sorted(kept) == sorted(recorded)
    connection = sqlite3.connect(path)
    assert connection.execute("select count(*) from signal where call_seq is not null").fetchone() == (
        CLIENTS,
    )
    connection.close()
