"""Streamed answers, put together again: events of OpenAI and Anthropic -> a response of the usual shape.

Flow: bytes as they come in -> `Events` -> one dict an event -> `Gathered.add` -> `Gathered.response` ->
`_responses.read_response`. Runs in the application's thread, some 5 us an event (openai's own reading of one
takes 80); of a stream that is stopped early, what came until then is the answer.
"""

import json
from typing import Any, Dict, Iterator, List, Optional

from lowlight._responses import get

#: Characters kept of one streamed answer; the server keeps 256 KiB of a text.
CHARS_MAX = 2 * 1024 * 1024


class Events:
    """Server-sent events out of bytes that may be cut anywhere (WHATWG HTML, 9.2)."""

    def __init__(self) -> None:
        self._rest = b""

    def of(self, part: bytes) -> Iterator[Dict[str, Any]]:
        """Yield the JSON object of each event's data that is complete by now; {"done": True} at the end."""
        if len(self._rest) > CHARS_MAX:  # a line without an end
            self._rest = b""
        lines = (self._rest + part).replace(b"\r\n", b"\n").split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                yield {"done": True}
                continue
            try:
                event = json.loads(data)
            except ValueError:
                continue
            if type(event) is dict:
                yield event


class Gathered:
    """One streamed answer so far.

    Attributes:
        has_begun: whether the user has seen something of it: a text, a refusal, a call of a tool. Thinking is
            not what the user sees.
        is_complete: whether the provider has said why it ended.
        error: what the provider reported instead of an end, {"type", "message"}.
    """

    def __init__(self) -> None:
        self.has_begun = False
        self.is_complete = False
        self.error: Optional[Dict[str, str]] = None
        self._is_any = False
        self._final: Any = None
        self._head: Dict[str, Any] = {}
        self._usage: Dict[str, Any] = {}
        self._blocks: Dict[Any, Dict[str, Any]] = {}
        self._pieces: Dict[Any, List[str]] = {}
        self._chars = 0
        self._shape = ""

    def add(self, event: Any) -> bool:
        """Take the next event, an object or a dict; False where it is none that is known."""
        kind = get(event, "type")
        if type(get(event, "choices")) is list:
            self._add_chat(event)
        elif type(kind) is str and kind.startswith("response."):
            self._add_response(kind, event)
        elif kind == "error" or (kind is None and get(event, "error") is not None):
            self._fail(get(event, "error") or event)
        elif kind in _MESSAGE_EVENTS:
            self._add_message(kind, event)
        elif get(event, "done") is True:
            self.is_complete = True
        else:
            return False
        self._is_any = True
        return True

    def response(self) -> Any:
        """Return what came, in the shape of a response that was not streamed; None where nothing did."""
        if self._final is not None:
            return self._final
        if not self._shape:
            return None
        blocks = [self._block(key) for key in sorted(self._blocks)]
        found = {**self._head, "usage": self._usage or None}
        if self._shape == "choices":
            message: Dict[str, Any] = {
                "content": self._text("content") or None,
                "refusal": self._text("refusal") or None,
                "tool_calls": blocks,
            }
            return {**found, "choices": [{"message": message, "finish_reason": found.pop("finish", None)}]}
        return {**found, self._shape: blocks}

    def _say(self, key: Any, text: Any) -> None:
        if type(text) is str and text:
            self.has_begun = True
            self._chars += len(text)
            if self._chars <= CHARS_MAX:
                self._pieces.setdefault(key, []).append(text)

    def _text(self, key: Any) -> str:
        return "".join(self._pieces.get(key, ()))

    def _fail(self, error: Any) -> None:
        self.is_complete = True
        self.error = {
            "type": str(get(error, "type") or get(error, "code") or "error"),
            "message": str(get(error, "message") or error),
        }

    def _note(self, thing: Any, *names: str) -> None:
        for name in names:
            value = get(thing, name)
            if value is not None:
                self._head[name] = value

    def _block(self, key: Any) -> Dict[str, Any]:
        block = self._blocks[key]
        text = self._text(key)
        kind = block.get("type")
        if self._shape == "choices":
            return {**block, "function": {"name": block.get("name"), "arguments": text}}
        if kind in ("tool_use", "server_tool_use", "mcp_tool_use"):
            try:
                return {**block, "input": json.loads(text) if text else block.get("input")}
            except ValueError:  # stopped in the middle
                return {**block, "input": text}
        if self._shape == "output" and kind == "message" and "content" not in block:
            return {**block, "content": [{"type": "output_text", "text": text}]}
        if kind == "function_call" and "arguments" not in block:
            return {**block, "arguments": text}
        return {**block, "text": text} if kind == "text" else block

    def _add_chat(self, event: Any) -> None:
        """Chunks of chat completions, and of (text) completions; of several choices the first counts."""
        self._shape = "choices"
        self._note(event, "id", "model")
        usage = get(event, "usage")
        if usage is not None:
            self._usage = usage
        for choice in get(event, "choices"):
            if get(choice, "index"):
                continue
            delta = get(choice, "delta")
            self._say("content", get(delta, "content"))
            self._say("content", get(choice, "text"))
            self._say("refusal", get(delta, "refusal"))
            self._say("content", get(get(delta, "audio"), "transcript"))
            calls = get(delta, "tool_calls")
            for call in calls if type(calls) is list else ():
                key = _place(call, "index")
                block = self._blocks.setdefault(key, {})
                inner = get(call, "function") or get(call, "custom")
                for name, value in (("id", get(call, "id")), ("name", get(inner, "name"))):
                    if value:
                        block[name] = value
                self.has_begun = True
                self._say(key, get(inner, "arguments") or get(inner, "input"))
            if get(choice, "finish_reason"):
                self._head["finish"] = get(choice, "finish_reason")
                self.is_complete = True

    def _add_response(self, kind: str, event: Any) -> None:
        """Events of the Responses API; the last one holds the whole response."""
        self._shape = "output"
        response = get(event, "response")
        if response is not None:
            self._note(response, "id", "model")
        key = _place(event, "output_index")
        if kind in ("response.completed", "response.incomplete", "response.failed", "response.cancelled"):
            self._final = response if type(get(response, "output")) is list else None
            self.is_complete = True
            if get(response, "error") is not None:
                self._fail(get(response, "error"))
        elif kind in ("response.output_item.added", "response.output_item.done"):
            item = get(event, "item")
            names = ("type", "id", "call_id", "name")
            block = {name: get(item, name) for name in names if get(item, name) is not None}
            if kind.endswith(".done"):
                for name in ("content", "arguments", "input"):
                    if get(item, name) is not None:
                        block[name] = get(item, name)
            self._blocks[key] = block
        elif kind in _RESPONSE_DELTAS:
            self._blocks.setdefault(key, {"type": "message"})
            self._say(key, get(event, "delta"))

    def _add_message(self, kind: str, event: Any) -> None:
        """Events of Anthropic's messages."""
        self._shape = "content"
        key = _place(event, "index")
        delta = get(event, "delta")
        if kind == "message_start":
            message = get(event, "message")
            self._note(message, "id", "model")
            self._count(get(message, "usage"))
        elif kind == "content_block_start":
            block = get(event, "content_block")
            names = ("type", "id", "name", "input")
            self._blocks[key] = {name: get(block, name) for name in names if get(block, name) is not None}
            self._say(key, get(block, "text"))
            self.has_begun = self.has_begun or get(block, "type") == "tool_use"
        elif kind == "content_block_delta":
            self._say(key, get(delta, "text"))
            self._say(key, get(delta, "partial_json"))
        elif kind == "message_delta":
            self._note(delta, "stop_reason")
            self._count(get(event, "usage"))
            self.is_complete = self.is_complete or get(delta, "stop_reason") is not None
        else:
            self.is_complete = self.is_complete or kind == "message_stop"

    def _count(self, usage: Any) -> None:
        for name in _MESSAGE_USAGE:
            value = get(usage, name)
            if value is not None:
                self._usage[name] = value


def _place(thing: Any, name: str) -> int:
    """Where in the answer a piece belongs; the first place where that is not said."""
    place = get(thing, name)
    return place if type(place) is int else 0


_MESSAGE_EVENTS = frozenset(
    (
        *("message_start", "content_block_start", "content_block_delta", "content_block_stop"),
        *("message_delta", "message_stop"),
    )
)
_MESSAGE_USAGE = (
    *("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
    "output_tokens_details",
)
_RESPONSE_DELTAS = frozenset(
    (
        *("response.output_text.delta", "response.refusal.delta", "response.function_call_arguments.delta"),
        *("response.custom_tool_call_input.delta", "response.audio.transcript.delta"),
    )
)
