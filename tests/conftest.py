"""Fixtures: a migrated store of one's own, and a real server in a process of its own.

A module that needs another server (a critic, a limit) overrides `service_settings`.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.schema import upgrade
from api.serving import background
from ingest.settings import Settings
from ingest.store import OpenStore


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite file at the newest schema; copy it, do not open it."""
    path = tmp_path_factory.mktemp("migrated") / "empty.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def settings(tmp_path: Path, migrated_file: Path) -> Settings:
    """Settings of a fresh migrated database, with short waits and no critic."""
    path = tmp_path / "lowlight.db"
    shutil.copyfile(migrated_file, path)
    return short_waits(path)


@pytest.fixture
def store(settings: Settings) -> Iterator[OpenStore]:
    """The store of `settings`, opened in this process."""
    opened = OpenStore(settings.database_url)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def service_settings(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> Settings:
    """Settings of the module's server; override it for another one."""
    path = tmp_path_factory.mktemp("service") / "lowlight.db"
    shutil.copyfile(migrated_file, path)
    return short_waits(path)


@pytest.fixture(scope="module")
def service_url(service_settings: Settings) -> Iterator[str]:
    """The address of a real server process on a fresh database; one for the whole module."""
    log_path = Path(service_settings.database_url.removeprefix("sqlite:///")).with_suffix(".log")
    with background(service_settings, log_path=log_path) as address:
        yield address


def short_waits(path: Path) -> Settings:
    """Return settings for tests: a free port, no critic, nothing that waits for long."""
    return Settings(
        database_url=f"sqlite:///{path}",
        port=0,
        critic="none",
        critic_poll_s=0.05,
        refresh_s=0.2,
        otlp_quiet_s=0.3,
    )
