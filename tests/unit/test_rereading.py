"""A rubric that is edited while the server runs: the next call is judged under the new version."""

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from critic.drivers.local import LocalDriver
from critic.queue import SCORE
from critic.queue.plan import Plan
from critic.queue.work import Work
from critic.working.rereading import Rereading
from critic.working.taking import Taking
from dashboards.drawing.render import Frame, render
from dashboards.filters import WindowQuery
from dashboards.pages import rubrics as rubrics_page
from ingest.settings import Settings
from ingest.store import OpenStore
from rubrics import load_rubrics
from tests.service.critic_runs import send, write_rubric


class Running:
    """What a critic's process has of it, looked at when a test wants."""

    def __init__(self, settings: Settings, store: OpenStore) -> None:
        local = LocalDriver(settings.base_rate)
        folder = settings.rubrics_dir
        self.store, self.settings = store, settings
        self.work = Work(store, Plan([local], load_rubrics(folder), settings.egress))
        self.taking = Taking(self.work, local, poll_s=0.1)
        self.rereading = Rereading(self.work, folder, changed=self.taking.rubrics_changed)

    def look(self) -> bool:
        """Look as often as it takes: once to see a change, once more to see that it lies still."""
        return any(asyncio.run(self.rereading.look()) for _ in range(2))

    def blobs_of(self, call_id: str) -> set[str]:
        """Send a call, take it in, and return the versions that it is to be judged under."""
        send(self.store, self.settings, {"id": call_id, "input": "Where is my parcel?"})
        asyncio.run(self.taking.take())
        with self.store.read() as connection:
            newest = select(SCORE.c.rubric_blob).order_by(SCORE.c.seq.desc())
            return set(connection.scalars(newest.limit(len(self.work.plan.rubrics))))


@pytest.fixture
def running(settings: Settings, store: OpenStore, tmp_path: Path) -> Running:
    write_rubric(tmp_path / "rubrics", "tone")
    return Running(settings.model_copy(update={"rubrics_dir": tmp_path / "rubrics"}), store)


def edit(folder: Path, old: str, new: str) -> None:
    file = folder / "tone.jinja"
    file.write_text(file.read_text().replace(old, new))


def test_the_next_call_is_judged_under_an_edited_rubric_and_a_new_one(running: Running) -> None:
    folder = running.settings.rubrics_dir
    (before,) = running.blobs_of("first")
    assert not running.look(), "nothing has changed"
    edit(folder, "{% set question", "{# tried anew #}{% set question")
    write_rubric(folder, "accuracy")
    assert running.look()
    after = running.blobs_of("second")
    assert after == {rubric.blob for rubric in load_rubrics(folder)}
    assert before not in after
    (folder / "accuracy.jinja").unlink()
    assert running.look()
    assert len(running.work.plan.rubrics) == 1


def test_a_file_with_an_error_changes_nothing_until_it_is_mended(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    folder = running.settings.rubrics_dir
    before = running.blobs_of("first")
    edit(folder, "{{ input }}", "{{ input }")
    with caplog.at_level(logging.ERROR):
        assert not running.look()
    assert "tone.jinja:" in caplog.text
    assert running.blobs_of("second") == before
    now = datetime.now(UTC)
    with running.store.read() as connection:
        page = rubrics_page.build(connection, running.settings, WindowQuery(), now)
    frame: Any = Frame("rubrics", "http://h", "", running.settings.zone)
    assert "stay in force" in render("rubrics.html", page, frame)
    assert any("tone.jinja:" in problem for problem in page.problems)
    edit(folder, "{{ input }", "{{ input }}  ")
    assert running.look()
    assert running.blobs_of("third") != before


def test_files_that_are_being_written_are_left_alone(running: Running) -> None:
    folder = running.settings.rubrics_dir
    write_rubric(folder, "accuracy")
    assert not asyncio.run(running.rereading.look()), "it has just changed"
    write_rubric(folder, "fluency")
    assert not asyncio.run(running.rereading.look()), "and is changing still"
    assert asyncio.run(running.rereading.look())
    assert len(running.work.plan.rubrics) == 3


def test_a_folder_that_goes_away_leaves_the_rubrics_in_force(running: Running) -> None:
    (running.settings.rubrics_dir / "tone.jinja").unlink()
    assert not running.look()
    running.settings.rubrics_dir.rmdir()
    assert not running.look()
    assert [rubric.name for rubric in running.work.plan.rubrics] == ["tone"]
