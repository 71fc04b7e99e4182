"""The check of rubric files: what is wrong is refused by file and line, with the remedy; nothing is run."""

import os
import pickle
import time
from pathlib import Path

import pytest

from rubrics import AppliesTo, BadRubric, CallView, load_rubric, load_rubrics, read_folder
from rubrics.checking import view_source
from rubrics.language import FILE_BYTES_MAX, RUBRICS_MAX

SEVEN = '"one", "two", "three", "four", "five", "six", "seven"'
HEAD = f'{{% set question = "How was it?" %}}\n{{% set levels = [{SEVEN}] %}}\n'
SOUND = HEAD + "Judge this.\n{{ output }}\n"


def problems_of(folder: Path, source: str | bytes, name: str = "tone.jinja") -> list[str]:
    """Write one rubric and return what is said against it, without the folder in front."""
    data = source.encode() if isinstance(source, str) else source
    (folder / name).write_bytes(data)
    _rubrics, problems = read_folder(folder)
    return [str(problem).removeprefix(f"{folder}/") for problem in problems]


def test_a_sound_file_is_loaded_with_its_settings(tmp_path: Path) -> None:
    (tmp_path / "tone.jinja").write_text(
        HEAD
        + """{% set applies_to = {"prompts": ["support-*"], "models": "gpt-*", "tags": {"tier": ["gold"]}} %}
{% set weight = 0.5 %}
{% set reason_first = true %}
{% set visible = ["rude", "grounding"] %}
{{ output }}"""
    )
    [rubric] = load_rubrics(tmp_path)
    assert (rubric.name, rubric.question, rubric.levels[0], rubric.levels[6]) == (
        "tone",
        "How was it?",
        "one",
        "seven",
    )
    assert (rubric.weight, rubric.reason_first, rubric.visible) == (0.5, True, ("rude", "grounding"))
    assert rubric.applies_to == AppliesTo(("support-*",), ("gpt-*",), (("tier", ("gold",)),))
    assert rubric.view == "{{ output }}"
    assert pickle.loads(pickle.dumps(rubric)) == rubric


def test_defaults_stand_for_what_a_file_does_not_set(tmp_path: Path) -> None:
    (tmp_path / "tone.jinja").write_text(SOUND)
    rubric = load_rubric(tmp_path / "tone.jinja")
    assert (rubric.weight, rubric.reason_first, rubric.visible) == (1.0, False, ())
    assert rubric.applies(prompt="any", model="any", tags={})


@pytest.mark.parametrize(
    ("applies_to", "matching", "other"),
    [
        ('{"prompts": ["faq", "support-*"]}', ("support-chat", "m", {}), ("Support-chat", "m", {})),
        ('{"models": ["gpt-*"]}', ("", "gpt-6", {}), ("", "claude", {})),
        ('{"tags": {"tier": ["gold", "s*"]}}', ("", "", {"tier": "silver"}), ("", "", {})),
        ('{"prompts": ["a"], "models": ["b"]}', ("a", "b", {}), ("a", "c", {})),
    ],
)
def test_a_rubric_applies_to_calls_that_match_every_kind(
    tmp_path: Path,
    applies_to: str,
    matching: tuple[str, str, dict[str, str]],
    other: tuple[str, str, dict[str, str]],
) -> None:
    (tmp_path / "r.jinja").write_text(SOUND + f"{{% set applies_to = {applies_to} %}}")
    rubric = load_rubric(tmp_path / "r.jinja")
    for (prompt, model, tags), applies in ((matching, True), (other, False)):
        assert rubric.applies(prompt=prompt, model=model, tags=tags) is applies


