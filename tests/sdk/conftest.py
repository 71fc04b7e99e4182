"""A fake server, a client of it that does not linger, and how to run a program that uses the SDK."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import lowlight
import pytest

from tests.sdk.fake_server import FakeServer, running

RunProgram = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with running() as fake:
        yield fake


@pytest.fixture
def client(server: FakeServer) -> Iterator[lowlight.Client]:
    with lowlight.Client(server.url, linger_s=0.01, timeout_s=5.0) as made:
        yield made


@pytest.fixture(scope="module")
def outbox() -> lowlight.Client:
    """A client that queues and sends nothing: it never gets a thread."""
    made = lowlight.Client("http://127.0.0.1:1")
    made._start = lambda: None  # type: ignore[method-assign]
    return made


@pytest.fixture
def run_program() -> RunProgram:
    """Run Python source in a process of its own, its settings as environment variables."""

    def run(source: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LOWLIGHT_")}
        return subprocess.run(
            [sys.executable, "-c", source],
            env={**kept, **settings},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return run
