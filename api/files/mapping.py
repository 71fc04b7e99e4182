"""A mapping file: which place of a JSON row fills which field of a call or a signal.

Flow: TOML -> `load_mapping` (every key checked, errors name it) -> `Mapping.items` turns one row into calls
and signals as plain dicts, ready for `ingest.wire`. The format is described in api/files/mappings/README.md.
"""

import json
import tomllib
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from api.errors import ApiError
from ingest.wire import Call, Failure, Prompt, Signal, Usage

FOLDER = Path(__file__).parent / "mappings"

#: Parts of a call that are tables of their own; tags take any name.
_NESTED = {"prompt": set(Prompt.model_fields), "usage": set(Usage.model_fields)}
_NESTED["error"] = set(Failure.model_fields)
_CALL_FIELDS = set(Call.model_fields) - {*_NESTED, "tags"}
_SIGNAL_FIELDS = set(Signal.model_fields) - {"call_id", "session_id"}
_SPEC_KEYS = {"path", "value", "unit", "map", "otherwise"}
#: What a number of this unit is multiplied by to give the field's own (the last word of its name).
_UNITS = {"_ms": {"ms": 1.0, "s": 1_000.0, "us": 1e-3, "ns": 1e-6}, "_usd": {"usd": 1.0, "cents": 0.01}}


class BadMapping(ApiError):
    """A mapping file cannot be used; the message names the file, the key and what it takes."""


class BadRow(ApiError):
    """A row cannot become calls; the message says why. The other rows are not concerned."""


@dataclass(frozen=True)
class Source:
    """Where one field's value comes from: a place in the row, or always the same value.

    Attributes:
        path: keys from the row inwards, a number for a place in a list; () for a constant.
        factor: what a number is multiplied by; 1 where no unit was named.
        table: a value's JSON text -> what it becomes; None where values are taken as they are.
        otherwise: what a value becomes that the table lacks; None: nothing.
    """

    path: tuple[str, ...] = ()
    constant: Any = None
    factor: float = 1.0
    table: dict[str, Any] | None = None
    otherwise: Any = None

    def value(self, row: Any, turn: Any = None) -> Any:
        """Return the value, None where the row has none; '' after a table means none as well.

        Raises:
            BadRow: the field has a unit and the value is no number.
        """
        if not self.path:
            return self.constant
        at, rest = (turn, self.path[1:]) if self.path[0] == "turn" and turn is not None else (row, self.path)
        found = _walk(at, rest)
        if found is None:
            return None
        if self.table is not None:
            text = found if isinstance(found, str) else json.dumps(found)
            mapped = self.table.get(text, self.otherwise)
            return None if mapped == "" else mapped
        if self.factor != 1.0:
            if isinstance(found, bool) or not isinstance(found, int | float):
                raise BadRow(f"{'.'.join(self.path)} is {json.dumps(found)[:60]}, not a number")
            return found * self.factor
        return found


@dataclass(frozen=True)
class Turns:
    """How a row that holds a dialogue becomes one call per answer."""

    path: tuple[str, ...]
    role: tuple[str, ...]
    text: tuple[str, ...]
    outputs: frozenset[str]
    roles: dict[str, str]


@dataclass(frozen=True)
class SignalSource:
    """How a row (or turn) becomes a signal; `whole_session` ones are made once a row."""

    fields: dict[str, Source]
    whole_session: bool


