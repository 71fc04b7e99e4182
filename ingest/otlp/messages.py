"""Messages in the shapes of every instrumentation, as one: what was said, by whom, with which tools.

Flow: dialects -> `messages_of` -> Facts.input, Facts.output. A message of ours is
{"role", "content": text or parts, "tool_calls"?: [{"id", "name", "arguments": JSON text}], "tool_call_id"?};
parts occur only beside what is no text, such as {"type": "image", "media_type": "image/png"}. The bytes of
images and files are not kept: no critic of ours reads them, and they are most of the size.
"""

import re
from typing import Any

import orjson

from ingest.otlp.values import as_value

#: Messages of one call; a longer list keeps its first (the system's) and its last.
MESSAGES_MAX = 2_000
_MEDIA_TYPE = re.compile(r"(?:data:|type=)([a-z]+/[a-z0-9.+-]+)")
_TEXT_KINDS = ("text", "input_text", "output_text", "refusal", "summary_text", "")
_CALL_KINDS = ("tool_call", "tool_use", "function_call", "custom_tool_call", "server_tool_use", "mcp_call")
_RESULT_KINDS = (
    "tool_call_response",
    "tool_result",
    "function_call_output",
    "custom_tool_call_output",
)
#: Thinking is not what the user saw.
_SILENT_KINDS = ("reasoning", "thinking", "redacted_thinking")

Message = dict[str, Any]


def messages_of(value: Any, role: str) -> list[Message] | None:
    """Return messages from a text, a list, an object with "messages", or any of these in JSON.

    Args:
        role: whose words those are that name no speaker.
    """
    value = as_value(value)
    if isinstance(value, dict):
        inner = value.get("messages", value.get("input") if "instructions" in value else None)
        if isinstance(inner, (list, str)):
            system = system_of(value.get("system", value.get("instructions")))
            return system + (messages_of(inner, role) or [])
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if isinstance(value, dict):
        return _message(value, role)
    if not isinstance(value, list):
        return None
    if len(value) > MESSAGES_MAX:
        value = [value[0], *value[1 - MESSAGES_MAX :]]
    return [message for item in value for message in _message(item, role)]


def system_of(instructions: Any) -> list[Message]:
    """Return system instructions (a text, or a list of parts) as a message; [] where there are none."""
    instructions = as_value(instructions)
    text = _joined(instructions if isinstance(instructions, list) else [instructions])
    return [{"role": "system", "content": text}] if text else []


def finish_reason_in(messages: Any) -> str | None:
    """Return the finish reason that the first message carries ('' where it is empty)."""
    messages = as_value(messages)
    first = messages[0] if isinstance(messages, list) and messages else messages
    reason = first.get("finish_reason") if isinstance(first, dict) else None
    return reason if isinstance(reason, str) else None


def plain_text(message: Message) -> str | None:
    """Return the text of a message that is nothing but text."""
    content = message.get("content")
    return content if isinstance(content, str) and not message.get("tool_calls") else None


def _message(item: Any, role: str) -> list[Message]:
    """Return one item as messages: results of tools become messages of their own."""
    if isinstance(item, str):
        return [{"role": role, "content": item}]
    if not isinstance(item, dict):
        return []
    plain = _plain(item)
    if plain is not None:
        return [plain]
    kind = item.get("type")
    if "role" not in item and kind in (*_CALL_KINDS, *_RESULT_KINDS):  # an item of the Responses API
        item = {"role": "assistant", "content": [item]}
    speaker = item.get("role")
    parts = item["parts"] if "parts" in item else item.get("content")
    if parts == [] and not item.get("tool_calls"):
        return []  # the instrumentation has no words for what was said; that is not an empty text
    gathered = _Gathered()
    for part in parts if isinstance(parts, list) else [parts]:
        gathered.add(part)
    calls = item.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        gathered.add_call(call)
    if isinstance(item.get("function_call"), dict):
        gathered.add_call(item["function_call"])
    if item.get("refusal") and not gathered.parts:
        gathered.add(item["refusal"])
    result_of = item.get("tool_call_id") or (item.get("id") if speaker == "tool" else None)
    return gathered.messages(speaker if isinstance(speaker, str) and speaker else role, result_of)


def _plain(item: dict[str, Any]) -> Message | None:
    """Return what most messages are: one text, in the shape of the conventions or of the providers."""
    if not item.keys() <= _PLAIN_KEYS:
        return None
    said, speaker = item.get("content"), item.get("role")
    if "parts" in item:
        parts = item["parts"]
        if not isinstance(parts, list) or len(parts) != 1 or not isinstance(parts[0], dict):
            return None
        (part,) = parts
        said = part.get("content") if part.get("type") == "text" and "text" not in part else None
    if not isinstance(said, str) or not isinstance(speaker, str) or speaker in ("", "tool"):
        return None
    return {"role": speaker, "content": said}


