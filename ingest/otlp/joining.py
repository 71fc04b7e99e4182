"""Which fragments are of one call. Pure: rows in, groups out; the same rows always make the same groups.

Flow: `ingest.otlp.closing` loads rows -> `groups_of` -> `ingest.otlp.assembling`. Four ties, the surest
first: a span and its log records share their ids; the client's own span has its wrapper for parent; or both
name one response at one time; or nothing links them and process, model and times must do (`Part.pair_key`).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ingest.otlp.facts import Part

#: Clocks and batches of one response: a wrapper's and its client's span overlap up to this.
RESPONSE_SLACK_NS = 2_000_000_000
#: A tail's own start (end less duration) lies this near its head's end.
STREAM_SLACK_NS = 250_000_000
#: A wrapper starts at most so long before the client's span that failed inside it.
FAILED_SLACK_NS = 1_000_000_000
#: Two clock readings of one process may differ by this.
TICK_NS = 5_000_000

SpanKey = tuple[str, str]


@dataclass(slots=True)
class Row:
    """A fragment as it lies in the store.

    Attributes:
        due_at_ms: None where its call has closed; `call_seq` then names it, where it became one.
    """

    seq: int
    part: Part
    digest: str
    received_at_ms: int
    due_at_ms: int | None
    call_seq: int | None

    @property
    def key(self) -> SpanKey:
        """The ids of the span it is, or belongs to."""
        return (self.part.trace_id, self.part.span_id)


def groups_of(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rows of each call, by `seq`; `scope` rows are left out."""
    own = [row for row in rows if row.part.role != "scope"]
    sets = _Sets()
    spans = {row.key: row for row in own if row.part.role != "content"}
    for row in own:
        sets.add(row.key)
    # The records of a span tell of its call before the span does, which ends last.
    _join_children(spans, {**{row.key: row for row in own if row.part.role == "content"}, **spans}, sets)
    _join_responses(spans.values(), sets)
    _join_streams(spans.values(), sets)
    _join_failed(spans.values(), sets)
    groups: dict[SpanKey, list[Row]] = defaultdict(list)
    for row in sorted(own, key=lambda row: row.seq):
        groups[sets.root(row.key)].append(row)
    return list(groups.values())


class _Sets:
    """Disjoint sets of span keys."""

    def __init__(self) -> None:
        self._parent: dict[SpanKey, SpanKey] = {}

    def add(self, key: SpanKey) -> None:
        self._parent.setdefault(key, key)

    def root(self, key: SpanKey) -> SpanKey:
        while self._parent[key] != key:
            self._parent[key] = self._parent[self._parent[key]]
            key = self._parent[key]
        return key

    def join(self, one: SpanKey, other: SpanKey) -> None:
        self._parent[self.root(one)] = self.root(other)

    def joined(self, one: SpanKey, other: SpanKey) -> bool:
        return self.root(one) == self.root(other)


def _join_children(spans: dict[SpanKey, Row], parents: dict[SpanKey, Row], sets: _Sets) -> None:
    """A call's span right beneath a call's span is the same call, seen from nearer.

    Unless it is one of several that succeeded: then the upper one is a step of an application that somebody
    marked as a generation, and holds several responses. Failed ones are attempts that were repeated.
    """
    children: dict[SpanKey, list[Row]] = defaultdict(list)
    for row in spans.values():
        above = (row.part.trace_id, row.part.parent_span_id or "")
        if above in parents and _compatible(row.part, parents[above].part):
            children[above].append(row)
    for above, below in children.items():
        if sum(not row.part.facts.failed for row in below) <= 1:
            for row in below:
                sets.join(row.key, above)


def _compatible(part: Part, above: Part) -> bool:
    ids = {part.facts.response_id, above.facts.response_id} - {None}
    return len(ids) <= 1 and (part.facts.operation or "") == (above.facts.operation or "")


def _join_responses(rows: Iterable[Row], sets: _Sets) -> None:
    """Two instrumentations that name one response at one time tell of one call.

    One instrumentation tells of a response once: a fake server that gives every response the same id makes
    many calls, each with its wrapper.
    """
    by_response: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.part.facts.response_id:
            by_response[row.part.facts.response_id].append(row)
    for same in by_response.values():
        calls: list[tuple[set[str], Row]] = []
        for row in sorted(same, key=lambda row: (row.part.started_ns, -row.part.ended_ns, row.seq)):
            teller = row.part.facts.told_by or ""
            for tellers, first in reversed(calls):
                near = row.part.started_ns <= first.part.ended_ns + RESPONSE_SLACK_NS
                if near and (teller not in tellers or sets.joined(row.key, first.key)):
                    tellers.add(teller)
                    sets.join(row.key, first.key)
                    break
            else:
                calls.append(({teller}, row))


def _join_streams(rows: Iterable[Row], sets: _Sets) -> None:
    """Give each tail the head that ended where the tail's duration began."""
    for pair in _by_pair_key(rows, ("head", "tail")):
        heads = [row for row in pair if row.part.role == "head"]
        tails = [row for row in pair if row.part.role == "tail"]
        gaps = []
        for tail in tails:
            began_ns = tail.part.ended_ns - round((tail.part.facts.duration_ms or 0) * 1e6)
            for head in heads:
                early = head.part.started_ns - TICK_NS <= began_ns
                gap_ns = abs(began_ns - head.part.ended_ns)
                if early and gap_ns <= STREAM_SLACK_NS:
                    gaps.append((gap_ns, tail.key, head.key))
        _join_nearest(gaps, sets)


def _join_failed(rows: Iterable[Row], sets: _Sets) -> None:
    """Give each failed client's span that stands alone the failed wrapper around it."""
    for pair in _by_pair_key(rows, ("client", "whole")):
        inner = [row for row in pair if row.part.role == "client" and not row.part.facts.response_id]
        outer = [row for row in pair if row.part.role == "whole" and not row.part.facts.response_id]
        taken = {o.key for o in outer for row in inner if sets.joined(o.key, row.key)}
        gaps = []
        for client in inner:
            if any(sets.joined(client.key, wrapper.key) for wrapper in outer):
                continue
            for wrapper in outer:
                gap_ns = client.part.started_ns - wrapper.part.started_ns
                inside = client.part.ended_ns <= wrapper.part.ended_ns + TICK_NS
                if wrapper.key not in taken and inside and -TICK_NS <= gap_ns <= FAILED_SLACK_NS:
                    gaps.append((abs(gap_ns), client.key, wrapper.key))
        _join_nearest(gaps, sets)


def _by_pair_key(rows: Iterable[Row], roles: tuple[str, ...]) -> Iterable[list[Row]]:
    pairs: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.part.pair_key is not None and row.part.role in roles:
            pairs[row.part.pair_key].append(row)
    return pairs.values()


def _join_nearest(gaps: list[tuple[int, SpanKey, SpanKey]], sets: _Sets) -> None:
    """Join the pairs with the least gaps first; each side is joined once."""
    used: set[SpanKey] = set()
    for _gap_ns, one, other in sorted(gaps):
        if one not in used and other not in used:
            used |= {one, other}
            sets.join(one, other)
