"""What else went wrong like this call: the window's bad calls nearest to it, and what sets them apart.

Flow: one call + the window's worst (index of `experience`) + a sample of the rest -> `alike` -> GET
/v1/calls/{id}/alike and the call's page. Answered while somebody waits: a few thousand calls are read,
however many are kept, and no model is loaded.

Two calls are alike by how they failed, by the fields they share (a value counts by how rare it is among other
calls: -log of its share) and by the words of their texts (shared words over all words of both, each counted
by how rare it is among the bad calls: log(N / n)). Where both halves are known each has its weight in
`WEIGHTS`. Texts are compared by the end of the input, where the question is, and the beginning of the output.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, func, select

from critic.tables import GuardReading
from ingest.tables import Call, CallText, EndUser, Slice, columns
from outliers.cohorts.alike_conditions import AlikeCondition, Compared, conditions_of
from outliers.cohorts.describing import failure
from outliers.experience.parts import BAD_FROM, parts_from_json
from outliers.latency.tails import versioned
from outliers.tables import Experience
from outliers.weeks import Week, week_of, weeks_between

_call, _text, _slice, _user = columns(Call), columns(CallText), columns(Slice), columns(EndUser)
_experience, _guard = columns(Experience), columns(GuardReading)

DAY_MS = 86_400_000
#: Weeks looked at beside the call's own.
WEEKS_BEFORE = 3
#: Bad calls looked at: the worst of each week of the window. Of the rest so many are drawn.
BAD_MAX = 2_000
REST_PLACES, REST_AT_PLACE = 50, 40
#: Characters of a text that are compared.
CHARS = 1_500
#: How much failing alike, sharing fields, and the words of inputs and outputs count.
WEIGHTS = {"failure": 0.3, "fields": 0.25, "input": 0.3, "output": 0.15}
#: Words of both texts that are named.
WORDS_NAMED = 5
#: With fewer bad calls that failed as the seed did, conditions are looked for among all bad calls.
LIKE_ENOUGH = 8
_WORD = re.compile(r"\w{3,}")


@dataclass(frozen=True)
class AlikeCall:
    """One bad call like the seed.

    Attributes:
        likeness: 0..1.
        what_failed: "rude", "error Timeout", "slow"; "" where nothing is known.
        shared: fields whose value both have, the rarest first: "prompt version = faq@v7".
        words: rare words that both inputs have, the rarest first.
    """

    id: str
    started_at_ms: int
    p_bad: float
    likeness: float
    what_failed: str
    provider: str
    model: str
    prompt: str
    prompt_version: str
    user_id: str | None
    shared: tuple[str, ...]
    words: tuple[str, ...]


@dataclass(frozen=True)
class Alike:
    """What went wrong like one call.

    Attributes:
        what_failed: how the seed failed.
        n_bad: bad calls of the window that were looked at, of which n_failed_alike failed as the seed did.
        complete: whether these are all of the window's bad calls.
        conditions: what holds for the seed and sets the bad calls like it apart from a sample of the rest.
        calls: the nearest, nearest first.
    """

    what_failed: str
    n_bad: int
    n_failed_alike: int
    complete: bool
    conditions: tuple[AlikeCondition, ...]
    calls: tuple[AlikeCall, ...]


@dataclass(frozen=True)
class _Seen:
    """One call as it is compared."""

    row: Row[Any]
    what_failed: str
    fields: dict[tuple[str, str], str]
    input_words: frozenset[str]
    output_words: frozenset[str]


def alike(
    connection: Connection,
    project_id: int,
    seq: int,
    since_ms: int,
    until_ms: int,
    *,
    zone: ZoneInfo,
    limit: int = 20,
) -> Alike:
    """Return what went wrong like one call in a window [since, until).

    Args:
        seq: the seed's key inside the store; it need not lie in the window, nor be a bad call.
        limit: calls at most.
    """
    [seed] = _seen(_rows(connection, [seq], whole=True), whole=True)
    weeks = weeks_between(since_ms, until_ms, zone)
    seqs, complete = _bad_seqs(connection, project_id, since_ms, until_ms, weeks)
    bad = _seen(_rows(connection, [one for one in seqs if one != seq], whole=True), whole=True)
    drawn = _rest_seqs(connection, project_id, since_ms, until_ms)
    rest = _seen(_rows(connection, drawn, whole=False), whole=False)
    like = [one for one in bad if seed.what_failed and one.what_failed == seed.what_failed]
    compared = like if len(like) >= LIKE_ENOUGH else bad
    return Alike(
        what_failed=seed.what_failed,
        n_bad=len(bad),
        n_failed_alike=len(like),
        complete=complete,
        conditions=conditions_of(
            _compared(seed), [_compared(c) for c in compared], [_compared(c) for c in rest], zone
        ),
        calls=tuple(_nearest(seed, bad, rest, limit)),
    )


def alike_window(connection: Connection, seq: int, zone: ZoneInfo) -> tuple[int, int]:
    """Return the window looked at where nobody names one: a call's own week and the three before it."""
    started_at_ms = connection.execute(select(_call.c.started_at_ms).where(_call.c.seq == seq)).scalar_one()
    week = week_of(started_at_ms, zone)
    return week.since_ms - WEEKS_BEFORE * 7 * DAY_MS, week.until_ms


