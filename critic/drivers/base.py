"""What every critic is to the worker: one method, data in, data or a classed error out.

Flow: critic.working.worker makes a `Case` (one output, never two) -> `Driver.judge` -> one `Verdict` per
rubric of the case, in its order -> critic.queue.finish.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from critic.drivers.limits import Limits
from rubrics import CallView, Rubric

if TYPE_CHECKING:
    from critic.local import Reading

#: A provider's probabilities are rounded decimals: seven of them may miss 1 by this much.
SUM_TOLERANCE = 0.02


class CriticError(Exception):
    """Base of what a driver raises on purpose; the message names the critic and what it said.

    Attributes:
        in_doubt: the provider may have done the work all the same and charge for it, nobody knows how much.
        paid: answers that came to a part of the judgement and are charged for: of three draws, two.
    """

    in_doubt: bool = False
    paid: "Sequence[Charge]" = ()


class CriticUnavailable(CriticError):
    """The provider did not answer this time: no connection, time-out, 408, 409, 429 or 5xx. Try again later.

    Attributes:
        retry_after_s: the provider's own wait in seconds; None where it named none.
        busy: it said that it has too much to do (429, 503, 529): send less at a time.
        blames_call: the call itself may be what it cannot answer (a time-out): the try counts. Other tries
            do not count against the call; those end a day after the work was made.
        in_doubt: see `CriticError`; what blames the call was sent, so it is in doubt.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        busy: bool = False,
        blames_call: bool = False,
        in_doubt: bool = False,
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.busy = busy
        self.blames_call = blames_call
        self.in_doubt = in_doubt or blames_call


class CriticMisconfigured(CriticError):
    """The provider will answer nobody as it is set up: bad key, no permission, quota spent, unknown model.

    The critic is paused and the message shown on the pages; the next configured critic takes over.
    """


class MalformedAnswer(CriticError):
    """An answer came that holds no seven probabilities; trying again would be paying for luck."""


@dataclass(frozen=True)
class Case:
    """One call to be judged under rubrics that all see the same view.

    Attributes:
        call: the call's texts and fields.
        view: what the critic sees, the same for every rubric here; '' for a driver that reads no view.
        fence: the random token that fences the call's texts inside the view.
        rubrics: at least one; one verdict each is due, in this order.
        reading: what the guard saw in this call.
        seen_share: the share of the characters of the call's texts that the view holds, 0..1; less than 1
            where it was too long for the critic's window and its middle left out.
    """

    call: CallView
    view: str
    fence: str
    rubrics: tuple[Rubric, ...]
    reading: "Reading"
    seen_share: float = 1.0

    @property
    def names(self) -> list[str]:
        """The rubrics' names, in their order."""
        return [rubric.name for rubric in self.rubrics]


@dataclass(frozen=True)
class Usage:
    """Tokens of one judgement, whatever number of requests it takes."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, kw_only=True)
class Charge:
    """Who answered, and what it used: all that a price needs. No driver knows prices.

    Attributes:
        input_tokens, output_tokens: this rubric's part of the request's usage; None where nobody says.
        cached_input_tokens: how many of `input_tokens` the provider had from its cache; None where it
            does not say.
        cache_write_tokens: how many of them it wrote to its cache, which some charge more for.
        charged: whether it may have been paid for; a request that was turned down was not.
    """

    model_reported: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    charged: bool = True


@dataclass(frozen=True)
class Answer(Charge):
    """A level distribution: seven probabilities for the levels 1..7 that sum to 1.

    Attributes:
        draws: how many levels were drawn where the driver gives one at a time; None where it gives
            probabilities.
        why: share by feature, where the critic can say.
        label_mass: the probability that the provider gave to anything but the seven levels, which were
            then scaled to sum to 1; None where it could answer nothing else.
    """

    probabilities: tuple[float, ...]
    confidence: float | None = None
    draws: int | None = None
    label_mass: float | None = None
    why: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Refused(Charge):
    """The critic declined this question. A missing answer, never a 1."""

    reason: str


@dataclass(frozen=True)
class CannotJudge(Charge):
    """This critic cannot judge such a call under this rubric, and says why (status `ungraded`)."""

    reason: str
    charged: bool = field(default=False, kw_only=True)


@dataclass(frozen=True)
class Unusable(Charge):
    """What came back is no seven probabilities (status `failed`)."""

    reason: str


Verdict = Answer | Refused | CannotJudge | Unusable


class Driver(Protocol):
    """One configured critic.

    Attributes:
        name: as configured: "local", "openai:gpt-6-luna".
        leaves_machine: whether the texts go to somebody else, so that LOWLIGHT_EGRESS decides.
        reads_view: whether it wants the rendered view.
        asks_together: whether one request takes several rubrics; else each gets a case of its own, so that
            one that fails costs the others nothing.
        view_chars_max: a view longer than this is shown with its middle left out.
    """

    name: str
    leaves_machine: bool
    reads_view: bool
    asks_together: bool
    view_chars_max: int

    @property
    def limits(self) -> Limits | None:
        """What the provider's headers last said is left; None where they say nothing."""

    def at_most(self, case: Case) -> Usage:
        """Return no fewer tokens than judging this case can take, all of its requests together.

        What money is reserved by before the first of them, so it never guesses low: a byte of UTF-8 is
        taken for a token, which no tokeniser in use exceeds.
        """

    async def judge(self, case: Case) -> Sequence[Verdict]:
        """Return one verdict per rubric of the case, in its order.

        Raises:
            CriticUnavailable: worth another try.
            CriticMisconfigured: no call can be judged until somebody acts.
        """

    async def close(self) -> None:
        """Close its connections."""


