"""What `lowlight doctor` finds: each subject is sound, or says what to do.

Flow: Settings -> `checkup` -> Findings -> the command line. Nothing is changed; the database is only read.
"""

import os
import platform
import re
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

import orjson
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api.schema import is_known, newest_revision, revision_of
from critic import drivers
from ingest.errors import IngestError
from ingest.lock import AlreadyServed, server_of
from ingest.settings import Settings
from ingest.store import reading_engine, sqlite_path
from rubrics import BadRubric, load_rubrics

#: About a week of a busy team's calls, and room for the copy that a migration makes.
FREE_BYTES_MIN = 1 << 30
#: ON CONFLICT, RETURNING and STRICT partial indexes as we use them.
SQLITE_MIN = (3, 35)


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
        Finding("settings", True, f"{settings.database_url}, {settings.host}:{settings.port}"),
        _rubrics(settings),
        _critics(settings),
        *_storage(settings),
    ]


def _versions() -> Iterator[Finding]:
    python = platform.python_version()
    yield Finding("python", sys.version_info >= (3, 11), f"{python} (3.11 or later is needed)")
    yield Finding(
        "sqlite",
        sqlite3.sqlite_version_info >= SQLITE_MIN,
        f"{sqlite3.sqlite_version} ({'.'.join(map(str, SQLITE_MIN))} or later is needed)",
    )
    wrong = list(_wrong_packages())
    words = "; ".join(wrong) + "; run `make` or install lowlight-server again" if wrong else "all as required"
    yield Finding("packages", not wrong, f"lowlight-server {version('lowlight-server')}: {words}")


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
        names = [driver.name for driver in drivers.build(settings)]
    except (IngestError, drivers.CriticError) as error:
        return Finding("critics", False, str(error))
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
        yield _disk(folder)
        if not path.exists():
            yield Finding("database", True, f"{path} is not there yet; `lowlight serve` makes it")
            return
    yield _database(settings.database_url)
    if path is not None:
        yield _server(path)


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    words = f"{free / (1 << 30):.1f} GiB free in {folder}"
    if free < FREE_BYTES_MIN:
        return Finding("disk", False, f"{words}; free some, 1 GiB at least")
    return Finding("disk", True, words)


def _database(database_url: str) -> Finding:
    engine = reading_engine(database_url)
    try:
        with engine.connect() as connection:
            at = revision_of(connection)
            if at is not None and not is_known(at):
                words = f"the schema is at {at}: a newer Lowlight made it; start that version"
                return Finding("database", False, words)
            if at != newest_revision():
                return Finding(
                    "database",
                    False,
                    f"the schema is at {at or 'nothing'}, not {newest_revision()}; run `lowlight db upgrade`",
                )
            if connection.dialect.name == "sqlite":
                verdict = connection.execute(text("pragma quick_check(1)")).scalar()
                if verdict != "ok":
                    return Finding("database", False, f"it is damaged ({verdict}); restore a copy of it")
            calls = connection.execute(text("select count(*) from call")).scalar_one()
    except SQLAlchemyError as error:
        return Finding("database", False, str(getattr(error, "orig", None) or error))
    finally:
        engine.dispose()
    return Finding("database", True, f"schema {newest_revision()}, {calls} calls, sound")


def _server(path: Path) -> Finding:
    try:
        address = server_of(path)
    except AlreadyServed as error:
        return Finding("server", True, str(error))
    if address is None:
        return Finding("server", True, "none runs; start it with `lowlight serve`")
    # A proxy from the environment has no business between two processes of one machine.
    opener = build_opener(ProxyHandler({}))
    try:
        with opener.open(f"{address}/readyz", timeout=5) as answer:
            state = orjson.loads(answer.read())
    except HTTPError as error:
        return Finding("server", False, f"{address} is not ready: {error.read().decode(errors='replace')}")
    except (URLError, OSError, ValueError) as error:
        return Finding("server", False, f"{address} does not answer ({error}); stop it and start it again")
    return Finding("server", True, f"{address} is ready; {orjson.dumps(state['children']).decode()}")
