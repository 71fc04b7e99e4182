"""Attribute values as facts: bounded, of the expected type, or absent. Nothing here raises.

Instrumentations put one thing under several names and types; each reader takes the first name that holds a
usable value. Where a value cannot be used it is treated as not sent, so that it never sinks its call.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from ingest.wire import COUNT_MAX, ID_CHARS_MAX, NAME_CHARS_MAX, TAGS_MAX

Attributes = Mapping[str, Any]

#: What logfire writes in place of a value whose name or text looks like a secret ("session" does).
SCRUBBED = "[Scrubbed due to"


def name_in(attributes: Attributes, *names: str) -> str | None:
    """Return the first non-empty text of these attributes, cut at 256 characters."""
    for name in names:
        value = attributes.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            value = str(value)
        if value.strip() and not value.startswith(SCRUBBED):
            return value[:NAME_CHARS_MAX]
    return None


def id_in(attributes: Attributes, *names: str) -> str | None:
    """Return the first usable id: a scrubbed one and one too long to be kept whole are absent."""
    for name in names:
        if name in attributes:
            value = name_in(attributes, name)
            if value is not None and len(value) <= ID_CHARS_MAX:
                return value
    return None


def text_in(attributes: Attributes, *names: str) -> str | None:
    """Return the first of these attributes that is a text, whole."""
    for name in names:
        value = attributes.get(name)
        if isinstance(value, str):
            return value
    return None


def count_in(attributes: Attributes, *names: str) -> int | None:
    """Return the first whole number from 0 to 2^31 - 1."""
    for name in names:
        value = attributes.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= COUNT_MAX:
            return value
    return None


def number_in(attributes: Attributes, *names: str) -> float | None:
    """Return the first finite number that is not negative."""
    for name in names:
        value = attributes.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e15:
            return float(value)
    return None


def json_in(attributes: Attributes, *names: str) -> Any:
    """Return the first of these attributes as a value: structured, or JSON in a text; else the text."""
    for name in names:
        value = attributes.get(name)
        if value is not None:
            return as_value(value)
    return None


def as_value(value: Any) -> Any:
    """Return what a text says where it is JSON; anything else unchanged."""
    if isinstance(value, str) and value[:1] in '[{"':
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def object_in(attributes: Attributes, *names: str) -> dict[str, Any]:
    """Return the first of these attributes that is, or says in JSON, an object; {} where none does."""
    for name in names:
        value = as_value(attributes.get(name))
        if isinstance(value, dict):
            return value
    return {}


def first_of(value: Any) -> str | None:
    """Return the first text of a list, of a list in JSON, or the text itself."""
    value = as_value(value)
    if isinstance(value, list):
        value = value[0] if value else None
    return value[:NAME_CHARS_MAX] if isinstance(value, str) else None


def is_true(value: Any) -> bool:
    """Whether an attribute says yes."""
    return value is True or value in ("true", "True")


def tags_of(pairs: Iterable[tuple[str, Any]]) -> dict[str, str]:
    """Return those pairs that can be tags: short names, plain values."""
    tags: dict[str, str] = {}
    for key, value in pairs:
        if isinstance(value, bool):
            value = "true" if value else "false"
        text = name_in({"": value}, "")
        if text is not None and 0 < len(key) <= NAME_CHARS_MAX and len(tags) < TAGS_MAX:
            tags[key] = text
    return tags


def indexed(attributes: Attributes, prefix: str, count_max: int = 1_000) -> list[dict[str, Any]]:
    """Return the objects that attributes spell out: PREFIX.0.a, PREFIX.0.b.c, PREFIX.1.a ...

    Each object maps what follows the index (dotted) to its value. Indexes may come in any order; those
    beyond `count_max` are left out.
    """
    found: dict[int, dict[str, Any]] = {}
    start = len(prefix) + 1
    for name, value in attributes.items():
        if not name.startswith(prefix) or name[start - 1 : start] != ".":
            continue
        index, _, rest = name[start:].partition(".")
        if len(index) < 6 and index.isascii() and index.isdigit():
            found.setdefault(int(index), {})[rest] = value
    return [found[index] for index in sorted(found)[:count_max]]
