"""Which calls prove a fix: of those under the case's condition, those that did not nominate it; those since.

Flow: a case with its fix + outliers.frame.WeekCalls, a week at a time + how bad its calls were
(outliers.casework.comparable) -> `gather` -> `Sides` -> outliers.casework.verification.judge.

A case is picked for being extreme: its own week compared with the next says "fixed" with no fix at all in 20
to 27 %. So before is the half of the people that did not find it, from when the trouble began, all people
between the end of that week and the fix, and earlier weeks as far back as the trouble goes.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from outliers.casework.verification import CALLS_MIN, EXCESS_MIN, Outcomes, Sides
from outliers.cohorts.candidates import holds
from outliers.conditions import Condition
from outliers.frame import DAY_MS, Floats, Ints, Mask, WeekCalls
from outliers.intervals import g_statistic
from outliers.weeks import Week

#: A call's scores and signals have come a day after it: nothing younger is compared.
SETTLED_AFTER_MS = DAY_MS
#: Weeks before the case's own that are looked at.
WEEKS_BACK = 4
#: Calls read from one week at most, under the condition and of the rest; more would prove nothing more.
INSIDE_MAX = 4000
REST_MAX = 1000
#: G of "worse from here on" above the price of all instants tried, from which trouble has a beginning.
ONSET_WORTH = 10.0
#: A value is retired when its share since the fix is below this part of its share before.
RETIRED = 0.1
#: Fields whose values come and go: a retired one is followed by its successor.
REPLACED = ("prompt_version", "release", "model", "provider")
#: Share of the calls under a condition that makes a prompt one of its prompts.
PROMPT_SHARE = 0.05

#: Returns for calls (keys inside the store) how bad each was, NaN where not comparable, and whom it hit.
Read = Callable[[Ints], tuple[Floats, Sequence[str]]]
#: Returns the measure that the calls before allow.
MeasureFor = Callable[[Ints], Read]
ReadWeek = Callable[[Week], WeekCalls]


@dataclass(frozen=True)
class Trouble:
    """What is to be gone.

    Attributes:
        condition: the case's; spans of hours in it are left out, as they do not come back.
        week: the case's week.
        found_among: "held_back", "others" or "both": the half of the people that found it.
        fixed_at_ms: since when it should be gone.
        prompt_version, release: what the fix came with; None where it named none.
    """

    condition: Condition
    week: Week
    found_among: str
    fixed_at_ms: int
    prompt_version: str | None = None
    release: str | None = None


@dataclass(frozen=True)
class Gathered:
    """The calls of a case before and after its fix.

    Attributes:
        not_comparable: calls since the fix that only another rubric version or critic has scored.
        after: which calls count since the fix.
        followed_by: what took the place of a retired prompt version, release, model or provider.
    """

    sides: Sides
    not_comparable: int
    after: "After"
    followed_by: tuple[str, ...]


@dataclass(frozen=True)
class After:
    """Which calls count since the fix: the condition, with what may stand in the place of a retired value.

    Attributes:
        allowed: values of the replaced field that count; ("",) where the condition has no such field.
        known_before: its values before the fix; any other is new since, and counts where `takes_new` is set.
        prompts: prompts of the condition's calls; () for any.
    """

    allowed: tuple[str, ...]
    known_before: tuple[str, ...]
    prompts: tuple[str, ...]
    takes_new: bool

    def counts(self, value: str) -> bool:
        """Whether calls with this value count."""
        return value in self.allowed or (self.takes_new and value not in self.known_before)


class NothingComesBack(Exception):
    """The condition is on hours of one week alone: no later call can show that its trouble is gone."""


@dataclass
class _Pile:
    """Calls of one group, week by week."""

    seq: list[Ints] = field(default_factory=list)
    stratum: list[Ints] = field(default_factory=list)

    def add(self, calls: WeekCalls, mask: Mask, at_most: int = INSIDE_MAX) -> None:
        """Add calls of a week; of many, those whose scattered keys are smallest."""
        at = np.nonzero(mask)[0]
        if len(at) > at_most:
            scattered = (calls.seq[at] * 2654435761) % 2**32
            at = np.sort(at[np.argsort(scattered, kind="stable")[:at_most]])
        self.seq.append(calls.seq[at])
        self.stratum.append(_strata(calls)[at])

    def seqs(self) -> Ints:
        """Return the keys of all its calls."""
        return np.concatenate([*self.seq, np.empty(0, dtype=np.int64)])


def gather(
    trouble: Trouble,
    before: Iterable[Week],
    after: Iterable[Week],
    read_week: ReadWeek,
    measure_for: MeasureFor,
    now_ms: int,
) -> Gathered:
    """Read the four groups of a case.

    Args:
        before: weeks with calls before the fix, newest first: from the fix's own to four before
            the case's.
        after: weeks from the fix's own to now, oldest first.
        read_week: reads one week; only one is held at a time.

    Raises:
        NothingComesBack: nothing is left of the condition without its hours.
    """
    search = _Search(trouble)
    for week in before:
        if not search.look_back(read_week(week)):
            break
    for week in after:
        search.look_on(read_week(week), trouble.fixed_at_ms, now_ms - SETTLED_AFTER_MS)
    what, followed_by = search.counting_after()
    code: dict[str, int] = {}
    read = measure_for(search.before.seqs())
    since = search.since(what)
    groups = [
        _outcomes(pile, read, code) for pile in (search.before, since, search.rest_before, search.rest_after)
    ]
    sides = Sides(*(group for group, _unknown in groups))
    return Gathered(sides, groups[1][1], what, followed_by)


def gather_recent(
    trouble: Trouble,
    what: After,
    weeks: Iterable[Week],
    read_week: ReadWeek,
    read: Read,
    since_ms: int,
    now_ms: int,
) -> Outcomes:
    """Read a closed case's newest calls, those that started since an instant."""
    search = _Search(trouble)
    search.prompts = set(what.prompts)
    for week in weeks:
        search.look_on(read_week(week), since_ms, now_ms - SETTLED_AFTER_MS)
    return _outcomes(search.since(what), read, {})[0]


