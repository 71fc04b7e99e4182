"""The opened database: short read-only connections, and the one door for writes.

Flow: `Store.write(job)` -> the writer thread runs it in a group commit -> its result. A job is a plain
function of one SQLAlchemy connection; it neither commits nor rolls back. Another process of ours gets the
same door through `ingest.doors`.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from ingest.bulk import cursor_of
from ingest.counting import any_to_count, count_new_calls
from ingest.disk import SameFile
from ingest.errors import BadSettings, IngestError
from ingest.packing import teach
from ingest.settings import without_password
from ingest.writer import Writer

#: Prepared statements that the writer keeps: those of `ingest.bulk` for a few rows of each table, and others.
STATEMENTS_MAX = 512

#: Times that a reader of the latency counts has them brought up to the calls; more than one only where rows
#: were put past the writer.
CATCH_UPS_MAX = 50

T = TypeVar("T")

log = logging.getLogger(__name__)


class Store(Protocol):
    """What the rest of the server needs from a database, in whichever process it runs."""

    def read(self) -> Any:
        """Return a context manager that yields a read-only Connection seeing one consistent state."""

    def write(self, job: Callable[[Connection], T]) -> T:
        """Run `job` in a transaction and return its result once that is committed.

        Raises:
            WriterBusy: the queue is full; nothing was written.
            Exception: whatever `job` raised; its own writes were rolled back, its neighbours' were not.
        """


class OpenStore:
    """The store as the process that owns the writer sees it."""

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url
        self._readers = reading_engine(database_url)
        self._writer = Writer(writing_engine(database_url), put_off=count_new_calls)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a read-only connection; keep it for milliseconds, page long reads by `seq`."""
        with self._readers.connect() as connection:
            yield connection

    def write(self, job: Callable[[Connection], T]) -> T:
        """See `Store.write`."""
        return self._writer.write(job)

    def begin(self, job: Callable[[Connection], T]) -> "Future[T]":
        """Queue `job` and return at once; see `ingest.writer.Writer.begin`."""
        return self._writer.begin(job)

    def begin_for(self, job: Callable[[Connection], T], waiter: "asyncio.Future[T]") -> None:
        """Queue `job` for a coroutine that waits; see `ingest.writer.Writer.begin_for`."""
        self._writer.begin_for(job, waiter)

    @property
    def writer(self) -> Writer:
        """The writer thread, for its figures."""
        return self._writer

    def close(self) -> None:
        """Finish the writes in hand, then close every connection."""
        self._writer.close()
        self._readers.dispose()


@contextmanager
def read_counted(store: Store) -> Iterator[Connection]:
    """Like `store.read()`, for readers of latency_count: every call acknowledged before is counted there.

    Where the database cannot be written now they find the counts as they are: some seconds old.
    """
    for _time in range(CATCH_UPS_MAX):
        with store.read() as connection:
            if not any_to_count(connection):
                break
        try:
            if not store.write(count_new_calls):
                break
        except IngestError as error:
            log.warning("the newest calls are not among the latencies yet: %s", error)
            break
    with store.read() as connection:
        yield connection


def sqlite_path(database_url: str) -> Path | None:
    """Return the file of a SQLite URL; None for PostgreSQL.

    Raises:
        BadSettings: the URL cannot be parsed, names a database we have no use for (one in memory would be
            another one in each of our processes), or one whose driver is not installed.
    """
    take = "take sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
    try:
        url = make_url(database_url)
    except ArgumentError:
        raise BadSettings(
            f"LOWLIGHT_DATABASE_URL: {without_password(database_url)!r} is no database URL; {take}"
        ) from None
    backend = url.get_backend_name()
    if backend == "sqlite" and url.database and url.database != ":memory:":
        return Path(url.database)
    if backend != "postgresql":
        kind = "a database in memory" if backend == "sqlite" else repr(backend)
        raise BadSettings(f"LOWLIGHT_DATABASE_URL: {kind} cannot be used; {take}")
    try:
        url.get_dialect().import_dbapi()
    except (ImportError, NoSuchModuleError):
        driver = url.get_driver_name()
        raise BadSettings(
            f"LOWLIGHT_DATABASE_URL: the driver {driver} is not installed; "
            f"install the package {driver} beside lowlight-server, or {take}"
        ) from None
    return None


def reading_engine(database_url: str) -> Engine:
    """Return an engine whose connections can only read and never checkpoint.

    Parameters stay out of what its errors say, for they are texts of calls; likewise below.
    """
    if sqlite_path(database_url) is None:
        return create_engine(
            database_url, hide_parameters=True, execution_options={"postgresql_readonly": True}
        )
    # QueuePool keeps a reader's page cache warm; every thread of the server may hold one.
    engine = create_engine(
        database_url, hide_parameters=True, pool_size=8, max_overflow=40, connect_args={"timeout": 5.0}
    )

    @event.listens_for(engine, "connect")
    def _open(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        teach(connection)
        connection.execute("pragma query_only = on")
        # Only the writer checkpoints: SQLite before 3.51.3 can corrupt a WAL that one connection resets
        # while another commits.
        connection.execute("pragma wal_autocheckpoint = 0")
        connection.execute("pragma cache_size = -16000")
        connection.execute("pragma mmap_size = 268435456")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("begin")

    return engine


def writing_engine(database_url: str, *, lock_timeout_s: float = 20.0) -> Engine:
    """Return an engine for the one writing connection; each transaction takes the write lock at once.

    Where a SQLite file is no longer the one that was opened first, a transaction begins with
    FileNotFoundError.
    """
    path = sqlite_path(database_url)
    if path is None:
        return create_engine(database_url, hide_parameters=True)
    file = SameFile(path)
    engine = create_engine(
        database_url,
        hide_parameters=True,
        poolclass=NullPool,
        connect_args={"timeout": lock_timeout_s, "cached_statements": STATEMENTS_MAX},
    )

    @event.listens_for(engine, "do_connect")
    def _look(*_told: Any) -> None:
        file.check()  # before SQLite makes an empty file where there is none

    @event.listens_for(engine, "connect")
    def _open(connection: Any, _record: Any) -> None:
        file.check()
        connection.isolation_level = None
        teach(connection)
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute("pragma foreign_keys = on")
        connection.execute("pragma wal_autocheckpoint = 4000")
        # kB. With 300,000 calls kept, writing one takes as long with 64 MB; the server is to stay below 250.
        connection.execute("pragma cache_size = -40000")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        file.check()
        # By the driver's own cursor: SQLAlchemy takes longer to make a statement of it than it takes to run.
        cursor_of(connection).execute("begin immediate")

    return engine
