"""The wire's Signal, made from what `signal()` was given.

Flow: the queue's entries -> `encode_signal` -> bytes of one JSON object -> `_sender` puts them into a batch.
Runs in the background thread.
"""

import re
from typing import Any, Dict, Optional

from lowlight._config import Config
from lowlight._fields import SIGNAL_FIELDS
from lowlight._json import to_json
from lowlight._limits import RATING_MAX, RATING_MIN
from lowlight._plain import plain
from lowlight._queue import Entry
from lowlight._scalars import Problems, drop_long_ids, number_of, own_ids, shown, texts_of, time_of
from lowlight._texts import SHORT_CHARS, may_leave, short
from lowlight._wire import Encoded


class SaysNothing(ValueError):
    """A signal that the server could not keep: without a kind, a call or a rating's value. Never sent."""


def encode_signal(entry: Entry, config: Config) -> Encoded:
    """Return a signal's JSON; see `_wire.encode_call`.

    Raises:
        SaysNothing: see there; the message names what is missing.
    """
    problems: Problems = {}
    fields = dict(zip(SIGNAL_FIELDS, entry))
    about = own_ids(fields, ("id", "call_id"), problems)
    about.update(texts_of(fields, _SIGNAL_IDS, problems))
    drop_long_ids(about, _SIGNAL_IDS, problems)
    if not (about.keys() & _CALL_NAMES or {"trace_id", "span_id"} <= about.keys()):
        raise SaysNothing("names no call; pass call_id, response_id, trace_id with span_id, or session_id")
    numbers = {name: number_of(fields, name, problems) for name in ("value", "value_min", "value_max")}
    kind = _kind(fields["kind"], problems)
    if kind == "rating":
        _check_rating(numbers)
    at = time_of(fields["at"], "at", problems) or time_of(fields["recorded_at_s"], "recorded_at_s", problems)
    found: Dict[str, Any] = {
        **about,
        "kind": kind,
        "comment": _comment(fields["comment"]),
        **numbers,
        "at": at,
    }
    found = {name: value for name, value in found.items() if value is not None}
    found = may_leave(found, config, problems)
    if len(found.get("comment", "")) > SHORT_CHARS:
        found["comment"] = short(found["comment"])
    return Encoded(to_json(found), problems)


_SIGNAL_IDS = ("response_id", "trace_id", "span_id", "session_id")
_CALL_NAMES = frozenset(("call_id", "response_id", "session_id"))
_KIND = re.compile("[A-Za-z][A-Za-z0-9_.:-]{0,63}")


def _kind(value: Any, problems: Problems) -> str:
    """The signal's kind as a name: "thumbs up" is told as thumbs_up."""
    given = texts_of({"kind": value}, ("kind",), problems).get("kind", "")
    if _KIND.fullmatch(given):
        return given
    name = re.sub("[^A-Za-z0-9_.:-]+", "_", given).strip("_")
    if name and not name[0].isalpha():
        name = f"signal_{name}"
    if not name:
        raise SaysNothing(f"kind={shown(value)} is no name; pass letters, digits and _ . : -")
    problems["kind"] = f"kind={shown(given)} is no name; it was sent as {name[:64]!r}"
    return name[:64]


def _check_rating(numbers: Dict[str, Optional[float]]) -> None:
    value, least, most = numbers["value"], numbers["value_min"], numbers["value_max"]
    least = RATING_MIN if least is None else least
    most = RATING_MAX if most is None else most
    if value is None:
        raise SaysNothing("a rating needs its value")
    if not least <= value <= most or least == most:
        raise SaysNothing(
            f"a rating of {value:g} lies outside {least:g} to {most:g}; pass value_min and value_max"
        )


def _comment(value: Any) -> Optional[str]:
    found = plain(value)
    return None if found is None else str(found) or None
