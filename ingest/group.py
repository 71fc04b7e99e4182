"""One group of jobs in one transaction: run so that a failing job sinks only itself, then told of the commit.

Flow: `ingest.writer` takes what waits -> `run` inside its transaction -> commit -> `hand_out` to the threads
and event loops that wait. Jobs of one kind that know how (`Mergeable`) are run as one: eight requests of one
call each cost the statements of one. Where they are all there is in the transaction they need no savepoint,
for which SQLite would copy each page before it changes: if one of them fails, the writer rolls everything
back (`SunkTogether`) and runs them one by one.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from itertools import groupby
from typing import Any, NamedTuple, Protocol, runtime_checkable

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from ingest.bulk import cursor_of
from ingest.errors import StoreUnavailable

Job = Callable[[Connection], Any]
#: Takes a job's result: a thread waits for the one, a coroutine for the other.
Waiter = Future[Any] | asyncio.Future[Any]


@runtime_checkable
class Mergeable(Protocol):
    """A job that can be run with others of its kind, and must then do for each what it does alone."""

    def __call__(self, connection: Connection) -> Any:
        """Run alone. May run a second time, where running together was rolled back."""

    @staticmethod
    def together(connection: Connection, jobs: Sequence[Any], *, sole: bool) -> list[Any]:
        """Run several jobs of this class; return their results in order.

        Args:
            sole: there is nothing else in the transaction, so that a failure may end it as a whole.
        """


class Outcome(NamedTuple):
    """What became of one job: its result, or what it raised (its own writes are undone then)."""

    waiter: Waiter
    result: Any
    failure: Exception | None


class SunkTogether(Exception):
    """A group that ran as one failed; roll its transaction back, then run the jobs `apart` in another."""


def run(connection: Connection, group: Sequence[tuple[Job, Waiter]], *, apart: bool = False) -> list[Outcome]:
    """Run a group's jobs in order.

    Args:
        apart: run each job in a savepoint of its own.

    Raises:
        SunkTogether: the group ran as one, and one of its jobs failed; never when `apart`.
        Exception: the transaction itself broke (a full disk rolls everything back); nothing was kept.
    """
    if apart:
        return [Outcome(waiter, *_in_savepoint(connection, job)) for job, waiter in group]
    kind = _together(group[0])
    if kind is not None and all(_together(waiting) is kind for waiting in group):
        try:
            results = kind(connection, [job for job, _waiter in group], sole=True)
        except Exception as error:
            raise SunkTogether from error
        return _outcomes(group, results)
    outcomes: list[Outcome] = []
    for together, jobs in _runs(group):
        results = None if together is None else _merged(connection, together, [job for job, _ in jobs])
        if results is None:
            outcomes += [Outcome(waiter, *_in_savepoint(connection, job)) for job, waiter in jobs]
        else:
            outcomes += _outcomes(jobs, results)
    return outcomes


def hand_out(outcomes: Sequence[Outcome]) -> None:
    """Tell every waiter; each event loop is woken once for all that wait on it."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Outcome]] = {}
    for outcome in outcomes:
        if isinstance(outcome.waiter, asyncio.Future):
            by_loop.setdefault(outcome.waiter.get_loop(), []).append(outcome)
        else:
            _tell(outcome)
    for loop, theirs in by_loop.items():
        try:
            loop.call_soon_threadsafe(_tell_all, theirs)
        except RuntimeError:
            continue  # the loop is closed: nobody waits any more, and what was written stays written


def as_the_caller_sees(connection: Connection, error: Exception) -> Exception:
    """Tell a database that cannot be written now (full, read-only, lost) from a mistake of the job's."""
    driver = connection.dialect.loaded_dbapi
    if not isinstance(error, (OperationalError, driver.OperationalError)):
        return error
    unavailable = StoreUnavailable(f"The database could not be written: {cause(error)}")
    unavailable.__cause__ = error
    return unavailable


def cause(error: BaseException) -> str:
    """Return what the database itself said."""
    return str(getattr(error, "orig", None) or error).strip() or type(error).__name__


def _runs(
    group: Sequence[tuple[Job, Waiter]],
) -> Iterator[tuple[Any, Sequence[tuple[Job, Waiter]]]]:
    """Neighbours that can run together, with how; None where a job runs alone."""
    for kind, jobs in groupby(group, key=_together):
        neighbours = list(jobs)
        yield (kind if len(neighbours) > 1 else None), neighbours


def _together(waiting: tuple[Job, Waiter]) -> Any:
    """How a job runs with others of its kind; None where it does not know."""
    return getattr(waiting[0], "together", None)


def _outcomes(group: Sequence[tuple[Job, Waiter]], results: Sequence[Any]) -> list[Outcome]:
    return [Outcome(waiter, result, None) for (_job, waiter), result in zip(group, results, strict=True)]


def _merged(connection: Connection, together: Any, jobs: list[Job]) -> list[Any] | None:
    """The results of jobs that ran as one; None where one of them failed, and all are undone."""
    cursor = cursor_of(connection)
    cursor.execute("SAVEPOINT jobs")
    try:
        results: list[Any] = together(connection, jobs, sole=False)
    except Exception as error:
        try:
            cursor.execute("ROLLBACK TO SAVEPOINT jobs")
            cursor.execute("RELEASE SAVEPOINT jobs")
        except connection.dialect.loaded_dbapi.Error:
            raise error from None
        return None  # whichever it was will fail again by itself
    cursor.execute("RELEASE SAVEPOINT jobs")
    return results


def _in_savepoint(connection: Connection, job: Job) -> tuple[Any, Exception | None]:
    """Return the job's result, or what it raised once its own writes are undone."""
    cursor = cursor_of(connection)
    cursor.execute("SAVEPOINT job")
    try:
        result = job(connection)
    except Exception as error:
        try:
            cursor.execute("ROLLBACK TO SAVEPOINT job")
            cursor.execute("RELEASE SAVEPOINT job")
        except connection.dialect.loaded_dbapi.Error:
            raise error from None  # a full disk has rolled everything back already: the group fails as one
        return None, as_the_caller_sees(connection, error)
    cursor.execute("RELEASE SAVEPOINT job")
    return result, None


def _tell_all(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        if not outcome.waiter.done():  # whoever waited may have gone away
            _tell(outcome)


def _tell(outcome: Outcome) -> None:
    if outcome.failure is None:
        outcome.waiter.set_result(outcome.result)
    else:
        outcome.waiter.set_exception(outcome.failure)
