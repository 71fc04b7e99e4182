"""Panels: the parts of a page that fail alone.

Flow: a page's `build` -> `panel(name, connection, question)` per part -> `Panel` (data, or an error slot)
-> template and JSON twin. A question that is slow is interrupted in the database; one that fails is logged.
Neither blanks the page.
"""

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from outliers.errors import BadCursor

T = TypeVar("T")

log = logging.getLogger(__name__)

#: A page has several panels; a reader waits for all of them.
PANEL_TIME_LIMIT_S = 2.0
#: SQLite looks at the clock once per so many of its virtual machine's instructions (about 20 µs).
_CLOCK_EVERY = 2_000


class PanelTooSlow(Exception):
    """The database was interrupted because a panel's time was up; narrow the window, or try again."""


@dataclass(frozen=True)
class Panel(Generic[T]):
    """One part of a page.

    Attributes:
        data: what the panel shows; None where it failed.
        error: what failed and what to try, in one sentence; None where it did not.
    """

    data: T | None
    error: str | None = None


def panel(
    name: str,
    connection: Connection,
    question: Callable[[], T],
    *,
    time_limit_s: float = PANEL_TIME_LIMIT_S,
) -> Panel[T]:
    """Answer one panel's question, or say why not.

    Args:
        name: the panel as the reader knows it: "What changed".
        connection: the one that `question` reads from; it can be used on after a failure.
        question: reads and returns the panel's data.
        time_limit_s: the database is interrupted after this many seconds.

    Raises:
        BadCursor: the question was asked with a cursor that its list did not give; nothing else.
    """
    try:
        with time_limit(connection, time_limit_s):
            return Panel(question())
    except BadCursor:
        raise  # the reader asked for it: a 422 that says so, not a broken panel
    except PanelTooSlow:
        log.warning("panel %r: interrupted after %.1f s", name, time_limit_s)
        error = (
            f"“{name}” took longer than {time_limit_s:g} s and was stopped. "
            "Try a shorter window, or load the page again."
        )
    except Exception as failure:
        log.exception("panel %r failed", name)
        cause = _cause(failure)
        error = f"“{name}” failed: {cause}. Load the page again; if it stays, the server's log says more."
    with suppress(SQLAlchemyError):
        # PostgreSQL refuses every statement of a transaction in which one failed.
        connection.rollback()
    return Panel(None, error)


@contextmanager
def time_limit(connection: Connection, limit_s: float) -> Iterator[None]:
    """Interrupt whatever `connection` runs inside the block once `limit_s` seconds are over.

    Raises:
        PanelTooSlow: the time was up.
    """
    if connection.dialect.name == "sqlite":
        with _sqlite_time_limit(connection, limit_s):
            yield
        return
    connection.execute(text(f"set local statement_timeout = {int(limit_s * 1000)}"))
    try:
        yield
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == "57014":  # query_canceled
            raise PanelTooSlow from error
        raise


@contextmanager
def _sqlite_time_limit(connection: Connection, limit_s: float) -> Iterator[None]:
    raw: Any = connection.connection.driver_connection
    deadline = time.monotonic() + limit_s
    raw.set_progress_handler(lambda: time.monotonic() > deadline, _CLOCK_EVERY)
    try:
        yield
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.OperationalError) and "interrupted" in str(error.orig):
            raise PanelTooSlow from error
        raise
    finally:
        raw.set_progress_handler(None, 0)


def _cause(failure: Exception) -> str:
    """Name a failure in a few words; SQL and its arguments stay in the log."""
    words = str(getattr(failure, "orig", None) or failure).strip().splitlines()
    return f"{type(failure).__name__}: {words[0][:200]}" if words else type(failure).__name__
