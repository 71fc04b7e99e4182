"""Message lists as a person reads them: each message its role and its text, nothing dropped in silence.

Takes the message shapes of the OpenAI (chat and responses) and Anthropic APIs. What is no text (an image,
a tool call) is named in square brackets: a critic that does not know that there was one misjudges the call.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rubrics.images import image_words

#: Roles that a label may carry; any other is data, so it is not put outside a fence.
ROLES = ("system", "developer", "user", "assistant", "tool", "function")

#: A tool's arguments, or a part of a kind we do not know, longer than this are cut in their middle.
PART_CHARS_MAX = 4_000

_TEXT_TYPES = ("text", "input_text", "output_text", "refusal", "summary_text")


@dataclass(frozen=True)
class Message:
    """One message; `role` is one of `ROLES` or "other"."""

    role: str
    text: str


def messages_of(value: str | Sequence[Any]) -> list[Message]:
    """Return a call's input as messages; plain text is one message of the user's."""
    if isinstance(value, str):
        return [Message("user", value)]
    return [_readable(item) for item in value]


def text_of(value: str | Sequence[Any]) -> str:
    """Return an input or output as one text: its messages' texts one below the other, without roles."""
    return "\n".join(message.text for message in messages_of(value))


def message_text(content: Any) -> str:
    """Return a message's content as text: a string, a part, or a list of parts, one below the other.

    None, the content of an assistant's message that only calls tools, is ''.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        return _part_text(content)
    if isinstance(content, Sequence):
        return "\n".join(part for part in (message_text(item) for item in content) if part)
    return _as_json(content)


def _readable(item: Any) -> Message:
    try:
        return _message(item)
    except RecursionError:
        return Message("other", "[a message nested too deeply to be shown]")


def _message(item: Any) -> Message:
    if isinstance(item, str):
        return Message("user", item)
    if not isinstance(item, Mapping):
        return Message("other", _as_json(item))
    role = item.get("role")
    lines = []
    if "content" in item and "role" in item:
        lines.append(message_text(item["content"]))
    elif "role" not in item:  # an item of the responses API, such as a function call
        lines.append(_part_text(item))
        role = "tool" if str(item.get("type", "")).endswith("_output") else "assistant"
    calls = item.get("tool_calls") or []
    for call in calls if isinstance(calls, list) else [calls]:
        lines += [_part_text(call) if isinstance(call, Mapping) else _as_json(call)]
    if item.get("function_call"):
        lines.append(_part_text({"type": "function", "function": item["function_call"]}))
    text = "\n".join(line for line in lines if line)
    if role == "tool" and item.get("tool_call_id"):
        text = f"[result of tool call {item['tool_call_id']}]\n{text}"
    if role in ROLES:
        return Message(str(role), text)
    return Message("other", f"[role {role!r}]\n{text}" if role is not None else text)


def _part_text(part: Mapping[str, Any]) -> str:
    """Return one part of a message's content: its text, or what it is in square brackets."""
    kind = str(part.get("type", ""))
    text = part.get("refusal") if kind == "refusal" else part.get("text")
    if isinstance(text, str) and (kind in _TEXT_TYPES or not kind):
        return text
    if "image" in kind:
        return f"[image{image_words(part) or _place_of(part)}]"
    if "audio" in kind:
        return f"[audio{_place_of(part)}]"
    if "file" in kind or kind == "document":
        return f"[file{_place_of(part)}]"
    function = part.get("function")
    if isinstance(function, Mapping):
        return f"[tool call {function.get('name', '?')}({_short(function.get('arguments', ''))})]"
    # Without a type, name and arguments are a call as the SDK and OpenTelemetry intake keep it.
    bare_call = not kind and "name" in part and "arguments" in part
    if bare_call or kind in ("tool_use", "function_call", "server_tool_use", "custom_tool_call"):
        given = part.get("arguments", part.get("input", ""))
        return f"[tool call {part.get('name', '?')}({_short(given)})]"
    if kind in ("tool_result", "function_call_output", "custom_tool_call_output"):
        named = part.get("tool_use_id", part.get("call_id", "?"))
        return f"[result of tool call {named}]\n{message_text(part.get('content', part.get('output')))}"
    if "content" in part and not kind:
        return message_text(part["content"])
    return f"[part of type {kind or '?'}: {_short(part)}]"


def _place_of(part: Mapping[str, Any]) -> str:
    """Return ': where the file lies' for a part that names it; inline data is only counted."""
    place: Any = part
    for key in ("image_url", "source", "file", "url", "file_url", "filename", "file_id", "title", "data"):
        if isinstance(place, Mapping) and place.get(key):
            place = place[key]
    if not isinstance(place, str):
        return ""
    if place.startswith("data:") or len(place) > 500:
        return f": inline, {len(place):,} characters"
    return f": {place}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else _as_json(value)
    if len(text) <= PART_CHARS_MAX:
        return text
    half = PART_CHARS_MAX // 2
    return f"{text[:half]} [... {len(text) - 2 * half:,} characters left out ...] {text[-half:]}"


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