SIX = SEVEN.removesuffix(', "seven"')


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        # the settings
        ("{{ output }}", "tone.jinja:1: question is missing; add {% set question"),
        (f"\n{{% set levels = [{SEVEN}] %}}{{{{ output }}}}", "tone.jinja:1: question is missing"),
        (
            f'{{% set question = "?" %}}\n\n{{% set levels = [{SIX}] %}}\n{{{{ output }}}}',
            "tone.jinja:3: levels has 6 items; describe exactly seven, worst first",
        ),
        (SOUND.replace('"three"', '" "'), "tone.jinja:2: level 3 is empty"),
        (SOUND.replace('"three",', '\n"Two",'), "tone.jinja:3: level 3 says the same as level 2"),
        (SOUND.replace('"three"', "3"), "tone.jinja:2: level 3 is a number; describe the situation"),
        (SOUND.replace('"three"', "output"), "tone.jinja:2: levels must be written out as a literal"),
        (SOUND.replace('"three"', f'"{"x" * 1001}"'), "tone.jinja:2: level 3 has 1,001 characters"),
        (SOUND.replace(f"[{SEVEN}]", '"seven"'), "tone.jinja:2: levels is a text; give a list of seven"),
        (SOUND.replace('"How was it?"', '""'), "tone.jinja:1: question is empty"),
        (SOUND.replace('"How was it?"', "7"), "tone.jinja:1: question is a number; give one text"),
        (SOUND + '{% set question = "again?" %}', "tone.jinja:5: question is set twice (first on line 1)"),
        (SOUND + "{% set visibel = [] %}", "tone.jinja:5: a rubric sets only question, levels"),
        (SOUND + '{% set visible = ["lies"] %}', "tone.jinja:5: visible names lies, which no guard can see"),
        (SOUND + '{% set visible = "rude" %}', "tone.jinja:5: visible is not a list of texts"),
        (SOUND + '{% set applies_to = ["faq"] %}', "tone.jinja:5: applies_to is a list; write {"),
        (
            SOUND + '{% set applies_to = {"prompt": ["faq"]} %}',
            "tone.jinja:5: applies_to does not know prompt",
        ),
        (SOUND + '{% set applies_to = {"prompts": []} %}', "tone.jinja:5: applies_to prompts must be a list"),
        (SOUND + '{% set applies_to = {"models": [3]} %}', "tone.jinja:5: applies_to models must be a list"),
        (SOUND + '{% set applies_to = {"tags": ["gold"]} %}', "tone.jinja:5: applies_to tags must give each"),
        (
            SOUND + '{% set applies_to = {"tags": {"a": []}} %}',
            "tone.jinja:5: applies_to tags must give each",
        ),
        (SOUND + "{% set weight = 0 %}", "tone.jinja:5: weight is 0; give a number above 0 and up to 1"),
        (SOUND + "{% set weight = -0.5 %}", "tone.jinja:5: weight is -0.5; give a number"),
        (SOUND + "{% set weight = 1e999 %}", "tone.jinja:5: weight is inf; give a number"),
        (SOUND + '{% set weight = "1" %}', "tone.jinja:5: weight is '1'; give a number"),
        (SOUND + "{% set weight = true %}", "tone.jinja:5: weight is True; give a number"),
        (SOUND + "{% set reason_first = 1 %}", "tone.jinja:5: reason_first is a number; write true or false"),
        (SOUND + "{% set weight %}1{% endset %}", 'tone.jinja:5: {% set %} is not allowed: without "="'),
        # the view
        (HEAD + "Judge it.\n", "tone.jinja:3: the view never shows the output"),
        (HEAD + "\n{{ outptu }}", "tone.jinja:4: outptu is undefined; did you mean output?"),
        (HEAD + "{{ output }}\n{{ question }}", "tone.jinja:4: question is undefined"),
        (HEAD + "{{ output }}{{ call.inputs }}", "tone.jinja:3: call.inputs is undefined; there are input,"),
        (HEAD + "{{ call }}", "tone.jinja:3: call is the whole call; print a field of it"),
        (HEAD + "{{ tags }}", "tone.jinja:3: tags is a mapping; print one of them: {{ tags.NAME }}"),
        (HEAD + "{{ output", "tone.jinja:3: unexpected end of template"),
        (HEAD + "{% if context %}", "tone.jinja:3: Unexpected end of template"),
        (HEAD + "{% do output %}", "tone.jinja:3: Encountered unknown tag 'do'"),
        (
            HEAD + "\n{% include 'other.jinja' %}",
            "tone.jinja:4: {% include %} is not allowed: a rubric is one",
        ),
        (HEAD + "{% import 'a' as b %}", "tone.jinja:3: {% import %} is not allowed"),
        (HEAD + "{% from 'a' import b %}", "tone.jinja:3: {% from %} is not allowed"),
        (HEAD + "{% extends 'a' %}", "tone.jinja:3: {% extends %} is not allowed"),
        (HEAD + "{% macro m() %}{% endmacro %}", "tone.jinja:3: {% macro %} is not allowed"),
        (HEAD + "{% block b %}{% endblock %}", "tone.jinja:3: {% block %} is not allowed"),
        (HEAD + "{% with %}{% endwith %}", "tone.jinja:3: {% with %} is not allowed"),
        (HEAD + "{% filter upper %}{% endfilter %}", "tone.jinja:3: {% filter %} is not allowed"),
        (HEAD + "{% autoescape false %}{% endautoescape %}", "tone.jinja:3: {% autoescape %} is not allowed"),
        (HEAD + "{% if context %}{% set weight = 1 %}{% endif %}", "tone.jinja:3: a set inside a block"),
        # raw use of a field
        (HEAD + "{{ output|safe }}", "tone.jinja:3: the filter safe is not allowed; write {{ output }}"),
        (HEAD + "{{ output[:9] }}", "tone.jinja:3: the index or slice [...] is not allowed"),
        (HEAD + "{{ output.upper() }}", "tone.jinja:3: nothing can be called in a rubric"),
        (HEAD + "{{ output.text }}", "tone.jinja:3: the attribute .text is not allowed"),
        (HEAD + "{{ 'The ' ~ output }}", "tone.jinja:3: nothing is computed in a rubric"),
        (HEAD + "{{ output if context else '' }}", "tone.jinja:3: nothing is computed in a rubric"),
        (HEAD + "{{ [output] }}", "tone.jinja:3: nothing is computed in a rubric"),
        (
            HEAD + "{% if output is defined %}{% endif %}",
            "tone.jinja:3: the test `is defined` is not allowed",
        ),
        (HEAD + "{% if output == input %}{% endif %}", "tone.jinja:3: a field is compared with a text"),
        (HEAD + "{% if 'a' in output %}{% endif %}", "tone.jinja:3: only texts can be printed and compared"),
        (HEAD + "{% for c in output %}{{ c }}{% endfor %}", "tone.jinja:3: a loop goes over the context's"),
        (HEAD + "{% for a, b in context %}{% endfor %}", "tone.jinja:3: a loop goes over the context's"),
        (
            HEAD + "{% for m in messages if m %}{% endfor %}",
            "tone.jinja:3: a loop has no `recursive` and no `if`",
        ),
        (HEAD + "{% for output in context %}{% endfor %}", "tone.jinja:3: the loop hides the field output"),
        (
            HEAD + "{% for m in messages %}\n{% for c in context %}{{ c }}{% endfor %}{% endfor %}",
            "tone.jinja:4: a loop inside a loop",
        ),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(tmp_path: Path, source: str, expected: str) -> None:
    problems = problems_of(tmp_path, source)
    assert problems[0].startswith(expected), problems


