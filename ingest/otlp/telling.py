"""What a request tells, as plain data: read in the server or in its reading process, by the same code.

Flow: body -> `told_of` -> `reading`, `dialects`, `ended`, `evaluations` -> Told, of values that `marshal` can
carry -> `ingest.otlp.intake` -> `ingest.otlp.keeping`. Nothing here knows the database, or what was sent
before.
"""

import marshal
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from ingest.otlp.dialects import part_of_record, part_of_span, tells_of_a_call
from ingest.otlp.ended import Ended, told_whole
from ingest.otlp.evaluations import EVENT, signals_of_record, signals_of_span
from ingest.otlp.facts import Part
from ingest.otlp.fragment_values import Values, ended_values, open_values
from ingest.otlp.reading import check_metrics, read_records, tell_spans
from ingest.otlp.reading.items import Read, Span

#: Why a record that is about a call cannot be kept: it would be acknowledged and never seen again.
_ABOUT_NOTHING = (
    "a record of a call's content must stand in a span; an evaluation needs a name, a score or a label, "
    "and a response or a span that it is about"
)


class Asked(NamedTuple):
    """A request to be read.

    Attributes:
        signal: traces, logs or metrics.
        due_at_ms: when fragments that wait are due.
        packs: pack texts for a SQLite file.
    """

    signal: str
    is_json: bool
    project_id: int
    received_at_ms: int
    due_at_ms: int
    packs: bool


#: A call of a whole trace: `NewCall.plain`, and values of KEPT of each of its spans.
PlainCall = tuple[tuple[Any, ...], list[Values]]
#: A whole trace: its id, its calls, values of KEPT of its other spans.
PlainTrace = tuple[str, list[PlainCall], list[Values]]


class Rows(NamedTuple):
    """What there is to write of a request, in the words of `marshal`.

    It is taken apart in the writer's turn and piece by piece: until then it is as small as can be, and one
    set of bytes instead of thousands of objects.

    Attributes:
        whole: traces that came whole.
        waiting: values of KEPT of the fragments that wait.
    """

    whole: bytes
    waiting: bytes

    def ended(self) -> list[PlainTrace]:
        """Return the traces that came whole."""
        traces: list[PlainTrace] = marshal.loads(self.whole)  # noqa: S302 (our own code wrote it)
        return traces

    def others(self) -> list[Values]:
        """Return values of KEPT of the fragments that wait."""
        rows: list[Values] = marshal.loads(self.waiting)  # noqa: S302 (our own code wrote it)
        return rows


class Summary(NamedTuple):
    """What a request comes to, its rows aside.

    Attributes:
        kept: spans or records that are kept, or of which nothing need be.
        reasons: why the others are not, each once.
        whole: how many traces came whole.
        signals: as `ingest.wire.signals_of` takes them.
    """

    kept: int
    rejected: int
    reasons: list[str]
    whole: int
    signals: list[dict[str, Any]]


class Told(NamedTuple):
    """A request that was read. `rows` is None where there are none."""

    summary: Summary
    rows: Rows | None


def told_of(body: bytes, asked: Asked) -> Told:
    """Read a request.

    Raises:
        BadBody: the body is none.
    """
    return _READ[asked.signal](body, asked)


def waiting_values(body: bytes, asked: Asked, spans: Collection[tuple[str, str]]) -> list[Values]:
    """Return values of KEPT of some spans of a request that was read already: they have to wait after all.

    Args:
        spans: (trace id, span id) of each.
    """
    read = tell_spans(body, part_of_span, is_json=asked.is_json)
    found = (part for part in read.items if (part.trace_id, part.span_id) in spans)
    return [open_values(asked.project_id, part, asked.received_at_ms, asked.due_at_ms) for part in found]


def _spans(body: bytes, asked: Asked) -> Told:
    signals: list[dict[str, Any]] = []

    def part_of(span: Span) -> Part:
        signals.extend(signals_of_span(span))
        return part_of_span(span)

    read = tell_spans(body, part_of, is_json=asked.is_json)
    return _told(read, read.items, signals, asked)


def _records(body: bytes, asked: Asked) -> Told:
    read = read_records(body, is_json=asked.is_json)
    parts: list[Part] = []
    signals: list[dict[str, Any]] = []
    lost = 0
    for record in read.items:
        part, found = part_of_record(record), signals_of_record(record)
        parts += [] if part is None else [part]
        signals += found
        if part is None and not found and (record.name == EVENT or tells_of_a_call(record)):
            lost += 1
            read.reject(_ABOUT_NOTHING)
    return _told(read, parts, signals, asked, lost)


def _metrics(body: bytes, asked: Asked) -> Told:
    check_metrics(body, is_json=asked.is_json)
    return Told(Summary(0, 0, [], 0, []), None)


_READ: dict[str, Callable[[bytes, Asked], Told]] = {"traces": _spans, "logs": _records, "metrics": _metrics}


def _told(
    read: Read[Any], parts: Sequence[Part], signals: list[dict[str, Any]], asked: Asked, lost: int = 0
) -> Told:
    """Return what was read; `lost` of its items can be attached to no call."""
    kept = len(read.items) - lost
    if not parts:
        return Told(Summary(kept, read.rejected, read.reasons, 0, signals), None)
    ended, others = told_whole(parts, asked.received_at_ms, packs=asked.packs)
    summary = Summary(kept, read.rejected, read.reasons, len(ended), signals)
    waiting = [open_values(asked.project_id, part, asked.received_at_ms, asked.due_at_ms) for part in others]
    traces = [_plain(trace, asked) for trace in ended]
    return Told(summary, Rows(marshal.dumps(traces), marshal.dumps(waiting)))


def _plain(trace: Ended, asked: Asked) -> PlainTrace:
    project_id, at_ms = asked.project_id, asked.received_at_ms
    return (
        trace.trace_id,
        [
            (made.plain(), [ended_values(project_id, part, at_ms) for part in parts])
            for made, parts in trace.calls
        ],
        [ended_values(project_id, part, at_ms) for part in trace.scopes],
    )
