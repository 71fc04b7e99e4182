"""The server: one process that owns the database's writer, its child processes, and the HTTP port.

Flow: `lowlight serve` -> `serve` -> lock, schema, writer, children, uvicorn, until SIGTERM or SIGINT ends it
cleanly: requests in hand are answered, children finish theirs, the writer commits and closes. `background`
starts the same in a process of its own, for the demo, imports and tests.
"""

import contextlib
import gc
import ipaddress
import logging
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

import uvicorn

from api.app import create_app
from api.background import background
from api.door.at_once import HttpProtocol
from api.errors import CannotServe
from api.operating.restoring import Restores
from api.schema import upgrade
from critic import drivers
from critic.process import run_critic
from critic.queue.work import now_ms
from critic.spending.money import money_for
from ingest.children import Child, Target
from ingest.counting import count_new_calls
from ingest.lock import ServerLock
from ingest.otlp.closing import Closing
from ingest.reader.process import Reader, wanted
from ingest.settings import Settings
from ingest.store import OpenStore, sqlite_path
from outliers.process import run_outliers
from rubrics import BadRubric, load_rubrics

__all__ = ["background", "serve"]

#: Connections the kernel holds for us while we are busy.
BACKLOG = 256
#: How long requests in hand may take once the server was told to stop.
GRACE_S = 10

log = logging.getLogger(__name__)


def serve(settings: Settings, *, ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT. Must run in the main thread.

    Args:
        ready: called with the server's address, as an URL, once it answers.

    Raises:
        CannotServe: nothing was started; the message is one line that says what to change.
        IngestError: likewise, for settings, the database and its lock.
    """
    _check_host(settings.host)
    _check_critics(settings)
    with contextlib.ExitStack() as stack:
        path = sqlite_path(settings.database_url)
        lock = stack.enter_context(ServerLock(path)) if path is not None else None
        _migrate(settings)
        listener = stack.enter_context(_listen(settings.host, settings.port))
        address = _address(listener)
        told_to_stop = threading.Event()
        # uvicorn raises the signal that stopped it once more when it is done; it must not kill us then. Nor
        # may one that comes between two lives of the app be lost.
        for number in (signal.SIGTERM, signal.SIGINT):
            previous = signal.signal(number, lambda _number, _frame: told_to_stop.set())
            stack.callback(signal.signal, number, previous)
        if lock is not None:
            lock.tell(address)
        restores = Restores(path)
        _live(settings, listener, restores, lambda: ready(address) if ready is not None else None)
        while restores.wanted and not told_to_stop.is_set():
            restores.carry_out()
            _migrate(settings)
            _live(settings, listener, restores, lambda: log.info("%s answers again", address))


def _migrate(settings: Settings) -> None:
    copy = upgrade(settings.database_url)
    if copy is not None:
        log.info("the database was migrated; as it was before: %s", copy)


def _live(
    settings: Settings, listener: socket.socket, restores: Restores, started: Callable[[], Any]
) -> None:
    """Open the store, run children and app until a signal or a restore ends them, close everything."""
    with contextlib.ExitStack() as stack:
        store = OpenStore(settings.database_url)
        stack.callback(store.close)
        # What a killed server kept and had not counted; should that fail now, the first write brings it back.
        store.begin(count_new_calls)
        children = _start_children(settings, store)
        stack.callback(_stop_children, children)
        closing = Closing(store, settings)
        stack.callback(closing.stop)
        closing.start()
        reader = Reader() if wanted(settings.reader) else None
        if reader is not None:
            stack.callback(reader.close)
        app = create_app(settings, store, children, restores, reader)
        _spare_the_collector()
        server = _Server(_uvicorn_config(app), started)

        def step_aside() -> None:
            server.should_exit = True

        restores.step_aside = step_aside
        # A second name of the same socket: uvicorn closes this one, and connections wait at the first.
        server.run(sockets=[listener.dup()])


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it answers."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], Any]) -> None:
        super().__init__(config)
        self._say_started = started

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn. A client whose connection was made a moment too late would be served for GRACE_S."""
        self.config.app.door.stopping = True  # type: ignore[union-attr]
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        await super().startup(sockets)
        if self.started:
            self._say_started()


def _uvicorn_config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=HttpProtocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE_S,
    )


def _spare_the_collector() -> None:
    """Keep Python's cycle collector from walking all that was imported, again and again.

    A batch of 500 calls makes thousands of objects that die young and have no cycles; the collector's
    passes over the modules took a seventh of intake's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _check_host(host: str) -> None:
    """While no key exists only this machine may reach the server."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise CannotServe(
            f"LOWLIGHT_HOST is {host!r}, but without keys this server listens on this machine only; "
            "take 127.0.0.1, and a proxy of your own with a login before it."
        )


def _check_critics(settings: Settings) -> None:
    """Find now what would otherwise stop the critic process again and again: a rubric, a missing key."""
    try:
        load_rubrics(settings.rubrics_dir)
        money_for(settings, drivers.build(settings), now_ms())
    except (BadRubric, drivers.CriticError) as error:
        raise CannotServe(str(error)) from error


def _listen(host: str, port: int) -> socket.socket:
    bare = host.strip("[]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    # With the protocol named, asyncio sets TCP_NODELAY on what it accepts; else each receipt waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((bare, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotServe(
            f"Port {port} of {host} cannot be taken: {error.strerror}. "
            "Stop what listens there, or set LOWLIGHT_PORT to another one (0 picks a free one)."
        ) from error
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _start_children(settings: Settings, store: OpenStore) -> dict[str, Child]:
    targets: dict[str, Target] = {"outliers": run_outliers}
    if drivers.wanted(settings):
        targets["critic"] = run_critic
    return {name: Child(name, target, settings, store) for name, target in targets.items()}


def _stop_children(children: dict[str, Child]) -> None:
    # At once, not one after the other: each may take its whole time.
    threads = [threading.Thread(target=child.stop) for child in children.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
