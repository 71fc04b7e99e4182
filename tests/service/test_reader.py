"""The reading process beside a real server: it comes when bodies wait, and may go at any moment."""

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx2 as httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from api.background import start, stop
from ingest.settings import Settings

SENDERS = 4
SPANS = 60
HEADERS = {"content-type": "application/x-protobuf"}


def body_of(sender: int, number: int) -> bytes:
    """A request of traces of one span each, large enough to be read elsewhere; ids say which one it is."""
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    now_ns = time.time_ns()
    for i in range(SPANS):
        span = spans.add(name="chat", start_time_unix_nano=now_ns - 10**9, end_time_unix_nano=now_ns)
        span.trace_id = b"%02d-%08d-%04d" % (sender, number, i)
        span.span_id = b"%08d" % i
        for key, value in (
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", "openai"),
            ("gen_ai.request.model", "m"),
            ("gen_ai.input.messages", "hello " * 300),
            ("gen_ai.output.messages", "hi " * 100),
        ):
            span.attributes.add(key=key).value.string_value = value
    return request.SerializeToString()


def readers_of(server: int) -> list[int]:
    """The server's reading processes, by id."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(") ")[2].split()[1])
                if parent == server and b"ingest.reader.child" in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue  # it ended meanwhile
    return found


def wait_for(holds: Callable[[], bool]) -> None:
    """Wait for a condition, for as long as a busy machine may need."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_every_acknowledged_span_is_one_call_though_the_process_is_killed_again_and_again(
    settings: Settings, tmp_path: Path
) -> None:
    """And no request hears of it. In the end the server is killed too, and leaves nobody behind."""
    path = tmp_path / "lowlight.db"
    server, address = start(settings.model_copy(update={"reader": "on"}), tmp_path / "server.log")
    enough = threading.Event()
    acknowledged = [0] * SENDERS
    refused: list[tuple[int, str]] = []

    def send(sender: int) -> None:
        with httpx.Client(base_url=address, timeout=60) as client:
            while not enough.is_set():
                answer = client.post(
                    "/v1/traces", content=body_of(sender, acknowledged[sender]), headers=HEADERS
                )
                if answer.status_code != 200:
                    refused.append((answer.status_code, answer.text))
                    return
                acknowledged[sender] += 1

    senders = [threading.Thread(target=send, args=(sender,)) for sender in range(SENDERS)]
    try:
        assert httpx.get(f"{address}/readyz").json()["reader"] == "resting"
        assert readers_of(server.pid) == []
        for sender in senders:
            sender.start()
        killed: set[int] = set()
        for _life in range(3):
            wait_for(lambda: bool(set(readers_of(server.pid)) - killed) or bool(refused))
            wait_for(lambda: httpx.get(f"{address}/readyz").json()["reader"] == "running" or bool(refused))
            (reader,) = set(readers_of(server.pid)) - killed
            sent = sum(acknowledged)
            wait_for(lambda sent=sent: sum(acknowledged) > sent + 8 or bool(refused))  # type: ignore[misc]
            os.kill(reader, signal.SIGKILL)
            killed.add(reader)
        wait_for(lambda: httpx.get(f"{address}/readyz").json()["reader"] == "running" or bool(refused))
        enough.set()
        for sender in senders:
            sender.join()
        assert refused == []
        left = set(readers_of(server.pid)) - killed
        assert len(left) == 1
    finally:
        enough.set()
        server.kill()
        stop(server)
    with closing(sqlite3.connect(path)) as database:
        kept = [row[0] for row in database.execute("select trace_id from call")]
    expected = {
        (b"%02d-%08d-%04d" % (sender, number, i)).hex()
        for sender, n in enumerate(acknowledged)
        for number in range(n)
        for i in range(SPANS)
    }
    assert expected <= set(kept)
    assert len(kept) == len(set(kept))
    wait_for(lambda: not any(Path(f"/proc/{reader}").exists() for reader in left))


def test_a_server_that_stops_takes_the_process_with_it(settings: Settings, tmp_path: Path) -> None:
    server, address = start(settings.model_copy(update={"reader": "on"}), tmp_path / "server.log")
    try:
        enough = threading.Event()

        def send(sender: int) -> None:
            body = body_of(sender, 0)
            with httpx.Client(base_url=address, headers=HEADERS, timeout=60) as client:
                while not enough.is_set():
                    assert client.post("/v1/traces", content=body).status_code == 200

        senders = [threading.Thread(target=send, args=(sender,)) for sender in range(SENDERS)]
        for sender in senders:
            sender.start()
        try:
            wait_for(lambda: len(readers_of(server.pid)) == 1)
        finally:
            enough.set()
            for sender in senders:
                sender.join()
        (reader,) = readers_of(server.pid)
    finally:
        stop(server)
    assert server.returncode == 0
    assert not Path(f"/proc/{reader}").exists()