@pytest.mark.parametrize(
    "view",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ output.__class__.__init__.__globals__ }}",
        "{{ output._compared }}",
        "{{ tags.__class__ }}",
        "{{ call.__init__ }}",
        "{{ self._TemplateReference__context }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ lipsum.__globals__ }}",
        "{{ '{0.__class__}'.format(output) }}",
        "{{ (output|attr('__class__')) }}",
        "{% for i in range(10**9) %}{{ i }}{% endfor %}",
        "{{ 10**10**10 }}",
        "{{ 'x' * 10**10 }}",
        "{% set weight = 10**10**10 %}",
        "{{ " + "9" * 5000 + " }}",
        "{{ " + "(" * 5000 + ")" * 5000 + " }}",
        "{% if " + "not " * 5000 + "output %}{% endif %}",
        "{% if context %}" * 99 + "{% endif %}" * 99,
        "{% for m in messages %}{{ input }}{% endfor %}",
        "{% for p in context %}" + "x" * 1000 + "{% endfor %}",
        "{{ input }}" * 10,
    ],
)
def test_a_hostile_rubric_is_refused_without_being_run(tmp_path: Path, view: str) -> None:
    began = time.process_time()
    problems = problems_of(tmp_path, HEAD + "{{ output }}" + view)
    assert problems
    assert all(problem.startswith("tone.jinja:") for problem in problems)
    assert time.process_time() - began < 2.0


def test_what_the_language_allows_is_accepted(tmp_path: Path) -> None:
    view = """{# a note #}
{% if not context and finish_reason in ["length"] or tags.tier == "gold" %}cut{% endif %}
{% for message in messages %}{% if message.role == "user" %}{{ message }}{% endif %}{% endfor %}
{% for passage in context %}{{ passage }}{% else %}none{% endfor %}
{{ call.output }} {{ "{{ output }}" }} {% raw %}{{ not evaluated }}{% endraw %}
{{ tags["tier"] }} {{ call.tags.x }}
{% if model %}{{ model }}{% elif prompt %}{{ prompt }} {{ prompt_version }}{% else %}-{% endif %}"""
    (tmp_path / "r.jinja").write_text(HEAD + view)
    text = load_rubric(tmp_path / "r.jinja").render(CallView(input="Hi", output="Hello"))
    assert "{{ output }}" in text
    assert "{{ not evaluated }}" in text


