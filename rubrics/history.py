"""Rubrics as they were: the files of a folder at a revision of git, and what changed since.

Flow: `lowlight rubric diff` and `lowlight rubric test` -> `rubrics_at` -> `differences` between two lists.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rubrics.errors import BadRubric, Problem
from rubrics.loading import Rubric, rubric_of, shown
from rubrics.versions import blobs_at, blobs_at_head, text_of_blob


@dataclass(frozen=True)
class Difference:
    """One rubric, before and after; `before` is None where it is new, `after` where it is gone.

    Attributes:
        changed: what differs, as a person names it: "question", "level 3", "view", "weight" ...; empty where
            only comments or blank lines do.
    """

    name: str
    before: Rubric | None
    after: Rubric | None
    changed: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the unified difference of the two files."""
        before, after = (
            [] if rubric is None else rubric.source.splitlines() for rubric in (self.before, self.after)
        )
        names = (f"{self.name}.jinja before", f"{self.name}.jinja now")
        return list(difflib.unified_diff(before, after, *names, lineterm=""))


def rubrics_at(folder: Path, revision: str) -> list[Rubric]:
    """Return the rubrics that lay in a folder at a revision of its git repository, by name; none is [].

    Raises:
        BadRubric: git does not know the revision, or a file of then cannot be used.
    """
    blobs = blobs_at(folder, revision)
    if blobs is None and blobs_at_head(folder) is None:
        what = "is in no git repository, or ignored by it, so that there is no version of before"
        raise BadRubric([Problem(shown(folder), None, f"{what}; commit your rubrics to git")])
    if blobs is None:
        remedy = "name a commit, branch or tag of the repository that holds the folder"
        raise BadRubric([Problem(shown(folder), None, f"git knows no revision {revision!r}; {remedy}")])
    rubrics: list[Rubric] = []
    problems: list[Problem] = []
    for file, blob in sorted(blobs.items()):
        if not file.endswith(".jinja"):
            continue
        source = text_of_blob(folder, blob)
        if source is None:
            problems.append(Problem(f"{file} at {revision}", None, "is no UTF-8 text that git can show"))
            continue
        try:
            rubrics.append(rubric_of(file.removesuffix(".jinja"), source, committed=True))
        except BadRubric as error:
            problems += [
                Problem(f"{file} at {revision}", problem.line, problem.what) for problem in error.problems
            ]
    if problems:
        raise BadRubric(problems)
    return rubrics


def differences(before: Sequence[Rubric], after: Sequence[Rubric]) -> list[Difference]:
    """Return the rubrics whose version differs, by name."""
    was = {rubric.name: rubric for rubric in before}
    is_now = {rubric.name: rubric for rubric in after}
    found = []
    for name in sorted(was | is_now):
        old, new = was.get(name), is_now.get(name)
        if old is None or new is None or old.blob != new.blob:
            found.append(Difference(name, old, new, _changed(old, new)))
    return found


def _changed(old: Rubric | None, new: Rubric | None) -> tuple[str, ...]:
    if old is None or new is None:
        return ()
    parts = []
    if old.question != new.question:
        parts.append("question")
    parts += [
        f"level {level}"
        for level, (one, other) in enumerate(zip(old.levels, new.levels, strict=True), start=1)
        if one != other
    ]
    if old.view_blob != new.view_blob:
        parts.append("view")
    parts += [
        name
        for name in ("applies_to", "weight", "reason_first", "visible")
        if getattr(old, name) != getattr(new, name)
    ]
    return tuple(parts)
