"""Conditions to try: every value of every field, thresholds a person would say, spans of hours, and pairs.

Flow: outliers.cohorts.discovery makes a `Ground` -> `best_candidate` among some of its calls -> what is to be
tested. Each family of candidates is counted at once, with NumPy.

A candidate's worth is Kulldorff's scan statistic (1997) for "more bad calls inside than were expected",
G = 2 * (O log(O / E) - (O - E)), less 2 log(m) for a family of m candidates: a hundred thousand pairs must
not beat one prompt by luck. O sums how bad the calls inside are, E what the weeks before let expect of them,
and the same pair of values then: a prompt that always did one language badly is expected to.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from outliers.cohorts.axes import (
    Axis,
    coarse,
    cumulated,
    one_says_the_other,
    roundness,
    table_of_pairs,
)
from outliers.cohorts.expected import RATE_MAX
from outliers.cohorts.spans import HOUR_MS, hours_of, table_of_spans, windows
from outliers.conditions import Condition
from outliers.frame import Floats, Ints, Mask, WeekCalls

#: Fewest calls inside a condition, in the half that looks for it.
CALLS_MIN = 8
#: Values of one field that are looked at in each span of hours: those with most calls.
VALUES_IN_SPANS = 80
#: Bad calls that a pair's own past is drawn by towards what its two fields let expect.
PRIOR_OF_PAIR = 3.0
#: A part of a condition stays where the calls without it are less than this share as far above expectation.
NEEDED_BELOW = 0.4
PARTS_MAX = 3
#: What G an end of a span that is no whole hour must gain.
WHOLE_HOUR_WORTH = 5.0


@dataclass(frozen=True)
class Need:
    """How far a condition's rate must stand above what is expected to be worth a person's week.

    Attributes:
        raise_min: rate inside less rate expected, at least.
        lift_min: rate inside over rate expected, at least.
    """

    raise_min: float
    lift_min: float


@dataclass(frozen=True)
class Ground:
    """What is searched.

    Attributes:
        y, expected: how bad each call is and was expected to be, 0..1; shape (n,).
        y_before, expected_before: the same of the calls before; shape (m,), m = 0 where there are none.
        axes: the fields, finely cut.
        pairs: whether pairs of fields are tried.
        only_spans: whether only spans of hours are (with another field or alone): without weeks before, a
            lasting difference cannot be told from an incident by anything else.
    """

    calls: WeekCalls
    y: Floats
    expected: Floats
    y_before: Floats
    expected_before: Floats
    axes: list[Axis]
    need: Need
    pairs: bool = True
    only_spans: bool = False
    lasting: dict[tuple[int, int], Floats] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Candidate:
    """A condition with its worth (G less the price of its family) among the calls looked at."""

    condition: Condition
    worth: float
    n: int


@dataclass(frozen=True)
class _Cells:
    """Calls, badness and expectation of the groups of one family, any shape."""

    n: Floats
    bad: Floats
    expected: Floats


def scan_statistic(bad: Floats, expected: Floats) -> Floats:
    """Return G for groups with more bad calls than expected, 0 for the others."""
    more = (bad > expected) & (bad > 0)  # sums of floats may fall a hair below 0
    bad, expected = np.where(more, bad, 1.0), np.where(more, expected, 1.0)
    return np.asarray(2 * (bad * np.log(bad / np.maximum(expected, 1e-9)) - (bad - expected)))


def best_candidate(ground: Ground, among: Mask) -> Candidate | None:
    """Return the condition under which most went wrong beyond expectation, or None where none is worth it.

    Args:
        among: the calls to look at, shape (n,).
    """
    at = np.nonzero(among)[0]
    y = ground.y[at]
    if len(ground.y_before):
        # a week that is worse as a whole is no condition
        scale = max(1.0, float(y.sum()) / max(float(ground.expected[at].sum()), 1e-9))
        expected = np.minimum(ground.expected[at] * scale, RATE_MAX)
    else:
        expected = np.full(len(at), float(y.mean()) if len(at) else 0.0)
    look = _Look(ground, at, y, expected)
    found = [] if ground.only_spans else [*look.singles()]
    found += [*look.spans()]
    if ground.pairs and not ground.only_spans:
        found += [*look.pairs()]
    most = max((one.worth for one in found), default=0.0)
    if most <= 0:
        return None
    # where two fields set apart nearly the same calls, the one that comes first names the cause best
    best = next(one for one in found if one.worth >= most - max(2.0, 0.03 * most))
    return look.improved(best)


def holds(condition: Condition, calls: WeekCalls) -> Mask:
    """Return for which calls a condition holds, shape (n,); never where a field of it is unknown."""
    if condition.also is not None:
        return np.asarray(np.logical_and.reduce([holds(part, calls) for part in condition.parts]))
    if isinstance(condition.value, tuple):
        since, until = condition.value
        return (calls.started_at_ms >= since) & (calls.started_at_ms < until)
    if isinstance(condition.value, str):
        key = (
            (condition.field, condition.key if condition.field == "tag" else condition.value)
            if condition.field in ("tag", "tool", "input_text")
            else (condition.field, "")
        )
        column = calls.named.get(key)
        if column is None or condition.value not in column.names:
            return np.zeros(len(calls), dtype=np.bool_)
        return np.asarray(column.codes == column.names.index(condition.value))
    values = calls.numbers[condition.field]
    return np.asarray(values > condition.value if condition.op == ">" else values < condition.value)


class _Look:
    """One look at some of the calls."""

    def __init__(self, ground: Ground, at: Ints, y: Floats, expected: Floats) -> None:
        self.ground, self.at, self.y, self.expected = ground, at, y, expected
        #: where y is not 0: of one way to fail that is few calls, and all sums over y go through these
        self.not_good = np.nonzero(y)[0]

    def singles(self) -> Iterator[Candidate]:
        """Yield the best value or threshold of each field."""
        for axis in self.ground.axes:
            found = self._best_of(axis, np.ones(len(self.at), dtype=np.bool_))
            if found is not None and found.worth > 0:
                yield found

    def pairs(self) -> Iterator[Candidate]:
        """Yield the best pair of values of each two fields, at the price of all pairs tried."""
        axes = [coarse(axis) for axis in self.ground.axes]
        places = [axis.codes[self.at].astype(np.int64) + 1 for axis in axes]
        best: list[tuple[Condition, float, int]] = []
        tried = 0
        for i, one in enumerate(axes):
            if one.thresholds is not None:
                continue
            for j, other in enumerate(axes):
                if (other.thresholds is None and j <= i) or one_says_the_other(one, other):
                    continue
                cells = self._table(one, other, places[i] * (other.size + 1) + places[j])
                tried += int((cells.n >= CALLS_MIN).sum())
                place, g = self._first(cells)
                if place >= 0 and len(self.ground.y_before):
                    # their own past can only raise what is expected: looked up where something stands out
                    expected = np.minimum(cells.expected * self._lasting_of(axes, i, j), RATE_MAX * cells.n)
                    place, g = self._first(_Cells(cells.n, cells.bad, expected))
                if place >= 0:
                    a, b = divmod(place, cells.n.shape[1])
                    said = Condition.all_of([one.condition(a), other.condition(b)])
                    best.append((said, g, int(cells.n.flat[place])))
        price = 2 * math.log(max(1, tried))
        yield from (Candidate(said, g - price, n) for said, g, n in best if g > price)

    def spans(self) -> Iterator[Candidate]:
        """Yield the best span of hours alone, and with a value of each field of names."""
        week = self.ground.calls.week
        hour, hours = hours_of(self.ground.calls.started_at_ms[self.at], week)
        start, end = windows(hours)
        everything = Axis(
            "", "", "=", np.zeros(len(self.ground.calls), np.int32), np.empty(0, np.int32), ("",)
        )
        named = [axis for axis in self.ground.axes if axis.thresholds is None] if self.ground.pairs else []
        best: list[tuple[Condition, float, int]] = []
        tried = 0
        for axis in (everything, *named):
            codes = axis.codes[self.at].astype(np.int64)
            n = np.bincount(codes + 1, minlength=axis.size + 1)[1:]
            values = [
                v for v in np.argsort(-n, kind="stable")[:VALUES_IN_SPANS].tolist() if n[v] >= CALLS_MIN
            ]
            if not values:
                continue
            cells = _Cells(*(
                table_of_spans(codes, hour, hours, axis.size, values, weights, start, end)
                for weights in (None, self.y, self.expected)
            ))  # fmt: skip
            alone = axis is everything
            family = int((cells.n >= CALLS_MIN).sum())
            tried += 0 if alone else family
            place, g = self._first(cells)
            if place < 0:
                continue
            v, w = divmod(place, len(start))
            span = (week.since_ms + int(start[w]) * HOUR_MS, week.since_ms + int(end[w]) * HOUR_MS)
            within = Condition("started_at", "within", (span[0], min(span[1], week.until_ms)))
            if alone:
                worth = g - 2 * math.log(max(1, family))
                if worth > 0:
                    yield Candidate(within, worth, int(cells.n.flat[place]))
            else:
                said = Condition.all_of([axis.condition(values[v]), within])
                best.append((said, g, int(cells.n.flat[place])))
        price = 2 * math.log(max(1, tried))
        yield from (Candidate(said, g - price, n) for said, g, n in best if g > price)

    def improved(self, found: Candidate) -> Candidate:
        """Return it without parts that are not needed, with a third one that is, its bounds made finer."""
        condition = self._fine(self._without_idle_parts(found.condition))
        inside = self._inside(condition)
        g = self._g(inside)
        if self.ground.pairs and len(condition.parts) < PARTS_MAX:
            mine = {(part.field, part.key) for part in condition.parts}
            for axis in self.ground.axes:
                if (axis.field, axis.key if axis.field == "tag" else "") in mine or self.ground.only_spans:
                    continue
                if any(one_says_the_other(axis, other) for other in self._axes_in(condition)):
                    continue
                more = self._best_of(axis, inside)
                # it must pay its own price, and for having looked at every field
                if more is not None and more.worth - 2 * math.log(len(self.ground.axes)) > g + 6.0:
                    longer = self._without_idle_parts(Condition.all_of([*_names_first(condition, more)]))
                    g = self._g(self._inside(longer))
                    condition, inside = longer, self._inside(longer)
        return Candidate(condition, found.worth, int(self._inside(condition).sum()))

    def _axes_in(self, condition: Condition) -> list[Axis]:
        names = {part.field for part in condition.parts}
        return [
            axis for axis in self.ground.axes if axis.field in names and axis.field not in ("tag", "tool")
        ]

    def _inside(self, condition: Condition) -> Mask:
        return holds(condition, self.ground.calls)[self.at]

    def _g(self, inside: Mask) -> float:
        bad, expected = float(self.y[inside].sum()), float(self.expected[inside].sum())
        return float(scan_statistic(np.array([bad]), np.array([expected]))[0])

    def _without_idle_parts(self, condition: Condition) -> Condition:
        """Leave out parts without which the calls are nearly as bad as with them."""
        parts = list(condition.parts)
        while len(parts) > 1:
            idle: list[tuple[float, int]] = []
            inside = self._inside(Condition.all_of(parts))
            rate = float((self.y - self.expected)[inside].mean()) if inside.any() else 0.0
            for i, part in enumerate(parts):
                if self.ground.only_spans and part.op == "within":
                    continue
                others = Condition.all_of([*parts[:i], *parts[i + 1 :]])
                rest = self._inside(others) & ~inside
                # without calls of its own the other parts say the same, shorter
                if rest.sum() < CALLS_MIN or (self.y - self.expected)[rest].mean() >= NEEDED_BELOW * rate:
                    idle.append((self._g(self._inside(others)), i))
            if not idle:
                break
            del parts[max(idle)[1]]
        return Condition.all_of(parts)

    def _fine(self, condition: Condition) -> Condition:
        """Choose a threshold or the ends of a span anew, within what the other parts leave."""
        parts = list(condition.parts)
        for i, part in enumerate(parts):
            others = [*parts[:i], *parts[i + 1 :]]
            inside = self._inside(Condition.all_of(others)) if others else np.ones(len(self.at), np.bool_)
            if part.op in (">", "<"):
                axis = next(a for a in self.ground.axes if (a.field, a.op) == (part.field, part.op))
                better = self._best_of(axis, inside)
                if better is not None:
                    parts[i] = better.condition
            elif part.op == "within":
                parts[i] = self._fine_span(part, inside)
        return Condition.all_of(parts)

    def _fine_span(self, part: Condition, inside: Mask) -> Condition:
        """Move the ends of a span to the ten minutes that set most apart, at most an hour away."""
        assert isinstance(part.value, tuple)
        week, step = self.ground.calls.week, HOUR_MS // 6
        at = self.ground.calls.started_at_ms[self.at][inside]
        edges = [np.clip(end + np.arange(-6, 7) * step, week.since_ms, week.until_ms) for end in part.value]
        order = [np.searchsorted(at, edge) for edge in edges]
        bad, expected = (np.concatenate([[0.0], np.cumsum(v[inside])]) for v in (self.y, self.expected))
        gained = scan_statistic(
            bad[order[1]][None, :] - bad[order[0]][:, None],
            expected[order[1]][None, :] - expected[order[0]][:, None],
        )
        # a whole hour is easier to say: another minute must be worth it
        odd = [WHOLE_HOUR_WORTH * ((edge - week.since_ms) % HOUR_MS != 0) for edge in edges]
        gained = gained - odd[0][:, None] - odd[1][None, :]
        gained[edges[1][None, :] <= edges[0][:, None]] = -np.inf
        since, until = np.unravel_index(int(np.argmax(gained)), gained.shape)
        return Condition("started_at", "within", (int(edges[0][since]), int(edges[1][until])))

    def _best_of(self, axis: Axis, inside: Mask) -> Candidate | None:
        """Return the best value or threshold of one field among some of the calls; worth may be negative."""
        codes = axis.codes[self.at][inside] + 1
        sums = (
            np.bincount(codes, weights=weights, minlength=axis.size + 1)[1:].astype(np.float64)
            for weights in (None, self.y[inside], self.expected[inside])
        )
        cells = _Cells(*(cumulated(table, axis.op) for table in sums))
        reached = self._reached(cells)
        if not reached.any():
            return None
        g = np.where(reached, scan_statistic(cells.bad, cells.expected), -np.inf)
        if axis.thresholds is None:
            place, price = int(np.argmax(g)), 2 * math.log(max(1, int((cells.n >= CALLS_MIN).sum())))
        else:
            # neighbouring thresholds say nearly the same: their number counts for less than that of names;
            # of those that set apart about as well, the one that is easiest to say
            near = np.nonzero(g >= g.max() - max(1.0, 0.02 * g.max()))[0].tolist()
            numbers = axis.thresholds
            place = min(near, key=lambda i: (roundness(float(numbers[i])), -g[i]))
            price = math.log(len(axis.thresholds))
        return Candidate(axis.condition(place), float(g[place]) - price, int(cells.n[place]))

    def _table(self, one: Axis, other: Axis, codes: Ints) -> _Cells:
        n = table_of_pairs(codes, None, one, other)
        bad = table_of_pairs(codes[self.not_good], self.y[self.not_good], one, other)
        if not ((n >= CALLS_MIN) & (bad >= self.ground.need.raise_min * n)).any():
            return _Cells(n, bad, n)  # too few are bad, whatever was expected
        return _Cells(n, bad, table_of_pairs(codes, self.expected, one, other))

    def _lasting_of(self, axes: Sequence[Axis], i: int, j: int) -> Floats:
        """How many times worse each pair of values was before than its fields let expect, at least 1."""
        ground = self.ground
        if (i, j) not in ground.lasting:
            one, other = axes[i], axes[j]
            codes = (one.before + 1) * (other.size + 1) + other.before + 1
            seen, thought = (
                table_of_pairs(codes, weights, one, other)
                for weights in (ground.y_before, ground.expected_before)
            )
            ground.lasting[i, j] = np.maximum(1.0, (seen + PRIOR_OF_PAIR) / (thought + PRIOR_OF_PAIR))
        return ground.lasting[i, j]

    def _reached(self, cells: _Cells) -> Mask:
        need, expected = self.ground.need, cells.expected
        if not len(self.ground.y_before):
            # nothing but the rest of the week says what is usual
            outside = np.maximum(1.0, len(self.at) - cells.n)
            expected = cells.n * np.maximum(0.0, float(self.y.sum()) - cells.bad) / outside
        return np.asarray(
            (cells.n >= CALLS_MIN)
            & (len(self.at) - cells.n >= CALLS_MIN)
            & (cells.bad - expected >= need.raise_min * cells.n)
            & (cells.bad >= need.lift_min * expected)
        )

    def _first(self, cells: _Cells) -> tuple[int, float]:
        """Return (flat place, G) of the group that stands out most; (-1, 0) where none reaches the need."""
        places = np.nonzero(self._reached(cells).ravel())[0]
        if not len(places):
            return -1, 0.0
        g = scan_statistic(cells.bad.ravel()[places], cells.expected.ravel()[places])
        best = int(np.argmax(g))
        return int(places[best]), float(g[best])


def _names_first(condition: Condition, more: Candidate) -> list[Condition]:
    parts = [*condition.parts, more.condition]
    return sorted(parts, key=lambda part: part.op == "within")