def _nearest(seed: _Seen, bad: Sequence[_Seen], rest: Sequence[_Seen], limit: int) -> list[AlikeCall]:
    counted = Counter(field for call in rest for field in call.fields.items())
    n = len(rest) + 2
    rarity = {field: -math.log((counted[field] + 1) / n) for field in seed.fields.items()}
    all_fields = sum(rarity.values()) or 1.0
    inputs, outputs = _Rare(c.input_words for c in bad), _Rare(c.output_words for c in bad)
    ranked = []
    for call in bad:
        shared = [field for field in rarity if call.fields.get(field[0]) == field[1]]
        parts = {
            "failure": float(seed.what_failed == call.what_failed) if seed.what_failed else None,
            "fields": sum(rarity[field] for field in shared) / all_fields,
            "input": inputs.likeness(seed.input_words, call.input_words),
            "output": outputs.likeness(seed.output_words, call.output_words),
        }
        known = {name: value for name, value in parts.items() if value is not None}
        likeness = sum(WEIGHTS[name] * value for name, value in known.items()) / sum(
            WEIGHTS[n] for n in known
        )
        ranked.append((likeness, call.row.p_bad, call, shared))
    ranked.sort(key=lambda one: (-one[0], -one[1], -one[2].row.seq))
    found = []
    for likeness, _p_bad, call, shared in ranked[:limit]:
        rarest = sorted(shared, key=lambda field: -rarity[field])
        # of words equally rare the longer ones, which say more; never as a set happens to lie
        words = sorted(seed.input_words & call.input_words, key=lambda w: (-inputs.weight(w), -len(w), w))
        row = call.row
        found.append(
            AlikeCall(
                id=row.id,
                started_at_ms=row.started_at_ms,
                p_bad=row.p_bad,
                likeness=round(likeness, 4),
                what_failed=call.what_failed,
                provider=row.provider,
                model=row.model,
                prompt=row.prompt,
                prompt_version=row.prompt_version,
                user_id=row.user_id,
                shared=tuple(_field_words(field) for field in rarest),
                words=tuple(word for word in words[:WORDS_NAMED] if inputs.weight(word) > 0),
            )
        )
    return found


class _Rare:
    """How rare words are among the bad calls' texts."""

    def __init__(self, texts: Iterable[frozenset[str]]) -> None:
        n = 0
        counted: Counter[str] = Counter()
        for words in texts:
            n += 1
            counted.update(words)
        self.weights = {word: math.log((n + 1) / (times + 1)) for word, times in counted.items()}
        self.unheard = math.log(n + 1)

    def weight(self, word: str) -> float:
        """Return log(N / n): 0 for a word that all texts have."""
        return self.weights.get(word, self.unheard)

    def likeness(self, seed: frozenset[str], other: frozenset[str]) -> float | None:
        """Return the weight of the words both have over that of all words of either; None without a text.

        Args:
            other: one of the texts that were counted.
        """
        if not seed or not other:
            return None
        both = sum(map(self.weight, seed & other))
        either = sum(map(self.weight, seed)) + sum(map(self.weights.__getitem__, other)) - both
        return both / either if either > 0 else 0.0


