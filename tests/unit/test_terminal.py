"""Others' texts on a terminal: a name or a text never writes over a line, names a window or forges a line."""

import json
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.reporting.report import report_of
from api.reporting.report_text import lines
from api.terminal import as_json, plain, plain_text
from ingest.settings import Settings
from ingest.store import OpenStore
from outliers.process import run_once
from outliers.weeks import week_by_id
from tests.rows import put_calls

WINDOW_TITLE = "\x1b]0;mine\x07"


def obeyed(text: str) -> list[str]:
    """The characters of a text that a terminal would act upon."""
    return [one for one in text if ord(one) < 0x20 or 0x7F <= ord(one) < 0xA0 or one in "\u202e\u2066\u2028"]


@given(st.text(st.characters(), max_size=60))
def test_no_text_reaches_a_terminal_with_a_control_in_it(text: str) -> None:
    assert obeyed(plain(text)) == []
    assert set(obeyed(plain_text(text))) <= {"\n", "\t"}


@given(st.recursive(st.text(max_size=20), lambda one: st.dictionaries(st.text(max_size=5), one, max_size=3)))
def test_json_of_it_says_the_same(value: object) -> None:
    said = as_json(value)
    assert json.loads(said) == value
    assert set(obeyed(said)) <= {"\n"}


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (f"v7{WINDOW_TITLE}", "v7\\x1b]0;mine\\x07"),
        ("a\r\nThe case", "a\\r\\nThe case"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\x9b31m", "\\x9b31m"),
        ("Straße, 日本 👩‍👩‍👧", "Straße, 日本 👩‍👩‍👧"),
    ],
)
def test_controls_are_shown(written: str, shown: str) -> None:
    assert plain({"model": [written]}) == {"model": [shown]}


def test_a_text_of_several_lines_keeps_them_indented() -> None:
    assert plain_text("first\r\nsecond\x07", "    ") == "first\n    second\\x07"


def test_a_report_of_hostile_names_holds_one_line_for_each(store: OpenStore, settings: Settings) -> None:
    """A user's id with a line end in it forged a line of the report, and an escape renamed the window."""
    week = week_by_id("2026-W20", settings.zone)
    call = {
        "started_at_ms": week.since_ms,
        "latency_ms": 9e4,
        "outcome": "failed",
        "error_type": WINDOW_TITLE,
    }
    store.write(partial(put_calls, calls=[{**call, "user_id": f"u-1{WINDOW_TITLE}\nThe case"}]))
    run_once(settings, store)
    with store.read() as connection:
        said = list(lines(report_of(connection, settings, week.id)))
    assert any("u-1\\x1b]0;mine\\x07\\nThe case" in line for line in said)
    assert not any("mine\x07" in line or "\n" in line for line in said)
