"""A rubric's version: the id git gives its bytes, computed here, so that `git show ID` prints the rubric.

Flow: a file's bytes -> `blob_id`; a folder -> `blobs_at_head` -> whether each version was committed.
"""

import hashlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

GIT_TIMEOUT_S = 2.0


def blob_id(data: bytes) -> str:
    """Return what `git hash-object` prints for these bytes: SHA-1 over "blob <length>\\0" and the bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def blobs_at_head(folder: Path) -> Mapping[str, str] | None:
    """Return the blob id of each file that lies directly in `folder` at git's HEAD, by file name.

    None where git cannot say: no git, no repository, a folder that the repository ignores, one that hashes
    with SHA-256 (its ids are not ours), or no answer within two seconds. An empty repository gives {}.
    Never raises.
    """
    blobs = blobs_at(folder, "HEAD")
    if blobs is None:
        # Not a repository, or one without a commit: only the second knows where its top is.
        bare = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD") is None
        return {} if bare and _git(folder, "rev-parse", "--show-toplevel") else None
    if not blobs and _git(folder, "check-ignore", "--quiet", ".") is not None:
        return None
    return blobs


def blobs_at(folder: Path, revision: str) -> dict[str, str] | None:
    """Return the blob id of each file that lay directly in `folder` at a revision, by file name.

    None where git does not know the revision, or its ids are not ours (SHA-256). Never raises.
    """
    # HEAD is no option by mistake, and each process of git's counts: rubrics are read at every start.
    commit: str | None = revision
    if revision != "HEAD":
        asked = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        commit = _git(folder, *asked)
    listed = None if commit is None else _git(folder, "ls-tree", "-z", commit.strip())
    if listed is None:
        return None
    blobs = {}
    for entry in listed.split("\0"):
        about, _tab, name = entry.partition("\t")
        if len(fields := about.split()) == 3 and fields[1] == "blob":
            blobs[name] = fields[2]
    return None if any(len(blob) != 40 for blob in blobs.values()) else blobs


def text_of_blob(folder: Path, blob: str) -> str | None:
    """Return a blob of the repository as text; None where git has none such or it is not UTF-8."""
    source = _git(folder, "cat-file", "blob", blob)
    return None if source is None or not _is_text(source) else source


def _is_text(source: str) -> bool:
    # `_git` keeps bytes that are not UTF-8 as lone surrogates.
    return not any("\ud800" <= character <= "\udfff" for character in source)


def _in_a_repository(folder: Path) -> bool:
    """Whether the folder or one above it is the top of a working tree; `.git` is a file in some of them."""
    there = folder.resolve()
    return any((above / ".git").exists() for above in (there, *there.parents))


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git printed; None where it could not run, failed or took too long, or has no repository."""
    if not _in_a_repository(folder):
        return None  # as git would say, and without a process
    # A hook's GIT_DIR would point git at another repository than the folder's own.
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            env={**surroundings, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return done.stdout.decode("utf-8", "surrogateescape")
