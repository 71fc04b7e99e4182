"""The writer's job for a batch of calls: what a span has told already is completed, all else is new.

Flow: `ingest.intake` -> `KeepCalls` -> `ingest.call_writes.keep_calls` for calls that nobody has told of;
`ingest.call_fills.fill_calls` for a response whose span came first over OpenTelemetry. There the id that came
first stays, the sent one is kept beside it (`call_alias`) for signals and labels that name it; the receipt
counts a duplicate. The other way round, `ingest.otlp.closing` completes the call that was sent.

Only across these two doors: an application that sends two calls under one response id or span means two, and
a fake server gives every response the same id. So each told call takes one sent call, near it in time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection

from ingest.bulk import among, insert_rows
from ingest.call_fills import fill_calls
from ingest.call_rows import NewCall, SliceKey
from ingest.call_writes import Kept, keep_calls
from ingest.signal_writes import resolve_waiting

#: Clocks and measures of one response: two tellers' starts lie this near, or one within the other's time.
SAME_TIME_MS = 2_000
#: Values of one IN (...).
_KEYS_MAX = 500


@dataclass(slots=True)
class KeepCalls:
    """The writer's job for one batch of calls; batches that wait together are written together.

    Attributes:
        slices: ids of slices known from earlier batches; not changed here.
    """

    project_id: int
    calls: Sequence[NewCall]
    slices: dict[SliceKey, int]

    def __call__(self, connection: Connection) -> Kept:
        """Write the batch; see `keep_calls`."""
        return self.together(connection, [self])[0]

    @staticmethod
    def together(connection: Connection, jobs: Sequence["KeepCalls"], *, sole: bool = False) -> list[Kept]:
        """Run several of these in one set of statements; return what each would have returned alone."""
        kept: list[Kept | None] = [None] * len(jobs)
        for project_id in {job.project_id for job in jobs}:
            ours = [(i, job) for i, job in enumerate(jobs) if job.project_id == project_id]
            slices: dict[SliceKey, int] = {}
            for known in {id(job.slices): job.slices for _i, job in ours}.values():
                slices = known if not slices else {**slices, **known}
            calls = [call for _i, job in ours for call in job.calls]
            told = told_already(connection, project_id, calls)
            new = calls if not told else [call for call in calls if id(call) not in told]
            found = keep_calls(connection, project_id, new, slices, sole=sole).slices
            # Counted before what is told already gets the number of its call.
            for i, job in ours:
                accepted = sum(call.seq > 0 and id(call) not in told for call in job.calls)
                kept[i] = Kept(accepted, found)
            if told:
                _complete(
                    connection, project_id, [(told[id(call)], call) for call in calls if id(call) in told]
                )
        return [one for one in kept if one is not None]


class _Told(NamedTuple):
    """A kept call that a span told of."""

    seq: int
    id: str
    response_id: str | None
    started_at_ms: int
    latency_ms: float | None


_FIELDS = "seq, id, response_id, started_at_ms, latency_ms, trace_id, span_id"
_BY_RESPONSE = f'SELECT {_FIELDS} FROM "call" WHERE project_id = ? AND response_id'  # noqa: S608
_BY_ID = f'SELECT {_FIELDS} FROM "call" WHERE project_id = ? AND id'  # noqa: S608


_ALIASES = "SELECT {} FROM call_alias WHERE project_id = ? AND {}"


def told_already(connection: Connection, project_id: int, calls: Sequence[NewCall]) -> dict[int, int]:
    """Return by `id(call)` the seq of the kept call that a span has told of the same response.

    Calls that name neither a response nor a span are not looked for.
    """
    responses = {call.response_id for call in calls if call.response_id}
    spans = {f"{call.trace_id}:{call.span_id}" for call in calls if call.trace_id and call.span_id}
    by_response: dict[str, list[_Told]] = {}
    by_span: dict[str, _Told] = {}
    for row in _found(connection, _BY_RESPONSE, project_id, responses):
        if row[1] == f"{row[5]}:{row[6]}":
            by_response.setdefault(row[2], []).append(_Told(*row[:5]))
    # A call that is sent without an id is named after its span, and is then a repeated one.
    for row in _found(connection, _BY_ID, project_id, spans - {call.id for call in calls}):
        by_span[row[1]] = _Told(*row[:5])
    if not by_response and not by_span:
        return {}
    pairs = []
    for call in calls:
        span = by_span.get(f"{call.trace_id}:{call.span_id}")
        candidates = ([span] if span is not None else []) + by_response.get(call.response_id or "", [])
        pairs += [(call, told) for told in candidates if told.id != call.id]
    return _one_each(connection, project_id, pairs) if pairs else {}


def _one_each(
    connection: Connection, project_id: int, pairs: Sequence[tuple[NewCall, _Told]]
) -> dict[int, int]:
    """Give each sent call one told call, and each told call one sent id."""
    ids = {call.id for call, _told in pairs}
    kept = {row[1] for row in _found(connection, _BY_ID, project_id, ids)}
    # Sent again, later: its start may be the time of receipt.
    again = dict(_found(connection, _ALIASES.format("id, call_seq", "id"), project_id, ids))
    seqs = {told.seq for _call, told in pairs}
    taken = dict(_found(connection, _ALIASES.format("call_seq, id", "call_seq"), project_id, seqs))
    found = {id(call): again[call.id] for call, _told in pairs if call.id in again}
    # Where several would fit, the one that began at the same time is it.
    for call, told in sorted(pairs, key=lambda pair: abs(pair[0].started_at_ms - pair[1].started_at_ms)):
        if id(call) in found or call.id in kept or not _may_be_one(call, told):
            continue
        if taken.setdefault(told.seq, call.id) == call.id:
            found[id(call)] = told.seq
    return found


def _may_be_one(call: NewCall, told: _Told) -> bool:
    if call.response_id and told.response_id and call.response_id != told.response_id:
        return False
    gap_ms = call.started_at_ms - told.started_at_ms
    return -SAME_TIME_MS <= gap_ms <= SAME_TIME_MS + (told.latency_ms or 0)


def _complete(connection: Connection, project_id: int, told: Sequence[tuple[int, NewCall]]) -> None:
    rows = [(project_id, call.id, seq) for seq, call in told]
    insert_rows(
        connection,
        "call_alias",
        ("project_id", "id", "call_seq"),
        rows,
        "ON CONFLICT (project_id, id) DO NOTHING",
    )
    for seq, call in told:
        call.seq = seq
    reached = resolve_waiting(connection, project_id, [call for _seq, call in told])
    insert_rows(connection, "todo", ("call_seq", "reason"), [(seq, "signal") for seq in sorted(reached)])
    fill_calls(connection, project_id, told)


def _found(connection: Connection, query: str, project_id: int, keys: set[Any]) -> list[Any]:
    wanted = sorted(keys)
    found: list[Any] = []
    for start in range(0, len(wanted), _KEYS_MAX):
        found += among(connection, query, [project_id], wanted[start : start + _KEYS_MAX])
    return found