class _Search:
    """Collects the groups of one case, a week at a time."""

    def __init__(self, trouble: Trouble) -> None:
        self.trouble = trouble
        parts = [part for part in trouble.condition.parts if part.op != "within"]
        if not parts:
            raise NothingComesBack("The condition is hours of one week, which no later call can meet.")
        self.fixed = Condition.all_of(parts)
        replaced = [part for part in parts if part.field in REPLACED]
        self.replaced = replaced[0] if replaced else None
        others = [part for part in parts if part is not self.replaced]
        self.others = Condition.all_of(others) if others else None
        self.before, self.rest_before, self.rest_after = _Pile(), _Pile(), _Pile()
        self.excess = EXCESS_MIN
        self.prompts: set[str] = set()
        self.values_before: dict[str, int] = {}
        #: value of the replaced field ("" where nothing is replaced) -> calls since the fix
        self.after: dict[str, _Pile] = {}

    def look_back(self, calls: WeekCalls) -> bool:
        """Take a week's calls before the fix; return whether the week before it may hold trouble too."""
        trouble = self.trouble
        inside = holds(self.fixed, calls) if len(calls) else np.zeros(0, dtype=np.bool_)
        window = calls.started_at_ms < trouble.fixed_at_ms
        further = True
        if calls.week.id == trouble.week.id:
            window, further = self._own_week(calls, inside, window)
        elif calls.week.since_ms < trouble.week.since_ms:
            known = window & np.isfinite(calls.p_bad)
            mine, rest = known & inside, known & ~inside
            if not mine.any() or not rest.any():
                return False
            if calls.p_bad[mine].mean() - calls.p_bad[rest].mean() < self.excess / 2:
                return False
        self.before.add(calls, window & inside)
        self.rest_before.add(calls, window & ~inside, REST_MAX)
        self._note_values(calls, window & inside, window)
        return further

    def _own_week(self, calls: WeekCalls, inside: Mask, window: Mask) -> tuple[Mask, bool]:
        """Return what of the case's own week is proof, and whether the trouble is older than the week."""
        found = self.trouble.found_among
        finders = calls.held_back if found == "held_back" else ~calls.held_back
        proof = ~finders
        known = window & np.isfinite(calls.p_bad)
        # the half that found the case, whose calls prove nothing, says when it began
        began = _onset(calls, known & inside & (finders if found != "both" else True))
        if began is not None:
            window = window & (calls.started_at_ms >= began)
        mine, rest = known & window & proof & inside, known & window & proof & ~inside
        if mine.any() and rest.any():
            self.excess = max(EXCESS_MIN, float(calls.p_bad[mine].mean() - calls.p_bad[rest].mean()))
        return window & proof, began is None

    def _note_values(self, calls: WeekCalls, mine: Mask, window: Mask) -> None:
        """Remember which prompts the condition's calls are of, and which values they had to choose from."""
        prompts = _names(calls, "prompt", np.nonzero(mine)[0])
        if len(prompts):
            names, n = np.unique(prompts, return_counts=True)
            self.prompts |= set(names[n >= PROMPT_SHARE * n.sum()].tolist())
        if self.replaced is not None:
            for name, count in self._values(calls, window).items():
                self.values_before[name] = self.values_before.get(name, 0) + len(count)

    def look_on(self, calls: WeekCalls, since_ms: int, until_ms: int) -> None:
        """Take a week's calls since the fix."""
        if not len(calls):
            return
        window = (calls.started_at_ms >= since_ms) & (calls.started_at_ms < until_ms)
        inside = holds(self.fixed, calls)
        self.rest_after.add(calls, window & ~inside, REST_MAX)
        if self.replaced is None:
            self.after.setdefault("", _Pile()).add(calls, window & inside)
            return
        for name, at in self._values(calls, window).items():
            mask = np.zeros(len(calls), dtype=np.bool_)
            mask[at] = True
            self.after.setdefault(name, _Pile()).add(calls, mask)

    def _values(self, calls: WeekCalls, window: Mask) -> dict[str, Ints]:
        """Return by value of the replaced field the calls of the same prompts that meet the other tests."""
        if self.replaced is None or not len(calls):
            return {}
        at = np.nonzero(window & (holds(self.others, calls) if self.others is not None else True))[0]
        prompts = _names(calls, "prompt", at)
        if self.replaced.field == "prompt_version":
            at = at[prompts == str(self.replaced.value).rpartition("@")[0]]
        elif self.prompts:
            at = at[np.isin(prompts, list(self.prompts))]
        values = _names(calls, self.replaced.field, at)
        return {str(name): at[values == name] for name in np.unique(values)}

    def since(self, what: After) -> _Pile:
        """Return the calls since the fix that count."""
        pile = _Pile()
        for name in sorted(name for name in self.after if what.counts(name)):
            pile.seq += self.after[name].seq
            pile.stratum += self.after[name].stratum
        return pile

    def counting_after(self) -> tuple[After, tuple[str, ...]]:
        """Return which calls since the fix count, and what follows a retired value."""
        known, prompts = tuple(sorted(self.values_before)), tuple(sorted(self.prompts))
        if self.replaced is None:
            return After(("",), (), prompts, False), ()
        old = str(self.replaced.value)
        named = self._named()
        new = {name for name in self.after if name not in self.values_before}
        if named is not None:
            # what came later still is a successor of the fix
            return After((named,), known, prompts, True), tuple(sorted({named} | new))
        n_before, n_after = sum(self.values_before.values()), sum(map(_size, self.after.values()))
        share = _size(self.after.get(old)) / n_after if n_after else 1.0
        was = self.values_before.get(old, 0) / n_before if n_before else 1.0
        if share >= RETIRED * was:
            return After((old,), known, prompts, False), ()
        # rolled back, where nothing new came: what there was before takes its place
        followers = tuple(sorted(new or set(self.after) - {old}))
        return After((old, *followers), known, prompts, True), followers

    def _named(self) -> str | None:
        """Return the value that the fix named, as the replaced field writes it."""
        trouble, replaced = self.trouble, self.replaced
        if replaced is None:
            return None
        if replaced.field == "prompt_version" and trouble.prompt_version:
            version = trouble.prompt_version
            return version if "@" in version else f"{str(replaced.value).rpartition('@')[0]}@{version}"
        return trouble.release if replaced.field == "release" else None


