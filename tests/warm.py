"""Servers for tests without the wait: forked from an interpreter that has imported everything.

Flow: `start`, `background` as those of `api.background` -> `WarmPopen` -> multiprocessing's fork server, one
for all tests of a process, which has read `tests.warm_preload` -> `python -m api.cli serve` in a fork of it.

A fresh server and its children spend some four seconds of processor time on imports, and most tests are not
about that. All else that makes a server is as it is: a process in a session of its own, the command line, its
environment, signals, the exit status, children in processes of their own that end with it. But these are
forks of the same fork server where a real server spawns each from nothing.

Tests of starting and ending (the demo, kill -9, a second server) take `api.background`.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from multiprocessing import forkserver, reduction
from multiprocessing.context import ForkServerContext
from typing import Any

from api import background as real

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.warm_preload"])


class WarmProcess(_FORKS.Process):
    """A process with what one inherits that is not forked from elsewhere: files, environment, folder."""

    def __init__(
        self,
        *args: Any,
        stdio: Sequence[int] = (0, 1, 2),
        environment: Mapping[str, str] = os.environ,
        **more: Any,
    ) -> None:
        super().__init__(*args, **more)
        self._stdio = [_File(number) for number in stdio]
        self._environment = dict(environment)
        self._folder = os.getcwd()

    def run(self) -> None:
        """See `multiprocessing.Process`."""
        os.chdir(self._folder)
        os.environ.clear()
        os.environ.update(self._environment)
        for number, file in enumerate(self._stdio):
            os.dup2(file, number)
            os.close(file)
        sys.stdin = os.fdopen(0)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
        # It runs: we are of it.
        forkserver._forkserver.ensure_running = lambda: None
        multiprocessing.get_context = lambda _method=None: WarmContext()
        super().run()


class WarmContext(ForkServerContext):
    """What `multiprocessing.get_context` answers where children shall be warm, too."""

    Process = WarmProcess


class _File:
    """A file descriptor that is sent along with a process, as `reduction.DupFd` wants it: when it starts."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (reduction.DupFd(self.number),)


def _received(sent: Any) -> int:
    return sent.detach()


class WarmPopen:
    """As much of `subprocess.Popen` as `api.background` and its callers use, for `python -m api.cli ...`."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        stdin: int,
        stdout: int,
        stderr: Any,
        text: bool,
        start_new_session: bool,
    ) -> None:
        assert command[:3] == [sys.executable, "-m", "api.cli"], command
        assert stdin == stdout == subprocess.PIPE
        assert text
        assert start_new_session
        told, telling = os.pipe()
        heard, saying = os.pipe()
        self.stdin, self.stdout = os.fdopen(telling, "w"), os.fdopen(heard)
        # A daemon ends with the tests, whatever becomes of them.
        self._process = WarmProcess(
            target=_run_command,
            args=(command[3:],),
            stdio=(told, saying, stderr.fileno()),
            environment=env,
            daemon=True,
        )
        try:
            self._process.start()
        finally:
            os.close(told)
            os.close(saying)
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """See `subprocess.Popen`."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """See `subprocess.Popen`."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """See `subprocess.Popen`."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("lowlight", timeout or 0.0)
        return self._process.exitcode

    def terminate(self) -> None:
        """See `subprocess.Popen`."""
        self._process.terminate()

    def kill(self) -> None:
        """See `subprocess.Popen`."""
        self._process.kill()


def _run_command(arguments: list[str]) -> None:
    """Become `python -m api.cli` with these arguments."""
    os.setsid()
    multiprocessing.current_process().daemon = False  # may have children
    sys.argv = ["lowlight", *arguments]
    runpy.run_module("api.cli", run_name="__main__", alter_sys=True)


start = partial(real.start, popen=WarmPopen)
background = partial(real.background, popen=WarmPopen)
