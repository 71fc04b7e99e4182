"""One week's calls as NumPy columns, and those of the weeks before: what discovery and comparison use.

Flow: call, slice, experience, guard_reading, end_user -> `week_calls`, `calls_before` ->
outliers.cohorts.discovery, outliers.comparison. No texts. Read in pieces of six hours, so that no read lasts
longer than some 100 ms and no piece of Python objects outlives its columns: 100,000 calls are about 20 MB.
"""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, String, and_, cast, select

from critic.tables import GuardReading
from ingest.store import Store
from ingest.tables import Call, EndUser, Signal, columns
from outliers.latency.history import DAYS_BEFORE
from outliers.latency.tails import slices_of, versioned
from outliers.tables import Experience
from outliers.weeks import Week

_call, _signal, _user = columns(Call), columns(Signal), columns(EndUser)
_experience, _guard = columns(Experience), columns(GuardReading)

PIECE_MS = 6 * 3_600_000
DAY_MS = 86_400_000
#: What is usual is learnt from the days before a week, and from about so many calls at most.
BEFORE_CALLS_MAX = 200_000
#: Values of one field, tag or tool that are told apart; the rest is too rare to be a cohort.
VALUES_MAX = 500

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
#: Places in a list of names: half as wide as other numbers, and there are many columns of them.
Codes = NDArray[np.int32]
Mask = NDArray[np.bool_]
S = TypeVar("S", bound=np.generic)

#: Finish reasons of an answer that was cut short or withheld.
CUT_SHORT = ("length", "max_tokens", "content_filter", "refusal", "safety", "MAX_TOKENS", "SAFETY")
#: The guard's likeliest kind is taken for what went wrong from this probability of a failure on.
KIND_FROM = 0.2


@dataclass(frozen=True)
class Names:
    """A column of names: `names[codes[i]]` is the value of call i; a code of -1 means it has none."""

    codes: Codes
    names: tuple[str, ...]


@dataclass(frozen=True)
class WeekCalls:
    """n calls of one week, oldest first; every array has shape (n,).

    Attributes:
        p_bad: P(bad), 0..1; NaN where not ranked yet.
        latency_ms, cost_usd: NaN where unknown.
        answered, failed: neither is a call that was aborted.
        thumb: 1 up, 0 down (of two that disagree, down), NaN where no thumb was given.
        weight: calls that it stands for where the application samples: 1 / sample_rate.
        judged_for: of a share of P(bad), how many calls it speaks for beside that: 1 / inclusion where a
            critic with a budget judged it, 0 where that critic's sample left it out, as those in it stand for
            it; 1 where every call is judged alike (see `outliers.experience.parts.Seen`).
        people: who the call happened to: the user, else the session, else the call itself, as a number.
        has_user: whether that is a user.
        held_back: whether this person is in the half that tests what the other half found.
        named: field, or ("tag", key), or ("tool", name) -> its values; "failed_as" is what went wrong, where
            that is known: "error Timeout", "finish length", or the guard's kind.
        numbers: field -> values, NaN where unknown.
    """

    week: Week
    seq: Ints
    started_at_ms: Ints
    p_bad: Floats
    latency_ms: Floats
    cost_usd: Floats
    weight: Floats
    judged_for: Floats
    people: Ints
    has_user: Mask
    held_back: Mask
    answered: Mask
    failed: Mask
    thumb: Floats
    named: dict[tuple[str, str], Names]
    numbers: dict[str, Floats]

    def __len__(self) -> int:
        return len(self.seq)

    def within(self, week: Week, until_ms: int | None = None) -> "WeekCalls":
        """Return the calls of a week of these; with `until_ms` only its part before that instant."""
        end_ms = week.until_ms if until_ms is None else until_ms
        first, last = np.searchsorted(self.started_at_ms, [week.since_ms, end_ms]).tolist()
        return WeekCalls(
            week=week,
            named={key: Names(names.codes[first:last], names.names) for key, names in self.named.items()},
            numbers={name: values[first:last] for name, values in self.numbers.items()},
            **{name: getattr(self, name)[first:last] for name in _ARRAYS},
        )


_ARRAYS = (
    "seq",
    "started_at_ms",
    "p_bad",
    "latency_ms",
    "cost_usd",
    "weight",
    "judged_for",
    "people",
    "has_user",
    "held_back",
    "answered",
    "failed",
    "thumb",
)

