"""What goes into the critic's queue and what comes out of it: plain data that travels through a pipe.

Flow: critic.queue.plan makes `NewScore` -> critic.queue.lease hands out `Leased` ->
critic.working.lane answers each with a `Finished` or a `Retry`; a late signal makes a `Move`. Times are
milliseconds since 1970 (UTC).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CALL_FAILED = "the call failed: there is no output"
NO_OUTPUT = "no text was sent"
NO_INPUT = "no input text was sent"
#: How the reason of a call that was left out of a sample begins, and of one that waited for money in vain.
NOT_SAMPLED = "not sampled"
NO_BUDGET = "no budget"
#: What such a reason says where the settings give a critic nothing to spend.
NO_MONEY = "the daily budget is $0; set LOWLIGHT_CRITIC_BUDGET_USD, empty for no limit"
#: `score.batch` of a row that waits for a batch.
WAITS = 0
#: When a row that waits for a batch is due: the end of the year 9999. The queue's index then never meets it.
NOT_BY_ITSELF_MS = 253_402_300_799_000


@dataclass(frozen=True)
class NewScore:
    """A score row to make: pending, or closed at once where it is known already that no answer can come.

    Attributes:
        stratum, inclusion, uniform, urgency: its place in the sample, see `critic.spending.sampling.Choice`.
        batch: WAITS where it waits for a batch (`critic.batching.batches`) instead of being asked by itself.
    """

    call_seq: int
    rubric: str
    rubric_blob: str
    view_blob: str
    critic: str
    occasion: str = ""
    status: str = "pending"
    reason: str | None = None
    stratum: str = ""
    inclusion: float = 1.0
    uniform: bool = False
    urgency: float = 0.0
    batch: int | None = None


@dataclass(frozen=True)
class Move:
    """A call that a late signal moves to another stratum of a critic's sample.

    Attributes:
        inclusion: of its final stratum; a row keeps the larger of this and its own.
        chosen: whether the call is to be judged now: what was skipped, deferred or ungraded waits again.
    """

    call_seq: int
    critic: str
    stratum: str
    inclusion: float
    urgency: float
    chosen: bool


@dataclass(frozen=True)
class Leased:
    """One row in hand until `lease_until_ms`.

    Attributes:
        spent: its attempts are used up; finish it as failed instead of judging it.
    """

    seq: int
    token: str
    call_seq: int
    rubric: str
    rubric_blob: str
    view_blob: str
    critic: str
    occasion: str
    attempts: int
    first_leased_at_ms: int
    lease_until_ms: int
    last_error: str | None
    spent: bool
    stratum: str = ""
    inclusion: float = 1.0
    uniform: bool = False
    urgency: float = 0.0


@dataclass(frozen=True)
class Finished:
    """What became of a leased row.

    Attributes:
        status: scored, ungraded, refused, failed, or deferred until `not_before_ms`.
        probabilities: seven that sum to 1 where scored, else empty.
        then: rows of the next configured critic, made in the same transaction; none where this one scored.
    """

    seq: int
    token: str
    status: str
    reason: str | None = None
    probabilities: tuple[float, ...] = ()
    score: float | None = None
    confidence: float | None = None
    draws: int | None = None
    why: Mapping[str, Any] | None = None
    model_reported: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int | None = None
    label_mass: float | None = None
    seen_share: float | None = None
    cost_usd: float | None = None
    answer_ms: float | None = None
    not_before_ms: int | None = None
    then: tuple[NewScore, ...] = ()


@dataclass(frozen=True)
class Retry:
    """A leased row to hand back. `counts` says whether the try counts against the call."""

    seq: int
    token: str
    not_before_ms: int
    error: str | None
    counts: bool
