"""Rubric files, found, checked and loaded: all of a folder, or none.

Flow: `rubrics/*.jinja` -> `read_folder` -> rubrics and problems -> `load_rubrics` -> the critic, the pages.
"""

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rubrics.calls import AppliesTo, CallView
from rubrics.checking import check_source
from rubrics.errors import BadRubric, Problem
from rubrics.fences import new_fence
from rubrics.language import FILE_BYTES_MAX, RUBRICS_MAX, VIEW_CHARS_MAX
from rubrics.rendering import Shown, show_view
from rubrics.versions import blob_id, blobs_at_head

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Rubric:
    """One version of one rubric file: one question, seven levels, and what the critic sees of a call."""

    name: str
    #: git blob id of the file's bytes: the version that every score keeps
    blob: str
    #: blob id of `view`; rubrics that share it show a critic the same
    view_blob: str
    question: str
    #: seven, worst first, each a situation on one line
    levels: tuple[str, ...]
    applies_to: AppliesTo
    #: 0 < weight <= 1: how much of P(level <= 2) counts in a call's experience
    weight: float
    #: ask for the reason before the level; for weak critics only
    reason_first: bool
    #: failures by which the local critic may answer, see `language.VISIBLE`; () where it cannot
    visible: tuple[str, ...]
    #: the file's text
    source: str
    #: the source without settings and comments
    view: str
    #: whether git's HEAD has exactly this version; None where git cannot say
    committed: bool | None

    def applies(self, *, prompt: str, model: str, tags: Mapping[str, str]) -> bool:
        """Tell whether a call with these fields is one this rubric asks about."""
        return self.applies_to.matches(prompt=prompt, model=model, tags=tags)

    def render(self, call: CallView, *, fence: str | None = None) -> str:
        """Return the view of `call`: plain text, each field of the call inside fences, at most 200,000 long.

        Args:
            call: what was recorded.
            fence: give all rubrics of a call one from `new_fence`, then equal views render equal.

        Raises:
            ValueError: `fence` is none that `new_fence` makes.
        """
        return self.show(call, new_fence() if fence is None else fence).text

    def show(self, call: CallView, fence: str, *, chars_max: int = VIEW_CHARS_MAX) -> Shown:
        """Return the view of `call` cut to `chars_max`, and how much of the call's texts it shows.

        Raises:
            ValueError: `fence` is none that `new_fence` makes.
        """
        return show_view(self.view, call, fence, chars_max=chars_max)


def load_rubrics(folder: Path) -> list[Rubric]:
    """Return the rubrics of a folder (its `*.jinja` files, not those of folders in it), by name.

    Raises:
        BadRubric: any of them cannot be used, or there is none; names every problem by file and line.
    """
    rubrics, problems = read_folder(folder)
    if problems:
        raise BadRubric(problems)
    return rubrics


def load_rubric(file: Path) -> Rubric:
    """Return the rubric in one file.

    Raises:
        BadRubric: it cannot be used; names every problem by line.
    """
    loaded = read_file(file, blobs_at_head(file.parent))
    if not isinstance(loaded, Rubric):
        raise BadRubric(loaded)
    return loaded


def rubric_names(folder: Path) -> frozenset[str]:
    """Return the names of a folder's rubrics, sound or not, unread; none where there is no folder."""
    try:
        return frozenset(file.stem for file in folder.iterdir() if file.suffix == ".jinja")
    except OSError:
        return frozenset()