def seven(values: Sequence[object]) -> tuple[float, ...]:
    """Return the seven probabilities of the levels 1..7, scaled to sum to exactly 1.

    Raises:
        MalformedAnswer: not seven finite numbers of at least 0 whose sum is within .02 of 1.
    """
    numbers: list[float] = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise MalformedAnswer(f"a probability is {value!r}, which is no finite number")
        if value < 0:
            raise MalformedAnswer(f"a probability is {value!r}, which is below 0")
        numbers.append(float(value))
    if len(numbers) != 7:
        raise MalformedAnswer(f"{len(numbers)} probabilities instead of seven")
    total = math.fsum(numbers)
    if abs(total - 1.0) > SUM_TOLERANCE:
        raise MalformedAnswer(f"the seven probabilities sum to {total:.4g} instead of 1")
    return tuple(number / total for number in numbers)


def score_of(probabilities: Sequence[float]) -> float:
    """Return 1 + the sum of i * p_i over positions i = 0..6, within 1..7 despite rounding."""
    return min(7.0, max(1.0, 1.0 + math.fsum(i * p for i, p in enumerate(probabilities))))


def tokens_at_most(request: Mapping[str, Any]) -> int:
    """Return no fewer tokens than a request's JSON can be: its bytes, and some for the frame."""
    return len(json.dumps(request, ensure_ascii=False, default=str).encode("utf-8", "replace")) + 500


def count_in(usage: object, name: str) -> int | None:
    """Return a count out of parsed JSON or an SDK's object; None where it is no whole number from 0 on."""
    value = usage.get(name) if isinstance(usage, Mapping) else getattr(usage, name, None)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def share_in(value: object) -> float | None:
    """Return a share that a provider named; None where it is no number in 0..1."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    return None


def about_parts(
    parts: int,
    *,
    model_reported: str | None,
    input_tokens: int | None,
    output_tokens: int | None,
    cached_input_tokens: int | None = None,
    cache_write_tokens: int | None = None,
) -> list[dict[str, Any]]:
    """Return a request's `Charge`, split among its rubrics so that their parts sum to the whole."""
    split = {
        "input_tokens": in_parts(input_tokens, parts),
        "output_tokens": in_parts(output_tokens, parts),
        "cached_input_tokens": in_parts(cached_input_tokens, parts),
        "cache_write_tokens": in_parts(cache_write_tokens, parts),
    }
    return [
        {"model_reported": model_reported, **{name: counts[i] for name, counts in split.items()}}
        for i in range(parts)
    ]


def in_parts(total: int | None, parts: int) -> list[int | None]:
    """Split a request's tokens among its rubrics, so that the parts sum to the whole."""
    if total is None:
        return [None] * parts
    each, rest = divmod(total, parts)
    return [each + (i < rest) for i in range(parts)]
