"""The log: one line a thing that happened, as JSON or for a reader, and never a word of a call.

Flow: `lowlight serve` and each of its child processes -> `set_up_logs` -> stderr. What an exception says may
quote what was sent (a text, a key, a header), so of an exception the type and the places are logged, and its
words only where they come from the operating system or SQLite.
"""

import json
import logging
import sqlite3
import sys
import threading
from datetime import UTC, datetime
from traceback import walk_tb
from types import TracebackType
from typing import Any, TextIO

from sqlalchemy.exc import DBAPIError

#: Exceptions whose words are about files, names of code or constraints, and never about what was sent.
_SPOKEN = (sqlite3.Error, OSError, ImportError, AttributeError, NameError)
#: They tell each of their own steps; what an operator needs of these, we say.
_TALKATIVE = ("alembic", "uvicorn", "httpx", "httpx2", "httpcore", "openai", "anthropic")
_OURS = frozenset(("api", "critic", "dashboards", "ingest", "outliers", "rubrics"))
#: Places named of one exception, the innermost ones.
_PLACES_MAX = 30


def set_up_logs(form: str, process: str, stream: TextIO | None = None) -> None:
    """Send this process's log to `stream` (stderr unless given), and uncaught exceptions with it.

    Args:
        form: LOWLIGHT_LOG_FORMAT; auto is text on a terminal and JSON elsewhere.
        process: what this process is: server, critic, outliers.
    """
    stream = sys.stderr if stream is None else stream
    as_json = form == "json" or (form == "auto" and not stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines(process) if as_json else TextLines(process))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    # A line that cannot be formatted would be told on stderr with all its arguments.
    logging.raiseExceptions = False
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def told(error: BaseException) -> dict[str, Any]:
    """Return an exception as the log may tell it: {"type", "message"?, "places", "cause"?}."""
    spoken = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    found: dict[str, Any] = {"type": f"{type(error).__module__}.{type(error).__qualname__}"}
    if isinstance(spoken, _SPOKEN):
        found["message"] = str(spoken)
    found["places"] = _places(error.__traceback__)
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and cause is not spoken:
        found["cause"] = told(cause)
    if isinstance(error, BaseExceptionGroup):
        found["of"] = [told(one) for one in error.exceptions[:10]]
    return found


class JsonLines(logging.Formatter):
    """{"at", "level", "process", "logger", "message", "error"?} a line."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        line: dict[str, Any] = {
            "at": _at(record),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": _message(record),
        }
        error = _error_of(record)
        if error is not None:
            line["error"] = told(error)
        return json.dumps(line, ensure_ascii=False)


class TextLines(JsonLines):
    """The same for a reader: one line, and under it where an error came from."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        head = f"{_at(record)} {record.levelname} {self._process} {record.name}: {_message(record)}"
        error = _error_of(record)
        return head if error is None else "\n".join((head, *_lines(told(error))))


def _lines(error: dict[str, Any], indent: str = "  ") -> list[str]:
    said = (
        f": {error['message']}"
        if "message" in error
        else " (its words are not logged: they may quote a call)"
    )
    found = [f"{indent}{error['type']}{said}"]
    found += [f"{indent}  at {place}" for place in error["places"]]
    for inner in (*error.get("of", ()), *((error["cause"],) if "cause" in error else ())):
        found += _lines(inner, indent + "  ")
    return found


def _places(trace: TracebackType | None) -> list[str]:
    frames = [
        f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_name}" for frame, line in walk_tb(trace)
    ]
    return frames[-_PLACES_MAX:]


def _message(record: logging.LogRecord) -> str:
    message = record.getMessage()
    if record.name.partition(".")[0] in _OURS:
        return message
    # asyncio adds the repr of the task, and with it what its exception says.
    return message.partition("\n")[0]


def _error_of(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None


def _at(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("ingest.logs").critical(
        "this process ends with an error", exc_info=(kind, error, trace)
    )


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        name = args.thread.name if args.thread is not None else "a thread"
        logging.getLogger("ingest.logs").critical("%s ends with an error", name, exc_info=args.exc_value)
