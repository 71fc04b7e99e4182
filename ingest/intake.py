"""Intake: a parsed batch becomes rows in one transaction; the receipt is given after its commit.

Flow: `ingest.wire` (Sent) -> `Intake.accept_*` prepares rows in the caller's thread -> one job through
`Store.write` (`ingest.one_call`, `ingest.signal_writes`) -> tables of `ingest.tables` -> Receipt.
"""

import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection

from ingest.call_rows import AHEAD_MS_MAX, BadText, NewCall, SliceKey, new_call, uuid7
from ingest.call_writes import Kept
from ingest.checking import Sent
from ingest.latency import SLICES_MAX
from ingest.one_call import KeepCalls
from ingest.plain_calls import plain_call
from ingest.rejections import Rejection
from ingest.settings import Settings
from ingest.signal_writes import Counted, keep_labels, keep_signals
from ingest.store import OpenStore, sqlite_path
from ingest.texts import kept_text
from ingest.wire import COMMENT_BYTES_MAX, Call, Label, Receipt, Signal, epoch_ms

#: Names in one receipt: enough to see the mistake, whatever a client makes up.
UNKNOWN_FIELDS_MAX = 50
#: A larger batch packs its texts in its own thread; a smaller one comes from the event loop, which packing
#: would hold up for longer than the writer: it lets go of the interpreter lock for every text.
FEW = 16


class Told(NamedTuple):
    """What a receipt says besides counts; the batch itself need not be held for it until the commit."""

    rejected: list[Rejection]
    unknown_fields: list[str]

    def receipt(self, counted: Counted) -> Receipt:
        """Return the receipt of a batch."""
        return Receipt(
            accepted=counted.accepted,
            duplicates=counted.duplicates,
            rejected=self.rejected,
            unknown_fields=self.unknown_fields,
        )

    def receipt_json(self, counted: Counted) -> bytes:
        """Return the receipt as it is sent."""
        if self.rejected or self.unknown_fields:
            return self.receipt(counted).model_dump_json().encode()
        return b'{"accepted":%d,"duplicates":%d,"rejected":[],"unknown_fields":[]}' % counted


class Prepared(NamedTuple):
    """A batch ready for the writer.

    Attributes:
        job: the writer's, still to be queued; None where nothing was sound.
        counted: makes the counts of what the job returned once it is committed; of None where it had none.
        told: what the receipt says besides.
    """

    job: Callable[[Connection], Any] | None
    counted: Callable[[Any], Counted]
    told: Told


class Intake:
    """Keeps what clients send, each item once. Safe to use from many threads."""

    def __init__(self, store: OpenStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._packs = sqlite_path(store.database_url) is not None
        self._slices: dict[int, dict[SliceKey, int]] = {}

    def accept_calls(self, project_id: int, sent: Sent[Call]) -> Receipt:
        """Keep a batch of calls. The receipt means committed.

        Raises:
            WriterBusy: too many requests wait; nothing was kept.
            StoreUnavailable: the database could not be written; nothing was kept.
        """
        return self._written(self.prepare_calls(project_id, sent))

    def accept_signals(self, project_id: int, sent: Sent[Signal]) -> Receipt:
        """Keep a batch of signals, whether or not their calls are here. See `accept_calls`."""
        return self._written(self.prepare_signals(project_id, sent))

    def accept_labels(
        self, project_id: int, sent: Sent[Label], rubrics: Collection[str] | None = None
    ) -> Receipt:
        """Keep a batch of labels; a labeller's newer level replaces the old one. See `accept_calls`.

        Args:
            rubrics: names that a label may give; None takes any.
        """
        return self._written(self.prepare_labels(project_id, sent, rubrics))

    def prepare_calls(self, project_id: int, sent: Sent[Call]) -> Prepared:
        """Turn a batch into rows, for a caller that waits for the writer in its own way."""
        received_at_ms = _now_ms()
        calls = []
        for index, call, replaced in sent.read(partial(plain_call, received_at_ms=received_at_ms)):
            try:
                calls.append(call if isinstance(call, NewCall) else new_call(call, received_at_ms, replaced))
            except BadText as error:
                sent.reject(index, error.field, str(error))
        slices = self._slices.setdefault(project_id, {})

        if self._packs and len(calls) > FEW:
            for new in calls:
                new.pack()
        n = len(calls)

        def counted(kept: Kept | None) -> Counted:
            if kept is None:
                return _NONE
            self._remember(project_id, kept.slices)
            return Counted(kept.accepted, n - kept.accepted)

        return Prepared(KeepCalls(project_id, calls, slices) if calls else None, counted, _told(sent))

    def prepare_signals(self, project_id: int, sent: Sent[Signal]) -> Prepared:
        """See `prepare_calls`."""
        received_at_ms = _now_ms()
        rows = [_signal_row(signal, received_at_ms) for _index, signal, _replaced in sent.checked()]
        job = partial(keep_signals, project_id=project_id, rows=rows)
        return Prepared(job if rows else None, _as_counted, _told(sent))

    def prepare_labels(
        self, project_id: int, sent: Sent[Label], rubrics: Collection[str] | None = None
    ) -> Prepared:
        """See `prepare_calls` and `accept_labels`."""
        at_ms = _now_ms()
        rows = []
        for index, label, _replaced in sent.checked():
            if rubrics is None or label.rubric in rubrics:
                rows.append({**label.model_dump(), "at_ms": at_ms})
            else:
                known = ", ".join(sorted(rubrics)) or "none"
                sent.reject(index, "rubric", f"names no rubric of this server; there are: {known}")
        job = partial(keep_labels, project_id=project_id, rows=rows)
        return Prepared(job if rows else None, _as_counted, _told(sent))

    def _written(self, prepared: Prepared) -> Receipt:
        result = None if prepared.job is None else self._store.write(prepared.job)
        return prepared.told.receipt(prepared.counted(result))

    def _remember(self, project_id: int, found: dict[SliceKey, int]) -> None:
        """Spare the next batch the looking up of slices that are now committed."""
        if not found:
            return
        known = self._slices[project_id]
        # Replaced as a whole, never changed: the writer may be reading the old one.
        self._slices[project_id] = found if len(known) > 2 * SLICES_MAX else {**known, **found}


_NONE = Counted(0, 0)


def _as_counted(counted: Counted | None) -> Counted:
    return _NONE if counted is None else counted


def _told(sent: Sent[Any]) -> Told:
    rejected, unknown_fields = sent.rejected, sent.unknown_fields
    return Told(
        sorted(rejected, key=lambda rejection: rejection.index) if rejected else [],
        sorted(unknown_fields)[:UNKNOWN_FIELDS_MAX] if unknown_fields else [],
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _signal_row(signal: Signal, received_at_ms: int) -> dict[str, Any]:
    at_ms = received_at_ms if signal.at is None else epoch_ms(signal.at)
    if at_ms > received_at_ms + AHEAD_MS_MAX:
        at_ms = received_at_ms
    ranged = signal.kind == "rating" or signal.value_min is not None or signal.value_max is not None
    low, high = signal.value_range if ranged else (None, None)
    return {
        "id": signal.id or uuid7(),
        "call_id": signal.call_id,
        "response_id": signal.response_id,
        "trace_id": signal.trace_id,
        "span_id": signal.span_id,
        "session_id": signal.session_id,
        "kind": signal.kind,
        "value": signal.value,
        "value_min": low,
        "value_max": high,
        "comment": signal.comment and kept_text(signal.comment, COMMENT_BYTES_MAX).text,
        "at_ms": at_ms,
        "received_at_ms": received_at_ms,
    }
