"""A rubric's version is git's own id of its bytes, and whether HEAD has it is asked of a real git."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rubrics import load_rubrics
from rubrics.versions import blob_id, blobs_at_head

SOUND = (
    '{% set question = "How was it?" %}{% set levels = ["1", "2", "3", "4", "5", "6", "7"] %}\n{{ output }}\n'
)

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str, data: bytes = b"") -> str:
    """Run git with no configuration but the test's own."""
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        env={**surroundings, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"},
        input=data,
        capture_output=True,
        check=True,
    ).stdout.decode()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "team" / "rubrics"
    folder.mkdir(parents=True)
    git(folder.parent, "init", "-q")
    return folder


def committed(folder: Path) -> dict[str, bool | None]:
    return {rubric.name: rubric.committed for rubric in load_rubrics(folder)}


@needs_git
@settings(max_examples=15, deadline=None)
@given(data=st.binary(max_size=300))
def test_the_blob_id_is_what_git_hash_object_prints(data: bytes) -> None:
    assert blob_id(data) == git(Path.cwd(), "hash-object", "--stdin", data=data).strip()


@needs_git
def test_git_show_of_a_version_prints_the_rubric(repository: Path) -> None:
    (repository / "tone.jinja").write_text(SOUND)
    [rubric] = load_rubrics(repository)
    assert rubric.blob == git(repository, "hash-object", "tone.jinja").strip()
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "x")
    assert git(repository, "show", rubric.blob) == rubric.source


@needs_git
def test_a_version_is_committed_only_while_head_has_it(repository: Path) -> None:
    file = repository / "tone.jinja"
    file.write_text(SOUND)
    assert committed(repository) == {"tone": False}  # a repository without a commit
    git(repository, "add", ".")
    assert committed(repository) == {"tone": False}  # staged only
    git(repository, "commit", "-q", "-m", "x")
    assert committed(repository) == {"tone": True}
    file.write_text(SOUND.replace("it", "this"))
    (repository / "new.jinja").write_text(SOUND.replace("it", "that"))
    assert committed(repository) == {"tone": False, "new": False}


@needs_git
def test_a_hooks_git_dir_does_not_mislead(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository / "tone.jinja").write_text(SOUND)
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "x")
    monkeypatch.setenv("GIT_DIR", str(repository / "nowhere"))
    assert committed(repository) == {"tone": True}


@needs_git
def test_git_does_not_speak_for_a_folder_that_it_ignores(repository: Path) -> None:
    """An installation inside a team's checkout, such as .venv, is no uncommitted work of theirs."""
    (repository / "tone.jinja").write_text(SOUND)
    (repository.parent / ".gitignore").write_text("rubrics/\n")
    git(repository.parent, "add", ".gitignore")
    git(repository, "commit", "-q", "-m", "x")
    assert committed(repository) == {"tone": None}


def test_without_git_or_repository_nothing_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tone.jinja").write_text(SOUND)
    assert committed(tmp_path) == {"tone": None}
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert committed(tmp_path) == {"tone": None}


def test_a_git_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()  # else git is not asked at all
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    monkeypatch.setattr("rubrics.versions.GIT_TIMEOUT_S", 0.1)
    assert blobs_at_head(tmp_path) is None
