"""The shipped rubrics, and what the documents say of rubrics, hold together."""

import re
from pathlib import Path

from rubrics import load_rubric, load_rubrics
from rubrics.language import FIELD_CHARS_MAX, SETTINGS, VISIBLE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/rubrics.md").read_text()


def test_the_shipped_rubrics_are_sound_and_ask_one_thing_each() -> None:
    rubrics = {rubric.name: rubric for rubric in load_rubrics(ROOT / "rubrics")}
    assert list(rubrics) == [
        "accuracy",
        "completeness",
        "faithfulness",
        "fluency",
        "instruction_following",
        "tone",
    ]
    levels = [level for rubric in rubrics.values() for level in rubric.levels]
    assert len({level.casefold() for level in levels}) == 42
    # A failure that shows counts under one question only, or one fault would look like several.
    visible = [kind for rubric in rubrics.values() for kind in rubric.visible]
    assert sorted(visible) == sorted(VISIBLE)


def test_no_level_leans_on_its_neighbours() -> None:
    """Critics may weigh each level by itself, so it must say what happened without the others."""
    leaning = re.compile(
        r"\b(better|worse|less|more) than (the|that|level)|\bas (above|below|before)\b|\blevel \d", re.I
    )
    for rubric in load_rubrics(ROOT / "rubrics"):
        for level in rubric.levels:
            assert not leaning.search(level), level
            assert len(level.split()) >= 8, level


def test_rubrics_that_need_the_same_share_a_view() -> None:
    by_view: dict[str, list[str]] = {}
    for rubric in load_rubrics(ROOT / "rubrics"):
        by_view.setdefault(rubric.view_blob, []).append(rubric.name)
    assert sorted(by_view.values()) == [
        ["accuracy", "completeness", "faithfulness", "instruction_following"],
        ["fluency", "tone"],
    ]


def test_the_page_on_rubrics_shows_a_shipped_one_as_it_is() -> None:
    shown = re.search(r"```jinja\n(.*?)```", PAGE, re.DOTALL)
    assert shown is not None
    assert shown[1] == (ROOT / "rubrics/tone.jinja").read_text()


def test_the_page_on_rubrics_names_all_that_can_be_written() -> None:
    written = set(re.findall(r"`([a-z_]+)`", PAGE)) | set(re.findall(r"\{\{ ([a-z_]+)", PAGE))
    assert {*SETTINGS, *VISIBLE, *FIELD_CHARS_MAX} <= written
    for name in ("input", "output", "context"):
        assert f"{FIELD_CHARS_MAX[name]:,}" in PAGE


def test_the_page_on_rubrics_quotes_real_messages(tmp_path: Path) -> None:
    """The two lines that the page shows come out of the check for the mistakes they describe."""
    source = (ROOT / "rubrics/tone.jinja").read_text()
    first = re.search(r'  "The answer insults.*\n', source)
    assert first is not None
    (tmp_path / "six.jinja").write_text(source.replace(first[0], "\n"))
    (tmp_path / "typo.jinja").write_text(source.replace("{{ output }}", "{{ outptu }}"))
    told = []
    for name in ("six", "typo"):
        try:
            load_rubric(tmp_path / f"{name}.jinja")
        except Exception as error:
            told.append(str(error).replace(str(tmp_path / f"{name}.jinja"), "rubrics/tone.jinja"))
    assert told == re.findall(r"^    (rubrics/tone\.jinja:\d+: .*)$", PAGE, re.MULTILINE)
