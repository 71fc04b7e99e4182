"""What a batch endpoint is to the worker: many requests handed over at once, answered within a day, cheaper.

Flow: critic.batching.lane -> `Batcher.bodies` of each case -> `Batcher.send`, once -> `Batcher.look` until it
ended -> `Batcher.fetch`: one outcome a request, read as the driver reads its direct answers -> `verdicts`.

A batch is the same critic: the same request for the same price table, delivered another way. Whoever asks in
another way (chat instead of Decisions) is another critic and has another name.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from critic.drivers.base import Case, CriticError, CriticUnavailable, Driver, Verdict
from critic.drivers.draws import Draw
from critic.drivers.statuses import Failure, short, verdict_on

T = TypeVar("T")

#: Bounds on one batch of ours. Providers take more (OpenAI 50,000 requests and 200 MB, Anthropic 100,000 and
#: 256 MB); its answers are held in memory, in a process that stays below 250 MB.
REQUESTS_MAX, BYTES_MAX = 5_000, 32 * 1024 * 1024
#: Longest wait for the hand-over or the answers of a whole batch, in seconds.
WHOLE_BATCH_S = 300.0


class SentInDoubt(CriticError):
    """The provider may have taken the batch and may not: the connection ended before it said so.

    Look for it (`Batcher.find`) before anything is sent again.
    """


class TurnedDown(CriticError):
    """The provider refused the batch as it is: nothing was asked and nothing is charged."""


class BatchGone(CriticError):
    """The provider knows no such batch (any more)."""


@dataclass(frozen=True)
class Line:
    """One request of a batch. `custom_id` is ours: at most 64 of A-Z, a-z, 0-9, "_" and "-"."""

    custom_id: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Sought:
    """A batch that was perhaps sent.

    Attributes:
        mark: what all of its custom ids begin with.
        since_ms: it was not sent before.
        known: ids of batches that are others.
    """

    mark: str
    requests: int
    since_ms: int
    known: frozenset[str]


@dataclass(frozen=True)
class Found:
    """What the provider's list says. `maybe_later`: one that runs may be it, and shows when it has ended."""

    provider_id: str | None
    maybe_later: bool = False


@dataclass(frozen=True)
class State:
    """How far a batch is.

    Attributes:
        ended: no more answers will come; `fetch` returns those there are.
        turned_down: why the provider ran none of it.
        no_room: it was turned down because too much is queued already, or a quota is spent: later it may run.
    """

    ended: bool
    turned_down: str | None = None
    no_room: bool = False


@dataclass(frozen=True)
class Missed:
    """A request without an answer, which was not charged. `again`: whether to ask once more."""

    reason: str
    again: bool


#: What one request gave: a draw, or the verdict of a critic that is asked once.
Outcome = Draw | Verdict | Missed


@dataclass(frozen=True)
class Results:
    """The outcomes of an ended batch by custom id, in no order, each once.

    Attributes:
        whole: False where the file broke off, so that answers may be missing that were paid for.
    """

    outcomes: Mapping[str, Outcome]
    whole: bool


class Batcher(Protocol):
    """A provider's batch endpoint. It raises CriticUnavailable and CriticMisconfigured as drivers do."""

    name: str
    #: how many requests judge one case: three where it is drawn three times
    requests_a_case: int

    def bodies(self, case: Case) -> Sequence[Mapping[str, Any]]:
        """Return the requests that judge a case."""

    async def send(self, mark: str, lines: Sequence[Line], /) -> str:
        """Hand a batch over and return the provider's id of it.

        Raises:
            SentInDoubt: it may be there and its id is not known.
            TurnedDown: see there. Where anything else is raised, nothing was taken either.
        """

    async def find(self, sought: Sought) -> Found:
        """Look for a batch whose id was never noted."""

    async def look(self, provider_id: str) -> State:
        """Return how far a batch is.

        Raises:
            BatchGone: see there.
        """

    async def fetch(self, provider_id: str) -> Results:
        """Return what an ended batch gave.

        Raises:
            BatchGone: its results are no longer kept.
        """

    async def forget(self, provider_id: str) -> None:
        """Have the provider delete the texts and answers of an ended batch."""

    def verdicts(self, outcomes: Sequence[Draw | Verdict], names: Sequence[str]) -> Sequence[Verdict]:
        """Return one verdict per rubric of a case from the outcomes of its requests, at least one."""

    async def close(self) -> None:
        """Close its connections."""


async def asked_by(
    sdk: Any,
    critic: str,
    asked: Awaitable[T],
    *,
    within_s: float,
    failure_of: Callable[[Any], Failure],
    on_404: CriticError | None = None,
) -> T:
    """Await what a provider's batch endpoint is asked, each of its SDK's errors as what it means here.

    Args:
        sdk: the package `openai` or `anthropic`; both are made by one generator and name their errors alike.
        failure_of: what an error status means, as the driver reads it.
        on_404: raised where the provider knows no such thing.

    Raises:
        CriticUnavailable, CriticMisconfigured: as drivers do.
        TurnedDown: any other error status.
    """
    try:
        async with asyncio.timeout(within_s):
            return await asked
    except (TimeoutError, sdk.APITimeoutError) as error:
        raise CriticUnavailable(f"{critic} gave no answer in time") from error
    except sdk.APIConnectionError as error:
        said = short(error.__cause__ or error)
        raise CriticUnavailable(f"{critic} could not be reached: {said}") from error
    except sdk.APIStatusError as error:
        if error.status_code == 404 and on_404 is not None:
            raise on_404 from error
        reason = getattr(verdict_on(failure_of(error)), "reason", str(error))
        raise TurnedDown(reason) from error
    except (sdk.APIError, ValueError, AttributeError) as error:
        # An SDK does not validate what it parsed: a field may be missing.
        raise CriticUnavailable(f"{critic} sent what no batch looks like: {short(error)}") from error


@runtime_checkable
class Batching(Protocol):
    """A driver whose provider has a batch endpoint for what it asks."""

    def batcher(self) -> Batcher:
        """Return its batch endpoint; connections open when it is first used."""


def batcher_of(driver: Driver) -> Batcher | None:
    """Return a driver's batch endpoint; None where there is none for what it asks."""
    return driver.batcher() if isinstance(driver, Batching) else None


def no_batch_reason(critic: str) -> str:
    """Return why a critic has no batch way and which one has, in words for whoever asked for it."""
    kind, _, model = critic.partition(":")
    if kind == "openai":
        return (
            f"{critic} asks OpenAI Decisions, which has no batch endpoint. Chat has one: put "
            f"chat-draws:https://api.openai.com/v1#{model} into LOWLIGHT_CRITIC behind it and name that with "
            "--critic; its scores are kept as those of another critic. Or leave --batch out."
        )
    return f"{critic} has no batch endpoint; leave --batch out."
