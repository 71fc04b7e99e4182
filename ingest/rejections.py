"""Why an item was not kept, in words a person can act on.

Flow: pydantic's ValidationError -> `what_is_wrong` -> `Rejection` in the receipt.
"""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError


class Rejection(BaseModel):
    """An item that was not kept: its place in the batch, the field at fault, and what was wrong."""

    index: int
    field: str
    error: str


def what_is_wrong(problem: ValidationError) -> tuple[str, str]:
    """Return the first field at fault, dotted, and what is wrong with it."""
    first = problem.errors(include_url=False, include_context=True)[0]
    where = [str(part) for part in first["loc"]]
    words = _WORDS.get(first["type"])
    if where and where[0] in ("input", "output"):
        return where[0], "must be a text or a list of messages, each an object"
    if where and where[0] == "context" and first["type"] != "too_long":
        return where[0], "must be a text or a list of texts"
    if words is not None:
        error = words(first.get("ctx", {}))
    else:
        error = first["msg"].removeprefix("Value error, ").removeprefix("Input ").replace("should", "must", 1)
    return ".".join(where), error


_WORDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "missing": lambda _: "is missing",
    "model_type": lambda _: "must be an object",
    "dict_type": lambda _: "must be an object",
    "list_type": lambda _: "must be a list",
    "string_type": lambda _: "must be a string",
    "string_too_long": lambda ctx: f"has more than {ctx['max_length']} characters; shorten it",
    "string_too_short": lambda _: "is empty; leave it out where there is none",
    "too_long": lambda ctx: f"has more than {ctx['max_length']} entries; send fewer",
    "finite_number": lambda _: "must be a finite number; leave it out where it is unknown",
    "datetime_from_date_parsing": lambda _: "is no time; send ISO 8601 such as 2026-11-22T08:15:00Z",
    "datetime_parsing": lambda _: "is no time; send ISO 8601 such as 2026-11-22T08:15:00Z",
    "datetime_type": lambda _: "is no time; send ISO 8601 such as 2026-11-22T08:15:00Z",
}
