"""The writer's job for one OTLP request: the calls of whole traces, and the fragments that wait.

Flow: `ingest.otlp.intake` -> `KeepSpans`, one job in the writer -> `ingest.call_writes.keep_calls`, and a
closed fragment of each span for what may still come late. A whole trace to which something known may belong
waits after all, span by span: here are only its rows, so its request is read a second time.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection

from ingest.bulk import among, cursor_of
from ingest.call_rows import NewCall, SliceKey
from ingest.call_writes import keep_calls
from ingest.otlp.feedback import adopt_signals
from ingest.otlp.fragment_values import Values, span_of
from ingest.otlp.fragment_writes import keep_fragments, keep_remembered
from ingest.otlp.telling import Rows

Item = TypeVar("Item")

#: Traces, or fragments, that are written together.
ROWS_AT_ONCE = 500
#: Values of one IN (...).
_KEYS_MAX = 500


@dataclass(frozen=True, slots=True)
class KeepSpans:
    """The writer's job for one request.

    Attributes:
        waiting: reads the request again for spans, by (trace id, span id), that must wait after all;
            returns values of `fragment_values.KEPT`.
        slices: ids of slices known from earlier requests; not changed here.
    """

    project_id: int
    rows: Rows
    waiting: Callable[[Collection[tuple[str, str]]], list[Values]]
    slices: dict[SliceKey, int]

    def __call__(self, connection: Connection) -> dict[SliceKey, int]:
        """Write both; return the slices that were looked up."""
        return self.together(connection, [self])[0]

    @staticmethod
    def together(
        connection: Connection, jobs: Sequence["KeepSpans"], *, sole: bool = False
    ) -> list[dict[SliceKey, int]]:
        """Run several of these in one set of statements; return what each would have returned alone."""
        found: dict[int, dict[SliceKey, int]] = {}
        for project_id in {job.project_id for job in jobs}:
            ours = [job for job in jobs if job.project_id == project_id]
            # What waits goes first, so that no trace counts as whole beside it.
            for rows in _some_at_once(job.rows.others() for job in ours):
                keep_fragments(connection, rows)
            slices: dict[SliceKey, int] = {}
            for known in {id(job.slices): job.slices for job in ours}.values():
                slices = known if not slices else {**slices, **known}
            new: dict[SliceKey, int] = {}
            for traces in _some_at_once(_traces_of(job) for job in ours):
                new |= _keep_ended(connection, project_id, traces, {**slices, **new}, sole=sole)
            found[project_id] = new
        return [found[job.project_id] for job in jobs]


def _some_at_once(lists: Iterable[list[Item]]) -> Iterator[list[Item]]:
    """Join lists until they are long enough to be worth a statement: of a group not all is in memory."""
    held: list[Item] = []
    for each in lists:
        held += each
        if len(held) >= ROWS_AT_ONCE:
            yield held
            held = []
    if held:
        yield held


@dataclass(slots=True)
class _Trace:
    """A trace that came whole.

    Attributes:
        calls: each with values of KEPT of its spans.
        scopes: values of KEPT of its other spans.
    """

    trace_id: str
    calls: list[tuple[NewCall, list[Values]]]
    scopes: list[Values]


def _traces_of(job: KeepSpans) -> list[tuple[KeepSpans, "_Trace"]]:
    return [(job, _trace(*trace)) for trace in job.rows.ended()]


def _trace(
    trace_id: str, calls: Sequence[tuple[tuple[object, ...], list[Values]]], scopes: list[Values]
) -> _Trace:
    return _Trace(trace_id, [(NewCall.of_plain(call), spans) for call, spans in calls], scopes)


Candidates = list[tuple[KeepSpans, _Trace]]


def _keep_ended(
    connection: Connection,
    project_id: int,
    candidates: Candidates,
    slices: dict[SliceKey, int],
    *,
    sole: bool,
) -> dict[SliceKey, int]:
    """Write the calls of whole traces; those to which something known may belong wait, span by span."""
    whole, others = _apart(connection, project_id, candidates)
    calls = [made for _job, trace in whole for made, _spans in trace.calls]
    found = keep_calls(connection, project_id, calls, slices, sole=sole).slices
    waiting = [(job, values) for job, trace in others for values in _spans_of(trace)]
    remembered: list[Values] = []
    for job, trace in whole:
        remembered += [(*values, None) for values in trace.scopes]
        for made, spans in trace.calls:
            if made.seq:
                remembered += [(*values, made.seq) for values in spans]
            else:  # the id was there before: closing compares the two
                waiting += [(job, values) for values in spans]
    keep_remembered(connection, remembered)
    if waiting:
        _keep_waiting(connection, waiting)
    if _any_signal_waits(connection):
        adopt_signals(connection, project_id, {trace.trace_id for _job, trace in whole})
    return found


def _spans_of(trace: _Trace) -> list[Values]:
    return [*trace.scopes, *(values for _made, spans in trace.calls for values in spans)]


def _keep_waiting(connection: Connection, waiting: Sequence[tuple[KeepSpans, Values]]) -> None:
    """Let spans wait that seemed to be told to the end."""
    by_job: dict[int, tuple[KeepSpans, set[tuple[str, str]]]] = {}
    for job, values in waiting:
        by_job.setdefault(id(job), (job, set()))[1].add(span_of(values))
    for job, spans in by_job.values():
        keep_fragments(connection, job.waiting(spans))


def _apart(connection: Connection, project_id: int, candidates: Candidates) -> tuple[Candidates, Candidates]:
    """Return the traces that stand alone, and those of which something is known already."""
    traces = Counter(trace.trace_id for _job, trace in candidates)
    named = [
        (trace.trace_id, made.response_id)
        for _job, trace in candidates
        for made, _spans in trace.calls
        if made.response_id
    ]
    responses = Counter(response_id for _trace_id, response_id in named)
    known = {trace_id for trace_id, times in traces.items() if times > 1}
    known |= _known(connection, "trace_id", project_id, list(traces))
    answered = {response_id for response_id, times in responses.items() if times > 1}
    answered |= _known(connection, "response_id", project_id, list(responses))
    known |= {trace_id for trace_id, response_id in named if response_id in answered}
    whole = [(job, trace) for job, trace in candidates if trace.trace_id not in known]
    return whole, [(job, trace) for job, trace in candidates if trace.trace_id in known]


def _known(connection: Connection, column: str, project_id: int, keys: Sequence[str]) -> set[str]:
    """Return those of these traces, or responses, that a fragment or a call names already."""
    found: set[str] = set()
    for table in ("otlp_fragment", "call"):
        query = f'SELECT {column} FROM "{table}" WHERE project_id = ? AND {column}'  # noqa: S608
        for start in range(0, len(keys), _KEYS_MAX):
            rows = among(connection, query, [project_id], keys[start : start + _KEYS_MAX])
            found.update(key for (key,) in rows)
    return found


def _any_signal_waits(connection: Connection) -> bool:
    cursor = cursor_of(connection)
    cursor.execute("SELECT 1 FROM signal WHERE call_seq IS NULL AND span_id IS NOT NULL LIMIT 1")
    return cursor.fetchone() is not None