@dataclass
class Item:
    """One call made of a row, and what users did about it or about its whole session."""

    call: dict[str, Any]
    signals: list[dict[str, Any]] = field(default_factory=list)
    session_signals: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Mapping:
    """A checked mapping file."""

    name: str
    fields: dict[tuple[str, ...], Source]
    signals: tuple[SignalSource, ...]
    turns: Turns | None = None

    def items(self, row: Any) -> list[Item]:
        """Return the calls of a row with their signals; a dialogue in which nobody answers has none.

        Raises:
            BadRow: the row is no object, its turns are no list of objects, or a value has no number.
        """
        if not isinstance(row, dict):
            raise BadRow("the line is JSON but no object")
        if self.turns is None:
            items = [Item(self._call(row), self._made(row, None, whole_session=False))]
        else:
            items = self._dialogue(row, self.turns)
        if items:
            items[-1].session_signals = self._made(row, None, whole_session=True)
        return items

    def _dialogue(self, row: dict[str, Any], turns: Turns) -> list[Item]:
        listed = _walk(row, turns.path)
        if not isinstance(listed, list):
            raise BadRow(f"{'.'.join(turns.path)} is no list of turns")
        said: list[dict[str, str]] = []
        items: list[Item] = []
        for turn in listed:
            role, text = _walk(turn, turns.role), _walk(turn, turns.text)
            if not isinstance(role, str) or not isinstance(text, str):
                raise BadRow(
                    f"a turn has no {'.'.join(turns.role)} or no {'.'.join(turns.text)} that is text"
                )
            answers = role in turns.outputs
            if answers:
                call = {"input": list(said), "output": text} | self._call(row, turn)
                items.append(Item(call, self._made(row, turn, whole_session=False)))
            said.append({"role": turns.roles.get(role, "assistant" if answers else "user"), "content": text})
        return items

    def _call(self, row: Any, turn: Any = None) -> dict[str, Any]:
        call: dict[str, Any] = {}
        for name, source in self.fields.items():
            value = source.value(row, turn)
            if value is None:
                continue
            if name[0] == "tags":
                call.setdefault("tags", {})[name[1]] = value if isinstance(value, str) else json.dumps(value)
            elif len(name) == 2:
                call.setdefault(name[0], {})[name[1]] = value
            else:
                call[name[0]] = value
        return call

    def _made(self, row: Any, turn: Any, *, whole_session: bool) -> list[dict[str, Any]]:
        """Return the signals of a row or turn; none where its kind, or a value it asks for, is missing."""
        signals = []
        for source in self.signals:
            if source.whole_session == whole_session:
                made = {name: one.value(row, turn) for name, one in source.fields.items()}
                made = {name: value for name, value in made.items() if value is not None}
                if "kind" in made and ("value" in made or "value" not in source.fields):
                    signals.append(made)
        return signals