def read_folder(folder: Path, *, ask_git: bool = True) -> tuple[list[Rubric], list[Problem]]:
    """Return the sound rubrics of a folder, by name, and every problem of the others.

    Args:
        ask_git: whether to find out what is committed, which starts a process.
    """
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix == ".jinja")
    except OSError as error:
        remedy = "name the folder of your rubrics in LOWLIGHT_RUBRICS_DIR"
        return [], [Problem(shown(folder), None, f"cannot be read ({error.strerror}); {remedy}")]
    if not files:
        return [], [Problem(shown(folder), None, "holds no rubric; put at least one *.jinja file there")]
    if len(files) > RUBRICS_MAX:
        what = f"holds {len(files)} rubrics; more than {RUBRICS_MAX} cannot be asked about one call"
        return [], [Problem(shown(folder), None, what)]
    committed = blobs_at_head(folder) if ask_git else None
    rubrics: list[Rubric] = []
    problems: list[Problem] = []
    by_name: dict[str, Path] = {}
    by_blob: dict[str, Path] = {}
    for file in files:
        loaded = read_file(file, committed)
        same_name = by_name.setdefault(file.stem.casefold(), file)
        if same_name != file:
            what = f"has the same name as {same_name.name}, upper and lower case aside; rename one of them"
            problems.append(Problem(shown(file), None, what))
        if not isinstance(loaded, Rubric):
            problems += loaded
            continue
        rubrics.append(loaded)
        same_text = by_blob.setdefault(loaded.blob, file)
        if same_text != file:
            what = f"is the same, byte for byte, as {same_text.name}; remove one or change its question"
            problems.append(Problem(shown(file), None, what))
    return rubrics, problems


def read_file(file: Path, committed: Mapping[str, str] | None) -> Rubric | list[Problem]:
    """Return the rubric in a file, or what is wrong with it.

    Args:
        file: a path that ends in `.jinja`.
        committed: what `blobs_at_head` said of its folder.
    """
    if not _NAME.fullmatch(file.stem):
        what = "a rubric is named after its file: letters, digits, - and _, at most 64; rename it"
        return [Problem(shown(file), None, what)]
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return [Problem(shown(file), None, "is no regular file; a rubric is a text file")]
        with file.open("rb") as opened:
            data = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        what = f"cannot be read ({error.strerror}); name a file that is there, or correct its permissions"
        return [Problem(shown(file), None, what)]
    if len(data) > FILE_BYTES_MAX:
        return [
            Problem(shown(file), None, f"has more than {FILE_BYTES_MAX:,} bytes; a rubric asks one question")
        ]
    try:
        source = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return [
            Problem(shown(file), line, f"byte {data[error.start]:#04x} is not UTF-8; save the file as UTF-8")
        ]
    if source.startswith("\ufeff"):
        return [Problem(shown(file), 1, "starts with a byte order mark; save the file as UTF-8 without one")]
    if "\0" in source:
        line = source.count("\n", 0, source.index("\0")) + 1
        return [Problem(shown(file), line, "holds a NUL character; remove it")]
    blob = blob_id(data)
    known = None if committed is None else committed.get(file.name) == blob
    try:
        return rubric_of(file.stem, source, committed=known)
    except BadRubric as error:
        return [Problem(shown(file), problem.line, problem.what) for problem in error.problems]


def rubric_of(name: str, source: str, *, committed: bool | None = None) -> Rubric:
    """Return the rubric whose text is `source`: a file's, or an older version's as a store kept it.

    Raises:
        BadRubric: it cannot be used; names every problem by line.
    """
    checked = check_source(source)
    if checked.problems:
        raise BadRubric([Problem(f"{name}.jinja", line, what) for line, what in checked.problems])
    settings = checked.settings
    return Rubric(
        name=name,
        blob=blob_id(source.encode()),
        view_blob=blob_id(checked.view.encode()),
        question=settings.question,
        levels=settings.levels,
        applies_to=settings.applies_to,
        weight=settings.weight,
        reason_first=settings.reason_first,
        visible=settings.visible,
        source=source,
        view=checked.view,
        committed=committed,
    )


def shown(path: Path) -> str:
    """Return a path as a message names it: below the current folder where it lies there."""
    try:
        return str(path.absolute().relative_to(Path.cwd())) if path.is_absolute() else str(path)
    except (ValueError, OSError):
        return str(path)
