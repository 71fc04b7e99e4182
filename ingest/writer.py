"""The one writer: a thread that owns the only writing connection and commits in groups.

It takes whatever is waiting, at once; it never waits for more (a timed window of 10 ms capped eight
clients at 720 calls/s; without it 15,000) and never splits a job. `ingest.group` runs them so that one that
fails takes none of its neighbours with it. A result is handed back after the commit. What jobs leave to be
done a moment later (`ingest.counting`) is done while nobody waits, or every two seconds.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple, TypeVar

from sqlalchemy import Connection, Engine

from ingest.bulk import cursor_of
from ingest.errors import StoreUnavailable, WriterBusy
from ingest.group import Job, Outcome, SunkTogether, Waiter, cause, hand_out, run

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Jobs that may wait; each is one request of at most 1,000 calls.
WAITING_MAX = 256
#: Jobs in one commit: bounds how long the first of them waits for its receipt.
GROUP_MAX = 64
#: Rows changed, some thousand pages of a write-ahead log, after which it is worth a copy into the file.
CHECKPOINT_ROWS = 4_000
#: Without a job for so long the writer rests, and does what was put off ...
REST_S = 0.05
#: ... which waits no longer than this, jobs or no jobs; and so long where the database did not take it.
PUT_OFF_S, PUT_OFF_AGAIN_S = 2.0, 5.0


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

    def __init__(self, engine: Engine, put_off: Callable[[Connection], bool] | None = None) -> None:
        """Start the thread.

        Args:
            put_off: what to do some time after jobs were written, in a transaction of its own; returns
                whether there is more of it.
        """
        self._engine = engine
        self._put_off = put_off
        #: by when, on the clock of `time.monotonic`, it must be done; None where there is nothing
        self._put_off_until_s: float | None = None
        self._put_off_failed = False
        self.last_refusal: WriteFailure | None = None
        self.last_commit_s: float | None = None
        self.observe: Callable[[Group], None] | None = None
        self._began_s: float | None = None
        self._changes = 0
        # Unlike Queue it is written in C: handing a job over costs the event loop a tenth.
        self._waiting: queue.SimpleQueue[tuple[Job, Waiter] | None] = queue.SimpleQueue()
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
        done: Future[T] = Future()
        # Whoever waits may go away; the job is done all the same, and its future must take the result.
        done.set_running_or_notify_cancel()
        self._queue(job, done)
        return done

    def begin_for(self, job: Callable[[Connection], T], waiter: "asyncio.Future[T]") -> None:
        """Like `begin`, for a coroutine: `waiter` is told on its own loop, in one wake-up for a whole group.

        Any thread may call this; `waiter` comes from `loop.create_future()`.
        """
        self._queue(job, waiter)

    def _queue(self, job: Job, waiter: Waiter) -> None:
        if self._closed:
            raise StoreUnavailable("The server is stopping; send the same again when it is back.")
        if self._waiting.qsize() >= WAITING_MAX:
            raise WriterBusy(f"The write queue is full ({WAITING_MAX} requests wait).")
        self._waiting.put((job, waiter))

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
            group: list[tuple[Job, Waiter]] = []
            try:
                taken = self._waiting.get(timeout=self._rest_s())
            except queue.Empty:
                connection = self._catch_up(connection)
                continue
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
            if self._put_off_until_s is not None and time.monotonic() > self._put_off_until_s:
                connection = self._catch_up(connection)
        while self._put_off_until_s is not None and not self._put_off_failed:
            connection = self._catch_up(connection)
        if connection is not None:
            connection.close()
        self._engine.dispose()

    def _commit(self, connection: Connection | None, group: list[tuple[Job, Waiter]]) -> Connection | None:
        """Run a group in one transaction, hand out its results, return the connection while it is sound."""
        try:
            connection = connection or self._engine.connect()
            try:
                with connection.begin():
                    outcomes = run(connection, group)
            except SunkTogether:
                with connection.begin():
                    outcomes = run(connection, group, apart=True)
        except Exception as error:  # locked, full or lost: the whole group was rolled back
            log.error("a group of %d writes was rolled back: %s", len(group), cause(error))
            unavailable = StoreUnavailable(f"The database could not be written: {cause(error)}")
            unavailable.__cause__ = error
            self._learn([unavailable] * len(group))
            hand_out([Outcome(waiter, None, unavailable) for _job, waiter in group])
            if connection is not None:
                connection.close()
            return None
        self._learn([outcome.failure for outcome in outcomes])
        hand_out(outcomes)
        if self._put_off is not None and self._put_off_until_s is None:
            self._put_off_until_s = time.monotonic() + PUT_OFF_S
        if self._waiting.empty():
            self._checkpoint(connection)
        return connection

    def _catch_up(self, connection: Connection | None) -> Connection | None:
        """Do what was put off, or a part of it; a database that does not take it is asked again later."""
        assert self._put_off is not None
        try:
            connection = connection or self._engine.connect()
            with connection.begin():
                more = self._put_off(connection)
        except Exception as error:
            log.warning("what a write left to be done waits on: %s", cause(error))
            self._put_off_until_s = time.monotonic() + PUT_OFF_AGAIN_S
            self._put_off_failed = True
            if connection is not None:
                connection.close()
            return None
        self._put_off_failed = False
        if not more:
            self._put_off_until_s = None
        return connection

    def _rest_s(self) -> float | None:
        """How long to wait for a job before what was put off is done; None for ever."""
        if self._put_off_until_s is None:
            return None
        if self._put_off_failed:
            return max(REST_S, self._put_off_until_s - time.monotonic())
        return REST_S

    def _checkpoint(self, connection: Connection) -> None:
        """Copy SQLite's log into the file while nobody waits.

        Else the commit that finds the log long (`ingest.store`) does so, and the receipts of its group wait.
        """
        changes: int = getattr(connection.connection.dbapi_connection, "total_changes", 0)
        if changes < self._changes:
            self._changes = 0  # another connection, which counts from its own beginning
        if changes - self._changes < CHECKPOINT_ROWS:
            return
        self._changes = changes
        try:
            cursor_of(connection).execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except connection.dialect.loaded_dbapi.Error as error:
            log.warning("the write-ahead log stays as it is for now: %s", cause(error))

    def _learn(self, failures: Sequence[BaseException | None]) -> None:
        """Remember whether the database took what a group wrote; a mistake of a job's own says nothing."""
        refusal = next((failure for failure in failures if isinstance(failure, StoreUnavailable)), None)
        why = None if refusal is None else cause(refusal.__cause__ or refusal)
        if why is not None:
            self._last_failure = self.last_refusal = WriteFailure(time.time_ns() // 1_000_000, why)
        elif None in failures:
            self._last_failure = None
        now_s = time.monotonic()
        if why is None:
            self.last_commit_s = now_s
        if self.observe is not None:
            self.observe(Group(len(failures), now_s - (self._began_s or now_s), why))
