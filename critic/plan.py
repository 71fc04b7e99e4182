"""Who judges what: which score rows a call needs, and which critic is next when one has not scored.

Flow: critic.taking (a new call) and critic.lane (an answer without a score) -> `Plan` -> `NewScore` rows.
Pure: no database, no clock.
"""

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Protocol

from critic.calls import TakenCall
from critic.drivers.base import Driver
from critic.rows import NewScore
from rubrics import Rubric


class Question(Protocol):
    """What is asked about a call: one rubric version. Leased and waiting rows are such."""

    @property
    def rubric(self) -> str: ...
    @property
    def rubric_blob(self) -> str: ...
    @property
    def view_blob(self) -> str: ...
    @property
    def occasion(self) -> str: ...
    @property
    def call_seq(self) -> int: ...


class Plan:
    """The configured critics in order, the rubrics in force, and whose texts may leave."""

    def __init__(self, drivers: Sequence[Driver], rubrics: Sequence[Rubric], egress: str) -> None:
        self.rubrics = tuple(rubrics)
        self.critics = tuple(driver.name for driver in drivers)
        self._leaving = {driver.name for driver in drivers if driver.leaves_machine}
        self._egress = tuple(pattern.strip() for pattern in egress.split(",") if pattern.strip())

    def kept_back(self, critic: str, prompt: str) -> str | None:
        """Return why the texts of a prompt's calls may not go to a critic; None where they may."""
        if critic not in self._leaving or any(fnmatchcase(prompt, pattern) for pattern in self._egress):
            return None
        of_what = f"prompt {prompt}" if prompt else "calls without a prompt name"
        return f"texts of {of_what} may not leave (LOWLIGHT_EGRESS)"

    def for_call(self, call: TakenCall, paused: Collection[str]) -> list[NewScore]:
        """Return the rows of a call that was just taken: one per rubric that applies and critic to ask.

        Where no critic can judge the call, the first one's rows say so and nobody else is asked.
        """
        rows: list[NewScore] = []
        for rubric in self.rubrics:
            if not rubric.applies(prompt=call.prompt, model=call.model, tags=call.tags):
                continue
            key = NewScore(call.call_seq, rubric.name, rubric.blob, rubric.view_blob, self.critics[0])
            closed = call.not_judged_because
            if closed is not None:
                rows.append(_for_critic(key, key.critic, "ungraded", closed))
            else:
                rows += self.after(None, key, call.prompt, paused)
        return rows

    def after(
        self, critic: str | None, asked: Question, prompt: str, paused: Collection[str]
    ) -> list[NewScore]:
        """Return the rows for whoever is to judge next after `critic` (None: from the first on).

        That is the first critic that may see the call and is not paused; where all such are paused, the
        first of them, whose row waits. One that may not see the call leaves an ungraded row that says so.
        """
        start = 0 if critic is None else self.critics.index(critic) + 1
        rows: list[NewScore] = []
        waits: NewScore | None = None
        for name in self.critics[start:]:
            reason = self.kept_back(name, prompt)
            if reason is not None:
                rows.append(_for_critic(asked, name, "ungraded", reason))
            elif name not in paused:
                return [*rows, _for_critic(asked, name)]
            elif waits is None:
                waits = _for_critic(asked, name)
        return rows if waits is None else [*rows, waits]

    def versions(self, scores: Sequence[NewScore]) -> list[Mapping[str, object]]:
        """Return the `RubricVersion` rows that these scores name."""
        named = {score.rubric_blob for score in scores}
        return [
            {
                "blob": rubric.blob,
                "name": rubric.name,
                "view_blob": rubric.view_blob,
                "question": rubric.question,
                "levels": list(rubric.levels),
                "source": rubric.source,
                "committed": rubric.committed,
            }
            for rubric in self.rubrics
            if rubric.blob in named
        ]


def _for_critic(asked: Question, critic: str, status: str = "pending", reason: str | None = None) -> NewScore:
    return NewScore(
        call_seq=asked.call_seq,
        rubric=asked.rubric,
        rubric_blob=asked.rubric_blob,
        view_blob=asked.view_blob,
        critic=critic,
        occasion=asked.occasion,
        status=status,
        reason=reason,
    )
