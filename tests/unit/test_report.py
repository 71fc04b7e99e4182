"""The printed report: an empty week leads to one that is not, and nothing is said to wait that does not."""

from functools import partial
from typing import Any

import pytest

from api.reporting.report import report_of
from api.reporting.report_text import lines
from ingest.settings import Settings
from ingest.store import OpenStore
from outliers.process import run_once
from outliers.weeks import week_by_id
from tests.rows import put_calls

SETTLED = {"waiting_calls": 0, "due_scores": 0, "calls_behind": 0, "settled": True}


def read(store: OpenStore, settings: Settings, week: str | None = None) -> dict[str, Any]:
    with store.read() as connection:
        return report_of(connection, settings, week)


def test_an_empty_week_leads_to_the_newest_with_calls(store: OpenStore, settings: Settings) -> None:
    calls = [{"started_at_ms": week_by_id(week, settings.zone).since_ms} for week in ("2026-W20", "2026-W31")]
    store.write(partial(put_calls, calls=calls))
    run_once(settings, store)
    said = "\n".join(lines(read(store, settings, "2026-W25")))
    assert "No calls in this week. The newest are of week 2026-W31: `lowlight report --week 2026-W31`" in said
    assert "The case" not in said
    assert "1 call" in "\n".join(lines(read(store, settings, "2026-W31")))


def test_a_store_without_a_call_says_how_to_fill_it(store: OpenStore, settings: Settings) -> None:
    said = "\n".join(lines(read(store, settings)))
    assert "No calls yet" in said
    assert "lowlight demo" in said
    assert "Not final" not in said, "nothing waits where nothing is kept"


@pytest.mark.parametrize(
    ("critic", "missing", "said", "unsaid"),
    [
        ("local", {"settled": False}, "the ranking has not caught up with what came last", "0 "),
        ("local", {"settled": False, "calls_behind": 1}, "1 call is not ranked yet", "score"),
        ("local", {"settled": False, "due_scores": 7}, "7 scores wait for the critic", " call"),
        ("local", {"settled": False, "waiting_calls": 2}, "2 calls wait for the critic", "score"),
        ("none", {"settled": False, "waiting_calls": 2}, "no critic is configured", "serve"),
        ("local", {}, "", "Not final"),
    ],
)
def test_the_note_says_what_is_missing_and_nothing_else(
    store: OpenStore, settings: Settings, critic: str, missing: dict[str, Any], said: str, unsaid: str
) -> None:
    week = week_by_id("2026-W20", settings.zone)
    store.write(partial(put_calls, calls=[{"started_at_ms": week.since_ms}]))
    report = read(store, settings, week.id)
    report["critic"]["critics"] = [critic]
    note = list(lines(report | {"progress": SETTLED | missing}))[-1]
    if missing:
        assert note.startswith("Not final: ")
    assert said in note
    assert unsaid not in note
