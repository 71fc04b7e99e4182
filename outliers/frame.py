"""One week's calls as NumPy columns, and those of the weeks before: what discovery and comparison use.

Flow: call, slice, experience, guard_reading, end_user -> `week_calls`, `calls_before` ->
outliers.cohorts.discovery, outliers.comparison. No texts. Read in pieces of six hours, so that no read lasts
longer than some 100 ms and no piece of Python objects outlives its columns: 100,000 calls are about 25 MB.
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
Mask = NDArray[np.bool_]
S = TypeVar("S", bound=np.generic)

#: Finish reasons of an answer that was cut short or withheld.
CUT_SHORT = ("length", "max_tokens", "content_filter", "refusal", "safety", "MAX_TOKENS", "SAFETY")
#: The guard's likeliest kind is taken for what went wrong from this probability of a failure on.
KIND_FROM = 0.2


@dataclass(frozen=True)
class Names:
    """A column of names: `names[codes[i]]` is the value of call i; a code of -1 means it has none."""

    codes: Ints
    names: tuple[str, ...]


@dataclass(frozen=True)
class WeekCalls:
    """n calls of one week, oldest first; every array has shape (n,).

    Attributes:
        p_bad: P(bad), 0..1; NaN where not ranked yet.
        latency_ms, cost_usd: NaN where unknown.
        answered, failed: neither is a call that was aborted.
        thumb: 1 up, 0 down (of two that disagree, down), NaN where no thumb was given.
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
    columns_read = Columns()
    for since_ms in range(week.since_ms, week.until_ms, PIECE_MS):
        with store.read() as connection:
            slices = slices_of(connection, project_id)  # in one view with the calls that name them
            rows = _piece(connection, project_id, since_ms, min(since_ms + PIECE_MS, week.until_ms))
            thumbs = _thumbs(connection, project_id, since_ms, since_ms + PIECE_MS)
        columns_read.add(rows, slices, thumbs)
    return columns_read.finish(week)


