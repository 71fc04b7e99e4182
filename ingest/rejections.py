"""Why an item was not kept, in words a person can act on.

Flow: pydantic's ValidationError -> `what_is_wrong` -> `Rejection` in the receipt.
"""

from collections.abc import Callable, Container
from typing import Any

from pydantic import BaseModel, ValidationError


class Rejection(BaseModel):
    """An item that was not kept: its place in the batch, the field at fault, and what was wrong."""

    index: int
    field: str
    error: str


class WrongTogether(ValueError):
    """Fields that are sound one by one do not go together.

    Attributes:
        field: the one to change.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def what_is_wrong(problem: ValidationError, needed: Container[str] = ()) -> tuple[str, str]:
    """Return the first field at fault, dotted, and what is wrong with it.

    Args:
        needed: fields that an item cannot do without.
    """
    first = problem.errors(include_url=False, include_context=True)[0]
    where = [str(part) for part in first["loc"]]
    together = first.get("ctx", {}).get("error")
    if isinstance(together, WrongTogether):
        return together.field, str(together)
    if where and where[0] in ("input", "output"):
        return where[0], "must be a text or a list of messages, each an object"
    if where and where[0] == "context":
        # A text or a list: both are tried, and both are told of.
        many = next((other for other in problem.errors() if other["type"] == "too_long"), None)
        return where[0], (
            "must be a text or a list of texts" if many is None else in_our_words("too_long", many["ctx"])
        )
    words = in_our_words(first["type"], first.get("ctx", {}))
    return ".".join(where), _without_leaving_out(words) if where and where[0] in needed else words


def in_our_words(kind: str, ctx: dict[str, Any]) -> str:
    """Return what is wrong by pydantic's name for it, as what a field must be: "must be at least 0"."""
    return _WORDS.get(kind, _OTHERWISE)(ctx)


def not_a_number(value: bool, field: str, needed: Container[str] = ()) -> str:
    """Return what is wrong with true or false in a field of numbers or times. See `what_is_wrong`."""
    what = "time" if field in ("started_at", "at") else "number"
    words = f"{str(value).lower()} is not a {what}; leave the field out where it is unknown"
    return _without_leaving_out(words) if field in needed else words


def _without_leaving_out(words: str) -> str:
    """What is said of a field that the item cannot do without."""
    return words.partition("; leave")[0]


_UNKNOWN = "leave it out where it is unknown"
_NO_TIME = "is no time; send ISO 8601 such as 2026-11-22T08:15:00Z"
_PATTERNS = {
    r"^\d{4}-W\d{2}$": "is no ISO week; write one as 2026-W47",
    "^[0-9a-fA-F]{64}$": "must be a SHA-256: 64 hexadecimal digits",
    r"^[A-Za-z][A-Za-z0-9_.:-]{0,63}$": "must be a name: a letter, then up to 63 letters, digits or _ . : -",
}


def _otherwise(_ctx: dict[str, Any]) -> str:
    return "is not what this field takes; /openapi.json says what does"


def _limit(limit: float) -> str:
    return f"{limit:,.0f}" if limit == round(limit) else f"{limit:g}"


_OTHERWISE: Callable[[dict[str, Any]], str] = _otherwise
#: By pydantic's word for what is wrong; a test holds that none of ours can bring another one.
_WORDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "value_error": lambda ctx: str(ctx["error"]),
    "int_type": lambda _: f"must be a whole number; {_UNKNOWN}",
    "int_parsing": lambda _: f"must be a whole number; {_UNKNOWN}",
    "int_parsing_size": lambda _: f"has too many digits for a whole number here; {_UNKNOWN}",
    "int_from_float": lambda _: f"must be a whole number; {_UNKNOWN}",
    "float_type": lambda _: f"must be a number; {_UNKNOWN}",
    "float_parsing": lambda _: f"must be a number; {_UNKNOWN}",
    "greater_than_equal": lambda ctx: f"must be at least {_limit(ctx['ge'])}",
    "greater_than": lambda ctx: f"must be more than {_limit(ctx['gt'])}",
    "less_than_equal": lambda ctx: f"must be at most {_limit(ctx['le'])}",
    "string_pattern_mismatch": lambda ctx: _PATTERNS.get(ctx["pattern"], f"must match {ctx['pattern']}"),
    "missing": lambda _: "is missing",
    "model_type": lambda _: "must be an object",
    "dict_type": lambda _: "must be an object",
    "list_type": lambda _: "must be a list",
    "string_type": lambda _: "must be a string",
    "string_too_long": lambda ctx: f"has more than {ctx['max_length']} characters; shorten it",
    "string_too_short": lambda _: "is empty; leave it out where there is none",
    "too_long": lambda ctx: f"has more than {ctx['max_length']} entries; send fewer",
    "finite_number": lambda _: "must be a finite number; leave it out where it is unknown",
    "datetime_from_date_parsing": lambda _: _NO_TIME,
    "datetime_parsing": lambda _: _NO_TIME,
    "datetime_type": lambda _: _NO_TIME,
    "datetime_object_invalid": lambda _: _NO_TIME,
    "datetime_future": lambda _: _NO_TIME,
    "timezone_offset": lambda _: _NO_TIME,
    "datetime_from_date_type": lambda _: _NO_TIME,
    "extra_forbidden": lambda _: "is nothing that is taken here; /openapi.json names what is",
    "literal_error": lambda ctx: f"must be {ctx['expected']}",
    "model_attributes_type": lambda _: "must be an object",
    "bool_type": lambda _: "must be true or false",
    "bool_parsing": lambda _: "must be true or false",
}