def test_every_problem_of_every_file_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.jinja").write_text(SOUND.replace('"one", ', "") + "{{ inptu }}")
    (tmp_path / "b.jinja").write_text(SOUND)
    (tmp_path / "c.jinja").write_text("{{ outptu }}")
    with pytest.raises(BadRubric) as refused:
        load_rubrics(tmp_path)
    lines = str(refused.value).splitlines()
    assert [line.split(": ")[0].rpartition("/")[2] for line in lines] == [
        "a.jinja:2",
        "a.jinja:5",
        "c.jinja:1",
        "c.jinja:1",
        "c.jinja:1",
    ]
    assert pickle.loads(pickle.dumps(refused.value)).problems == refused.value.problems


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    assert problems_of(tmp_path, SOUND.encode() + b"\n\xe9t\xe9") == [
        "tone.jinja:6: byte 0xe9 is not UTF-8; save the file as UTF-8"
    ]
    assert "byte order mark" in problems_of(tmp_path, b"\xef\xbb\xbf" + SOUND.encode())[0]
    assert problems_of(tmp_path, SOUND + "a\0b")[0].startswith("tone.jinja:5: holds a NUL")
    assert "bytes" in problems_of(tmp_path, SOUND + "x" * FILE_BYTES_MAX)[0]
    assert problems_of(tmp_path, b"")[0].startswith("tone.jinja:1: question is missing")


def test_what_is_no_readable_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "folder.jinja").mkdir()
    os.mkfifo(tmp_path / "pipe.jinja")
    (tmp_path / "gone.jinja").symlink_to(tmp_path / "nowhere")
    (tmp_path / "näme.jinja").write_text(SOUND)
    _rubrics, problems = read_folder(tmp_path)
    told = {problem.file.rpartition("/")[2]: problem.what for problem in problems}
    assert set(told) == {"folder.jinja", "pipe.jinja", "gone.jinja", "näme.jinja"}
    assert told["folder.jinja"].startswith("is no regular file")
    assert told["pipe.jinja"].startswith("is no regular file")
    assert "No such file" in told["gone.jinja"]
    assert "letters, digits" in told["näme.jinja"]


def test_a_folder_without_rubrics_or_with_too_many_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRubric, match=r"holds no rubric; put at least one \*\.jinja"):
        load_rubrics(tmp_path)
    with pytest.raises(BadRubric, match=r"cannot be read \(No such file.*LOWLIGHT_RUBRICS_DIR"):
        load_rubrics(tmp_path / "nowhere")
    for number in range(RUBRICS_MAX + 1):
        (tmp_path / f"r{number}.jinja").write_text(SOUND.replace("it", str(number)))
    with pytest.raises(BadRubric, match="holds 101 rubrics"):
        load_rubrics(tmp_path)


def test_two_rubrics_need_two_names_and_two_texts(tmp_path: Path) -> None:
    """A score is kept by its rubric's blob: two files of one text could not be told apart."""
    (tmp_path / "Tone.jinja").write_text(SOUND)
    (tmp_path / "manner.jinja").write_text(SOUND)
    if problems := problems_of(tmp_path, SOUND.replace("it", "she"), name="tone.jinja"):
        assert any("tone.jinja: has the same name as Tone.jinja" in problem for problem in problems)
    assert any("manner.jinja: is the same, byte for byte, as Tone.jinja" in problem for problem in problems)


def test_the_view_leaves_out_settings_and_comments_only() -> None:
    """Rubrics that show a critic the same must agree in their view, whatever their settings look like."""
    view = (
        "Judge.\n{% if context %}\n{{ context }}\n{% endif %}\n\n{% raw %}{% set x %}{% endraw %}{{ output }}"
    )
    dressed = (
        "{# why #}\n{%- set question = 'a %} b' -%}\n{% set levels = [\n] %}\n\n"
        + view.replace("{{ output }}", "\n{# in between #}\n{{ output }}")
        + "\n{% set weight = 1 %}\n"
    )
    assert view_source(view) == view
    assert view_source(dressed) == view.replace("{{ output }}", "\n{{ output }}")
