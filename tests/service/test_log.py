"""The log says what happened and never a word of a call, a key or a header, whichever way it came."""

import gzip
import io
import json
import logging
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest
from sqlalchemy.exc import OperationalError

from ingest.logs import JsonLines, TextLines, set_up_logs
from ingest.settings import Settings
from tests.warm import background

SECRET = "mzq7secretmarker"
JSON_TYPE = {"Content-Type": "application/json"}


def send_everywhere(address: str) -> None:
    """Send the marker as text, key, header, path, field and broken body to every door."""
    call = {"id": SECRET, "input": f"say {SECRET}", "output": SECRET, "model": SECRET, SECRET: SECRET}
    with httpx.Client(base_url=address, timeout=30) as client:
        client.headers["Authorization"] = f"Bearer {SECRET}"
        client.headers["X-Lowlight-Dropped"] = f"{SECRET.replace('7', '')}=3, {SECRET}=4"
        for path, body in (
            ("/v1/calls", {"calls": [call, {**call, "latency_ms": SECRET}, SECRET]}),
            ("/v1/signals", {"signals": [{"call_id": SECRET, "kind": SECRET, "comment": SECRET}]}),
            ("/v1/labels", {"labels": [{"call_id": SECRET, "rubric": SECRET, "level": 9}]}),
            ("/v1/traces", {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": SECRET}]}]}]}),
            ("/v1/logs", {"resourceLogs": SECRET}),
            ("/v1/metrics", {"resourceMetrics": SECRET}),
            ("/api/public/scores", {"name": SECRET, "value": SECRET}),
            ("/api/public/media", {"sha256Hash": SECRET}),
        ):
            client.post(path, json=body)
            client.post(path, content=f'{{"{SECRET}": '.encode(), headers=JSON_TYPE)
            client.post(path, content=SECRET.encode(), headers={"Content-Type": f"text/{SECRET}"})
            client.post(path, content=SECRET.encode(), headers={**JSON_TYPE, "Content-Encoding": "gzip"})
            cut = gzip.compress(json.dumps(body).encode())[:-9]
            client.post(path, content=cut, headers={**JSON_TYPE, "Content-Encoding": "gzip"})
            client.post(
                path,
                content=b"\x0a\xff" + SECRET.encode(),
                headers={"Content-Type": "application/x-protobuf"},
            )
            client.request(SECRET.upper(), path)
        for path in (f"/v1/calls/{SECRET}", f"/{SECRET}", f"/calls/{SECRET}", f"/v1/calls?cursor={SECRET}"):
            client.get(path)
            client.get(path, headers={"Host": SECRET})
    where = urlsplit(address)
    with socket.create_connection((where.hostname, where.port)) as raw:
        raw.sendall(f"{SECRET} no HTTP at all\r\n\r\n".encode())
        raw.recv(1000)


@pytest.fixture
def settings_judged(settings: Settings) -> Settings:
    """With the local critic, so that its process reads the texts too."""
    return settings.model_copy(update={"critic": "local"})


def test_no_door_leads_into_the_log(settings_judged: Settings, tmp_path: Path) -> None:
    """First while all is well, then while nothing can be written or read: errors love to quote."""
    log_path = tmp_path / "server.log"
    with background(settings_judged, log_path=log_path) as address:
        send_everywhere(address)
        with sqlite3.connect(tmp_path / "lowlight.db", timeout=30) as other:
            other.execute("alter table call_text rename to gone")
            other.execute("alter table signal rename to gone_too")
        send_everywhere(address)
        deadline = time.monotonic() + 30
        while "no such table" not in log_path.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
    said = log_path.read_text()
    assert SECRET not in said.lower()
    assert SECRET.replace("7", "") not in said.lower()
    lines = [json.loads(line) for line in said.splitlines()]
    assert {"server"} <= {line["process"] for line in lines} <= {"server", "critic", "outliers"}
    assert all({"at", "level", "process", "logger", "message"} <= line.keys() for line in lines)


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """This process's log, as a server's; afterwards as it was."""
    root = logging.getLogger()
    kept = (root.handlers[:], root.level, logging.raiseExceptions, sys.excepthook, threading.excepthook)
    said = io.StringIO()
    yield said
    root.handlers[:] = kept[0]
    root.setLevel(kept[1])
    logging.raiseExceptions, sys.excepthook, threading.excepthook = kept[2:]


def broken(error: BaseException) -> None:
    """Raise an error that quotes a call, while another one is handled."""
    try:
        raise KeyError(SECRET)
    except KeyError:
        raise error from None


@pytest.mark.parametrize("form", ["json", "text"])
def test_of_an_exception_type_and_places_are_told_and_its_words_withheld(
    form: str, stream: io.StringIO
) -> None:
    set_up_logs(form, "server", stream)
    try:
        broken(ValueError(f"cannot read {SECRET}"))
    except ValueError:
        logging.getLogger("api.door.gate").exception("POST %s failed", "/v1/calls")
    said = stream.getvalue()
    assert SECRET not in said
    for told in ("POST /v1/calls failed", "builtins.ValueError", "test_log.py", "in broken"):
        assert told in said


def test_what_sqlite_and_the_system_say_is_told(stream: io.StringIO) -> None:
    set_up_logs("json", "server", stream)
    orig = sqlite3.OperationalError("database or disk is full")
    for error in (
        OperationalError("insert", {"text": SECRET}, orig, hide_parameters=True),
        OSError(28, "full"),
    ):
        try:
            broken(error)
        except type(error):
            logging.getLogger("ingest.writer").exception("failed")
    first, second = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert first["error"]["message"] == "database or disk is full"
    assert second["error"]["message"] == "[Errno 28] full"
    assert SECRET not in stream.getvalue()


def test_errors_that_nobody_catches_are_lines_too(stream: io.StringIO) -> None:
    """In a thread, in the main one, in a task of asyncio: each would print what the error says."""
    set_up_logs("auto", "server", stream)
    thread = threading.Thread(target=broken, args=(ValueError(SECRET),), name="a-thread")
    thread.start()
    thread.join()
    error = ValueError(SECRET)
    sys.excepthook(ValueError, error, None)
    logging.getLogger("asyncio").error("never retrieved\nfuture: %r", error, exc_info=error)
    logging.getLogger("ingest.writer").info("%d %d", 1)  # a mistake of ours: its arguments are not printed
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["message"] for line in lines] == [
        "a-thread ends with an error",
        "this process ends with an error",
        "never retrieved",
    ]
    assert SECRET not in stream.getvalue()


def test_a_terminal_gets_text() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def form_of(form: str, stream: io.StringIO) -> Any:
        root = logging.getLogger()
        kept = root.handlers[:]
        hooks = logging.raiseExceptions, sys.excepthook, threading.excepthook
        set_up_logs(form, "server", stream)
        (handler,) = root.handlers
        root.handlers[:] = kept
        logging.raiseExceptions, sys.excepthook, threading.excepthook = hooks
        return type(handler.formatter)

    assert form_of("auto", Terminal()) is TextLines
    assert form_of("auto", io.StringIO()) is JsonLines
    assert form_of("json", Terminal()) is JsonLines
    assert form_of("text", io.StringIO()) is TextLines
