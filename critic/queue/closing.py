"""From a verdict to the closed score row, whichever way it came: asked by itself or in a batch.

Flow: critic.working.lane and critic.batch_outcomes -> `closed_by` -> `Finished` for
critic.queue.finish. Pure.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from critic.drivers.base import Answer, CannotJudge, Refused, Verdict, score_of
from critic.queue.rows import Finished, NewScore


class Held(Protocol):
    """A row in hand, by whoever has its token."""

    @property
    def seq(self) -> int: ...
    @property
    def token(self) -> str: ...


def closed_by(
    row: Held,
    verdict: Verdict,
    *,
    then: Sequence[NewScore],
    seen_share: float | None,
    cost_usd: float | None,
    answer_ms: float | None,
) -> Finished:
    """Return a row with all that its critic said.

    Args:
        then: the rows of whoever is to judge where this verdict is no answer.
        answer_ms: None for an answer that came in a batch, which says nothing about how fast the critic is.
    """
    closed = Finished(
        row.seq,
        row.token,
        "failed",
        model_reported=verdict.model_reported,
        input_tokens=verdict.input_tokens,
        output_tokens=verdict.output_tokens,
        cached_input_tokens=verdict.cached_input_tokens,
        cost_usd=cost_usd,
        answer_ms=answer_ms,
        seen_share=seen_share,
    )
    if isinstance(verdict, Answer):
        return replace(
            closed,
            status="scored",
            probabilities=verdict.probabilities,
            score=score_of(verdict.probabilities),
            confidence=verdict.confidence,
            draws=verdict.draws,
            why=verdict.why,
            label_mass=verdict.label_mass,
        )
    status = "refused" if isinstance(verdict, Refused) else "failed"
    status = "ungraded" if isinstance(verdict, CannotJudge) else status
    return replace(closed, status=status, reason=verdict.reason, then=tuple(then))