_KINDS: dict[str, type] = {
    **dict.fromkeys(("seq", "started_at_ms", "people"), np.int64),
    **dict.fromkeys(("has_user", "held_back", "answered", "failed"), np.bool_),
}


def calls_before(store: Store, project_id: int, week: Week, *, at_least_since_ms: int) -> WeekCalls:
    """Read the calls of the 28 days before a week; of a busy project about the newest `BEFORE_CALLS_MAX`.

    Args:
        at_least_since_ms: the first instant of the week before: what is read reaches back to here at least,
            however many calls that is.

    Returns:
        columns whose `week` is the window that was read.
    """
    since_ms = week.since_ms - DAYS_BEFORE * DAY_MS
    with store.read() as connection:
        cut_ms = connection.execute(
            select(_call.c.started_at_ms)
            .where(
                _call.c.project_id == project_id,
                _call.c.started_at_ms >= since_ms,
                _call.c.started_at_ms < week.since_ms,
            )
            .order_by(_call.c.started_at_ms.desc())
            .offset(BEFORE_CALLS_MAX)
            .limit(1)
        ).scalar()
    if cut_ms is not None:  # whole weeks, so that each can be compared
        weeks = max(0, (at_least_since_ms - cut_ms) // (7 * DAY_MS))
        since_ms = at_least_since_ms - weeks * 7 * DAY_MS
    return week_calls(store, project_id, Week("before", since_ms, week.since_ms))


def week_calls(store: Store, project_id: int, week: Week) -> WeekCalls:
    """Read one week's calls of a project."""
    columns_read, slices = Columns(), dict[int, dict[str, str]]()
    for since_ms in range(week.since_ms, week.until_ms, PIECE_MS):
        until_ms = min(since_ms + PIECE_MS, week.until_ms)
        with store.read() as connection:
            rows = _piece(connection, project_id, since_ms, until_ms)
            if any(row.slice_id not in slices for row in rows):
                slices = slices_of(connection, project_id)  # in one view with the calls that name them
            thumbs = _thumbs(connection, project_id, since_ms, until_ms)
        columns_read.add(rows, slices, thumbs)
    return columns_read.finish(week)


_NUMBERS = ("input_tokens", "output_tokens", "input_chars", "context_chars", "retries")
#: What is read of a call, in this order.
READ = (
    *("seq", "id", "slice_id", "started_at_ms", "outcome", "error_type", "finish_reason", "latency_ms"),
    *("cost_usd", "sample_rate", "user_id", "session_id", *_NUMBERS, "tags", "tools"),
    *("p_bad", "judged_for", "input_language", "p_fail", "kind", "first_seen_at_ms"),
)
_READ_FROM: dict[str, Any] = {
    # as text: equal tags are decoded once, not once a call
    "tags": cast(_call.c.tags, String).label("tags"),
    "tools": cast(_call.c.tools, String).label("tools"),
    "p_bad": _experience.c.p_bad,
    "judged_for": _experience.c.parts["critic", "stands_for"].as_float().label("judged_for"),
    "input_language": _guard.c.input_language,
    "p_fail": _guard.c.p_fail,
    "kind": _guard.c.kind,
    "first_seen_at_ms": _user.c.first_seen_at_ms,
}


def _piece(connection: Connection, project_id: int, since_ms: int, until_ms: int) -> Sequence[Any]:
    return connection.execute(
        select(*(_READ_FROM[name] if name in _READ_FROM else _call.c[name] for name in READ))
        .outerjoin(_experience, _experience.c.call_seq == _call.c.seq)
        .outerjoin(_guard, _guard.c.call_seq == _call.c.seq)
        .outerjoin(_user, and_(_user.c.project_id == _call.c.project_id, _user.c.user_id == _call.c.user_id))
        .where(
            _call.c.project_id == project_id,
            _call.c.started_at_ms >= since_ms,
            _call.c.started_at_ms < until_ms,
        )
        .order_by(_call.c.started_at_ms, _call.c.seq)
    ).all()


def _thumbs(connection: Connection, project_id: int, since_ms: int, until_ms: int) -> dict[int, float]:
    """Return call seq -> 1 (up) or 0 (down)."""
    rows = connection.execute(
        select(_signal.c.call_seq, _signal.c.kind)
        .join(_call, _call.c.seq == _signal.c.call_seq)
        .where(
            _call.c.project_id == project_id,
            _call.c.started_at_ms >= since_ms,
            _call.c.started_at_ms < until_ms,
            _signal.c.kind.in_(("thumbs_up", "thumbs_down")),
        )
    )
    thumbs: dict[int, float] = {}
    for seq, kind in rows:
        thumbs[seq] = min(thumbs.get(seq, 1.0), float(kind == "thumbs_up"))
    return thumbs


_SLICE_FIELDS = ("prompt", "model", "provider", "environment", "release")


class _Coder:
    """Numbers names as they come."""

    def __init__(self) -> None:
        self.code: dict[str, int] = {}

    def __call__(self, name: str | None) -> int:
        return -1 if name is None else self.code.setdefault(name, len(self.code))

    def names(self, codes: Codes) -> Names:
        """Return the column; past `VALUES_MAX` names only the most frequent are told apart."""
        names = list(self.code)
        if len(names) > VALUES_MAX:
            counts = np.bincount(codes[codes >= 0], minlength=len(names))
            kept = np.argsort(-counts, kind="stable")[:VALUES_MAX]
            place = np.full(len(names) + 1, -1, dtype=np.int32)
            place[kept] = np.arange(len(kept))
            return Names(place[codes], tuple(names[i] for i in kept))
        return Names(codes, tuple(names))


class Columns:
    """Columns that grow piece by piece."""

    def __init__(self) -> None:
        self.pieces: dict[str, list[NDArray[Any]]] = {}
        self.coders: dict[str, _Coder] = {}
        self.people: dict[str, int] = {}
        self.slices: dict[int, dict[str, str]] = {}

    def add(
        self, rows: Sequence[Sequence[Any]], slices: dict[int, dict[str, str]], thumbs: dict[int, float]
    ) -> None:
        """Append a piece of rows (each what `READ` names, in its order), oldest first.

        Args:
            slices: id -> its fields, of all slices that the rows name.
        """
        if not rows:
            return
        self.slices |= slices
        # a column at a time: a name looked up in each row costs more than all else
        of: dict[str, Sequence[Any]] = dict(zip(READ, zip(*rows, strict=True), strict=True))
        for name in ("seq", "started_at_ms"):
            self._put(name, of[name], np.int64)
        self._put("slice_id", of["slice_id"], np.int32)
        for name in ("p_bad", "latency_ms", "cost_usd", "first_seen_at_ms", *_NUMBERS):
            self._put(name, of[name], np.float64)
        rates = np.array(of["sample_rate"], dtype=np.float64)
        self._put("weight", np.where(np.isnan(rates), 1.0, 1.0 / rates), np.float64)
        judged_for = np.array(of["judged_for"], dtype=np.float64)  # kept only where it is not 1
        self._put("judged_for", np.where(np.isnan(judged_for), 1.0, judged_for), np.float64)
        number = self.people.setdefault
        who = zip(of["user_id"], of["session_id"], of["id"], strict=True)
        people = [number(user or session or call, len(self.people)) for user, session, call in who]
        self._put("people", people, np.int64)
        self._put("has_user", [user is not None for user in of["user_id"]], np.bool_)
        self._put("answered", [outcome == "answered" for outcome in of["outcome"]], np.bool_)
        self._put("failed", [outcome == "failed" for outcome in of["outcome"]], np.bool_)
        self._put("thumb", list(map(thumbs.get, of["seq"])), np.float64)
        went = zip(*(of[name] for name in _WENT_WRONG), strict=True)
        self._code("failed_as", [_failed_as(*one) for one in went])
        for name in ("input_language", "tags", "tools"):
            self._code(name, of[name])

    def finish(self, week: Week) -> WeekCalls:
        """Return the whole week; its pieces are gone then."""
        got = {name: np.concatenate(self.pieces.pop(name)) for name in list(self.pieces)}
        for name in (*_ARRAYS, *_NUMBERS, "first_seen_at_ms"):
            got.setdefault(name, np.empty(0, dtype=_KINDS.get(name, np.float64)))
        halves = np.array([held_back(who) for who in self.people], dtype=np.bool_)
        got["held_back"] = halves[got["people"]]
        named: dict[tuple[str, str], Names] = {}
        if len(got["seq"]):
            named |= self._of_slices(got.pop("slice_id"))
            for name in ("input_language", "failed_as"):
                named[name, ""] = self.coders[name].names(got[name])
            named |= _tags(self.coders["tags"], got.pop("tags"))
            named |= _tools(self.coders["tools"], got.pop("tools"))
        numbers = {name: got[name] for name in _NUMBERS}
        numbers["user_age_days"] = np.maximum(0.0, got["started_at_ms"] - got["first_seen_at_ms"]) / DAY_MS
        numbers["calls_before"] = _calls_before(got["people"], got["first_seen_at_ms"], week.since_ms)
        return WeekCalls(week=week, named=named, numbers=numbers, **{name: got[name] for name in _ARRAYS})

    def _of_slices(self, slice_ids: Codes) -> dict[tuple[str, str], Names]:
        """Return the columns of the fields that a slice has."""
        ids, place = np.unique(slice_ids, return_inverse=True)
        fields = [self.slices[slice_id] for slice_id in ids.tolist()]
        found = {}
        for name in (*_SLICE_FIELDS, "prompt_version"):
            coder = _Coder()
            given = [_version_of(one) if name == "prompt_version" else one[name] for one in fields]
            codes = np.array([coder(value) for value in given], dtype=np.int32)
            found[name, ""] = coder.names(codes[place])
        return found

    def _put(self, name: str, values: Sequence[Any] | Floats, kind: type) -> None:
        # None becomes NaN in a column of floats
        self.pieces.setdefault(name, []).append(np.array(values, dtype=kind))

    def _code(self, name: str, values: Sequence[str | None]) -> None:
        coder = self.coders.setdefault(name, _Coder())
        self._put(name, [coder(value) for value in values], np.int32)


def held_back(who: str) -> bool:
    """Say whether a person's calls test what the others' found: one of two halves, the same every week."""
    return zlib.crc32(who.encode()) & 1 == 1


_WENT_WRONG = ("outcome", "error_type", "finish_reason", "p_fail", "kind")


def _failed_as(
    outcome: str, error_type: str | None, finish_reason: str | None, p_fail: float | None, kind: str | None
) -> str | None:
    """Return what went wrong in a call as far as fields tell; None where they tell nothing."""
    if outcome != "answered":
        return f"error {error_type or outcome}"
    if finish_reason in CUT_SHORT:
        return f"finish {finish_reason}"
    if p_fail is not None and p_fail >= KIND_FROM:
        return str(kind)
    return None


def _version_of(fields: dict[str, str]) -> str | None:
    """Return "faq@v7"; None where no version is given: the prompt alone says the same."""
    return versioned(fields["prompt"], fields["prompt_version"]) if fields["prompt_version"] else None


def _calls_before(people: Ints, first_seen_at_ms: Floats, since_ms: int) -> Floats:
    """Return how many calls of the same user came before, oldest call first.

    Known for users first seen in this week; infinity for those who came earlier, NaN where no user is named.
    """
    order = np.argsort(people, kind="stable")
    first = np.searchsorted(people[order], people[order], side="left")
    before = np.empty(len(people))
    before[order] = np.arange(len(people)) - first
    before[first_seen_at_ms < since_ms] = np.inf
    before[np.isnan(first_seen_at_ms)] = np.nan
    return before


def _decoded(coder: _Coder) -> list[Any]:
    return [json.loads(text) for text in coder.code]


def _tags(coder: _Coder, codes: Codes) -> dict[tuple[str, str], Names]:
    """Return a column for each tag; a call without it has the code -1."""
    sets = [value if isinstance(value, dict) else {} for value in _decoded(coder)]
    found = {}
    for key in sorted({key for tags in sets for key in tags})[:VALUES_MAX]:
        one = _Coder()
        place = np.array([one(tags.get(key)) for tags in sets] + [-1], dtype=np.int32)
        found["tag", key] = one.names(place[codes])
    return found


def _tools(coder: _Coder, codes: Codes) -> dict[tuple[str, str], Names]:
    """Return a column for each tool: its one name where the call used it."""
    sets = [value if isinstance(value, list) else [] for value in _decoded(coder)]
    found = {}
    for tool in sorted({tool for tools in sets for tool in tools})[:VALUES_MAX]:
        place = np.array([0 if tool in tools else -1 for tools in sets] + [-1], dtype=np.int32)
        found["tool", tool] = Names(place[codes], (tool,))
    return found
