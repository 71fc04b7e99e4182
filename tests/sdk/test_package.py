"""The SDK as a package: the standard library alone, Python 3.9's syntax, typed, quick to import."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path

import lowlight
import pytest

from tests.sdk.conftest import RunProgram
from tests.sdk.fake_server import FakeServer

SOURCES = sorted(Path(lowlight.__file__).parent.glob("*.py"))
PROJECT = Path(lowlight.__file__).parents[1] / "pyproject.toml"


def interpreters() -> list[str]:
    """This interpreter, and a Python 3.9 where there is one that starts: on the path, or pyenv's."""
    found = [sys.executable]
    for old in (shutil.which("python3.9"), *map(str, Path.home().glob(".pyenv/versions/3.9*/bin/python"))):
        if old and subprocess.run([old, "-c", ""], capture_output=True, check=False).returncode == 0:
            return [*found, old]
    return found


@pytest.mark.parametrize("python", interpreters(), ids=lambda path: Path(path).name)
def test_it_runs_in_an_interpreter_that_has_nothing_else(
    server: FakeServer, tmp_path: Path, python: str
) -> None:
    """-I and -S: no site-packages, no environment, only the SDK's own folder on the path."""
    source = f"""
import sys
sys.path.insert(0, {str(PROJECT.parent)!r})
import lowlight
lowlight.init({server.url!r}, spool={str(tmp_path)!r}, redact=str.upper, sample=0.999999)

@lowlight.observe
def answer(question):
    yield from question

async def aanswer(question):
    return question

async def main():
    await lowlight.observe(aanswer)("a coroutine")
    assert await lowlight.aflush(5)

with lowlight.context(session_id="s", tags={{"tenant": "acme"}}):
    lowlight.record("4", input=[{{"role": "user", "content": "2+2?"}}] * 500)
    "".join(answer("a generator"))
    with lowlight.call(model="m") as call:
        call.set("a block")
lowlight.signal("copy", call_id=call.id)
import asyncio
asyncio.run(main())
assert lowlight.flush(20)
assert lowlight.stats()["errors"] == 0, lowlight.stats()
loaded = {{name.partition(".")[0] for name in sys.modules}}
print(sorted(loaded - set(getattr(sys, "stdlib_module_names", loaded - {{"__main__", "lowlight"}}))))
"""
    done = subprocess.run(
        [python, "-I", "-S", "-c", source], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stderr == ""
    assert done.stdout.strip() == "['__main__', 'lowlight']"
    texts = ["4", "A BLOCK", "A COROUTINE", "A GENERATOR"]
    assert sorted(call["output"] for call in server.calls.values()) == texts


def test_importing_starts_nothing_and_leaves_the_slow_modules_alone(run_program: RunProgram) -> None:
    source = (
        "import sys, threading, lowlight\n"
        "slow = {'http.client', 'ssl', 'gzip', 'email', 'json', 'datetime', 'urllib.parse', 'asyncio'}\n"
        "print(sorted(slow & set(sys.modules)), threading.active_count())"
    )
    done = run_program(source, LOWLIGHT_URL="nonsense")
    assert (done.stdout.strip(), done.stderr) == ("[] 1", "")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_it_is_python_3_9(path: Path) -> None:
    """The grammar, and no `X | Y` or other name of later versions where Python evaluates it."""
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    for node in ast.walk(tree):
        annotations = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        for annotation in filter(None, annotations):
            assert not any(isinstance(part, ast.BinOp) for part in ast.walk(annotation)), ast.unparse(
                annotation
            )
        assert not isinstance(node, ast.Match)
        if isinstance(node, ast.ImportFrom) and node.module in ("typing", "datetime"):
            later = {
                "ParamSpec",
                "Concatenate",
                "TypeAlias",
                "TypeGuard",
                "Self",
                "Never",
                "UTC",
                "NotRequired",
            }
            assert not later & {alias.name for alias in node.names}
        if isinstance(node, ast.keyword):
            assert node.arg not in ("strict", "slots"), "zip(strict=) and dataclass(slots=) came with 3.10"
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("UTC", "bit_count", "aclosing"), node.attr


def test_it_is_typed_and_versions_agree() -> None:
    assert (files(lowlight) / "py.typed").is_file()
    project = tomllib.loads(PROJECT.read_text())["project"]
    assert project["dependencies"] == []
    assert project["version"] == lowlight.__version__
    from lowlight._transport import USER_AGENT

    assert f"lowlight-python/{lowlight.__version__}" == USER_AGENT


def test_the_readme_lists_the_variables_that_are_read() -> None:
    def variables(path: Path) -> set[str]:
        return set(re.findall(r"LOWLIGHT_[A-Z]+", path.read_text()))

    read = set.union(*map(variables, SOURCES))
    assert variables(PROJECT.with_name("README.md")) == read


def test_every_argument_of_the_public_functions_is_documented() -> None:
    import inspect

    for function in (lowlight.record, lowlight.signal):
        for name in inspect.signature(function).parameters:
            assert f"\n    {name}: " in inspect.getdoc(function).replace("        ", "    "), name  # type: ignore[union-attr]


def test_misspelt_arguments_are_a_type_error_to_mypy(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import lowlight\n"
        'call_id: str = lowlight.record("4", input=[{"role": "user", "content": "2+2?"}], prompt=("a", 7))\n'
        'lowlight.signal("copy", call_id=call_id)\n'
        "lowlight.record(promt='a')\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--no-incremental",
            "--cache-dir",
            os.devnull,
            str(program),
        ],
        env={**os.environ, "MYPYPATH": str(PROJECT.parent)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 'program.py:4: error: Argument "promt"' in done.stdout
    assert done.stdout.count("error:") == 1, done.stdout
