"""Child processes of the server: the critic, and the weekly computation. Started, watched, stopped here.

A child is a fresh interpreter (spawn) that runs `target(settings, store, stop)`: `store` is a
`PipeStore`, `stop` a `Stop` that says when the server wants the child to finish what it has in hand.
A child that dies is started again after a pause that doubles up to a minute. Each life has pipes of its own:
an event of multiprocessing's is a lock that one killed in the middle of a look keeps for ever, from its
successor and from the server.
"""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess

from ingest.doors import PipeStore, serve_door
from ingest.logs import set_up_logs
from ingest.settings import Settings
from ingest.store import Store

#: What a child runs: module-level, so that a fresh interpreter can import it.
Target = Callable[[Settings, Store, "Stop"], None]

RESTART_PAUSE_MIN_S = 1.0
RESTART_PAUSE_MAX_S = 60.0

log = logging.getLogger(__name__)


class Stop:
    """Whether the server wants this child to stop; safe to ask from any thread. True once it is gone, too."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    def is_set(self) -> bool:
        """Whether it does."""
        return self.wait(0.0)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it does, `timeout_s` at most; return whether it does."""
        try:
            # What was sent is never taken out, so that whoever asks finds it there.
            return self._pipe.poll(timeout_s)
        except OSError:
            return True


class Child:
    """One watched child process."""

    def __init__(self, name: str, target: Target, settings: Settings, store: Store) -> None:
        self.name = name
        self._target = target
        self._settings = settings
        self._store = store
        self._spawn = multiprocessing.get_context("spawn")
        self._stopping = threading.Event()
        #: tells the process of now to stop; None while there is none
        self._tells: Pipe | None = None
        self._telling = threading.Lock()
        self._process: BaseProcess | None = None
        self._watcher = threading.Thread(target=self._watch, name=f"lowlight-{name}-watch", daemon=True)
        self._watcher.start()

    @property
    def alive(self) -> bool:
        """Whether the process runs now."""
        return self._process is not None and self._process.is_alive()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Let it finish what it has in hand, at most `timeout_s`; then end it."""
        self._stopping.set()
        self._tell()
        self._watcher.join(timeout_s)
        process = self._process
        if process is not None and process.is_alive():
            process.kill()
        self._watcher.join(2.0)

    def _tell(self) -> None:
        """Tell the process of now, if there is one, to stop."""
        with self._telling:
            if self._tells is not None:
                with suppress(OSError):  # it has ended
                    self._tells.send_bytes(b"stop")

    def _watch(self) -> None:
        pause_s = RESTART_PAUSE_MIN_S
        while not self._stopping.is_set():
            ours, theirs = self._spawn.Pipe()
            hears, tells = self._spawn.Pipe(duplex=False)
            process = self._spawn.Process(
                target=_run_child,
                args=(self._target, self._settings, theirs, hears),
                name=f"lowlight-{self.name}",
                daemon=True,
            )
            process.start()
            theirs.close()
            hears.close()
            self._process = process
            self._tells = tells
            if self._stopping.is_set():  # while it started
                self._tell()
            serve_door(self._store, ours)
            process.join()
            ours.close()
            with self._telling:
                self._tells = None
                tells.close()
            if self._stopping.is_set():
                return
            log.error(
                "%s ended (status %s); starting it again in %.0f s", self.name, process.exitcode, pause_s
            )
            self._stopping.wait(pause_s)
            pause_s = min(pause_s * 2, RESTART_PAUSE_MAX_S)


def _run_child(target: Target, settings: Settings, pipe: Pipe, stop: Pipe) -> None:
    # Ctrl-C reaches the whole process group; the server alone decides when a child stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    set_up_logs(settings.log_format, multiprocessing.current_process().name.removeprefix("lowlight-"))
    threading.Thread(target=_die_with_parent, name="lowlight-parent-watch", daemon=True).start()
    try:
        target(settings, PipeStore(settings.database_url, pipe), Stop(stop))
    except Exception:  # multiprocessing would print its words, which may quote a call
        log.critical("this process ends with an error", exc_info=True)
        raise SystemExit(1) from None


def _die_with_parent() -> None:
    """End this process when the server is gone, kill -9 included; its leases expire by themselves."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
