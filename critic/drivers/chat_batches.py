"""Chat completions by batch: a file of requests to /v1/files, a batch of it to /v1/batches (OpenAI's form).

Flow: `ChatBatcher.send` (JSONL; the batch's metadata carry our mark) -> `look` -> `fetch` (an output and an
error file, lines in any order) -> the parser of `critic.drivers.chat_draws` or `.chat_logprobs`.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from critic.drivers.address import Address
from critic.drivers.base import (
    Case,
    CriticError,
    CriticMisconfigured,
    CriticUnavailable,
    Verdict,
    count_in,
)
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
from critic.drivers.draws import Draw
from critic.drivers.openai_errors import failure_of
from critic.drivers.statuses import Failure, short, verdict_on

if TYPE_CHECKING:
    import openai

T = TypeVar("T")

ENDPOINT: Final = "/v1/chat/completions"
#: The key in a batch's metadata under which our mark stands.
MARK = "lowlight"
#: A clock may be ahead of the provider's.
SLACK_S = 3600
#: Codes of requests that were never run, and of batches that may be taken later.
_NOT_RUN = {"batch_expired"}
_CANCELLED = {"batch_cancelled"}
_NO_ROOM = {
    "token_limit_exceeded",
    "request_limit_exceeded",
    "insufficient_quota",
    "billing_hard_limit_reached",
    "rate_limit_exceeded",
}


class ChatBatcher:
    """See `critic.drivers.batching.Batcher`.

    Args:
        bodies: the requests of a case.
        parse: one completion to a draw or a verdict, as the driver reads its direct answers.
        verdicts: the outcomes of a case's requests to its verdicts.
    """

    def __init__(
        self,
        name: str,
        address: Address,
        *,
        api_key: str | None,
        timeout_s: float,
        requests_a_case: int,
        bodies: Callable[[Case], Sequence[Mapping[str, Any]]],
        parse: Callable[[Mapping[str, Any]], Draw | Verdict],
        verdicts: Callable[[Sequence[Draw | Verdict], Sequence[str]], Sequence[Verdict]],
    ) -> None:
        self.name = name
        self.requests_a_case = requests_a_case
        self.bodies = bodies
        self.verdicts = verdicts
        self._address = address
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._parse = parse
        self._opened: openai.AsyncOpenAI | None = None

    async def send(self, mark: str, lines: Sequence[Line], /) -> str:
        """See `Batcher.send`. An uploaded file alone runs nothing and costs nothing."""
        content = await asyncio.to_thread(_jsonl, lines)
        name = f"{MARK}-{mark}.jsonl"
        no_endpoint = f"{self.name} has no batch endpoint (404 at {self._address.base_url}/files)"
        uploaded = await self._asked(
            lambda client: client.files.create(file=(name, content, "application/jsonl"), purpose="batch"),
            within_s=WHOLE_BATCH_S,
            on_404=CriticMisconfigured(f"{no_endpoint}: rescore without --batch"),
        )
        try:
            batch = await self._asked(
                lambda client: client.batches.create(
                    input_file_id=uploaded.id,
                    endpoint=ENDPOINT,
                    completion_window="24h",
                    metadata={MARK: mark},
                )
            )
        except CriticUnavailable as error:
            raise SentInDoubt(str(error)) from error
        if not isinstance(batch.id, str) or not batch.id:
            raise SentInDoubt(f"{self.name} took a batch and named no id")
        return batch.id

    async def find(self, sought: Sought) -> Found:
        """See `Batcher.find`; the list is newest first."""
        since_s = sought.since_ms / 1000 - SLACK_S

        async def _find(client: "openai.AsyncOpenAI") -> Found:
            async for batch in client.batches.list(limit=100):
                if isinstance(batch.metadata, Mapping) and batch.metadata.get(MARK) == sought.mark:
                    return Found(batch.id)
                if isinstance(batch.created_at, int | float) and batch.created_at < since_s:
                    break
            return Found(None)

        return await self._asked(_find)

    async def look(self, provider_id: str) -> State:
        """See `Batcher.look`."""
        batch = await self._batch(provider_id)
        if batch.status == "failed":
            errors = (batch.errors.data if batch.errors else None) or []
            codes = {str(error.code) for error in errors}
            said = (
                "; ".join(short(error.message or error.code) for error in errors[:3]) or "no word about why"
            )
            why = f"{self.name} turned the batch down: {short(said)}"
            return State(ended=True, turned_down=why, no_room=bool(codes & _NO_ROOM))
        return State(ended=batch.status in ("completed", "expired", "cancelled"))

    async def fetch(self, provider_id: str) -> Results:
        """See `Batcher.fetch`."""
        batch = await self._batch(provider_id)
        answered: dict[str, Outcome] = {}
        failed: dict[str, Outcome] = {}
        whole = True
        for file_id, outcomes in ((batch.output_file_id, answered), (batch.error_file_id, failed)):
            if file_id:
                content, complete = await self._content(file_id)
                whole &= await asyncio.to_thread(self._read, content, outcomes) and complete
        # A file may also break off at the end of a line.
        said = count_in(batch.request_counts, "completed")
        return Results({**failed, **answered}, whole and len(answered) >= (said or 0))

    async def forget(self, provider_id: str) -> None:
        """See `Batcher.forget`."""
        batch = await self._batch(provider_id)
        for file_id in (batch.input_file_id, batch.output_file_id, batch.error_file_id):
            if file_id:
                with contextlib.suppress(BatchGone):
                    await self._asked(_deletion(file_id), on_404=BatchGone("it is gone"))

    async def close(self) -> None:
        """Close the connections."""
        if self._opened is not None:
            await self._opened.close()

    async def _batch(self, provider_id: str) -> Any:
        gone = BatchGone(f"{self.name} knows no batch {provider_id}")
        return await self._asked(lambda client: client.batches.retrieve(provider_id), on_404=gone)

    async def _content(self, file_id: str) -> tuple[bytes, bool]:
        """Return a file, as far as it came, and whether it came to its end."""
        import httpx2

        kept = bytearray()

        async def _streamed(client: "openai.AsyncOpenAI") -> bool:
            async with client.files.with_streaming_response.content(file_id) as answered:
                try:
                    async for part in answered.iter_bytes():
                        kept.extend(part)
                except httpx2.HTTPError:
                    return False
            return True

        gone = BatchGone(f"{self.name} no longer keeps the file {file_id}")
        complete = await self._asked(_streamed, within_s=WHOLE_BATCH_S, on_404=gone)
        return bytes(kept), complete

    def _read(self, content: bytes, outcomes: dict[str, Outcome]) -> bool:
        """Add the outcomes of a file's lines; return whether every line could be read."""
        sound = True
        for line in content.splitlines():
            if not line.strip():
                continue
            try:
                one = json.loads(line)
            except (ValueError, RecursionError):
                sound = False
                continue
            custom_id = one.get("custom_id") if isinstance(one, dict) else None
            if isinstance(custom_id, str):
                # A line that is there twice is one answer; the first that came counts.
                outcomes.setdefault(custom_id, self._outcome(one))
        return sound

    def _outcome(self, line: Mapping[str, Any]) -> Outcome:
        response, error = line.get("response"), line.get("error")
        if isinstance(response, Mapping) and isinstance(response.get("status_code"), int):
            status, body = response["status_code"], response.get("body")
            if status < 300 and isinstance(body, Mapping):
                return self._parse(body)
            try:
                return verdict_on(failure_of(self.name, status, body, {}, key_variable="the key"))
            except CriticError as failed:
                return Missed(str(failed), again=True)
        told = error if isinstance(error, Mapping) else {}
        code = str(told.get("code"))
        said = short(told.get("message") or told.get("code") or "no word about why")
        if code in _CANCELLED:
            return Missed("the batch was cancelled at the provider", again=False)
        if code in _NOT_RUN:
            return Missed("the batch expired before it was asked", again=True)
        return Missed(f"{self.name} did not answer it in its batch: {said}", again=True)

    async def _asked(
        self,
        ask: Callable[["openai.AsyncOpenAI"], Awaitable[T]],
        *,
        within_s: float | None = None,
        on_404: CriticError | None = None,
    ) -> T:
        import openai

        return await asked_by(
            openai,
            self.name,
            ask(self._client),
            within_s=within_s or self._timeout_s,
            failure_of=self._failure,
            on_404=on_404,
        )

    def _failure(self, error: "openai.APIStatusError") -> Failure:
        body = error.body or error.message
        return failure_of(
            self.name, error.status_code, body, error.response.headers, key_variable="the critic's key"
        )

    @property
    def _client(self) -> "openai.AsyncOpenAI":
        if self._opened is None:
            import openai

            self._opened = openai.AsyncOpenAI(
                base_url=self._address.base_url,
                api_key=self._api_key or "none",
                max_retries=0,
                timeout=WHOLE_BATCH_S,
                # Where the texts may go is decided by the address; no answer sends them elsewhere.
                http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),
            )
        return self._opened


def _deletion(file_id: str) -> Callable[["openai.AsyncOpenAI"], Awaitable[Any]]:
    return lambda client: client.files.delete(file_id)


def _jsonl(lines: Sequence[Line]) -> bytes:
    return b"".join(
        json.dumps(
            {"custom_id": line.custom_id, "method": "POST", "url": ENDPOINT, "body": line.body},
            ensure_ascii=False,
        ).encode("utf-8", "replace")
        + b"\n"
        for line in lines
    )
