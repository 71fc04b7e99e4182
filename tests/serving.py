"""An ASGI app on loopback, served by uvicorn in a thread of the test, so that a test may break it."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn


class _Server(uvicorn.Server):
    """uvicorn's server, which ends as soon as it is told to.

    uvicorn's own looks every 0.1 s whether it shall end, and then waits 0.1 s more: with a server a test that
    was the greater part of some hundred tests' time.
    """

    async def main_loop(self) -> None:
        """See uvicorn."""
        await self.on_tick(0)
        self._loop, self._told = asyncio.get_running_loop(), asyncio.Event()
        self.answers.set()
        await self._told.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn. What is still in hand is cancelled with the event loop."""
        for listener in self.servers:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def start(self, listening: socket.socket) -> None:
        """Return once it answers, in a thread of its own."""
        self.answers = threading.Event()
        self._thread = threading.Thread(target=self.run, kwargs={"sockets": [listening]}, daemon=True)
        self._thread.start()
        assert self.answers.wait(60.0), "the server in this process did not start"

    def stop(self) -> None:
        """Return once it is gone."""
        self._loop.call_soon_threadsafe(self._told.set)
        self._thread.join(10.0)


@contextmanager
def serving(app: Any, *, log_level: str = "critical") -> Iterator[str]:
    """Serve an app on a free port while the block runs; yield its address as an URL without a last slash."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        server = _Server(uvicorn.Config(app, log_level=log_level, lifespan="off"))
        server.start(listening)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.stop()