def _bad_seqs(
    connection: Connection, project_id: int, since_ms: int, until_ms: int, weeks: Sequence[Week]
) -> tuple[list[int], bool]:
    """Return the worst bad calls of each week, and whether these are all."""
    each = max(100, BAD_MAX // max(1, len(weeks)))
    # a sum is in no index: the index of the worst is walked, not that of the times
    at = _call.c.started_at_ms + 0
    found: list[int] = []
    complete = True
    for week in weeks[-BAD_MAX // 100 :]:
        seqs = (
            connection.execute(
                select(_experience.c.call_seq)
                .join(_call, _call.c.seq == _experience.c.call_seq)
                .where(
                    _experience.c.project_id == project_id,
                    _experience.c.week == week.id,
                    _experience.c.p_bad >= BAD_FROM,
                    and_(at >= since_ms, at < until_ms),
                )
                .order_by(_experience.c.p_bad.desc(), _experience.c.call_seq.desc())
                .limit(each)
            )
            .scalars()
            .all()
        )
        complete &= len(seqs) < each
        found += seqs
    return found, complete


def _rest_seqs(connection: Connection, project_id: int, since_ms: int, until_ms: int) -> list[int]:
    """Return calls of a window that were not bad: a few at each of many instants."""
    first, last = (
        connection.execute(
            select(end(_call.c.started_at_ms)).where(
                _call.c.project_id == project_id,
                _call.c.started_at_ms >= since_ms,
                _call.c.started_at_ms < until_ms,
            )
        ).scalar()
        for end in (func.min, func.max)
    )
    if first is None or last is None:
        return []
    found: set[int] = set()
    for place in range(REST_PLACES):
        at_ms = first + int((place + 0.5) / REST_PLACES * (last - first))
        found.update(
            connection.execute(
                select(_call.c.seq)
                .where(
                    _call.c.project_id == project_id,
                    _call.c.started_at_ms >= at_ms,
                    _call.c.started_at_ms < until_ms,
                )
                .order_by(_call.c.started_at_ms)
                .limit(REST_AT_PLACE)
            ).scalars()
        )
    bad = set(
        connection.execute(
            select(_experience.c.call_seq).where(
                _experience.c.call_seq.in_(found), _experience.c.p_bad >= BAD_FROM
            )
        ).scalars()
    )
    return sorted(found - bad)


def _rows(connection: Connection, seqs: Sequence[int], *, whole: bool) -> list[Row[Any]]:
    found: list[Row[Any]] = []
    for start in range(0, len(seqs), 1000):
        found += connection.execute(
            _wanted(whole=whole).where(_call.c.seq.in_(seqs[start : start + 1000]))
        ).all()
    return found


def _wanted(*, whole: bool) -> Select[Any]:
    """Return what a call is compared by; whole with its texts and how it failed, which costs most."""
    wanted = (
        select(
            _call.c.seq,
            _call.c.id,
            _call.c.started_at_ms,
            _call.c.user_id,
            _call.c.input_tokens,
            _call.c.input_chars,
            _call.c.context_chars,
            _call.c.tags,
            _call.c.tools,
            _slice.c.provider,
            _slice.c.model,
            _slice.c.prompt,
            _slice.c.prompt_version,
            _slice.c.environment,
            _slice.c.release,
            _guard.c.input_language,
            _user.c.first_seen_at_ms,
        )
        .join(_slice, _slice.c.id == _call.c.slice_id)
        .outerjoin(_guard, _guard.c.call_seq == _call.c.seq)
        .outerjoin(_user, and_(_user.c.project_id == _call.c.project_id, _user.c.user_id == _call.c.user_id))
    )
    if not whole:
        return wanted
    return (
        wanted.add_columns(
            _experience.c.p_bad,
            _experience.c.parts,
            _end_of(_text.c.input).label("input"),
            func.substr(_text.c.output, 1, CHARS).label("output"),
        )
        .outerjoin(_experience, _experience.c.call_seq == _call.c.seq)
        .outerjoin(_text, _text.c.call_seq == _call.c.seq)
    )


def _end_of(text: ColumnElement[str]) -> ColumnElement[str]:
    """Return the last characters of a text, the same in any SQL."""
    length = func.length(text)
    return func.substr(text, case((length > CHARS, length - CHARS + 1), else_=1), CHARS)


def _seen(rows: Sequence[Row[Any]], *, whole: bool) -> list[_Seen]:
    return [_as_seen(row, whole=whole) for row in rows]


def _as_seen(row: Row[Any], *, whole: bool) -> _Seen:
    fields: dict[tuple[str, str], str] = {
        (name, ""): value
        for name in ("provider", "model", "prompt", "environment", "release", "input_language")
        if (value := getattr(row, name))
    }
    if row.prompt_version:
        fields["prompt_version", ""] = versioned(row.prompt, row.prompt_version)
    fields |= {("tag", key): value for key, value in (row.tags or {}).items()}
    fields |= {("tool", tool): tool for tool in row.tools or ()}
    return _Seen(
        row=row,
        what_failed=failure(parts_from_json(row.parts)) if whole and row.parts else "",
        fields=fields,
        input_words=_words(row.input) if whole else frozenset(),
        output_words=_words(row.output) if whole else frozenset(),
    )


def _compared(call: _Seen) -> Compared:
    row = call.row
    numbers: dict[str, float] = {
        name: value
        for name in ("input_tokens", "input_chars", "context_chars")
        if (value := getattr(row, name)) is not None
    }
    if row.first_seen_at_ms is not None:
        numbers["user_age_days"] = max(0, row.started_at_ms - row.first_seen_at_ms) / DAY_MS
    return Compared(call.fields, numbers, row.started_at_ms)


def _words(text: str | None) -> frozenset[str]:
    return frozenset(_WORD.findall(text.lower())) if text else frozenset()


def _field_words(field: tuple[tuple[str, str], str]) -> str:
    (name, key), value = field
    if name == "tag":
        return f"tag {key} = {value}"
    return f"{name.replace('_', ' ')} = {value}"
