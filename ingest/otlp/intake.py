"""OTLP intake: a request's spans or log records become committed fragments; the receipt follows the commit.

Flow: `api.routes.otlp` -> `OtlpIntake.asked` -> `ingest.otlp.telling`, here or in the reading process ->
`OtlpIntake.prepared` -> one job of the writer (`keeping`, and `ingest.intake` for what is feedback) ->
Accepted. Traces that came whole are calls then; of the other fragments `ingest.otlp.closing` makes calls
later.
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
from ingest.otlp.evaluations import signals_of_scores
from ingest.otlp.feedback import adopt_signals
from ingest.otlp.keeping import KeepSpans
from ingest.otlp.telling import Asked, Rows, Summary, told_of, waiting_values
from ingest.settings import Settings
from ingest.store import OpenStore, sqlite_path
from ingest.tables import DEFAULT_PROJECT
from ingest.wire import ITEMS_MAX, signals_of


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
        return self._accept("traces", project_id, body, is_json)

    def accept_records(self, project_id: int, body: bytes, *, is_json: bool) -> Accepted:
        """Keep those records of an ExportLogsServiceRequest that tell of calls. See `accept_spans`."""
        return self._accept("logs", project_id, body, is_json)

    def accept_metrics(self, body: bytes, *, is_json: bool) -> Accepted:
        """Take an ExportMetricsServiceRequest and keep nothing of it. See `accept_spans`."""
        return self._accept("metrics", DEFAULT_PROJECT, body, is_json)

    def accept_scores(self, project_id: int, scores: list[Any]) -> int:
        """Keep Langfuse's scores as signals; return how many of them are one. See `accept_spans`."""
        signals = signals_of_scores(scores)
        jobs = list(self._signal_jobs(project_id, signals))
        if jobs:
            self._store.write(partial(_all_of, jobs=jobs))
        return len(signals)

    def asked(self, signal: str, project_id: int, *, is_json: bool) -> Asked:
        """Return what whoever reads a request must know besides its body.

        Args:
            signal: traces, logs or metrics.
        """
        now_ms = time.time_ns() // 1_000_000
        return Asked(signal, is_json, project_id, now_ms, now_ms + self._quiet_ms, self._packs)

    def prepared(self, body: bytes, asked: Asked, summary: Summary, rows: Rows | None) -> Prepared:
        """Turn a request that was read into a job, for a caller that waits for the writer in its own way."""
        project_id = asked.project_id
        accepted = Accepted(summary.rejected, tuple(summary.reasons), summary.kept)
        jobs: list[Job] = [*self._signal_jobs(project_id, summary.signals)]
        if rows is None:
            job = partial(_all_of, jobs=jobs) if jobs else None
            return Prepared(job, lambda _results: accepted)
        # Of a request without whole traces nothing can be asked again.
        waiting = partial(waiting_values, body if summary.whole else b"", asked)
        keep = KeepSpans(project_id, rows, waiting, self._slices[project_id])
        if jobs:
            return Prepared(partial(_all_of, jobs=[keep, *jobs]), lambda _results: accepted)
        return Prepared(keep, partial(self._done, project_id, accepted))

    def prepare(self, body: bytes, asked: Asked) -> Prepared:
        """Read a request here and turn it into a job; see `prepared`.

        Raises:
            BadBody: the body is none.
        """
        return self.prepared(body, asked, *told_of(body, asked))

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

    def _accept(self, signal: str, project_id: int, body: bytes, is_json: bool) -> Accepted:
        prepared = self.prepare(body, self.asked(signal, project_id, is_json=is_json))
        return prepared.done(None if prepared.job is None else self._store.write(prepared.job))


def _all_of(connection: Connection, jobs: Sequence[Job]) -> None:
    for job in jobs:
        job(connection)
