"""`lowlight rubric`, as a person or a CI job runs it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api.cli import main
from api.schema import upgrade
from ingest.intake import Intake
from ingest.settings import load_settings
from ingest.store import OpenStore
from ingest.tables import DEFAULT_PROJECT
from ingest.wire import calls_of

CALL = {
    "id": "call-1",
    "input": [{"role": "user", "content": "Where is order 5? {{ 7 * 7 }}"}],
    "output": [{"role": "assistant", "content": [{"type": "text", "text": "On its way."}]}],
    "context": "Order 5 left on Monday.",
    "prompt": {"name": "support-answer", "version": "v2"},
    "tags": {"tier": "gold"},
}
SOUND = (
    '{% set question = "How was it?" %}\n{% set levels = ["1", "2", "3", "4", "5", "6", "7"] %}'
    "\n{{ output }}\n"
)


def rubric(*arguments: str | Path, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, ["rubric", *map(str, arguments)], env=env)


def test_check_lists_sound_rubrics_and_ends_with_0() -> None:
    done = rubric("check")
    assert done.exit_code == 0, done.output
    assert "accuracy" in done.stdout
    assert "without a model: ungraded" in done.stdout
    assert "without a model: answered by grounding, swapped" in done.stdout
    assert "6 rubrics, 2 views: nothing is wrong." in done.stdout


def test_check_names_file_and_line_and_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "good.jinja").write_text(SOUND)
    (tmp_path / "bad.jinja").write_text(SOUND.replace('"7"', '" "') + "{{ outptu }}")
    for path in (tmp_path, tmp_path / "bad.jinja"):
        done = rubric("check", path)
        assert done.exit_code == 1
        assert f"{tmp_path}/bad.jinja:2: level 7 is empty" in done.stderr
        assert f"{tmp_path}/bad.jinja:4: outptu is undefined; did you mean output?" in done.stderr
    assert rubric("check", tmp_path / "good.jinja").exit_code == 0
    assert "good  " in rubric("check", tmp_path, env={}).stdout


def test_check_says_who_honours_a_reason_first(tmp_path: Path) -> None:
    (tmp_path / "good.jinja").write_text(SOUND)
    assert "reason_first" not in rubric("check", tmp_path).stdout
    (tmp_path / "weak.jinja").write_text("{% set reason_first = true %}" + SOUND)
    for done in (rubric("check", tmp_path), rubric("show", "weak", "--rubrics", tmp_path)):
        assert "chat-draws: and anthropic: critics write a reason before the level" in done.stdout
        assert "systemone:, chat-logprobs: and local it changes nothing" in done.stdout


def test_check_of_what_is_not_there_is_one_line(tmp_path: Path) -> None:
    done = rubric("check", tmp_path / "nowhere")
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "cannot be read (No such file or directory)" in done.stderr


def test_the_folder_comes_from_the_settings(tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text(SOUND + '{% set applies_to = {"prompts": ["faq"]} %}')
    done = rubric("list", env={"LOWLIGHT_RUBRICS_DIR": str(tmp_path)})
    assert done.exit_code == 0, done.output
    assert "mine" in done.stdout
    assert "weight 1  prompts faq\n    How was it?" in done.stdout


def test_show_prints_question_levels_and_view() -> None:
    done = rubric("show", "tone")
    assert done.exit_code == 0, done.output
    assert "Would this user feel respected" in done.stdout
    assert "\n  1  The answer insults, mocks or threatens the user.\n" in done.stdout
    assert "\n  {{ last_user_message }}\n" in done.stdout


def test_an_unknown_name_is_told_with_those_there_are() -> None:
    done = rubric("show", "kindness")
    assert done.exit_code == 1
    assert "There is no rubric kindness in " in done.stderr
    assert "accuracy, completeness" in done.stderr


def test_render_shows_a_call_from_a_file_within_fences(tmp_path: Path) -> None:
    file = tmp_path / "call.json"
    file.write_text(json.dumps(CALL))
    done = rubric("render", "faithfulness", "--call", file)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    for label, text in (
        ("context passage 1", "Order 5 left on Monday."),
        ("user message", "Where is order 5? {{ 7 * 7 }}"),
        ("output", "On its way."),
    ):
        at = next(n for n, line in enumerate(lines) if line.startswith(f"<{label} x"))
        assert lines[at + 1 : at + 3] == [text, lines[at].replace("<", "</")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[", "is not JSON"),
        ("[1]", "must be an object"),
        ('{"input": 5}', "input must be a text or a list of messages"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_file_that_holds_no_call_is_refused(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "call.json"
    file.write_text(text)
    done = rubric("render", "tone", "--call", file)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {file}")
    assert told in done.stderr


def test_render_says_when_the_rubric_is_not_asked_about_the_call(tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text(SOUND + '{% set applies_to = {"tags": {"tier": ["new"]}} %}')
    (tmp_path / "call.json").write_text(json.dumps(CALL))
    done = rubric("render", "mine", "--call", tmp_path / "call.json", "--rubrics", tmp_path)
    assert done.exit_code == 0
    assert "mine applies to tag tier = new; it is not asked about this call" in done.stderr


def test_render_prints_each_view_of_the_rubrics_asked_about_a_call_once(tmp_path: Path) -> None:
    elsewhere = SOUND + '{% set applies_to = {"prompts": ["another-prompt"]} %}'
    for name, text in (
        ("kind", SOUND),
        ("short", SOUND + "{# not the same #}"),
        ("other", elsewhere),
        ("long", SOUND + "More."),
    ):
        (tmp_path / f"{name}.jinja").write_text(text)
    (tmp_path / "call.json").write_text(json.dumps(CALL))
    every = rubric("render", tmp_path / "call.json", "--rubrics", tmp_path)
    assert every.exit_code == 0, every.output
    assert [line for line in every.stdout.splitlines() if line.startswith("---")] == [
        "--- kind, short",
        "--- long",
    ]
    assert every.stdout.count("On its way.") == 2
    assert "other applies to prompts another-prompt; it is not asked about this call" in every.stderr

    one = rubric("render", "long", tmp_path / "call.json", "--rubrics", tmp_path)
    assert (one.exit_code, one.stdout.count("On its way."), "---" in one.stdout) == (0, 1, False)
    assert "Name a call" in rubric("render", "--rubrics", tmp_path).stderr


def test_render_takes_the_id_of_a_kept_call(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/lowlight.db"
    where = {"LOWLIGHT_DATABASE_URL": url}
    missing = rubric("render", "tone", "--call", "call-1", env=where)
    assert missing.exit_code == 1
    assert "no database" in missing.stderr
    assert not (tmp_path / "lowlight.db").exists()

    upgrade(url)
    store = OpenStore(url)
    try:
        Intake(store, load_settings(database_url=url)).accept_calls(DEFAULT_PROJECT, calls_of([CALL]))
    finally:
        store.close()
    done = rubric("render", "tone", "--call", "call-1", env=where)
    assert done.exit_code == 0, done.output
    assert "\nWhere is order 5? {{ 7 * 7 }}\n" in done.stdout
    assert "\nOn its way.\n" in done.stdout
    other = rubric("render", "tone", "--call", "call-2", env=where)
    assert other.exit_code == 1
    assert "no call of this id" in other.stderr


def test_a_file_that_is_no_database_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "lowlight.db").write_text("not a database, by far not one at all" * 100)
    done = rubric(
        "render", "tone", "--call", "x", env={"LOWLIGHT_DATABASE_URL": f"sqlite:///{tmp_path}/lowlight.db"}
    )
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "lowlight.db cannot be read: file is not a database" in done.stderr


@pytest.mark.parametrize("name", ["check", "list", "show", "render"])
def test_each_help_has_an_example(name: str) -> None:
    assert f"Example: lowlight rubric {name}" in rubric(name, "--help").stdout
