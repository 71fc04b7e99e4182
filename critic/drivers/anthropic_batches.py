"""Anthropic messages by batch: `messages.batches`, the same requests as asked one by one.

Flow: `AnthropicBatcher.send` -> `look` -> `fetch` (one JSON line a request, in no order) -> `draw_of`, as for
a direct answer. A batch there carries no note of ours: one whose id was lost is told by its results, whose
custom ids begin with our mark.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from critic.drivers.base import Case, CriticError, CriticUnavailable, Verdict
from critic.drivers.batching import (
    WHOLE_BATCH_S,
    BatchGone,
    Found,
    Line,
    Missed,
    Outcome,
    Results,
    SentInDoubt,
    Sought,
    State,
    asked_by,
)
from critic.drivers.draws import DRAWS, Draw, verdicts_of
from critic.drivers.statuses import Failure, short, verdict_on

if TYPE_CHECKING:
    import anthropic

T = TypeVar("T")

#: A clock may be ahead of the provider's.
SLACK_S = 3600
#: Errors of one request that are its own fault; any other is worth asking again.
_OWN_FAULT = {"invalid_request_error": 400, "request_too_large": 413}


class AnthropicBatcher:
    """See `critic.drivers.batching.Batcher`.

    Args:
        client: opens a client of the driver's kind; it is used and closed here.
        failure_of: what an error status means, as the driver reads it.
        parse: one message to a draw or a verdict, as the driver reads its direct answers.
    """

    requests_a_case = DRAWS

    def __init__(
        self,
        name: str,
        *,
        client: Callable[[], "anthropic.AsyncAnthropic"],
        timeout_s: float,
        bodies: Callable[[Case], Sequence[Mapping[str, Any]]],
        failure_of: Callable[["anthropic.APIStatusError"], Failure],
        parse: Callable[[Any], Draw | Verdict],
    ) -> None:
        self.name = name
        self.bodies = bodies
        self._open = client
        self._opened: anthropic.AsyncAnthropic | None = None
        self._timeout_s = timeout_s
        self._failure_of = failure_of
        self._parse = parse

    async def send(self, _mark: str, lines: Sequence[Line], /) -> str:
        """See `Batcher.send`."""
        requests: Any = [{"custom_id": line.custom_id, "params": line.body} for line in lines]
        try:
            batch = await self._asked(
                lambda client: client.messages.batches.create(requests=requests, timeout=WHOLE_BATCH_S),
                within_s=WHOLE_BATCH_S,
            )
        except CriticUnavailable as error:
            raise SentInDoubt(str(error)) from error
        if not isinstance(batch.id, str) or not batch.id:
            raise SentInDoubt(f"{self.name} took a batch and named no id")
        return batch.id

    async def find(self, sought: Sought) -> Found:
        """See `Batcher.find`. One that runs and has as many requests may be it."""
        since_s = sought.since_ms / 1000 - SLACK_S

        async def _candidates(client: "anthropic.AsyncAnthropic") -> list[Any]:
            candidates = []
            async for batch in client.messages.batches.list(limit=100):
                if batch.created_at.timestamp() < since_s:
                    break
                n = _requests_in(batch.request_counts)
                if n == sought.requests and batch.id not in sought.known:
                    candidates.append(batch)
            return candidates

        maybe_later = False
        for batch in await self._asked(_candidates):
            if batch.processing_status != "ended":
                maybe_later = True
            elif await self._begins_with(batch.id, sought.mark):
                return Found(batch.id)
        return Found(None, maybe_later)

    async def look(self, provider_id: str) -> State:
        """See `Batcher.look`."""
        gone = BatchGone(f"{self.name} knows no batch {provider_id}")
        batch = await self._asked(lambda client: client.messages.batches.retrieve(provider_id), on_404=gone)
        if batch.archived_at is not None:
            raise BatchGone(f"{self.name} no longer keeps the results of {provider_id}")
        return State(ended=batch.processing_status == "ended")

    async def fetch(self, provider_id: str) -> Results:
        """See `Batcher.fetch`."""
        outcomes: dict[str, Outcome] = {}
        whole = True

        async def _read(client: "anthropic.AsyncAnthropic") -> None:
            nonlocal whole
            said = (await client.messages.batches.retrieve(provider_id)).request_counts
            lines = _lines(await client.messages.batches.results(provider_id, timeout=WHOLE_BATCH_S))
            async for line in lines:
                if line is None:
                    whole = False
                elif isinstance(line.custom_id, str):
                    # A line that is there twice is one answer; the first that came counts.
                    outcomes.setdefault(line.custom_id, self._outcome(line.result))
            # The file may also break off at the end of a line.
            whole &= len(outcomes) >= _requests_in(said)

        gone = BatchGone(f"{self.name} no longer keeps the results of {provider_id}")
        await self._asked(_read, within_s=WHOLE_BATCH_S, on_404=gone)
        return Results(outcomes, whole)

    async def forget(self, provider_id: str) -> None:
        """See `Batcher.forget`."""
        gone = BatchGone("it is gone")
        try:
            await self._asked(lambda client: client.messages.batches.delete(provider_id), on_404=gone)
        except BatchGone:
            return

    def verdicts(self, outcomes: Sequence[Draw | Verdict], names: Sequence[str]) -> Sequence[Verdict]:
        """See `Batcher.verdicts`."""
        return verdicts_of(outcomes, names)

    async def close(self) -> None:
        """Close the connections."""
        if self._opened is not None:
            await self._opened.close()

    @property
    def _client(self) -> "anthropic.AsyncAnthropic":
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    async def _begins_with(self, provider_id: str, mark: str) -> bool:
        async def _first(client: "anthropic.AsyncAnthropic") -> bool:
            results = await client.messages.batches.results(provider_id, timeout=WHOLE_BATCH_S)
            async for line in _lines(results):
                await results.close()
                return line is not None and str(line.custom_id).startswith(f"{mark}-")
            return False

        return await self._asked(_first)

    def _outcome(self, result: Any) -> Outcome:
        kind = getattr(result, "type", None)
        if kind == "succeeded":
            return self._parse(getattr(result, "message", None))
        if kind == "expired":
            return Missed("the batch expired before it was asked", again=True)
        if kind == "canceled":
            return Missed("the batch was cancelled at the provider", again=False)
        error = getattr(getattr(result, "error", None), "error", None)
        type_, said = str(getattr(error, "type", None)), short(getattr(error, "message", None) or kind)
        status = _OWN_FAULT.get(type_)
        if status is not None:
            too_long = "prompt is too long" in said
            failure = Failure(self.name, status, said, {}, key_variable="", too_long=too_long)
            return verdict_on(failure)
        return Missed(f"{self.name} did not answer it in its batch: {said}", again=True)

    async def _asked(
        self,
        ask: Callable[["anthropic.AsyncAnthropic"], Awaitable[T]],
        *,
        within_s: float | None = None,
        on_404: CriticError | None = None,
    ) -> T:
        import anthropic

        return await asked_by(
            anthropic,
            self.name,
            ask(self._client),
            within_s=within_s or self._timeout_s,
            failure_of=self._failure_of,
            on_404=on_404,
        )


def _requests_in(counts: Any) -> int:
    """Return how many requests a batch has; all kinds sum to that at any time."""
    return int(counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired)


async def _lines(results: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Yield the lines of a results file, and None where it breaks off."""
    import httpx2

    try:
        async for line in results:
            yield line
    except (ValueError, httpx2.HTTPError):
        yield None