def _outcomes(pile: _Pile, read: Read, code: dict[str, int]) -> tuple[Outcomes, int]:
    """Read how a group's calls went; return those that can be compared, and how many cannot.

    Args:
        code: numbers of persons, the same in all groups of a case.
    """
    seqs = pile.seqs()
    y, who = read(seqs)
    known = np.isfinite(y)
    people = np.array([code.setdefault(one, len(code)) for one in who], dtype=np.int64)
    stratum = np.concatenate([*pile.stratum, np.empty(0, dtype=np.int64)])
    return Outcomes(y[known], people[known], stratum[known]), int((~known).sum())


def _onset(calls: WeekCalls, mask: Mask) -> int | None:
    """Return when the calls of a mask went worse, milliseconds since 1970; None where they always did."""
    at = np.nonzero(mask)[0]
    if len(at) < 2 * CALLS_MIN:
        return None
    y = calls.p_bad[at]
    later_bad, later_n = np.cumsum(y[::-1])[::-1], np.arange(len(at), 0, -1, dtype=np.float64)
    worths = g_statistic(later_bad, later_n, float(y.sum()), float(len(at))) - 2 * np.log(len(at))
    best = int(np.argmax(worths))
    return int(calls.started_at_ms[at[best]]) if worths[best] > ONSET_WORTH else None


def _strata(calls: WeekCalls) -> Ints:
    """Return what kind of input each call had: its language, and how long it was by powers of four tokens."""
    language = np.zeros(len(calls), dtype=np.int64)
    column = calls.named.get(("input_language", ""))
    if column is not None:
        language = np.array([*map(_letters, column.names), 0], dtype=np.int64)[column.codes]
    tokens = calls.numbers["input_tokens"]
    length = np.where(tokens > 0, np.floor(np.log2(np.maximum(tokens, 1)) / 2) + 1, 0)
    kinds: Ints = language * 16 + np.minimum(np.nan_to_num(length), 15).astype(np.int64)
    return kinds


def _letters(language: str) -> int:
    """Return a number for a code of two letters, the same in every week; 0 where it is unknown."""
    return sum(
        (ord(letter) - 96) * 27**place for place, letter in enumerate(language[:2]) if "a" <= letter <= "z"
    )


def _names(calls: WeekCalls, field_name: str, at: Ints) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    """Return a field's values of some calls; "" where unknown."""
    column = calls.named.get((field_name, ""))
    if column is None:
        return np.full(len(at), "", dtype=np.str_)
    return np.array([*column.names, ""], dtype=np.str_)[column.codes[at]]


def _size(pile: _Pile | None) -> int:
    return sum(map(len, pile.seq)) if pile is not None else 0
