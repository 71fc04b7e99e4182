"""A real Chromium on a real server with real rows; every console error or policy violation fails its test."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, sync_playwright

from api.app import create_app
from ingest.settings import Settings
from ingest.store import OpenStore
from tests.browser.rows import fill
from tests.conftest import short_waits
from tests.serving import serving
from tests.setup_browser import find_browser

ARGUMENTS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(autouse=True)
def _no_list_runs_out_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a list that is looked for a bounded time would end anywhere."""
    monkeypatch.setattr("dashboards.queries.calls.SEARCH_TIME_S", 30.0)


@dataclass(frozen=True)
class Site:
    """A server in this process, so that a test can break it: its address, and its app."""

    url: str
    app: Any


# Not the whole session: while Playwright runs, its event loop is this thread's, and asyncio.run refuses.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests."""
    executable = find_browser()
    assert executable is not None, "no browser: run `python -m tests.setup_browser`"
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=str(executable), args=[*sandbox, *ARGUMENTS])
        yield running
        running.close()


@pytest.fixture(scope="package")
def tab(browser: Browser) -> Iterator[Page]:
    """The tab that tests have one after the other: to open one takes the browser longer than most tests."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(120_000)  # a busy machine takes its time
    yield context.new_page()
    context.close()


@pytest.fixture
def page(tab: Page) -> Iterator[Page]:
    """An empty page; it must end without a console error, a script error or a policy violation."""
    wrong: list[str] = []

    def _heard(message: ConsoleMessage) -> None:
        # A page that is itself a 404 is reported by the browser as a failed resource.
        if message.type == "error" and "status of 4" not in message.text:
            wrong.append(message.text)

    def _thrown(error: Error) -> None:
        wrong.append(str(error))

    tab.on("console", _heard)
    tab.on("pageerror", _thrown)
    yield tab
    tab.goto("about:blank")
    tab.remove_listener("console", _heard)
    tab.remove_listener("pageerror", _thrown)
    tab.context.clear_cookies()
    assert wrong == []


@pytest.fixture(scope="package")
def filled_file(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> Path:
    """A database with two weeks of rows, hostile ones among them, ranked by the real computation; copy it."""
    path = tmp_path_factory.mktemp("filled") / "lowlight.db"
    shutil.copyfile(migrated_file, path)
    settings = short_waits(path)
    store = OpenStore(settings.database_url)
    fill(settings, store)
    store.close()
    return path


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory, filled_file: Path) -> Iterator[Site]:
    """A server with rows, for tests that read."""
    yield from _serve(tmp_path_factory.mktemp("site"), filled_file)


@pytest.fixture
def case_site(tmp_path: Path, filled_file: Path) -> Iterator[Site]:
    """A server with the same rows, for a test that works on them."""
    yield from _serve(tmp_path, filled_file)


@pytest.fixture(scope="package")
def empty_site(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> Iterator[Site]:
    """A server on an empty database."""
    yield from _serve(tmp_path_factory.mktemp("empty"), migrated_file)


@pytest.fixture
def fresh_site(tmp_path: Path, migrated_file: Path) -> Iterator[Site]:
    """A server on an empty database that a test may write to."""
    yield from _serve(tmp_path, migrated_file)


def _serve(folder: Path, database: Path) -> Iterator[Site]:
    path = folder / "lowlight.db"
    shutil.copyfile(database, path)
    settings: Settings = short_waits(path)
    store = OpenStore(settings.database_url)
    app = create_app(settings, store)
    with serving(app, log_level="warning") as url:
        yield Site(url, app)
    store.close()
