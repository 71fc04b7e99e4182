"""The items of a batch, checked one by one: the sound ones, and what is wrong with the others.

Flow: `ingest.wire.parse_calls` ... -> `Sent` -> `ingest.intake`, which reads it once. One bad item never
sinks its batch, and only one checked item is in hand at a time.
"""

from collections.abc import Callable, Container, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from ingest.rejections import Rejection, not_a_number, what_is_wrong
from ingest.texts import TooDeep, cleaned

#: Characters kept of the name of a field at fault, and of a name that no field has.
FIELD_CHARS_MAX = 256
UNKNOWN_CHARS_MAX = 128

Item = TypeVar("Item", bound=BaseModel)
Plain = TypeVar("Plain")


class Sent(Generic[Item]):
    """A batch whose items are checked while they are read, so that only one of them is in hand at a time."""

    def __init__(
        self, sent: Sequence[Any], model: type[Item], *, suspicious: bool = True, beside: Sequence[str] = ()
    ) -> None:
        """Take a batch as it was sent.

        Args:
            suspicious: whether strings may hold NUL or lone surrogates.
            beside: names that stood beside the batch in its body, unknown to us.
        """
        self._sent = sent
        self._model = model
        self._suspicious = suspicious
        self._beside = beside
        self._read = False
        self._rejected: list[Rejection] = []
        self._unknown_fields: set[str] = set()

    @property
    def items(self) -> list[Item]:
        """The sound items, all at once."""
        return [item for _index, item, _replaced in self.checked()]

    @property
    def rejected(self) -> list[Rejection]:
        """The items that are not sound, by index and field."""
        self._read_through()
        return self._rejected

    @property
    def unknown_fields(self) -> set[str]:
        """Names that no field of ours has, dotted."""
        self._read_through()
        return self._unknown_fields

    def reject(self, index: int, field: str, error: str) -> None:
        """Say that an item cannot be kept, and why."""
        self._rejected.append(Rejection(index=index, field=field[:FIELD_CHARS_MAX], error=error))

    def _read_through(self) -> None:
        if not self._read:
            for _checked in self.checked():
                pass

    def checked(self) -> Iterator[tuple[int, Item, frozenset[str]]]:
        """Yield each sound item: its index, the item, the fields in which U+FFFD replaced something."""
        return self.read(_nothing_is_plain)

    def read(
        self, plain: Callable[[dict[str, Any]], Plain | None]
    ) -> Iterator[tuple[int, Item | Plain, frozenset[str]]]:
        """Like `checked`, with what `plain` makes of an object in the item's place where that is not None."""
        self._rejected.clear()
        self._unknown_fields = {cleaned(name)[0][:UNKNOWN_CHARS_MAX] for name in self._beside}
        validate = self._model.__pydantic_validator__.validate_python
        fields = _fields_of(self._model)
        for index, item in enumerate(self._sent):
            replaced = _NOTHING
            if not isinstance(item, dict):
                self.reject(index, "", "must be an object")
                continue
            try:
                if self._suspicious:
                    item, replaced = _cleaned_fields(item)
                else:
                    made = plain(item)
                    if made is not None:
                        yield index, made, replaced
                        continue
                truth = _truth_for_a_number(item, fields)
                if truth is not None:
                    self.reject(index, *truth)
                    continue
                found: Item = validate(item)
            except TooDeep as error:
                self.reject(index, "", str(error))
                continue
            except ValidationError as error:
                self.reject(index, *what_is_wrong(error, fields.needed))
                continue
            self._note_unknown(item, fields)
            yield index, found, replaced
        self._read = True

    def _note_unknown(self, item: dict[str, Any], fields: "_Fields") -> None:
        if not item.keys() <= fields.known:
            self._unknown_fields.update(key[:UNKNOWN_CHARS_MAX] for key in item.keys() - fields.known)
        for name, inner in fields.nested:
            value = item.get(name)
            if value is not None and not value.keys() <= inner.known:
                self._unknown_fields.update(
                    f"{name}.{key[:UNKNOWN_CHARS_MAX]}" for key in value.keys() - inner.known
                )


def _nothing_is_plain(_item: dict[str, Any]) -> None:
    """Let every item be checked field by field."""


_NOTHING: frozenset[str] = frozenset()


class _Fields(NamedTuple):
    """What is to be known of a model's fields.

    Attributes:
        needed: those that an item cannot do without.
        numeric: those of numbers and times.
        nested: those of objects, each with its own fields.
    """

    known: frozenset[str]
    needed: frozenset[str]
    numeric: frozenset[str]
    nested: tuple[tuple[str, "_Fields"], ...]


@lru_cache(maxsize=32)
def _fields_of(model: type[BaseModel]) -> _Fields:
    fields = model.model_fields
    types = {name: set(_types_in(field.annotation)) for name, field in fields.items()}
    return _Fields(
        frozenset(fields),
        frozenset(name for name, field in fields.items() if field.is_required()),
        frozenset(name for name, among in types.items() if among & {int, float, datetime}),
        tuple(
            (name, _fields_of(kind))
            for name, among in types.items()
            for kind in among
            if isinstance(kind, type) and issubclass(kind, BaseModel)
        ),
    )


def _types_in(annotation: Any) -> Iterator[Any]:
    """The types that an annotation is made of: of `Annotated[float, ...] | None` float and None."""
    inner = get_args(annotation)
    if not inner and isinstance(annotation, type):
        yield annotation
    for part in inner:
        yield from _types_in(part)


def _truth_for_a_number(item: dict[str, Any], fields: _Fields) -> tuple[str, str] | None:
    """Return the first field whose number is true or false, and what is wrong: Python takes true for 1."""
    found = _truth_among(item, fields.numeric, fields.needed)
    if found is not None:
        return found
    for name, inner in fields.nested:
        value = item.get(name)
        found = _truth_among(value, inner.numeric, inner.needed) if isinstance(value, dict) else None
        if found is not None:
            return f"{name}.{found[0]}", found[1]
    return None


def _truth_among(
    item: dict[str, Any], numeric: Container[str], needed: Container[str]
) -> tuple[str, str] | None:
    if bool in set(map(type, item.values())):
        for name, value in item.items():
            if isinstance(value, bool) and name in numeric:
                return name, not_a_number(value, name, needed)
    return None


def _cleaned_fields(item: dict[Any, Any]) -> tuple[dict[str, Any], frozenset[str]]:
    clean: dict[str, Any] = {}
    replaced = set()
    for key, value in item.items():
        name = cleaned(str(key))[0]
        clean[name], changed = cleaned(value, depth=1)
        if changed:
            replaced.add(name)
    return clean, frozenset(replaced)
