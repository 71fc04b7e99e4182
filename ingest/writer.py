"""The one writer: a thread that owns the only writing connection and commits in groups.

It takes whatever is waiting, at once; it never waits for more (a timed window of 10 ms capped eight
clients at 720 calls/s; without it 15,000) and never splits a job. Each job runs in a savepoint of its own,
so one that fails takes none of its neighbours with it. A result is handed back after the commit.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Engine, RootTransaction
from sqlalchemy.exc import OperationalError

from ingest.errors import StoreUnavailable, WriterBusy

T = TypeVar("T")
Job = Callable[[Connection], Any]

log = logging.getLogger(__name__)

#: Jobs that may wait; each is one request of at most 1,000 calls.
WAITING_MAX = 256
#: Jobs in one commit: bounds how long the first of them waits for its receipt.
GROUP_MAX = 64


class WriteFailure(NamedTuple):
    """When the database last refused a write, and why.

    Attributes:
        at_ms: when, in milliseconds since 1970.
        error: what the database said: "database is locked", "database or disk is full" ...
    """

    at_ms: int
    error: str


class Group(NamedTuple):
    """What became of one group of jobs, for whoever counts them.

    Attributes:
        jobs: how many.
        took_s: from the first job's start to the end of the commit.
        refused: why the database could not be written; None where it could.
    """

    jobs: int
    took_s: float
    refused: str | None


class Writer:
    """Runs jobs one after another on one connection, a group to a commit.

    Attributes:
        last_refusal: the newest write that the database did not take, also where it took later ones.
        last_commit_s: end of the last commit, on the clock of `time.monotonic`; None before the first.
        observe: told of every group, in the writer's thread; must be quick and never raise.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.last_refusal: WriteFailure | None = None
        self.last_commit_s: float | None = None
        self.observe: Callable[[Group], None] | None = None
        self._began_s: float | None = None
        self._waiting: queue.Queue[tuple[Job, Future[Any]] | None] = queue.Queue(WAITING_MAX)
        self._closed = False
        self._last_failure: WriteFailure | None = None
        self._thread = threading.Thread(target=self._run, name="lowlight-writer", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many jobs wait now."""
        return self._waiting.qsize()

    @property
    def in_hand_s(self) -> float:
        """How long the group in hand has taken so far, in seconds; 0 while there is none."""
        began_s = self._began_s
        return 0.0 if began_s is None else time.monotonic() - began_s

    @property
    def alive(self) -> bool:
        """Whether jobs are still taken and run."""
        return self._thread.is_alive() and not self._closed

    @property
    def last_failure(self) -> WriteFailure | None:
        """When and why the database last refused a write; None where it took the newest one."""
        return self._last_failure

    def write(self, job: Callable[[Connection], T]) -> T:
        """Run `job(connection)` and return its result once committed.

        Raises:
            WriterBusy: 256 jobs wait already.
            StoreUnavailable: the database could not be locked, written or committed; nothing was kept.
        """
        return self.begin(job).result()

    def begin(self, job: Callable[[Connection], T]) -> "Future[T]":
        """Queue `job` and return at once; its future brings the result, or the error, once committed.

        Raises:
            WriterBusy: 256 jobs wait already.
            StoreUnavailable: the writer was closed.
        """
        if self._closed:
            raise StoreUnavailable("The server is stopping; send the same again when it is back.")
        done: Future[T] = Future()
        # Whoever waits may go away; the job is done all the same, and its future must take the result.
        done.set_running_or_notify_cancel()
        try:
            self._waiting.put_nowait((job, done))
        except queue.Full:
            raise WriterBusy(f"The write queue is full ({WAITING_MAX} requests wait).") from None
        return done

    def close(self) -> None:
        """Finish every job in hand, then stop. Jobs that come later are refused."""
        if not self._closed:
            self._closed = True
            self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        connection: Connection | None = None
        stopping = False
        while not stopping:
            group: list[tuple[Job, Future[Any]]] = []
            taken = self._waiting.get()
            while taken is not None:
                group.append(taken)
                if len(group) == GROUP_MAX:
                    break
                try:
                    taken = self._waiting.get_nowait()
                except queue.Empty:
                    break
            stopping = taken is None
            if group:
                self._began_s = time.monotonic()
                connection = self._commit(connection, group)
                self._began_s = None
        if connection is not None:
            connection.close()
        self._engine.dispose()

    def _commit(
        self, connection: Connection | None, group: list[tuple[Job, Future[Any]]]
    ) -> Connection | None:
        """Run a group in one transaction, hand out its results, return the connection while it is sound."""
        results: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            connection = connection or self._engine.connect()
            with connection.begin() as transaction:
                if len(group) == 1:
                    ((job, done),) = group
                    results.append((done, *_alone(connection, transaction, job)))
                else:
                    for job, done in group:
                        results.append((done, *_in_savepoint(connection, job)))
        except Exception as error:  # locked, full or lost: the whole group was rolled back
            log.error("a group of %d writes was rolled back: %s", len(group), _cause(error))
            unavailable = StoreUnavailable(f"The database could not be written: {_cause(error)}")
            unavailable.__cause__ = error
            self._learn([unavailable] * len(group))
            for _job, done in group:
                done.set_exception(unavailable)
            if connection is not None:
                connection.close()
            return None
        self._learn([failure for _done, _result, failure in results])
        for done, result, failure in results:
            if failure is None:
                done.set_result(result)
            else:
                done.set_exception(failure)
        return connection

    def _learn(self, failures: list[BaseException | None]) -> None:
        """Remember whether the database took what a group wrote; a mistake of a job's own says nothing."""
        refusal = next((failure for failure in failures if isinstance(failure, StoreUnavailable)), None)
        why = None if refusal is None else _cause(refusal.__cause__ or refusal)
        if why is not None:
            self._last_failure = self.last_refusal = WriteFailure(time.time_ns() // 1_000_000, why)
        elif None in failures:
            self._last_failure = None
        now_s = time.monotonic()
        if why is None:
            self.last_commit_s = now_s
        if self.observe is not None:
            self.observe(Group(len(failures), now_s - (self._began_s or now_s), why))


def _alone(
    connection: Connection, transaction: RootTransaction, job: Job
) -> tuple[Any, BaseException | None]:
    """Run the only job of a group: where it fails, its transaction can go as a whole."""
    try:
        return job(connection), None
    except Exception as error:
        transaction.rollback()
        return None, _as_the_caller_sees(connection, error)


def _in_savepoint(connection: Connection, job: Job) -> tuple[Any, BaseException | None]:
    """Return the job's result, or what it raised once its own writes are undone."""
    connection.exec_driver_sql("SAVEPOINT job")
    try:
        result = job(connection)
    except Exception as error:
        # A full disk has rolled everything back already; then this raises, and the group fails as one.
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT job")
        connection.exec_driver_sql("RELEASE SAVEPOINT job")
        return None, _as_the_caller_sees(connection, error)
    connection.exec_driver_sql("RELEASE SAVEPOINT job")
    return result, None


def _as_the_caller_sees(connection: Connection, error: Exception) -> Exception:
    """Tell a database that cannot be written now (full, read-only, lost) from a mistake of the job's."""
    driver = connection.dialect.loaded_dbapi
    if not isinstance(error, (OperationalError, driver.OperationalError)):
        return error
    unavailable = StoreUnavailable(f"The database could not be written: {_cause(error)}")
    unavailable.__cause__ = error
    return unavailable


def _cause(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error).strip() or type(error).__name__