def load_mapping(path: Path) -> Mapping:
    """Read and check a mapping file; a bare name such as `llmperf` means one that ships with Lowlight.

    Raises:
        BadMapping: it cannot be read, is no TOML, or a key in it is unknown or cannot be used.
    """
    shipped = FOLDER / f"{path}.toml"
    file = shipped if not path.exists() and shipped.is_file() else path
    try:
        document = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        names = ", ".join(sorted(one.stem for one in FOLDER.glob("*.toml")))
        raise BadMapping(
            f"{path}: {error.strerror}. Give a mapping file, or one that ships with Lowlight: {names}."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadMapping(f"{path}: no TOML: {error}") from None
    return _Reader(str(path), document).mapping()


class _Reader:
    """Checks one document; every complaint names the file and the key."""

    def __init__(self, name: str, document: dict[str, Any]) -> None:
        self._name = name
        self._document = document

    def mapping(self) -> Mapping:
        """Return the checked mapping."""
        self._known(self._document, {"about", "each", "turns", "call", "signal"}, "")
        turns = self._turns()
        call = self._document.get("call")
        if not isinstance(call, dict) or (not call and turns is None):
            raise self._bad("[call] is missing or empty; it says which field of a call comes from where")
        fields: dict[tuple[str, ...], Source] = {}
        for key, spec in call.items():
            if key in _NESTED or key == "tags":
                if not isinstance(spec, dict):
                    raise self._bad(f"[call] {key} is a group; write {key}.NAME = ...")
                if key in _NESTED:
                    self._known(spec, _NESTED[key], f"[call] {key}.")
                for inner, one in spec.items():
                    fields[(key, inner)] = self._source(one, f"[call] {key}.{inner}")
            else:
                self._known({key: spec}, _CALL_FIELDS, "[call] ")
                fields[(key,)] = self._source(spec, f"[call] {key}")
        return Mapping(self._name, fields, self._signals(fields), turns)

    def _turns(self) -> Turns | None:
        each, turns = self._document.get("each"), self._document.get("turns")
        if each is None and turns is None:
            return None
        if not isinstance(each, str) or not each or not isinstance(turns, dict):
            raise self._bad('each = "LIST" and [turns] belong together: the list, and how a turn is read')
        self._known(turns, {"role", "text", "outputs", "roles"}, "[turns] ")
        outputs = turns.get("outputs")
        if not isinstance(outputs, list) or not outputs or not all(isinstance(one, str) for one in outputs):
            raise self._bad('[turns] outputs lists the roles whose turns are answers, such as ["assistant"]')
        roles = turns.get("roles", {})
        if not isinstance(roles, dict) or not all(isinstance(one, str) for one in roles.values()):
            raise self._bad('[turns] roles is a table of texts, such as { human = "user" }')
        return Turns(
            path=self._path(each, "each"),
            role=self._path(turns.get("role", "role"), "[turns] role"),
            text=self._path(turns.get("text", "content"), "[turns] text"),
            outputs=frozenset(outputs),
            roles=roles,
        )

    def _signals(self, fields: dict[tuple[str, ...], Source]) -> tuple[SignalSource, ...]:
        listed = self._document.get("signal", [])
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            raise self._bad("signals are written [[signal]], with two brackets on each side")
        made = []
        for number, table in enumerate(listed, start=1):
            where = f"[[signal]] number {number}: "
            self._known(table, {*_SIGNAL_FIELDS, "about"}, where)
            about = table.get("about", "call")
            if about not in ("call", "session"):
                raise self._bad(f'{where}about is "call" or "session", not {about!r}')
            if about == "session" and ("session_id",) not in fields:
                raise self._bad(f'{where}about = "session" needs [call] session_id')
            if "kind" not in table:
                raise self._bad(f'{where}kind is missing, such as kind = {{ value = "thumbs_up" }}')
            sources = {key: self._source(spec, where + key) for key, spec in table.items() if key != "about"}
            made.append(SignalSource(sources, about == "session"))
        return tuple(made)

    def _source(self, spec: Any, where: str) -> Source:
        if isinstance(spec, str):
            return Source(path=self._path(spec, where))
        if not isinstance(spec, dict):
            raise self._bad(
                f"{where} = {spec!r}: give a place in the row as text, or {{ value = ... }} for a constant"
            )
        self._known(spec, _SPEC_KEYS, f"{where}: ")
        if ("path" in spec) == ("value" in spec):
            raise self._bad(f"{where} needs either path (a place in the row) or value (a constant)")
        if "value" in spec:
            if len(spec) > 1:
                raise self._bad(f"{where}: a constant takes no unit, map or otherwise")
            return Source(constant=spec["value"])
        table = spec.get("map")
        if table is not None and not isinstance(table, dict):
            raise self._bad(f'{where}: map is a table, such as {{ "1" = "thumbs_up" }}')
        if "otherwise" in spec and table is None:
            raise self._bad(f"{where}: otherwise only makes sense beside map")
        return Source(
            path=self._path(spec["path"], where),
            factor=self._factor(spec["unit"], where) if "unit" in spec else 1.0,
            table=table,
            otherwise=spec.get("otherwise"),
        )

    def _factor(self, unit: Any, where: str) -> float:
        for ending, units in _UNITS.items():
            if where.endswith(ending):
                if unit in units:
                    return units[unit]
                raise self._bad(f"{where}: unit {unit!r} is not known here; take one of {', '.join(units)}")
        raise self._bad(f"{where}: only fields that end in _ms or _usd take a unit")

    def _path(self, text: Any, where: str) -> tuple[str, ...]:
        parts = tuple(text.split(".")) if isinstance(text, str) else ()
        if not parts or not all(parts):
            raise self._bad(f"{where}: {text!r} is no place in a row; write keys with dots between them")
        return parts

    def _known(self, table: dict[str, Any], known: set[str], where: str) -> None:
        for key in table:
            if key not in known:
                near = get_close_matches(key, known, 1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
                raise self._bad(f"{where}{key} is not known; {hint}")

    def _bad(self, message: str) -> BadMapping:
        return BadMapping(f"{self._name}: {message}")


def _walk(at: Any, path: tuple[str, ...]) -> Any:
    """Return what lies at the end of a path; None where it leads nowhere."""
    for part in path:
        if isinstance(at, dict):
            at = at.get(part)
        elif isinstance(at, list) and part.isdigit():
            at = at[int(part)] if int(part) < len(at) else None
        else:
            return None
    return at
