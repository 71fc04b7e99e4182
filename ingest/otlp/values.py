"""Attribute values as facts: bounded, of the expected type, or absent. Nothing here raises.

Instrumentations put one thing under several names and types; each reader takes the first name that holds a
usable value. Where a value cannot be used it is treated as not sent, so that it never sinks its call.
"""

from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any, TypeVar

import orjson

from ingest.crowding import is_crowded_text
from ingest.texts import cleaned
from ingest.wire import COUNT_MAX, ID_CHARS_MAX, NAME_CHARS_MAX, TAGS_MAX

Attributes = Mapping[str, Any]
T = TypeVar("T")

#: What logfire writes in place of a value whose name or text looks like a secret ("session" does).
SCRUBBED = "[Scrubbed due to"


def name_of(value: Any) -> str | None:
    """Return a value as a name: a text or a number that is not empty, cut at 256 characters."""
    if isinstance(value, str):
        name = value
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        name = str(value)
    else:
        return None
    if not name or name.isspace() or name.startswith(SCRUBBED):
        return None
    return name if len(name) <= NAME_CHARS_MAX else name[:NAME_CHARS_MAX]


def id_of(value: Any) -> str | None:
    """Return a value as an id: a scrubbed one and one too long to be kept whole are none.

    Ids are columns of their own before their facts are: NUL and lone surrogates are replaced here.
    """
    name = name_of(value)
    if name is None or len(name) > ID_CHARS_MAX:
        return None
    return name if name.isascii() and "\0" not in name else cleaned(name)[0]


def count_of(value: Any) -> int | None:
    """Return a value as a whole number from 0 to 2^31 - 1."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and 0 <= value <= COUNT_MAX and not isinstance(value, bool):
        return value
    return None


def number_of(value: Any) -> float | None:
    """Return a value as a finite number that is not negative."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e15:
        return float(value)
    return None


def name_in(attributes: Attributes, *names: str) -> str | None:
    """Return the first of these attributes that is a name; see `name_of`."""
    return _first(name_of, attributes, names)


def id_in(attributes: Attributes, *names: str) -> str | None:
    """Return the first of these attributes that is an id; see `id_of`."""
    return _first(id_of, attributes, names)


def count_in(attributes: Attributes, *names: str) -> int | None:
    """Return the first of these attributes that is a count; see `count_of`."""
    return _first(count_of, attributes, names)


def number_in(attributes: Attributes, *names: str) -> float | None:
    """Return the first of these attributes that is a number; see `number_of`."""
    return _first(number_of, attributes, names)


def _first(read: Callable[[Any], T | None], attributes: Attributes, names: Iterable[str]) -> T | None:
    for name in names:
        if name in attributes:
            value = read(attributes[name])
            if value is not None:
                return value
    return None


class FactTable:
    """Which attributes tell which facts: read in one pass, however many names a fact may have."""

    def __init__(self, **facts: tuple[Callable[[Any], Any], tuple[str, ...]]) -> None:
        """Take by fact its reader (a `..._of` of this module) and its names, the first choice first."""
        self._names = {
            name: (fact, read, rank)
            for fact, (read, names) in facts.items()
            for rank, name in enumerate(names)
        }

    def read(self, attributes: Attributes) -> dict[str, Any]:
        """Return those facts that are told, each by the first of its names that holds a usable value."""
        told: dict[str, Any] = {}
        ranks: dict[str, int] = {}
        find = self._names.get
        for name in attributes:
            found = find(name)
            if found is not None:
                fact, read, rank = found
                value = read(attributes[name])
                if value is not None and (fact not in told or rank < ranks[fact]):
                    told[fact] = value
                    ranks[fact] = rank
        return told


def text_in(attributes: Attributes, *names: str) -> str | None:
    """Return the first of these attributes that is a text, whole."""
    for name in names:
        value = attributes.get(name)
        if isinstance(value, str):
            return value
    return None


def json_in(attributes: Attributes, *names: str) -> Any:
    """Return the first of these attributes as a value: structured, or JSON in a text; else the text."""
    for name in names:
        value = attributes.get(name)
        if value is not None:
            return as_value(value)
    return None


def as_value(value: Any) -> Any:
    """Return what a text says where it is JSON; anything else unchanged, and what says too many things."""
    if isinstance(value, str) and value[:1] in '[{"' and not is_crowded_text(value):
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
    """Return those pairs that can be tags: short names, plain values; in the order of their names."""
    tags: dict[str, str] = {}
    for key, value in sorted(pairs, key=itemgetter(0)):
        if isinstance(value, bool):
            value = "true" if value else "false"
        text = name_of(value)
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
