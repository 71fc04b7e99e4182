"""What `lowlight doctor` finds: each subject is sound, or says what to do.

Flow: Settings -> `checkup` -> Findings -> the command line. Nothing is changed; the database is only read.
"""

import os
import platform
import re
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

import orjson
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api.operating.readiness import FREE_BYTES_LOW, WAL_BYTES_HIGH
from api.schema import newest_revision, remedy, trouble_with
from critic import drivers
from critic.queue.work import now_ms
from critic.spending.money import money_for
from ingest.disk import disk_of, in_words
from ingest.errors import IngestError
from ingest.lock import AlreadyServed, server_of
from ingest.settings import Settings, unknown_variables, without_password
from ingest.store import reading_engine, sqlite_path
from rubrics import BadRubric, load_rubrics

#: ON CONFLICT, RETURNING and STRICT partial indexes as we use them.
SQLITE_MIN = (3, 35)
#: Before it, a write-ahead log that one connection resets while another commits can be corrupted.
SQLITE_WAL_SOUND = (3, 51, 3)


@dataclass(frozen=True)
class Finding:
    """One subject looked at; `words` say what is so, or what to do."""

    subject: str
    ok: bool
    words: str


def checkup(settings: Settings) -> list[Finding]:
    """Return what was found, in the order in which troubles should be dealt with."""
    return [
        *_versions(),
        _settings(settings),
        _rubrics(settings),
        _critics(settings),
        *_storage(settings),
    ]


def _settings(settings: Settings) -> Finding:
    unknown = unknown_variables(os.environ)
    if unknown:
        return Finding("settings", False, f"{'; '.join(unknown)}; the README lists them all")
    return Finding(
        "settings", True, f"{without_password(settings.database_url)}, {settings.host}:{settings.port}"
    )


def _versions() -> Iterator[Finding]:
    python = platform.python_version()
    yield Finding("python", sys.version_info >= (3, 11), f"{python} (3.11 or later is needed)")
    yield _sqlite(sqlite3.sqlite_version_info)
    wrong = list(_wrong_packages())
    words = "; ".join(wrong) + "; run `make` or install lowlight-server again" if wrong else "all as required"
    yield Finding("packages", not wrong, f"lowlight-server {version('lowlight-server')}: {words}")


def _sqlite(found: tuple[int, ...]) -> Finding:
    name, least = ".".join(map(str, found)), ".".join(map(str, SQLITE_MIN))
    if found < SQLITE_MIN:
        return Finding("sqlite", False, f"{name}; {least} or later is needed: take a newer Python")
    if found < SQLITE_WAL_SOUND:
        sound = ".".join(map(str, SQLITE_WAL_SOUND))
        return Finding(
            "sqlite",
            True,
            f"{name}; before {sound} two connections that fold the write-ahead log back can damage it. "
            "Lowlight has one that does; let no other program write the file",
        )
    return Finding("sqlite", True, name)


def _wrong_packages() -> Iterator[str]:
    for requirement in requires("lowlight-server") or ():
        name, _, least = requirement.partition(">=")
        try:
            found = version(name)
        except PackageNotFoundError:
            yield f"{name} is not installed"
            continue
        if _numbers(found) < _numbers(least):
            yield f"{name} is {found}, {least} is needed"


def _numbers(version_text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version_text)[:3])


def _rubrics(settings: Settings) -> Finding:
    try:
        found = load_rubrics(settings.rubrics_dir)
    except BadRubric as error:
        return Finding("rubrics", False, str(error))
    names = ", ".join(rubric.name for rubric in found)
    return Finding("rubrics", True, f"{len(found)} in {settings.rubrics_dir}: {names}")


def _critics(settings: Settings) -> Finding:
    try:
        configured = drivers.build(settings)
        money_for(settings, configured, now_ms())
        names = [driver.name for driver in configured]
    except (IngestError, drivers.CriticError) as error:
        return Finding("critics", False, str(error))
    asked = [driver.name for driver in configured if driver.leaves_machine]
    if asked and not settings.egress.strip():
        return Finding(
            "critics",
            False,
            f"{', '.join(asked)} may see no text, for LOWLIGHT_EGRESS is empty: name the prompts whose texts "
            "may go there, or * for all",
        )
    return Finding("critics", True, ", ".join(names) or "none: calls are kept and not judged")


