"""`lowlight rubric diff` and `lowlight rubric test`, on a real git repository, as a CI job runs them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api.cli import main
from api.files.golden import BadGolden, read_golden
from critic.trust.agreement import Compared, shift
from rubrics import BadRubric
from rubrics.history import rubrics_at
from tests.providers.loopback import running
from tests.providers.openai_decisions import KEY, MODEL, DecisionRequest, DecisionsProvider, ScoreQuestion
from tests.service.critic_runs import write_rubric
from tests.unit.test_rubrics_versions import git, needs_git

pytestmark = needs_git

CALLS = 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A committed folder of two rubrics."""
    made = tmp_path / "team" / "rubrics"
    made.mkdir(parents=True)
    git(made.parent, "init", "-q")
    for name in ("accuracy", "tone"):
        write_rubric(made, name)
    git(made, "add", ".")
    git(made, "commit", "-q", "-m", "first")
    return made


def rubric(*arguments: str | Path, **env: str) -> Result:
    return CliRunner().invoke(main, ["rubric", *map(str, arguments)], env=env)


def golden(tmp_path: Path, **levels: Callable[[int], object]) -> Path:
    """A golden set whose n-th output is known by its number."""
    file = tmp_path / "golden.jsonl"
    lines = [
        {
            "id": f"g{n}",
            "input": "Where is my parcel?",
            "output": f"answer {n}",
            "user_id": f"u{n}",
            "labels": {name: level(n) for name, level in levels.items()},
        }
        for n in range(CALLS)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def test_diff_names_what_changed_and_prints_it(folder: Path) -> None:
    assert rubric("diff", "--rubrics", folder).stdout == "No rubric differs from HEAD.\n"
    write_rubric(folder, "tone", question="Was it kind?", more="{% set weight = 0.5 %}")
    write_rubric(folder, "fluency")
    (folder / "accuracy.jinja").unlink()
    done = rubric("diff", "HEAD", "--rubrics", folder)
    assert done.exit_code == 0, done.output
    assert "question, weight" in done.stdout
    assert '    +{% set question = "Was it kind?" %}' in done.stdout
    assert "fluency  none -> " in done.stdout
    assert "removed: its scores are kept" in done.stdout
    told = json.loads(rubric("diff", "--rubrics", folder, "--json").stdout)
    assert [(one["rubric"], one["changed"]) for one in told] == [
        ("accuracy", []),
        ("fluency", []),
        ("tone", ["question", "weight"]),
    ]
    assert told[2]["before"] == git(folder, "rev-parse", "HEAD:./tone.jinja").strip()


@pytest.mark.parametrize("revision", ["nowhere", "--help", "-x", "HEAD:tone"])
def test_an_unknown_revision_is_one_clear_line(folder: Path, revision: str) -> None:
    with pytest.raises(BadRubric, match="git knows no revision"):
        rubrics_at(folder, revision)


def test_a_version_that_agrees_less_fails_the_run(folder: Path, tmp_path: Path) -> None:
    """The old tone rubric is answered as people answered; the new one backwards; accuracy stays as it was."""
    file = golden(tmp_path, tone=lambda n: 1 + n % 7, accuracy=lambda n: [1 + n % 7, 1 + n % 7])
    write_rubric(folder, "tone", question="BACKWARDS")

    def judge(request: DecisionRequest, question: ScoreQuestion) -> float:
        n = int(request.case.rsplit("answer ", 1)[1].split()[0])
        level = 1 + n % 7
        return 8 - level if "BACKWARDS" in question.instructions else level

    with running(DecisionsProvider()) as provider:
        provider.judge = judge
        env = {
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": provider.url,
            "LOWLIGHT_CRITIC": f"openai:{MODEL},local",
            "LOWLIGHT_EGRESS": "*",
            "LOWLIGHT_CRITIC_POLL_S": "0.05",
        }
        done = rubric("test", file, "--rubrics", folder, "--json", **env)
        assert done.exit_code == 1, done.output
        said = json.loads(done.stdout)
        by_name = {one["rubric"]: one for one in said["rubrics"]}
        assert by_name["accuracy"]["failures"] == []
        assert by_name["accuracy"]["now"]["agreement"]["n"] == CALLS
        assert by_name["tone"]["failures"] == ["agrees with people less than before, beyond chance"]
        assert by_name["tone"]["before"]["agreement"]["rho"]["value"] > 0.9
        assert by_name["tone"]["now"]["agreement"]["rho"]["value"] < -0.9
        in_words = rubric("test", file, "--rubrics", folder, "--against", "HEAD", **env)
        assert in_words.exit_code == 1
        assert in_words.stdout.startswith("tone: see below\n")
        write_rubric(folder, "tone")
        passes = rubric("test", file, "--rubrics", folder, **env)
        assert passes.exit_code == 0, passes.output
        assert passes.stdout.startswith("2 rubrics: no version agrees less than before.\n")


def test_answers_that_do_not_come_fail_the_run_and_say_why(folder: Path, tmp_path: Path) -> None:
    """The local critic does not grade these rubrics: a run without one score must not pass."""
    done = rubric("test", golden(tmp_path, tone=lambda _n: 4), "--rubrics", folder, "--critic", "local")
    assert done.exit_code == 1
    assert "FAILS: 40 of 40 calls got no score: no model read the text" in done.stdout


def test_a_bad_key_ends_the_run_with_one_line(folder: Path, tmp_path: Path) -> None:
    file = golden(tmp_path, tone=lambda _n: 4)
    with running(DecisionsProvider()) as provider:
        done = rubric(
            "test",
            file,
            "--rubrics",
            folder,
            OPENAI_API_KEY="wrong",
            OPENAI_BASE_URL=provider.url,
            LOWLIGHT_CRITIC=f"openai:{MODEL}",
            LOWLIGHT_EGRESS="*",
        )
    assert done.exit_code == 1
    assert "Error: The critic stopped: openai:" in done.stderr


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "golden.jsonl:2: is not JSON"),
        ("[1]", "golden.jsonl:2: is list; write one JSON object a line"),
        ('{"input": "a", "output": "b"}', r'golden.jsonl:2: labels is missing; write for example "labels"'),
        ('{"input": 5, "labels": {"tone": 1}}', "golden.jsonl:2: input must be a text or a list"),
        ('{"input": "a", "labels": {"tone": 9}}', "golden.jsonl:2: labels.tone: "),
        ('{"id": "a", "labels": {"tone": 1}}', "golden.jsonl:2: id 'a' is that of line 1 already"),
    ],
)
def test_a_bad_line_is_named_with_the_remedy(tmp_path: Path, line: str, told: str) -> None:
    file = tmp_path / "golden.jsonl"
    file.write_text('{"id": "a", "input": "x", "output": "y", "labels": {"tone": [1, 2]}}\n' + line + "\n")
    with pytest.raises(BadGolden, match=told):
        read_golden(file)


def test_a_shift_compares_the_same_outputs_only() -> None:
    outputs = [f"o{n}" for n in range(30)]
    people = [[float(1 + n % 7)] for n in range(30)]
    before = Compared([level[0] for level in people], people, outputs, outputs)
    after = Compared([6.0, *[min(7.0, level[0] + 1) for level in people[1:]]], people, outputs, outputs)
    found = shift(before, after)
    assert found.n == 30
    assert found.worse
    few = Compared(after.said[:3], people[:3], outputs[:3], outputs[:3])
    assert shift(few, after).n == 3
    assert not shift(before, before).worse


def test_a_folder_outside_of_git_is_told_as_such(tmp_path: Path) -> None:
    """It used to say that git knows no revision HEAD, as if another name would help."""
    with pytest.raises(BadRubric, match=r"in no git repository.*commit your rubrics to git"):
        rubrics_at(tmp_path, "HEAD")