def _piece(connection: Connection, project_id: int, since_ms: int, until_ms: int) -> Sequence[Any]:
    return connection.execute(
        select(
            _call.c.seq,
            _call.c.id,
            _call.c.slice_id,
            _call.c.started_at_ms,
            _call.c.outcome,
            _call.c.error_type,
            _call.c.finish_reason,
            _call.c.latency_ms,
            _call.c.cost_usd,
            _call.c.user_id,
            _call.c.session_id,
            _call.c.input_tokens,
            _call.c.output_tokens,
            _call.c.input_chars,
            _call.c.context_chars,
            _call.c.retries,
            # as text: equal tags are decoded once, not once a call
            cast(_call.c.tags, String).label("tags"),
            cast(_call.c.tools, String).label("tools"),
            _experience.c.p_bad,
            _guard.c.input_language,
            _guard.c.p_fail,
            _guard.c.kind,
            _user.c.first_seen_at_ms,
        )
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
_NUMBERS = ("input_tokens", "output_tokens", "input_chars", "context_chars", "retries")


class _Coder:
    """Numbers names as they come."""

    def __init__(self) -> None:
        self.code: dict[str, int] = {}

    def __call__(self, name: str | None) -> int:
        return -1 if name is None else self.code.setdefault(name, len(self.code))

    def names(self, codes: Ints) -> Names:
        """Return the column; past `VALUES_MAX` names only the most frequent are told apart."""
        names = list(self.code)
        if len(names) > VALUES_MAX:
            counts = np.bincount(codes[codes >= 0], minlength=len(names))
            kept = np.argsort(-counts, kind="stable")[:VALUES_MAX]
            place = np.full(len(names) + 1, -1, dtype=np.int64)
            place[kept] = np.arange(len(kept))
            return Names(place[codes], tuple(names[i] for i in kept))
        return Names(codes, tuple(names))


class Columns:
    """Columns that grow piece by piece."""

    def __init__(self) -> None:
        self.pieces: dict[str, list[NDArray[Any]]] = {}
        self.coders: dict[str, _Coder] = {}
        self.people: dict[str, int] = {}

    def add(self, rows: Sequence[Any], slices: dict[int, dict[str, str]], thumbs: dict[int, float]) -> None:
        """Append a piece of rows, oldest first."""
        if not rows:
            return
        self._put("seq", [row.seq for row in rows], np.int64)
        self._put("started_at_ms", [row.started_at_ms for row in rows], np.int64)
        for name in ("p_bad", "latency_ms", "cost_usd", *_NUMBERS):
            self._put(name, [getattr(row, name) for row in rows], np.float64)
        people = [row.user_id or row.session_id or row.id for row in rows]
        self._put("people", [self.people.setdefault(who, len(self.people)) for who in people], np.int64)
        self._put("has_user", [row.user_id is not None for row in rows], np.bool_)
        self._put("held_back", [held_back(who) for who in people], np.bool_)
        self._put("answered", [row.outcome == "answered" for row in rows], np.bool_)
        self._put("failed", [row.outcome == "failed" for row in rows], np.bool_)
        self._put("thumb", [thumbs.get(row.seq) for row in rows], np.float64)
        self._put("first_seen_at_ms", [row.first_seen_at_ms for row in rows], np.float64)
        fields = [slices[row.slice_id] for row in rows]
        for name in _SLICE_FIELDS:
            self._code(name, [field[name] for field in fields])
        self._code("prompt_version", [_version_of(field) for field in fields])
        self._code("failed_as", [_failed_as(row) for row in rows])
        for name in ("input_language", "tags", "tools"):
            self._code(name, [getattr(row, name) for row in rows])

    def finish(self, week: Week) -> WeekCalls:
        """Return the whole week."""
        got = {name: np.concatenate(pieces) for name, pieces in self.pieces.items()}
        for name in (*_ARRAYS, *_NUMBERS, "first_seen_at_ms"):
            got.setdefault(name, np.empty(0, dtype=_KINDS.get(name, np.float64)))
        named = {
            (name, ""): self.coders[name].names(got[name])
            for name in (*_SLICE_FIELDS, "prompt_version", "input_language", "failed_as")
            if name in self.coders
        }
        if "tags" in self.coders:
            named |= _tags(self.coders["tags"], got["tags"])
            named |= _tools(self.coders["tools"], got["tools"])
        numbers = {name: got[name] for name in _NUMBERS}
        numbers["user_age_days"] = np.maximum(0.0, got["started_at_ms"] - got["first_seen_at_ms"]) / DAY_MS
        numbers["calls_before"] = _calls_before(got["people"], got["first_seen_at_ms"], week.since_ms)
        return WeekCalls(week=week, named=named, numbers=numbers, **{name: got[name] for name in _ARRAYS})

    def _put(self, name: str, values: list[Any], kind: type) -> None:
        # None becomes NaN in a column of floats
        self.pieces.setdefault(name, []).append(np.array(values, dtype=kind))

    def _code(self, name: str, values: list[str | None]) -> None:
        coder = self.coders.setdefault(name, _Coder())
        self._put(name, [coder(value) for value in values], np.int64)


def held_back(who: str) -> bool:
    """Say whether a person's calls test what the others' found: one of two halves, the same every week."""
    return zlib.crc32(who.encode()) & 1 == 1


def _failed_as(row: Any) -> str | None:
    """Return what went wrong in a call as far as fields tell; None where they tell nothing."""
    if row.outcome != "answered":
        return f"error {row.error_type or row.outcome}"
    if row.finish_reason in CUT_SHORT:
        return f"finish {row.finish_reason}"
    if row.p_fail is not None and row.p_fail >= KIND_FROM:
        return str(row.kind)
    return None


def _version_of(fields: dict[str, str]) -> str | None:
    """Return "faq@v7"; None where no version is given: the prompt alone says the same."""
    return versioned(fields["prompt"], fields["prompt_version"]) if fields["prompt_version"] else None


def _calls_before(people: Ints, first_seen_at_ms: Floats, since_ms: int) -> Floats:
    """Return how many calls of the same user came before, oldest call first.

    Known for users first seen in this week; infinity for those who came earlier, NaN where no user is named.
    """
    met: dict[int, int] = {}
    before = np.empty(len(people))
    for i, who in enumerate(people.tolist()):
        before[i] = met.get(who, 0)
        met[who] = met.get(who, 0) + 1
    before[first_seen_at_ms < since_ms] = np.inf
    before[np.isnan(first_seen_at_ms)] = np.nan
    return before


def _decoded(coder: _Coder) -> list[Any]:
    return [json.loads(text) for text in coder.code]


def _tags(coder: _Coder, codes: Ints) -> dict[tuple[str, str], Names]:
    """Return a column for each tag; a call without it has the code -1."""
    sets = [value if isinstance(value, dict) else {} for value in _decoded(coder)]
    found = {}
    for key in sorted({key for tags in sets for key in tags})[:VALUES_MAX]:
        one = _Coder()
        place = np.array([one(tags.get(key)) for tags in sets] + [-1], dtype=np.int64)
        found["tag", key] = one.names(place[codes])
    return found


def _tools(coder: _Coder, codes: Ints) -> dict[tuple[str, str], Names]:
    """Return a column for each tool: its one name where the call used it."""
    sets = [value if isinstance(value, list) else [] for value in _decoded(coder)]
    found = {}
    for tool in sorted({tool for tools in sets for tool in tools})[:VALUES_MAX]:
        place = np.array([0 if tool in tools else -1 for tools in sets] + [-1], dtype=np.int64)
        found["tool", tool] = Names(place[codes], (tool,))
    return found
