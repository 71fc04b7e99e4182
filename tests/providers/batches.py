"""Loopback batch endpoints: OpenAI's files and batches, Anthropic's message batches, in the SDKs' own types.

Flow: a real SDK -> upload, create, look, list, content, delete -> each request of a batch is judged as the
direct endpoint would, when its results are fetched. Lines come back in reverse order unless told otherwise.
"""

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message as Mail
from email.parser import BytesParser
from typing import Any

from anthropic.types.messages import MessageBatch
from openai.types import Batch, FileDeleted, FileObject
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.providers import anthropic_messages, chat
from tests.providers.loopback import Fault

CREATED_S = 4_000_000_000  # later than any batch of ours was written down


class _Sent(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class FileLine(_Sent):
    custom_id: str = Field(pattern=r"^[\w-]{1,64}$")
    method: str = Field(pattern="^POST$")
    url: str = Field(pattern="^/v1/chat/completions$")
    body: chat.ChatRequest


class BatchAsked(_Sent):
    input_file_id: str
    endpoint: str = Field(pattern="^/v1/chat/completions$")
    completion_window: str = Field(pattern="^24h$")
    metadata: dict[str, str]


class MessageAsked(_Sent):
    custom_id: str = Field(pattern=r"^[\w-]{1,64}$")
    params: anthropic_messages.MessagesRequest


class MessagesAsked(_Sent):
    requests: list[MessageAsked] = Field(min_length=1, max_length=100_000)


@dataclass
class Kept:
    """One batch: its requests by custom id."""

    id: str
    requests: dict[str, Any]
    metadata: dict[str, str] = field(default_factory=dict)
    input_file_id: str = ""
    ended_as: str | None = None
    deleted: bool = False


class Batches:
    """What both endpoints have: batches, and what is to go wrong with them.

    Attributes:
        batch_faults: by what is asked (upload, create, look, list, results, delete): the next answers.
        ends_as: how a batch ends when it is looked at; None: it goes on.
        takes_it_anyway: a fault of "create" comes after the batch was taken.
        line_fault: what one request gives instead of an answer, by its place in the batch: "errored",
            "invalid", "expired", "canceled" or "missing".
        twice: every line is in the results twice.
        cut_to: share of the results that comes, by fetch; after the last, all of them.
    """

    def __init__(self) -> None:
        self.batch_faults: dict[str, deque[Fault | None]] = defaultdict(deque)
        self.ends_as: str | None = "completed"
        self.takes_it_anyway = False
        self.line_fault: Callable[[int], str | None] = lambda _place: None
        self.twice = False
        self.cut_to: deque[float] = deque()
        self.kept: list[Kept] = []
        self.asked: list[str] = []

    def fault(self, what: str) -> Fault | None:
        """Note what was asked, and return what is to go wrong with it."""
        self.asked.append(what)
        return self.batch_faults[what].popleft() if self.batch_faults[what] else None

    def of(self, batch_id: str) -> Kept | None:
        """Return a batch that is still kept."""
        return next((one for one in self.kept if one.id == batch_id and not one.deleted), None)

    def lines(self, batch: Kept, answer: Callable[[str, Any, str | None], Any]) -> Iterator[bytes]:
        """Yield the lines of a batch's results, last request first."""
        for place, (custom_id, sent) in reversed(list(enumerate(batch.requests.items()))):
            wrong = self.line_fault(place)
            if wrong != "missing":
                line = json.dumps(answer(custom_id, sent, wrong)).encode() + b"\n"
                yield line * (2 if self.twice else 1)

    def cut(self, content: bytes) -> bytes:
        """Return as much of a file as is to come this time."""
        return content[: int(len(content) * self.cut_to.popleft())] if self.cut_to else content


class ChatBatches(chat.ChatProvider, Batches):
    """`/v1/files` and `/v1/batches` beside `/v1/chat/completions`."""

    def __init__(self) -> None:
        chat.ChatProvider.__init__(self)
        Batches.__init__(self)
        self.files: dict[str, bytes] = {}
        #: codes of a batch that is turned down
        self.error_code = "invalid_json_line"
        self.app.router.routes.extend(
            [
                Route("/v1/files", self._upload, methods=["POST"]),
                Route("/v1/files/{id}/content", self._content),
                Route("/v1/files/{id}", self._delete, methods=["DELETE"]),
                Route("/v1/batches", self._create, methods=["POST"]),
                Route("/v1/batches", self._list),
                Route("/v1/batches/{id}", self._look),
            ]
        )

    async def _upload(self, request: Request) -> Response:
        if fault := self.fault("upload"):
            return self.error(fault)
        form = _form(request.headers["content-type"], await request.body())
        assert form["purpose"] == b"batch"
        file_id = f"file-{len(self.files)}"
        self.files[file_id] = form["file"]
        made = {
            "id": file_id,
            "bytes": len(form["file"]),
            "created_at": CREATED_S,
            "filename": "requests.jsonl",
            "object": "file",
            "purpose": "batch",
            "status": "processed",
        }
        return JSONResponse(FileObject.model_validate(made).model_dump(mode="json"))

    async def _create(self, request: Request) -> Response:
        fault = self.fault("create")
        if fault and not self.takes_it_anyway:
            return self.error(fault)
        asked = BatchAsked.model_validate_json(await request.body())
        lines = [FileLine.model_validate_json(line) for line in self.files[asked.input_file_id].splitlines()]
        requests = {line.custom_id: line.body for line in lines}
        assert len(requests) == len(lines) <= 50_000, "custom ids must be unique"
        batch = Kept(f"batch_{len(self.kept)}", requests, asked.metadata, asked.input_file_id)
        self.kept.append(batch)
        if fault:
            await asyncio.sleep(fault.hang_s)
            return self.error(fault)
        return JSONResponse(self._told(batch))

    async def _list(self, request: Request) -> Response:
        if fault := self.fault("list"):
            return self.error(fault)
        told = [self._told(one) for one in reversed(self.kept) if not one.deleted]
        return JSONResponse({"object": "list", "data": told, "has_more": False})

    async def _look(self, request: Request) -> Response:
        if fault := self.fault("look"):
            return self.error(fault)
        batch = self.of(request.path_params["id"])
        if batch is None:
            return self.error(Fault(404, message="No batch found"))
        batch.ended_as = batch.ended_as or self.ends_as
        return JSONResponse(self._told(batch))

    async def _content(self, request: Request) -> Response:
        if fault := self.fault("results"):
            return self.error(fault)
        kind, batch_id = request.path_params["id"].split("-", 1)
        batch = self.of(batch_id)
        assert batch is not None
        lines = list(self.lines(batch, self._line))
        answered = [line for line in lines if b'"status_code": 200' in line]
        wanted = answered if kind == "out" else [line for line in lines if line not in answered]
        content = b"".join(wanted)
        return Response(self.cut(content) if kind == "out" else content)

    async def _delete(self, request: Request) -> Response:
        self.fault("delete")
        file_id = request.path_params["id"]
        self.files.pop(file_id, None)
        made = FileDeleted.model_validate({"id": file_id, "object": "file", "deleted": True})
        return JSONResponse(made.model_dump(mode="json"))

    def _line(self, custom_id: str, sent: chat.ChatRequest, wrong: str | None) -> dict[str, Any]:
        line: dict[str, Any] = {"id": f"batch_req_{custom_id}", "custom_id": custom_id, "error": None}
        if wrong is None:
            body = json.loads(self._completion(sent))
            return {**line, "response": {"status_code": 200, "request_id": "req", "body": body}}
        if wrong in ("errored", "invalid"):
            error = {"message": "as programmed", "type": "invalid_request_error", "param": None, "code": None}
            status = 500 if wrong == "errored" else 400
            return {
                **line,
                "response": {"status_code": status, "request_id": "req", "body": {"error": error}},
            }
        code = "batch_expired" if wrong == "expired" else "batch_cancelled"
        return {**line, "response": None, "error": {"code": code, "message": "not executed"}}

    def _told(self, batch: Kept) -> dict[str, Any]:
        ended = batch.ended_as
        ran = ended not in (None, "failed")
        made: dict[str, Any] = {
            "id": batch.id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "created_at": CREATED_S,
            "input_file_id": batch.input_file_id,
            "status": ended or "in_progress",
            "metadata": batch.metadata,
            "output_file_id": f"out-{batch.id}" if ran else None,
            "error_file_id": f"err-{batch.id}" if ran else None,
            "request_counts": {"total": len(batch.requests), "completed": 0, "failed": 0},
        }
        if ran:
            answered = sum(self.line_fault(place) is None for place in range(len(batch.requests)))
            made["request_counts"] |= {"completed": answered, "failed": len(batch.requests) - answered}
        if ended == "failed":
            error = {"code": self.error_code, "message": "as programmed", "line": 1, "param": None}
            made["errors"] = {"object": "list", "data": [error]}
        return Batch.model_validate(made).model_dump(mode="json")


class MessageBatches(anthropic_messages.MessagesProvider, Batches):
    """`/v1/messages/batches` beside `/v1/messages`."""

    def __init__(self) -> None:
        anthropic_messages.MessagesProvider.__init__(self)
        Batches.__init__(self)
        self.app.router.routes.extend(
            [
                Route("/v1/messages/batches", self._create, methods=["POST"]),
                Route("/v1/messages/batches", self._list),
                Route("/v1/messages/batches/{id}", self._look),
                Route("/v1/messages/batches/{id}", self._delete, methods=["DELETE"]),
                Route("/v1/messages/batches/{id}/results", self._results),
            ]
        )

    async def _create(self, request: Request) -> Response:
        fault = self.fault("create")
        if fault and not self.takes_it_anyway:
            return self.error(fault)
        asked = MessagesAsked.model_validate_json(await request.body())
        requests = {one.custom_id: one.params for one in asked.requests}
        assert len(requests) == len(asked.requests), "custom ids must be unique"
        batch = Kept(f"msgbatch_{len(self.kept)}", requests)
        self.kept.append(batch)
        if fault:
            await asyncio.sleep(fault.hang_s)
            return self.error(fault)
        return JSONResponse(self._told(batch))

    async def _list(self, request: Request) -> Response:
        if fault := self.fault("list"):
            return self.error(fault)
        for one in self.kept:
            one.ended_as = one.ended_as or self.ends_as
        told = [self._told(one) for one in reversed(self.kept) if not one.deleted]
        return JSONResponse({"data": told, "has_more": False, "first_id": None, "last_id": None})

    async def _look(self, request: Request) -> Response:
        if fault := self.fault("look"):
            return self.error(fault)
        batch = self.of(request.path_params["id"])
        if batch is None:
            return self.error(Fault(404))
        batch.ended_as = batch.ended_as or self.ends_as
        return JSONResponse(self._told(batch))

    async def _results(self, request: Request) -> Response:
        if fault := self.fault("results"):
            return self.error(fault)
        batch = self.of(request.path_params["id"])
        assert batch is not None
        content = self.cut(b"".join(self.lines(batch, self._line)))
        return Response(content, media_type="application/x-jsonl")

    async def _delete(self, request: Request) -> Response:
        self.fault("delete")
        batch = self.of(request.path_params["id"])
        assert batch is not None
        batch.deleted = True
        return JSONResponse({"id": batch.id, "type": "message_batch_deleted"})

    def _line(
        self, custom_id: str, sent: anthropic_messages.MessagesRequest, wrong: str | None
    ) -> dict[str, Any]:
        result: dict[str, Any] = {"type": wrong}
        if wrong is None:
            result = {"type": "succeeded", "message": json.loads(self._message(sent))}
        elif wrong in ("errored", "invalid"):
            kind = "api_error" if wrong == "errored" else "invalid_request_error"
            error = {"type": kind, "message": "as programmed"}
            result = {"type": "errored", "error": {"type": "error", "error": error, "request_id": None}}
        return {"custom_id": custom_id, "result": result}

    def _told(self, batch: Kept) -> dict[str, Any]:
        n, ended = len(batch.requests), batch.ended_as is not None
        counts = dict.fromkeys(("canceled", "errored", "expired", "processing", "succeeded"), 0)
        made = {
            "id": batch.id,
            "type": "message_batch",
            "created_at": "2090-01-01T00:00:00Z",
            "expires_at": "2090-01-02T00:00:00Z",
            "ended_at": "2090-01-01T01:00:00Z" if ended else None,
            "processing_status": "ended" if ended else "in_progress",
            "request_counts": {**counts, "succeeded" if ended else "processing": n},
            "results_url": f"{self.url}/v1/messages/batches/{batch.id}/results" if ended else None,
        }
        told = TypeAdapter(MessageBatch).validate_python(made)
        return json.loads(TypeAdapter(MessageBatch).dump_json(told))  # type: ignore[no-any-return]


def _form(content_type: str, body: bytes) -> dict[str, bytes]:
    """Return the parts of a multipart form."""
    mail: Mail = BytesParser().parsebytes(f"content-type: {content_type}\r\n\r\n".encode() + body)
    parts: dict[str, bytes] = {}
    for part in mail.get_payload():
        assert isinstance(part, Mail)
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        assert isinstance(name, str)
        assert isinstance(content, bytes)
        parts[name] = content
    return parts