def _storage(settings: Settings) -> Iterator[Finding]:
    try:
        path = sqlite_path(settings.database_url)
    except IngestError as error:
        yield Finding("database", False, str(error))
        return
    if path is not None:
        folder = path.absolute().parent
        if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
            yield Finding(
                "disk",
                False,
                f"{folder} is missing or read-only; make it writable or set LOWLIGHT_DATABASE_URL",
            )
            return
        yield _disk(path)
        if not path.exists():
            yield Finding("database", True, f"{path} is not there yet; `lowlight serve` makes it")
            return
    yield _database(settings.database_url)
    if path is not None:
        yield from _server(path)


def _disk(database: Path) -> Finding:
    disk = disk_of(database)
    words = f"{in_words(disk.free_bytes)} free in {database.absolute().parent}"
    if disk.database_bytes:
        words += f"; the database takes {in_words(disk.database_bytes)}, its log {in_words(disk.wal_bytes)}"
    if disk.free_bytes < FREE_BYTES_LOW:
        return Finding("disk", False, f"{words}. Make room, {in_words(FREE_BYTES_LOW)} at least")
    if disk.wal_bytes > WAL_BYTES_HIGH:
        return Finding(
            "disk",
            False,
            f"{words}: a program has been reading for long. Close it, and the log is folded back",
        )
    return Finding("disk", True, words)


def _database(database_url: str) -> Finding:
    engine, path = reading_engine(database_url), sqlite_path(database_url)
    try:
        with engine.connect() as connection:
            trouble = trouble_with(connection, path)
            if trouble is not None:
                return Finding("database", False, trouble)
            if connection.dialect.name == "sqlite":
                verdict = connection.execute(text("pragma quick_check(1)")).scalar()
                if verdict != "ok":
                    words = f"it is damaged ({verdict}); bring a backup back with `lowlight restore FILE`"
                    return Finding("database", False, words)
            calls = connection.execute(text("select count(*) from call")).scalar_one()
    except SQLAlchemyError as error:
        return Finding("database", False, remedy(error))
    finally:
        engine.dispose()
    return Finding("database", True, f"schema {newest_revision()}, {calls:,} calls, sound")


def _server(path: Path) -> Iterator[Finding]:
    try:
        address = server_of(path)
    except AlreadyServed as error:
        yield Finding("server", True, str(error))
        return
    if address is None:
        yield Finding("server", True, "none runs; start it with `lowlight serve`")
        return
    try:
        runs = _asked(f"{address}/version")
        state = _asked(f"{address}/readyz")
    except (URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        yield Finding("server", False, f"{address} does not answer ({reason}); stop it and start it again")
        return
    installed = version("lowlight-server")
    if (runs.get("version"), runs.get("schema")) != (installed, newest_revision()):
        yield Finding(
            "server",
            False,
            f"{address} runs {runs.get('version')} (schema {runs.get('schema')}), and {installed} (schema "
            f"{newest_revision()}) is installed; restart it",
        )
    problems = state.get("problems", [])
    if state.get("ready"):
        children = ", ".join(f"{name} {how}" for name, how in state.get("children", {}).items())
        yield Finding("server", True, f"{address} is ready; {children}")
    for problem in problems:
        yield Finding("server", False, f"{address} is not ready: {problem}")
    for warning in state.get("warnings", []):
        yield Finding("server", False, warning)


def _asked(url: str) -> dict[str, Any]:
    # A proxy from the environment has no business between two processes of one machine.
    opener = build_opener(ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            found: dict[str, Any] = orjson.loads(answer.read())
    except HTTPError as error:  # /readyz says 503 with the same words
        found = orjson.loads(error.read())
    return found
