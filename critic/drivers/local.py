"""The local critic as a driver: no key, no request, no text leaves the machine.

Flow: the guard's reading of a call (made when the call was taken, in batches) -> `LocalCritic.grade` per
rubric -> seven probabilities, or the reason why nothing here can judge that rubric.
"""

from collections.abc import Sequence

from critic.drivers.base import Answer, CannotJudge, Case, Usage, Verdict, seven
from critic.drivers.limits import Limits
from critic.local import LocalCritic, Ungraded


class LocalDriver:
    """See `critic.drivers.Driver`. `critic` may be exchanged for a newer fit at any time."""

    name = "local"
    leaves_machine = False
    reads_view = False
    asks_together = True
    view_chars_max = 0
    limits: Limits | None = None

    def __init__(self, base_rate: float, critic: LocalCritic | None = None) -> None:
        self._base_rate = base_rate
        self._critic = critic

    @property
    def critic(self) -> LocalCritic:
        """The critic behind it; the shipped model until another is set."""
        if self._critic is None:
            self._critic = LocalCritic(self._base_rate)
        return self._critic

    @critic.setter
    def critic(self, critic: LocalCritic) -> None:
        self._critic = critic

    def at_most(self, case: Case) -> Usage:  # noqa: ARG002  (the other drivers need it)
        """See `Driver.at_most`; it uses no tokens."""
        return Usage(0, 0)

    async def judge(self, case: Case) -> Sequence[Verdict]:
        """See `Driver.judge`; microseconds a rubric, so it never awaits."""
        return [self._grade(case, rubric.visible) for rubric in case.rubrics]

    async def close(self) -> None:
        """Nothing is open."""

    def _grade(self, case: Case, visible: Sequence[str]) -> Verdict:
        grade = self.critic.grade(case.reading, visible)
        if isinstance(grade, Ungraded):
            return CannotJudge(grade.reason)
        return Answer(seven(grade.probabilities), model_reported=self.critic.version, why=grade.why)
