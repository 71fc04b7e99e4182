"""The spool: what could not be sent is kept on the disk, and arrives once, oldest first."""

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import lowlight
import pytest

from tests.sdk.conftest import RunProgram
from tests.sdk.fake_server import FakeServer, hang, keep_and_hang_up, refuse, running


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lowlight._sender.BACKOFF_FIRST_S", 0.05)


@pytest.fixture
def nowhere() -> str:
    """An address at which nobody listens."""
    with running() as gone:
        return gone.url


def spooled(folder: Path) -> list[Path]:
    """The files with batches, oldest first."""
    return sorted(path for path in folder.iterdir() if path.name.endswith((".calls", ".signals")))


def wait_for_files(folder: Path, n: int) -> None:
    deadline_s = time.monotonic() + 20
    while len(spooled(folder)) < n:
        assert time.monotonic() < deadline_s, spooled(folder)
        time.sleep(0.01)


@pytest.fixture
def left_behind(tmp_path: Path, nowhere: str) -> list[str]:
    """The ids of calls that a client has left in the spool, in their order, one file each."""
    client = lowlight.Client(nowhere, linger_s=0.0, spool=tmp_path)
    ids = []
    for i in range(4):
        ids.append(client.record(str(i)))
        wait_for_files(tmp_path, i + 1)
    client.shutdown(1)
    assert client.stats()["spooled"] == 4
    assert client.stats()["dropped"] == {}
    return ids


def test_what_an_ended_process_left_arrives_oldest_first(
    server: FakeServer, tmp_path: Path, left_behind: list[str]
) -> None:
    with lowlight.Client(server.url, spool=tmp_path) as client:
        assert client.flush(20)
        assert client.stats()["replayed"] == 4
    assert list(server.calls) == left_behind
    assert spooled(tmp_path) == []


def test_what_is_new_does_not_overtake_what_is_old(
    server: FakeServer, tmp_path: Path, left_behind: list[str]
) -> None:
    with lowlight.Client(server.url, linger_s=0.0, spool=tmp_path) as client:
        new = client.record("new")
        client.signal("copy", call_id=new)
        assert client.flush(20)
    assert [call["id"] for request in server.requests for call in request.body.get("calls", ())] == [
        *left_behind,
        new,
    ]
    assert len(server.signals) == 1


def test_the_server_comes_back_while_the_process_runs(tmp_path: Path, nowhere: str) -> None:
    with lowlight.Client(nowhere, linger_s=0.0, spool=tmp_path) as client:
        ids = [client.record("4")]
        wait_for_files(tmp_path, 1)
        assert not client.flush(0.1)  # what lies on the disk has not arrived
        ids.append(client.record("5"))
        with running(int(nowhere.rpartition(":")[2])) as back:
            assert client.flush(20)
            assert list(back.calls) == ids
    assert spooled(tmp_path) == []


def test_a_replay_never_doubles(server: FakeServer, tmp_path: Path, left_behind: list[str]) -> None:
    """Its receipt may be lost, or its process killed before the file was removed."""
    server.orders.append(keep_and_hang_up)
    copy = spooled(tmp_path)[1].read_bytes()
    with lowlight.Client(server.url, spool=tmp_path) as client:
        assert client.flush(20)
    (tmp_path / f"{time.time_ns():020d}-1-1.nokey.calls").write_bytes(copy)
    with lowlight.Client(server.url, spool=tmp_path) as client:
        assert client.flush(20)
        assert client.stats()["duplicates"] == 1
    assert list(server.calls) == left_behind


