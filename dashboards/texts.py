"""A call's texts as a page shows them: messages with roles, whitespace kept, always as text.

Flow: rows of `call_text` (plain text, or JSON where a flag says so) -> `messages_of` -> templates, which
escape everything. Nothing here or there reads Markdown or HTML: a hostile text is shown, never run.
"""

import json
from dataclasses import dataclass
from typing import Any

from dashboards.words import shorten

EXCERPT = 140
#: A passage is shown whole up to this length; a longer one keeps its end, where a cut-off answer shows.
PASSAGE, PASSAGE_END = 420, 140


@dataclass(frozen=True)
class Message:
    """One message of a conversation.

    Attributes:
        role: user, assistant, system, tool ...; '' for a plain text.
        text: what it says; parts that are no text stand as "[image]" or the like.
    """

    role: str
    text: str


def messages_of(kept: str | None, as_json: bool) -> tuple[Message, ...]:
    """Return a kept input or output as messages; a plain text is one without a role."""
    if kept is None:
        return ()
    if not as_json:
        return (Message("", kept),)
    try:
        value = json.loads(kept)
    except ValueError:  # a long one that was cut keeps head and tail
        return (Message("", kept),)
    items = value if isinstance(value, list) else [value]
    return tuple(_message(item) for item in items)


def excerpt(kept: str | None, as_json: bool, length: int = EXCERPT) -> str:
    """Return the start of what was said last, on one line; '' where there is no text."""
    if kept is None:
        return ""
    if not as_json:
        return shorten(kept[: length * 4], length)
    messages = messages_of(kept, as_json)
    users = [message for message in messages if message.role == "user" and message.text.strip()]
    said = (users or [message for message in messages if message.text.strip()])[-1:]
    return shorten(said[0].text[: length * 4], length) if said else ""


def passage(kept: str | None, as_json: bool) -> str:
    """Return what was said last on one line: whole, or its start and its end; '' where there is no text."""
    whole = excerpt(kept, as_json, len(kept or ""))
    if len(whole) <= PASSAGE:
        return whole
    end = whole[-PASSAGE_END:]
    return f"{shorten(whole, PASSAGE - PASSAGE_END)} {end[end.find(' ') + 1 :]}"


def _message(item: Any) -> Message:
    if not isinstance(item, dict):
        return Message("", _text(item))
    role = item.get("role")
    if "content" in item or "tool_calls" in item:
        parts = [_text(item.get("content"))]
        if item.get("tool_calls"):
            parts.append(json.dumps(item["tool_calls"], ensure_ascii=False, indent=1))
        return Message(str(role or ""), "\n".join(part for part in parts if part))
    return Message(str(role or ""), _text(item))


def _text(content: Any) -> str:
    """A message's content as text: a string, or parts of which some are text."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(_text(part) for part in content)
    if isinstance(content, dict):
        if isinstance(content.get("text"), str):
            return str(content["text"])
        kind = str(content.get("type", ""))
        if any(word in kind for word in ("image", "audio", "file", "video")):
            return f"[{kind}]"
    return json.dumps(content, ensure_ascii=False, indent=1)
