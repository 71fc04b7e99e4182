"""OTLP intake: a request's spans or log records become committed fragments; the receipt follows the commit.

Flow: `api.otlp_routes` -> `OtlpIntake.accept_*` -> `reading`, `dialects` -> one job through `Store.write`
(`fragment_writes`), and `ingest.intake` for what is feedback -> Accepted. Calls are made of the fragments
later, by `ingest.otlp.closing`.
"""

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ingest.intake import Intake
from ingest.otlp.dialects import part_of_record, part_of_span
from ingest.otlp.evaluations import signals_of_record, signals_of_scores, signals_of_span
from ingest.otlp.facts import Part
from ingest.otlp.feedback import adopt_signals
from ingest.otlp.fragment_writes import keep_fragments
from ingest.otlp.reading import Read, check_metrics, read_records, read_spans
from ingest.settings import Settings
from ingest.store import Store
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


class OtlpIntake:
    """Keeps what OpenTelemetry exporters send. Safe to use from many threads."""

    def __init__(self, store: Store, settings: Settings, intake: Intake) -> None:
        self._store = store
        self._quiet_ms = round(settings.otlp_quiet_s * 1000)
        self._intake = intake

    def accept_spans(self, project_id: int, body: bytes, *, is_json: bool) -> Accepted:
        """Keep the spans of an ExportTraceServiceRequest.

        Raises:
            BadBody: the body is none; nothing was kept.
            WriterBusy, StoreUnavailable: as `Intake.accept_calls`.
        """
        read = read_spans(body, is_json=is_json)
        self._keep(project_id, map(part_of_span, read.items))
        self._keep_signals(project_id, [signal for span in read.items for signal in signals_of_span(span)])
        return _accepted(read)

    def accept_records(self, project_id: int, body: bytes, *, is_json: bool) -> Accepted:
        """Keep those records of an ExportLogsServiceRequest that tell of calls. See `accept_spans`."""
        read = read_records(body, is_json=is_json)
        parts = (part for record in read.items if (part := part_of_record(record)) is not None)
        self._keep(project_id, parts)
        found = [signal for record in read.items for signal in signals_of_record(record)]
        self._keep_signals(project_id, found)
        return _accepted(read)

    def accept_metrics(self, body: bytes, *, is_json: bool) -> Accepted:
        """Take an ExportMetricsServiceRequest and keep nothing of it. See `accept_spans`."""
        check_metrics(body, is_json=is_json)
        return Accepted(0, ())

    def accept_scores(self, project_id: int, scores: list[Any]) -> int:
        """Keep Langfuse's scores as signals; return how many of them are one. See `accept_spans`."""
        signals = signals_of_scores(scores)
        self._keep_signals(project_id, signals)
        return len(signals)

    def _keep(self, project_id: int, parts: Iterable[Part]) -> None:
        now_ms = time.time_ns() // 1_000_000
        rows = [_row(project_id, part, now_ms, now_ms + self._quiet_ms) for part in parts]
        if rows:
            self._store.write(partial(keep_fragments, rows=rows))

    def _keep_signals(self, project_id: int, signals: list[dict[str, Any]]) -> None:
        for start in range(0, len(signals), ITEMS_MAX):
            self._intake.accept_signals(project_id, signals_of(signals[start : start + ITEMS_MAX]))
        traces = {signal["trace_id"] for signal in signals if "trace_id" in signal}
        if traces:
            self._store.write(partial(adopt_signals, project_id=project_id, trace_ids=traces))


def _row(project_id: int, part: Part, received_at_ms: int, due_at_ms: int) -> tuple[Any, ...]:
    """Return the values of `fragment_writes._KEPT`."""
    facts = part.facts.as_json()
    said = f"{part.role} {part.started_ns} {part.ended_ns} {facts}"
    return (
        project_id,
        part.trace_id,
        part.span_id,
        hashlib.blake2b(said.encode(), digest_size=12).hexdigest(),
        part.role,
        part.parent_span_id,
        part.started_ns,
        part.ended_ns,
        part.instance,
        part.facts.response_id if part.role != "content" else None,
        part.pair_key,
        facts,
        received_at_ms,
        due_at_ms,
    )


def _accepted(read: Read[Any]) -> Accepted:
    return Accepted(read.rejected, tuple(read.reasons), len(read.items))