def test_several_processes_share_a_folder(
    server: FakeServer, tmp_path: Path, nowhere: str, run_program: RunProgram
) -> None:
    record = "import lowlight\nfor i in range(20): lowlight.record(str(i))"
    threads = [
        threading.Thread(
            target=run_program,
            args=(record,),
            kwargs={"LOWLIGHT_URL": nowhere, "LOWLIGHT_SPOOL": str(tmp_path)},
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    flush = "import lowlight\nassert lowlight.flush(20)"
    done: list[Any] = []
    threads = [
        threading.Thread(
            target=lambda: done.append(
                run_program(flush, LOWLIGHT_URL=server.url, LOWLIGHT_SPOOL=str(tmp_path))
            )
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(one.returncode, one.stderr) for one in done] == [(0, "")] * 3
    assert len(server.calls) == 60
    sent = [call["id"] for request in server.requests for call in request.body["calls"]]
    assert len(sent) == 60  # one process at a time had the turn
    assert spooled(tmp_path) == []


#: Says that it recorded once all of it lies in the spool, in three files or more.
KILLED = """
import os, pathlib, time, lowlight
spool, until_s = pathlib.Path(os.environ["LOWLIGHT_SPOOL"]), time.monotonic() + 60
for i in range(300):
    lowlight.record(f"<{i}>", input="x" * 1000)
    while i % 100 == 99 and sum(file.read_bytes().count(b"<") for file in spool.glob("*.calls")) <= i:
        assert time.monotonic() < until_s
        time.sleep(0.01)
print("recorded", flush=True)
time.sleep(60)
"""


def test_what_was_spooled_survives_kill_9(server: FakeServer, tmp_path: Path, nowhere: str) -> None:
    environment = {**os.environ, "LOWLIGHT_URL": nowhere, "LOWLIGHT_SPOOL": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", KILLED], env=environment, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"recorded\n"
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert len(spooled(tmp_path)) >= 3
    (tmp_path / ".half-written.nokey.calls.part").write_bytes(b'{"id": "half')
    with lowlight.Client(server.url, spool=tmp_path) as client:
        assert client.flush(20)
    assert [call["output"] for call in server.calls.values()] == [f"<{i}>" for i in range(300)]


@pytest.mark.parametrize("trouble", ["hung", "busy", "gone"])
def test_the_end_of_the_process_loses_nothing(
    server: FakeServer, tmp_path: Path, nowhere: str, run_program: RunProgram, trouble: str
) -> None:
    source = """
import atexit, time, lowlight
atexit.register(lambda: print(time.monotonic() - began))  # runs last
for i in range(1200): lowlight.record(str(i))
lowlight.signal("copy", session_id="s")
began = time.monotonic()
"""
    if trouble == "hung":
        server.orders.append(hang(10))
    elif trouble == "busy":
        server.orders += [refuse(503, Retry_After="60")] * 20
    url = nowhere if trouble == "gone" else server.url
    done = run_program(source, LOWLIGHT_URL=url, LOWLIGHT_SPOOL=str(tmp_path))
    assert float(done.stdout) < 8, "it waits for 2 s, and a hung server would hold it for 10"
    assert "dropped" not in done.stderr
    with running() as back, lowlight.Client(back.url, spool=tmp_path) as client:
        assert client.flush(20)
        kept = {call["output"] for call in back.calls.values()} | {
            call["output"] for call in server.calls.values()
        }
        assert kept == {str(i) for i in range(1200)}
        assert len(back.signals) + len(server.signals) == 1


def test_the_folder_is_bounded_and_what_follows_waits_in_memory(
    tmp_path: Path, nowhere: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = lowlight.Client(
        nowhere, linger_s=0.0, spool=tmp_path, spool_bytes_max=100_000, items_max=20, timeout_s=1.0
    )
    for i in range(40):
        client.record(str(i), input="x" * 20_000)
        time.sleep(0.005)
    assert sum(path.stat().st_size for path in spooled(tmp_path)) <= 100_000
    client.shutdown(0.2)
    stats = client.stats()
    assert stats["spooled"] + sum(stats["dropped"].values()) == 40
    assert stats["spooled"] >= 3
    assert "is full" in caplog.text


def test_a_folder_that_cannot_be_used_is_named_and_done_without(
    server: FakeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    with lowlight.Client(server.url, spool=tmp_path / "file" / "spool") as client:
        call_id = client.record("4")
        assert client.flush(20)
    assert list(server.calls) == [call_id]
    assert "LOWLIGHT_SPOOL" in caplog.text


def test_a_full_disk_costs_nothing(
    server: FakeServer, tmp_path: Path, run_program: RunProgram, nowhere: str
) -> None:
    """What cannot be written waits in memory, and nothing half written stays behind."""
    source = f"""
import resource, time, lowlight
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))  # as ENOSPC would, in the middle of a file
client = lowlight.Client({nowhere!r}, linger_s=0.0, spool={str(tmp_path)!r})
client.record("4", input="x" * 50_000)
while "spool" not in client.tally._warned_at_s: time.sleep(0.01)
print(client.stats()["queued"], client.stats()["dropped"])
"""
    done = run_program(source)
    assert done.stdout == "1 {}\n", done.stderr
    assert "cannot be written ([Errno 27] File too large)" in done.stderr
    assert os.listdir(tmp_path) in ([], ["lock"])


def test_a_damaged_file_costs_only_what_is_damaged(
    server: FakeServer, tmp_path: Path, left_behind: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Cut off, zeros and nothing at all: what a loss of power leaves of a file that was just written."""
    first, second, third, _fourth = spooled(tmp_path)
    whole = first.read_bytes()
    first.write_bytes(whole + b"\n" + whole[:40])
    second.write_bytes(bytes(4096))
    third.write_bytes(b"")
    with lowlight.Client(server.url, spool=tmp_path) as client:
        assert client.flush(20)
        assert client.stats()["dropped"] == {"broken": 2}
    assert list(server.calls) == [left_behind[0], left_behind[3]]
    assert spooled(tmp_path) == []
    assert f"{first.name} in {tmp_path} was damaged" in caplog.text


def test_a_file_belongs_to_its_key(server: FakeServer, tmp_path: Path, nowhere: str) -> None:
    """So that no project's calls go to another where two share a folder."""
    for key in ("one", "other"):
        client = lowlight.Client(nowhere, key, linger_s=0.0, spool=tmp_path)
        client.record(key)
        client.shutdown(0.5)
    assert not any("one" in path.name or "other" in path.name for path in spooled(tmp_path))
    with lowlight.Client(server.url, "one", spool=tmp_path) as client:
        assert client.flush(20)
    assert [call["output"] for call in server.calls.values()] == ["one"]
    assert server.requests[0].headers["Authorization"] == "Bearer one"
    assert len(spooled(tmp_path)) == 1


def test_a_batch_that_the_server_cannot_digest_blocks_nothing(
    server: FakeServer, tmp_path: Path, left_behind: list[str]
) -> None:
    server.orders += [refuse(500)] * 5
    with lowlight.Client(server.url, spool=tmp_path) as client:
        for _ in range(100):
            if client.flush(0.5):
                break
        assert client.stats()["dropped"] == {"server_error": 1}
    assert list(server.calls) == left_behind[1:]


@pytest.mark.parametrize("trouble", ["key", "address", "another server"])
def test_a_wrong_setting_costs_nothing_that_lies_there(
    server: FakeServer, tmp_path: Path, left_behind: list[str], caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    url = "nonsense" if trouble == "address" else server.url
    server.orders += [refuse(401) if trouble == "key" else refuse(404)] * 3
    with lowlight.Client(url, spool=tmp_path) as client:
        assert not client.flush(0.3)
        assert client.stats()["dropped"] == {}
    assert "LOWLIGHT_KEY" in caplog.text or "LOWLIGHT_URL" in caplog.text
    server.orders.clear()
    with lowlight.Client(server.url, spool=tmp_path) as client:
        assert client.flush(20)
    assert list(server.calls) == left_behind


def test_only_its_owner_may_read_it(tmp_path: Path, left_behind: list[str]) -> None:
    assert {stat.S_IMODE(path.stat().st_mode) for path in spooled(tmp_path)} == {0o600}


def test_a_forked_child_leaves_its_parents_turn_alone(
    server: FakeServer, tmp_path: Path, run_program: RunProgram, left_behind: list[str]
) -> None:
    source = """
import os, lowlight
lowlight.record("parent")
assert lowlight.flush(20)
if (pid := os.fork()) == 0:
    lowlight.record("child")
    os._exit(0 if lowlight.flush(10) else 1)
assert os.waitpid(pid, 0)[1] == 0
lowlight.record("parent again")
assert lowlight.flush(20)
"""
    done = run_program(source, LOWLIGHT_URL=server.url, LOWLIGHT_SPOOL=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert len(server.calls) == 4 + 3
