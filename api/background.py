"""A server in a process of its own: for the demo, imports and tests.

Flow: `background(settings)` -> `lowlight serve` as a child process -> its address. The child ends with us,
even where we are killed: it stops when the pipe that is its stdin closes.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from api.errors import CannotServe
from ingest.settings import Settings

#: What `lowlight serve` says on stdout, once, when it answers.
READY = "Lowlight listens on "
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


#: How a process begins: `subprocess.Popen`, or what takes its arguments and answers like one.
Popen = Callable[..., "subprocess.Popen[str]"]


@contextmanager
def background(
    settings: Settings, *, log_path: Path | None = None, popen: Popen = subprocess.Popen
) -> Iterator[str]:
    """Run a server while the block runs; yield its address as an URL.

    Args:
        log_path: where its log goes; a temporary file unless given.
        popen: what starts the process.

    Raises:
        CannotServe: it did not start; the message is what it said.
    """
    with tempfile.TemporaryDirectory(prefix="lowlight-") as folder:
        process, address = start(settings, log_path or Path(folder) / "server.log", popen=popen)
        try:
            yield address
        finally:
            stop(process)


def start(
    settings: Settings, log_path: Path, *, popen: Popen = subprocess.Popen
) -> tuple[subprocess.Popen[str], str]:
    """Start a server; return its process and, once it answers, its address.

    Raises:
        CannotServe: it did not start within a minute; the message is what it said.
    """
    try:
        log = log_path.open("ab")
    except OSError as error:
        raise CannotServe(
            f"{log_path} cannot be written: {error.strerror}. Its folder must be writable."
        ) from error
    with log:
        said_before = log.tell()
        process = popen(
            [sys.executable, "-m", "api.cli", "serve", "--until-stdin-closes"],
            env=environment_of(settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            # Ctrl-C is ours to hear: we stop the server when we are done with it.
            start_new_session=True,
        )
    timer = threading.Timer(START_TIMEOUT_S, process.kill)
    timer.start()
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(READY):
            timer.cancel()
            return process, line.removeprefix(READY).strip()
    timer.cancel()
    stop(process)
    said = log_path.read_bytes()[said_before:].decode(errors="replace").strip()
    said = said or f"it ended with status {process.returncode} and said nothing"
    raise CannotServe(said.removeprefix("Error: "))


def stop(process: subprocess.Popen[str]) -> None:
    """Ask a server to end, wait for it, and end it if it takes longer than 30 s."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the environment in which another process of ours reads these very settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOWLIGHT_")}
    for name, field in Settings.model_fields.items():
        variable = str(field.validation_alias or f"LOWLIGHT_{name.upper()}")
        value = getattr(settings, name)
        if value is None:
            environment.pop(variable, None)
        elif isinstance(value, SecretStr):
            environment[variable] = value.get_secret_value()
        else:
            environment[variable] = (
                json.dumps(value, default=SecretStr.get_secret_value)
                if isinstance(value, dict)
                else str(value)
            )
    return environment
