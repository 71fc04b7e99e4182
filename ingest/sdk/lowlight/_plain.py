"""Values of whatever an application hands over, as ones that JSON has words for. Never raises.

What JSON has no word for becomes: NaN and infinities null; dates ISO 8601; Decimal a number; bytes their
text, or how many there are; sets and arrays lists; dataclasses and pydantic objects their fields; enums their
values; anything else `str(value)`. A cycle, and what lies deeper than 24 levels or beyond
100,000 values, is named instead of followed.
"""

from typing import Any, Callable, Dict, List, Optional, Set

DEPTH_MAX = 24
VALUES_MAX = 100_000
STR_MAX_CHARS = 10_000


class Unreadable(ValueError):
    """An object raises where it is looked at."""


def plain(value: Any) -> Any:
    """Return `value` made of dict (str keys), list, str, int, float, bool and None only."""
    return _Plain().of(value, 0)


def word(value: Any) -> Optional[str]:
    """Return an id or a name as text; None where there is none: of None, NaN, and whatever has an empty text.

    Bytes that are no text are told by their hexadecimal digits: `uuid4().bytes` is an id too.

    Raises:
        Unreadable: see there.
    """
    kind = type(value)
    if value is None or kind is str:
        return value or None
    conversion = _Plain()
    if issubclass(kind, (bytes, bytearray, memoryview)):
        found: Any = bytes(value)
        try:
            found = found.decode("utf-8")
        except UnicodeDecodeError:
            found = found.hex()
    else:
        found = conversion.of(value, 0)
    if conversion.is_unreadable:
        raise Unreadable(f"a {kind.__name__} that cannot be read")
    return None if found is None else str(found) or None


class _Plain:
    """One conversion: the containers being walked (for cycles) and how many values may still be met."""

    def __init__(self) -> None:
        self.is_unreadable = False
        self._open: Set[int] = set()
        self._values_left = VALUES_MAX

    def of(self, value: Any, depth: int) -> Any:
        self._values_left -= 1
        if self._values_left < 0:
            return "(left out: too many values)"
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if kind is int:
            # wider than 64 bits, servers differ in what they make of it
            return value if -(2**63) <= value < 2**63 else f"an integer of {value.bit_length()} bits"
        if kind is float:
            return value if value - value == 0.0 else None
        if depth > DEPTH_MAX:
            return "(left out: nested too deeply)"
        if id(value) in self._open:
            return "(left out: contains itself)"
        self._open.add(id(value))
        try:
            return self._of_object(value, kind, depth)
        except Exception:  # any property of a foreign object may raise
            self.is_unreadable = True
            return f"({kind.__name__}: could not be read)"
        finally:
            self._open.discard(id(value))

    def _of_object(self, value: Any, kind: type, depth: int) -> Any:
        if issubclass(kind, dict):
            return self._of_items(value, depth)
        if issubclass(kind, (list, tuple, set, frozenset)) or kind.__name__ == "deque":
            return self._of_list(list(value), depth)
        if issubclass(kind, (bytes, bytearray, memoryview)):
            return _text_of_bytes(bytes(value))
        if hasattr(kind, "model_dump"):
            return self.of(_model_fields(value.model_dump), depth + 1)
        if hasattr(kind, "__dataclass_fields__"):
            return self._of_items({name: getattr(value, name) for name in kind.__dataclass_fields__}, depth)
        if hasattr(kind, "isoformat"):
            return str(value.isoformat())
        if "_value_" in getattr(value, "__dict__", ()):  # an enum's member
            return self.of(value.value, depth + 1)
        if issubclass(kind, str):
            return str.__str__(value)
        if issubclass(kind, int):
            return self.of(int(value), depth)
        if hasattr(kind, "tolist"):
            return self.of(value.tolist(), depth + 1)
        if hasattr(kind, "__float__") and hasattr(kind, "__add__"):  # Decimal, Fraction
            return self.of(float(value), depth)
        if hasattr(kind, "keys") and hasattr(kind, "__getitem__"):
            return self._of_items({key: value[key] for key in list(value.keys())}, depth)
        return str(value)[:STR_MAX_CHARS]

    def _of_items(self, items: Dict[Any, Any], depth: int) -> Dict[str, Any]:
        found = {}
        for key, value in list(items.items()):
            found[_key(key)] = self.of(value, depth + 1)
            if self._values_left < 0:
                break
        return found

    def _of_list(self, items: List[Any], depth: int) -> List[Any]:
        found = []
        for item in items:
            found.append(self.of(item, depth + 1))
            if self._values_left < 0:
                break
        return found


def _key(key: Any) -> str:
    if type(key) is str:
        return key
    if key is None or type(key) is bool:
        return {None: "null", True: "true", False: "false"}[key]  # as json writes them
    try:
        return str(plain(key))
    except Exception:
        return f"({type(key).__name__})"


def _text_of_bytes(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return f"({len(value)} bytes)"


def _model_fields(model_dump: Callable[..., Any]) -> Any:
    try:
        return model_dump(exclude_none=True, warnings=False)
    except TypeError:
        return model_dump()
