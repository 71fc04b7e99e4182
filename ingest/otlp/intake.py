"""OTLP intake: a request's spans or log records become committed fragments; the receipt follows the commit.

Flow: `api.routes.otlp` -> `OtlpIntake.prepare_*` -> `reading`, `dialects` -> one job of the writer (`ended`,
and `ingest.intake` for what is feedback) -> Accepted. Traces that came whole are calls then; of the other
fragments `ingest.otlp.closing` makes calls later.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection

from ingest.call_rows import SliceKey
from ingest.group import Job
from ingest.intake import Intake
from ingest.latency import SLICES_MAX
from ingest.otlp.dialects import part_of_record, part_of_span, tells_of_a_call
from ingest.otlp.ended import KeepSpans, told_whole
from ingest.otlp.evaluations import EVENT, signals_of_record, signals_of_scores, signals_of_span
from ingest.otlp.facts import Part
from ingest.otlp.feedback import adopt_signals
from ingest.otlp.fragment_writes import open_values
from ingest.otlp.reading import check_metrics, read_records, tell_spans
from ingest.otlp.reading.items import Read, Span
from ingest.settings import Settings
from ingest.store import OpenStore, sqlite_path
from ingest.wire import ITEMS_MAX, signals_of

#: Why a record that is about a call cannot be kept: it would be acknowledged and never seen again.
_ABOUT_NOTHING = (
    "a record of a call's content must stand in a span; an evaluation needs a name, a score or a label, "
    "and a response or a span that it is about"
)


@dataclass(frozen=True)
class Accepted:
    """What became of a request: all but `rejected` of its spans or records are committed.

    Attributes:
        reasons: why the others were not, each reason once.
        kept: how many are committed, or known from an earlier request; records of other things among them.
    """

    rejected: int
    reasons: tuple[str, ...]
    kept: int = 0


@dataclass(frozen=True)
class Prepared:
    """A request ready for the writer.

    Attributes:
        job: the writer's, still to be queued; None where there is nothing to write.
        done: makes the answer of what the job returned once that is committed.
    """

    job: Job | None
    done: Callable[[Any], Accepted]


class OtlpIntake:
    """Keeps what OpenTelemetry exporters send. Safe to use from many threads."""

    def __init__(self, store: OpenStore, settings: Settings, intake: Intake) -> None:
        self._store = store
        self._quiet_ms = round(settings.otlp_quiet_s * 1000)
        self._intake = intake
        self._packs = sqlite_path(store.database_url) is not None
        self._slices: dict[int, dict[SliceKey, int]] = defaultdict(dict)

    def accept_spans(self, project_id: int, body: bytes, *, is_json: bool) -> Accepted:
        """Keep the spans of an ExportTraceServiceRequest.

        Raises:
            BadBody: the body is none; nothing was kept.
            WriterBusy, StoreUnavailable: as `Intake.accept_calls`.
        """
        return self._written(self.prepare_spans(project_id, body, is_json=is_json))

    def accept_records(self, project_id: int, body: bytes, *, is_json: bool) -> Accepted:
        """Keep those records of an ExportLogsServiceRequest that tell of calls. See `accept_spans`."""
        return self._written(self.prepare_records(project_id, body, is_json=is_json))

    def accept_metrics(self, body: bytes, *, is_json: bool) -> Accepted:
        """Take an ExportMetricsServiceRequest and keep nothing of it. See `accept_spans`."""
        return self._written(self.prepare_metrics(body, is_json=is_json))

    def accept_scores(self, project_id: int, scores: list[Any]) -> int:
        """Keep Langfuse's scores as signals; return how many of them are one. See `accept_spans`."""
        signals = signals_of_scores(scores)
        jobs = list(self._signal_jobs(project_id, signals))
        if jobs:
            self._store.write(partial(_all_of, jobs=jobs))
        return len(signals)

    def prepare_spans(self, project_id: int, body: bytes, *, is_json: bool) -> Prepared:
        """Turn a request into a job, for a caller that waits for the writer in its own way."""
        signals: list[dict[str, Any]] = []

        def part_of(span: Span) -> Part:
            signals.extend(signals_of_span(span))
            return part_of_span(span)

        read = tell_spans(body, part_of, is_json=is_json)
        return self._prepared(project_id, read, read.items, signals)

    def prepare_records(self, project_id: int, body: bytes, *, is_json: bool) -> Prepared:
        """See `prepare_spans`."""
        read = read_records(body, is_json=is_json)
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
        return self._prepared(project_id, read, parts, signals, lost)

    def prepare_metrics(self, body: bytes, *, is_json: bool) -> Prepared:
        """See `prepare_spans`."""
        check_metrics(body, is_json=is_json)
        return Prepared(None, lambda _result: Accepted(0, ()))

    def _prepared(
        self,
        project_id: int,
        read: Read[Any],
        parts: Sequence[Part],
        signals: list[dict[str, Any]],
        lost: int = 0,
    ) -> Prepared:
        """Return the job for what a request tells; `lost` of its items can be attached to no call."""
        keep: KeepSpans | None = None
        if parts:
            now_ms = time.time_ns() // 1_000_000
            due_at_ms = now_ms + self._quiet_ms
            ended, others = told_whole(parts, now_ms, packs=self._packs)
            rows = [open_values(project_id, part, now_ms, due_at_ms) for part in others]
            keep = KeepSpans(project_id, ended, rows, now_ms, due_at_ms, self._slices[project_id])
        accepted = Accepted(read.rejected, tuple(read.reasons), len(read.items) - lost)
        if not signals:
            return Prepared(keep, partial(self._done, project_id, accepted))
        jobs: list[Job] = [*self._signal_jobs(project_id, signals)]
        if keep is not None:
            jobs.insert(0, keep)
        return Prepared(partial(_all_of, jobs=jobs), lambda _results: accepted)

    def _done(self, project_id: int, accepted: Accepted, found: dict[SliceKey, int] | None) -> Accepted:
        """Spare the next request the looking up of slices that are now committed."""
        if found:
            known = self._slices[project_id]
            # Replaced as a whole, never changed: the writer may be reading the old one.
            self._slices[project_id] = found if len(known) > 2 * SLICES_MAX else {**known, **found}
        return accepted

    def _signal_jobs(self, project_id: int, signals: list[dict[str, Any]]) -> Iterator[Job]:
        for start in range(0, len(signals), ITEMS_MAX):
            found = self._intake.prepare_signals(project_id, signals_of(signals[start : start + ITEMS_MAX]))
            if found.job is not None:
                yield found.job
        traces = {signal["trace_id"] for signal in signals if "trace_id" in signal}
        if traces:
            yield partial(adopt_signals, project_id=project_id, trace_ids=traces)

    def _written(self, prepared: Prepared) -> Accepted:
        return prepared.done(None if prepared.job is None else self._store.write(prepared.job))


def _all_of(connection: Connection, jobs: Sequence[Job]) -> None:
    for job in jobs:
        job(connection)
