"""The write door for another process of ours: its jobs travel over a pipe to the process with the writer.

Flow: child `PipeStore.write(job)` -> pickle -> `serve_door` in the server -> `Store.write` -> pickled result.
A job must be a module-level function or a `functools.partial` of one, with plain data as arguments. Both
ends are processes that the server started itself from the same code, so unpickling is safe.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar

from sqlalchemy import Connection

from ingest.errors import IngestError, StoreUnavailable
from ingest.store import Store, reading_engine

T = TypeVar("T")


class PipeStore:
    """The store as a child process sees it: its own read-only connections, writes through the pipe."""

    def __init__(self, database_url: str, pipe: Pipe) -> None:
        self._readers = reading_engine(database_url)
        self._pipe = pipe
        self._turn = threading.Lock()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a read-only connection; keep it for milliseconds, page long reads by `seq`."""
        with self._readers.connect() as connection:
            yield connection

    def write(self, job: Callable[[Connection], T]) -> T:
        """See `Store.write`."""
        try:
            with self._turn:
                self._pipe.send(job)
                result, failure = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise StoreUnavailable("The server that writes for this process is gone.") from error
        if failure is not None:
            raise failure
        return result  # type: ignore[no-any-return]


def serve_door(store: Store, pipe: Pipe) -> threading.Thread:
    """Run a child's jobs until it hangs up; returns the thread that does so."""

    def _serve() -> None:
        # Whatever goes wrong with one job is its answer: a child that gets none waits for ever.
        while True:
            try:
                sent = pipe.recv_bytes()
            except (EOFError, OSError):
                return
            answer: tuple[Any, Exception | None]
            try:
                answer = (store.write(ForkingPickler.loads(sent)), None)
            except IngestError as error:
                answer = (None, error)
            except Exception as error:  # also a job that this process cannot read
                answer = (None, StoreUnavailable(f"{type(error).__name__}: {error}"))
            try:
                pipe.send(answer)
            except OSError:
                return
            except Exception as error:  # a result that cannot be pickled; nothing of it was sent
                pipe.send((None, StoreUnavailable(f"{type(error).__name__}: {error}")))

    thread = threading.Thread(target=_serve, name="lowlight-door", daemon=True)
    thread.start()
    return thread
