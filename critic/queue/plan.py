"""Who judges what: which score rows a call needs, and which critic is next when one has not scored.

Flow: critic.working.taking (a new call) and critic.working.lane (an answer without a score) -> `Plan` ->
`NewScore` rows. Pure: no database, no clock.
"""

from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Protocol

from critic.drivers.base import Driver
from critic.egress import DEFAULT_PROJECT_NAME, Egress
from critic.queue.calls import TakenCall
from critic.queue.rows import NO_MONEY, NOT_SAMPLED, NewScore
from critic.spending.sampling import Choice
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
    @property
    def stratum(self) -> str: ...
    @property
    def inclusion(self) -> float: ...
    @property
    def uniform(self) -> bool: ...
    @property
    def urgency(self) -> float: ...


class Plan:
    """The configured critics in order, the rubrics in force, and whose texts may leave."""

    def __init__(self, drivers: Sequence[Driver], rubrics: Sequence[Rubric], egress: str) -> None:
        self.rubrics = tuple(rubrics)
        self.critics = tuple(driver.name for driver in drivers)
        self._leaving = {driver.name for driver in drivers if driver.leaves_machine}
        self.egress = Egress(egress, self.critics)

    def with_rubrics(self, rubrics: Sequence[Rubric]) -> "Plan":
        """Return the same plan with other rubrics in force."""
        changed = copy(self)
        changed.rubrics = tuple(rubrics)
        return changed

    def kept_back(self, critic: str, prompt: str, project: str = DEFAULT_PROJECT_NAME) -> str | None:
        """Return why the texts of a prompt's calls may not go to a critic; None where they may."""
        if critic not in self._leaving or self.egress.allows(critic, project, prompt):
            return None
        of_what = f"prompt {prompt}" if prompt else "calls without a prompt name"
        of_project = "" if project == DEFAULT_PROJECT_NAME else f" of project {project}"
        return f"texts of {of_what}{of_project} may not leave (LOWLIGHT_EGRESS)"

    def for_call(
        self, call: TakenCall, paused: Collection[str], choices: Mapping[str, Choice] | None = None
    ) -> list[NewScore]:
        """Return the rows of a call that was just taken: one per rubric that applies and critic to ask.

        Where no critic can judge the call, the first one's rows say so and nobody else is asked. Where the
        critic to ask is one that samples, those that cost nothing judge the call as well, whatever it
        decides: an average of theirs is then over all calls.

        Args:
            choices: by critic that samples, what it decides about this call.
        """
        rows: list[NewScore] = []
        for rubric in self.rubrics:
            if not rubric.applies(prompt=call.prompt, model=call.model, tags=call.tags):
                continue
            key = NewScore(call.call_seq, rubric.name, rubric.blob, rubric.view_blob, self.critics[0])
            closed = call.not_judged_because
            if closed is not None:
                rows.append(_for_critic(key, key.critic, "ungraded", closed))
                continue
            for row in self.after(None, key, call.prompt, paused, call.project):
                choice = (choices or {}).get(row.critic) if row.status == "pending" else None
                rows.append(row if choice is None else _sampled(row, choice))
                if choice is not None:
                    rows += self.free_after(row.critic, key)
        return rows

    def after(
        self,
        critic: str | None,
        asked: Question,
        prompt: str,
        paused: Collection[str],
        project: str = DEFAULT_PROJECT_NAME,
    ) -> list[NewScore]:
        """Return the rows for whoever is to judge next after `critic` (None: from the first on).

        That is the first critic that may see the call and is not paused; where all such are paused, the
        first of them, whose row waits. One that may not see the call leaves an ungraded row that says so. An
        occasion (anchors) is about one critic: nobody answers in its place.
        """
        if asked.occasion:
            return []
        start = 0 if critic is None else self.critics.index(critic) + 1
        rows: list[NewScore] = []
        waits: NewScore | None = None
        for name in self.critics[start:]:
            reason = self.kept_back(name, prompt, project)
            if reason is not None:
                rows.append(_for_critic(asked, name, "ungraded", reason))
            elif name not in paused:
                return [*rows, self._next(asked, name)]
            elif waits is None:
                waits = self._next(asked, name)
        return rows if waits is None else [*rows, waits]

    def alone(self, critic: str, asked: Question, prompt: str) -> NewScore:
        """Return the row of one critic, whom nobody answers for: of an occasion."""
        reason = self.kept_back(critic, prompt)
        return _for_critic(asked, critic, "pending" if reason is None else "ungraded", reason)

    def free_after(self, critic: str, asked: Question) -> list[NewScore]:
        """Return the row of the first critic after `critic` that costs nothing; none where there is none."""
        if asked.occasion:
            return []
        later = self.critics[self.critics.index(critic) + 1 :]
        return [_for_critic(asked, name) for name in later if name not in self._leaving][:1]

    def _next(self, asked: Question, critic: str) -> NewScore:
        """A critic that costs money takes over no more than the sample of the one before it."""
        row = _for_critic(asked, critic)
        if critic not in self._leaving:
            return row
        return replace(
            row,
            stratum=asked.stratum,
            inclusion=asked.inclusion,
            uniform=asked.uniform,
            urgency=asked.urgency,
        )

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


def _sampled(row: NewScore, choice: Choice) -> NewScore:
    """Return a row with its place in the sample; closed where the call is not in it."""
    row = replace(
        row,
        stratum=choice.stratum,
        inclusion=choice.inclusion,
        uniform=choice.uniform,
        urgency=choice.urgency,
    )
    if choice.chosen:
        return row
    return replace(row, status="skipped", reason=skip_reason(choice))


def skip_reason(choice: Choice) -> str:
    """Return why a call is not judged, in words a page can show."""
    if not choice.budget_usd:
        return f"{NOT_SAMPLED}: {NO_MONEY}"
    words = choice.stratum.replace("_", " ")
    return f"{NOT_SAMPLED}: the budget is for {choice.inclusion:.1%} of {words} calls"
