"""What can be wrong with a rubric, as a caller sees it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one file. `what` names the thing and the remedy; `line` counts from 1."""

    file: str
    line: int | None
    what: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.what}"


class RubricError(Exception):
    """Base of everything `rubrics` raises on purpose; the message names the thing and the remedy."""


class BadRubric(RubricError):
    """Some rubric file cannot be used; nothing was loaded. Correct the files and load again.

    Attributes:
        problems: every problem of every file, in file and line order; the message has one a line.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[type["BadRubric"], tuple[tuple[Problem, ...]]]:
        return BadRubric, (self.problems,)
