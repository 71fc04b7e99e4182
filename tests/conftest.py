"""Fixtures: a migrated store of one's own, and a real server in a process of its own.

A module that needs another server (a critic, a limit) overrides `service_settings`.

Property tests draw the same examples in every run, so that a run says something about the change at hand and
not about its luck. `--explore TIMES` draws others each time and that many times as many: `make explore`.
"""

import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from api.schema import upgrade
from ingest.settings import Settings
from ingest.store import OpenStore
from tests.warm import WarmContext, background

# Before numpy loads its libraries, in the servers that we start too: on a machine that tests keep busy their
# threads only wait for one another, which took a fifth of the processor's time.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

# Until all tests are imported, see `pytest_collection_finish`.
gc.disable()

#: No deadline and no complaint of slowness: on a busy machine they say nothing about the code.
STEADY = hypothesis.settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    print_blob=True,
)
hypothesis.settings.register_profile("steady", STEADY)
hypothesis.settings.register_profile(
    "explore", STEADY, derandomize=False, database=hypothesis.settings().database
)
# Before any test module is imported: a test's own settings take from the profile what they do not name.
hypothesis.settings.load_profile("steady")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--explore`."""
    parser.addoption(
        "--explore", type=int, metavar="TIMES", help="property tests: other examples, TIMES as many"
    )


def pytest_configure(config: pytest.Config) -> None:
    """See `--explore`."""
    if config.getoption("explore"):
        hypothesis.settings.load_profile("explore")


# Last: hypothesis has then marked its own.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let `--explore` and the profile hold for tests, too, that name some settings themselves; then sort."""
    times = config.getoption("explore") or 1
    tests: set[Any] = {getattr(item, "obj", None) for item in items if item.get_closest_marker("hypothesis")}
    for test in tests:
        own = test._hypothesis_internal_use_settings
        test._hypothesis_internal_use_settings = hypothesis.settings(
            own,
            max_examples=own.max_examples * times,
            suppress_health_check={*own.suppress_health_check, *STEADY.suppress_health_check},
        )
    items.sort(key=_place)


def pytest_collection_finish() -> None:
    """Let the cycle collector begin, with what the tests make: its walks through all that is imported were a
    tenth of their time."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(20_000, 20, 20)


#: What takes longest for one file begins first, so that no worker is left alone with it in the end.
LONGEST = ("tests/service/test_demo.py", "tests/browser/", "tests/faults/", "tests/service/", "tests/sdk/")


def _place(item: pytest.Item) -> int:
    places = (place for place, start in enumerate(LONGEST) if item.nodeid.startswith(start))
    return next(places, len(LONGEST))


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


@pytest.fixture
def warm_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children of this process, too, come from the fork server."""
    monkeypatch.setattr("multiprocessing.get_context", lambda _method: WarmContext())


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