_PLAIN_KEYS = frozenset(("role", "content", "parts", "finish_reason"))


class _Gathered:
    """What the parts of one message say."""

    def __init__(self) -> None:
        self.parts: list[dict[str, Any]] = []
        self.calls: list[dict[str, Any]] = []
        self.results: list[Message] = []

    def add(self, part: Any) -> None:
        """Take a part: a text, an image, a tool call, a tool's result."""
        if isinstance(part, str):
            self.parts.append({"type": "text", "text": part})
        if not isinstance(part, dict):
            return
        kind = part.get("type")
        kind = kind if isinstance(kind, str) else ""
        if kind in _CALL_KINDS:
            self.add_call(part)
        elif kind in _RESULT_KINDS:
            self._add_result(part)
        elif kind in _TEXT_KINDS:
            text = part.get("text", part.get("content", part.get("refusal")))
            if isinstance(text, str):
                self.parts.append({"type": "text", "text": text})
        elif kind not in _SILENT_KINDS:
            self.parts.append(_medium(kind, part))

    def add_call(self, call: Any) -> None:
        """Take a tool call in any provider's shape."""
        if not isinstance(call, dict):
            return
        inner = call.get("function", call)
        inner = inner if isinstance(inner, dict) else call
        given = inner.get("arguments", inner.get("input"))
        found = {
            "id": call.get("call_id") or call.get("id"),
            "name": inner.get("name"),
            "arguments": None if given is None else _json_text(given),
        }
        self.calls.append({name: value for name, value in found.items() if isinstance(value, str)})

    def _add_result(self, part: dict[str, Any]) -> None:
        given = next((part[name] for name in ("response", "content", "output", "result") if name in part), "")
        named = part.get("tool_use_id") or part.get("call_id") or part.get("id")
        text = _joined(given) if isinstance(given, list) else None
        if text is None:
            text = given if isinstance(given, str) else _json_text(given)
        self.results.append(_result(text, named))

    def messages(self, role: str, result_of: Any) -> list[Message]:
        """Return the results of tools, then what else was said."""
        texts = [part["text"] for part in self.parts if part["type"] == "text"]
        content: Any = self.parts
        if len(texts) == len(self.parts):
            content = "\n".join(texts)
        if role == "tool" and not self.results:
            return [_result(content, result_of)]
        if self.results and not self.parts and not self.calls:
            return self.results
        message: Message = {"role": role, "content": content}
        if self.calls:
            message["tool_calls"] = self.calls
        return [*self.results, message]


def _result(content: Any, named: Any) -> Message:
    message = {"role": "tool", "content": content}
    if isinstance(named, str) and named:
        message["tool_call_id"] = named
    return message


def _medium(kind: str, part: dict[str, Any]) -> dict[str, Any]:
    """Return what is no text as a part that says what it is, and where, but does not hold it."""
    place = _place(part)
    media_type = part.get("mime_type") or part.get("media_type")
    if not isinstance(media_type, str) and place is not None:
        found = _MEDIA_TYPE.search(place[:200])
        media_type = found.group(1) if found else None
    modality = part.get("modality")
    if not isinstance(modality, str):
        modality = next(
            (name for name in ("image", "audio", "video", "file") if name in kind), kind or "part"
        )
    medium = {"type": modality}
    if isinstance(media_type, str):
        medium["media_type"] = media_type
    if place is not None and place.startswith(("http://", "https://")):
        medium["url"] = place[:2_000]
    return medium


def _place(part: dict[str, Any]) -> str | None:
    value: Any = part
    for _step in range(3):
        if not isinstance(value, dict):
            break
        if isinstance(value.get("media_type"), str) and value.get("data"):
            return f"data:{value['media_type']}"  # Anthropic's {"type": "base64", "media_type", "data"}
        keys = ("image_url", "url", "uri", "source", "file", "input_audio", "image", "content")
        value = next((value[key] for key in keys if value.get(key)), None)
    return value if isinstance(value, str) else None


def _joined(parts: Any) -> str | None:
    """Return the texts among parts, one below the other; None where there is none."""
    texts = []
    for part in parts if isinstance(parts, list) else []:
        text = part.get("text", part.get("content")) if isinstance(part, dict) else part
        if isinstance(text, str):
            texts.append(text)
    return "\n".join(texts) if texts else None


def _json_text(value: Any) -> str:
    """Return a value as compact JSON; a text that is JSON written anew, any other text as it is."""
    read = as_value(value)
    if isinstance(read, str):
        return read
    try:
        return orjson.dumps(read).decode()
    except orjson.JSONEncodeError:
        return str(value)
