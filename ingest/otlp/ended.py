"""Traces that came whole: their calls close at once, for nothing is left to wait for.

Flow: `ingest.otlp.intake` -> `told_whole` -> `KeepSpans`, one job in the writer with the request's other
fragments -> `ingest.call_writes.keep_calls`, and a closed fragment of each span for what may still come late.

The root of a trace ends last. Where it comes in the same request as the calls beneath it, each call has its
texts, and nothing known before belongs to the trace or to one of its responses, waiting could change nothing.
All other fragments wait for `ingest.otlp.closing`; a provider's package that writes spans of its own, whose
exporter may be another, makes its calls wait too.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson
from sqlalchemy import Connection

from ingest.bulk import among, cursor_of
from ingest.call_rows import BadText, NewCall, SliceKey
from ingest.call_writes import keep_calls
from ingest.otlp.assembling import Assembled, assemble, assemble_one
from ingest.otlp.dialects import anthropic_sdk
from ingest.otlp.facts import Part
from ingest.otlp.feedback import adopt_signals
from ingest.otlp.fragment_writes import Values, closed_values, keep_fragments, keep_remembered, open_values
from ingest.otlp.joining import Row, groups_of
from ingest.otlp.rows import row_of

log = logging.getLogger(__name__)

#: Values of one IN (...).
_KEYS_MAX = 500


@dataclass(slots=True)
class Ended:
    """A trace that came whole.

    Attributes:
        calls: each with its spans.
        scopes: its other spans.
    """

    trace_id: str
    calls: list[tuple[NewCall, list[Part]]]
    scopes: Sequence[Part]

    @property
    def parts(self) -> list[Part]:
        """All its spans."""
        return [*self.scopes, *(part for _call, parts in self.calls for part in parts)]


def told_whole(
    parts: Sequence[Part], received_at_ms: int, *, packs: bool = False
) -> tuple[list[Ended], list[Part]]:
    """Return the traces among a request's spans that came whole, and all other spans.

    Of a whole trace without a call and without a name for anybody neither is anything: most requests of an
    application ask no model, and its web and database spans are most of what it sends.

    Args:
        packs: pack their texts for a SQLite file.
    """
    by_trace: dict[str, list[Part]] = defaultdict(list)
    for part in parts:
        by_trace[part.trace_id].append(part)
    ended, others = [], []
    for trace_id, spans in by_trace.items():
        found = None
        if _is_whole(spans):
            calls = [part for part in spans if part.role != "scope"]
            if not calls and not any(map(_names_somebody, spans)):
                continue
            if calls and all(map(_is_complete, calls)):
                found = _ended(trace_id, spans, received_at_ms, packs)
        if found is None:
            others += spans
        else:
            ended.append(found)
    return ended, others


def _is_whole(spans: Sequence[Part]) -> bool:
    """Whether the root is here, each span once, and none whose parent is missing."""
    if len(spans) == 1:
        return spans[0].parent_span_id is None
    keys = {part.span_id for part in spans}
    # A missing parent may be another span of one of these calls.
    linked = all(part.parent_span_id is None or part.parent_span_id in keys for part in spans)
    return linked and len(keys) == len(spans) and any(part.parent_span_id is None for part in spans)


def _names_somebody(part: Part) -> bool:
    facts = part.facts
    return bool(facts.session_id or facts.conversation_id or facts.user_id)


def _is_complete(part: Part) -> bool:
    facts = part.facts
    return (
        part.role == "whole"
        and part.pair_key is None
        and facts.provider not in (None, anthropic_sdk.PROVIDER)
        and facts.input is not None
        and (facts.output is not None or facts.failed is True)
    )


def _ended(trace_id: str, spans: Sequence[Part], received_at_ms: int, packs: bool) -> Ended | None:
    try:
        calls = []
        for assembled, parts in _assembled(spans):
            made = row_of(assembled, received_at_ms, packs=packs, is_clean=False)
            calls.append((made, parts))
    except (BadText, orjson.JSONEncodeError):  # `Facts.as_json` cleans and marks those that wait
        return None
    except Exception:  # a bug; the fragments are kept all the same, and closing says what it thinks of them
        log.exception("no call could be made of a whole trace's %d spans", len(spans))
        return None
    return Ended(trace_id, calls, [part for part in spans if part.role == "scope"] if len(spans) > 1 else ())


def _assembled(spans: Sequence[Part]) -> Iterator[tuple[Assembled, list[Part]]]:
    """Yield each call of a whole trace with its spans."""
    if len(spans) == 1:
        yield assemble_one(spans[0], {}), [spans[0]]
        return
    rows = [Row(seq, part, "", 0, None, None) for seq, part in enumerate(spans)]
    by_key = {row.key: row.part for row in rows}
    for group in groups_of(rows):
        yield assemble(group, by_key), [row.part for row in group]


@dataclass(frozen=True, slots=True)
class KeepSpans:
    """The writer's job for one request: the calls of whole traces, and the fragments that wait.

    Attributes:
        others: values of `fragment_writes.KEPT` of what waits.
        due_at_ms: when those wait for that turn out not to have come whole.
        slices: ids of slices known from earlier requests; not changed here.
    """

    project_id: int
    ended: Sequence[Ended]
    others: Sequence[Values]
    received_at_ms: int
    due_at_ms: int
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
            keep_fragments(connection, [values for job in ours for values in job.others])
            found[project_id] = _keep_ended(connection, project_id, ours, sole=sole)
        return [found[job.project_id] for job in jobs]


def _keep_ended(
    connection: Connection, project_id: int, jobs: Sequence[KeepSpans], *, sole: bool
) -> dict[SliceKey, int]:
    """Write the calls of whole traces; those to which something known may belong wait, span by span."""
    candidates = [(job, trace) for job in jobs for trace in job.ended]
    if not candidates:
        return {}
    whole, others = _apart(connection, project_id, candidates)
    waiting = [(job, part) for job, trace in others for part in trace.parts]
    slices: dict[SliceKey, int] = {}
    for job in jobs:
        slices = job.slices if not slices else {**slices, **job.slices}
    calls = [made for _job, trace in whole for made, _parts in trace.calls]
    found = keep_calls(connection, project_id, calls, slices, sole=sole).slices
    remembered: list[Values] = []
    for job, trace in whole:
        remembered += [closed_values(project_id, part, job.received_at_ms, None) for part in trace.scopes]
        for made, parts in trace.calls:
            if made.seq:
                remembered += [
                    closed_values(project_id, part, job.received_at_ms, made.seq) for part in parts
                ]
            else:  # the id was there before: closing compares the two
                waiting += [(job, part) for part in parts]
    keep_remembered(connection, remembered)
    keep_fragments(
        connection,
        [open_values(project_id, part, job.received_at_ms, job.due_at_ms) for job, part in waiting],
    )
    if _any_signal_waits(connection):
        adopt_signals(connection, project_id, {trace.trace_id for _job, trace in whole})
    return found


Candidates = list[tuple[KeepSpans, Ended]]


def _apart(connection: Connection, project_id: int, candidates: Candidates) -> tuple[Candidates, Candidates]:
    """Return the traces that stand alone, and those of which something is known already."""
    traces = Counter(trace.trace_id for _job, trace in candidates)
    named = [
        (trace.trace_id, made.response_id)
        for _job, trace in candidates
        for made, _parts in trace.calls
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
