"""Closing: fragments that have been quiet become calls, each counted, ranked and judged once.

Flow: a thread of the server, `Closing` -> due fragments and all that belongs to them (`fragment_writes`) ->
`joining`, `assembling` -> one job through `Store.write`: `ingest.call_writes.keep_calls` for new calls,
`ingest.call_fills` for calls that a late fragment completes, `feedback` for signals that waited.

A call is due a quiet period after its last fragment; one that is known to lack a part (logs without their
span, half a stream) waits longer. The fragments lie in the database until then, so a killed server closes
them when it is back. Closed ones stay for an hour, without texts, for what comes late to find its call.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import Connection, not_, or_, select

from ingest.call_fills import fill_calls
from ingest.call_rows import NewCall, SliceKey
from ingest.call_writes import keep_calls
from ingest.errors import IngestError
from ingest.latency import SLICES_MAX
from ingest.one_call import SAME_TIME_MS
from ingest.otlp.assembling import assemble
from ingest.otlp.feedback import adopt_signals
from ingest.otlp.fragment_writes import (
    any_to_forget,
    close_fragments,
    due_rows,
    forget,
    postpone,
    related_rows,
)
from ingest.otlp.joining import Row, groups_of
from ingest.otlp.rows import row_of
from ingest.settings import Settings
from ingest.store import OpenStore, sqlite_path
from ingest.tables import Call, columns

log = logging.getLogger(__name__)

CALL = columns(Call)
#: Due fragments in one go: bounds a transaction and what is in memory.
DUE_MAX = 500
#: How long a closed call can still be found by what comes late.
REMEMBERED_MS = 3_600_000
#: Longest pause between two looks.
LOOK_S = 1.0


@dataclass
class Settling:
    """What one go writes, for one project.

    Attributes:
        calls: each with its open rows, and the kept call that it completes where there is one.
        dropped: open rows that are part of no call.
        waiting: (row, due_at_ms) of rows whose call waits on.
    """

    calls: list[tuple[NewCall, list[Row], int | None]] = field(default_factory=list)
    dropped: list[Row] = field(default_factory=list)
    waiting: list[tuple[Row, int]] = field(default_factory=list)


class Closing:
    """The thread that closes calls."""

    def __init__(self, store: OpenStore, settings: Settings) -> None:
        self._store = store
        self._packs = sqlite_path(store.database_url) is not None
        self._quiet_ms = round(settings.otlp_quiet_s * 1000)
        self._open_ms = max(self._quiet_ms, round(settings.otlp_open_s * 1000))
        self._look_s = min(LOOK_S, max(0.02, settings.otlp_quiet_s / 4))
        self._slices: dict[int, dict[SliceKey, int]] = defaultdict(dict)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lowlight-otlp", daemon=True)

    def start(self) -> None:
        """Begin to look for due fragments."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the go in hand; what is open stays open in the database."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._look_s):
            try:
                while self.close_due() and not self._stop.is_set():
                    pass
            except IngestError as error:  # busy or not writable now: they stay due
                log.warning("open OpenTelemetry calls wait: %s", error)
                self._stop.wait(LOOK_S)
            except Exception:
                log.exception("closing OpenTelemetry calls failed; trying again")
                self._stop.wait(LOOK_S)

    def close_due(self, now_ms: int | None = None) -> int:
        """Close what is due; return how many due fragments were looked at.

        Raises:
            IngestError: the store could not be written now; nothing was changed.
        """
        now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
        before_ms = now_ms - REMEMBERED_MS
        with self._store.read() as connection:
            due = due_rows(connection, now_ms, DUE_MAX)
            by_project: dict[int, list[Row]] = defaultdict(list)
            for project_id, row in due:
                by_project[project_id].append(row)
            related = {
                project_id: _related(connection, project_id, rows) for project_id, rows in by_project.items()
            }
            ownerless = {
                project_id: _ownerless(connection, project_id, rows)
                for project_id, rows in by_project.items()
            }
            old = not due and any_to_forget(connection, before_ms)
        for project_id, rows in related.items():
            due_seqs = {row.seq for row in by_project[project_id]}
            settling = self._settling(rows, due_seqs, ownerless[project_id], now_ms)
            self._settle(project_id, settling)
        if old:
            self._store.write(partial(forget, before_ms=before_ms))
        return len(due)

    def _settling(self, rows: Sequence[Row], due: set[int], ownerless: set[int], now_ms: int) -> Settling:
        """Decide what becomes of the due rows, and what they tell of kept calls."""
        settling = Settling()
        scopes = {row.key: row.part for row in rows if row.part.role != "content"}
        settling.dropped += [row for row in rows if row.part.role == "scope" and row.seq in due]
        for group in groups_of(rows):
            is_open = [row for row in group if row.due_at_ms is not None]
            kept = next((row.call_seq for row in group if row.call_seq is not None), None)
            if is_open and not any(row.seq in due for row in is_open):
                continue
            if not is_open and kept not in ownerless:
                continue
            try:
                assembled = assemble(group, scopes)
                wait_until_ms = self._wait_until_ms(is_open, assembled.complete or kept is not None)
                if wait_until_ms > now_ms:
                    settling.waiting += [(row, wait_until_ms) for row in is_open]
                    continue
                received_at_ms = min(row.received_at_ms for row in group)
                made = row_of(assembled, received_at_ms, packs=self._packs)
            except Exception:  # a bug, but not one that may stop all others
                log.exception("no call could be made of %d fragments; they are dropped", len(is_open))
                settling.dropped += is_open
                continue
            settling.calls.append((made, is_open, kept))
        return settling

    def _wait_until_ms(self, is_open: Sequence[Row], complete: bool) -> int:
        if not is_open:
            return 0
        latest_ms = min(row.received_at_ms for row in is_open) + self._open_ms
        if not complete:
            return latest_ms
        return min(latest_ms, max(row.received_at_ms for row in is_open) + self._quiet_ms)

    def _settle(self, project_id: int, settling: Settling) -> None:
        """Write what was decided; where a call cannot be written, the others are, and its rows dropped."""
        slices = self._slices[project_id]
        try:
            found = self._store.write(
                partial(settle, project_id=project_id, settling=settling, slices=slices)
            )
        except IngestError:
            raise
        except Exception:
            if len(settling.calls) == 1:
                log.exception("a call could not be written; its fragments are dropped")
                settling = Settling(dropped=settling.dropped + settling.calls[0][1], waiting=settling.waiting)
                self._settle(project_id, settling)
                return
            if not settling.calls:
                raise
            for call in settling.calls:
                self._settle(project_id, Settling(calls=[call]))
            self._settle(project_id, Settling(dropped=settling.dropped, waiting=settling.waiting))
            return
        self._slices[project_id] = found if len(slices) > 2 * SLICES_MAX else {**slices, **found}


def settle(
    connection: Connection, project_id: int, settling: Settling, slices: dict[SliceKey, int]
) -> dict[SliceKey, int]:
    """Write the calls of a go and close their fragments; return the slices that were looked up."""
    for made, _rows, _seq in settling.calls:
        made.seq = 0  # numbered here, also where an earlier attempt was rolled back
    late = [(seq, made) for made, _rows, seq in settling.calls if seq is not None]
    new = [(made, rows) for made, rows, seq in settling.calls if seq is None]
    known = _calls_of_responses(connection, project_id, [made for made, _rows in new])
    closed: list[tuple[Row, int | None]] = [(row, None) for row in settling.dropped]
    fresh = [made for made, _rows in new if made.id not in known]
    found = keep_calls(connection, project_id, fresh, slices).slices if fresh else {}
    for made, rows in new:
        seq = known.get(made.id) or made.seq or _seq_of(connection, project_id, made.id)
        closed += [(row, seq) for row in rows]
        if not made.seq:
            late.append((seq, made))
    for _made, rows, kept in settling.calls:
        if kept is not None:
            closed += [(row, kept) for row in rows]
    fill_calls(connection, project_id, late)
    close_fragments(connection, project_id, closed)
    postpone(connection, [(row.seq, due_at_ms) for row, due_at_ms in settling.waiting])
    adopt_signals(connection, project_id, {row.part.trace_id for row, _seq in closed})
    return found


def _related(connection: Connection, project_id: int, due: Sequence[Row]) -> list[Row]:
    """Return due rows with everything that may be of their calls, or name their session."""
    rows = {row.seq: row for row in due}
    seen: tuple[set[str], set[str], set[str]] = (set(), set(), set())
    for _round in range(3):
        keys = (
            {row.part.trace_id for row in rows.values()} - seen[0],
            {row.part.facts.response_id for row in rows.values() if row.part.facts.response_id} - seen[1],
            {row.part.pair_key for row in rows.values() if row.part.pair_key} - seen[2],
        )
        if not any(keys):
            break
        for before, now in zip(seen, keys, strict=True):
            before |= now
        found = related_rows(
            connection, project_id, rows, trace_ids=keys[0], response_ids=keys[1], pair_keys=keys[2]
        )
        rows.update((row.seq, row) for row in found)
    return sorted(rows.values(), key=lambda row: row.seq)


def _ownerless(connection: Connection, project_id: int, due: Sequence[Row]) -> set[int]:
    """Return kept calls without session or user in traces where a due span names one: it came late."""
    traces = {
        row.part.trace_id
        for row in due
        if row.part.role == "scope"
        and (row.part.facts.session_id or row.part.facts.conversation_id or row.part.facts.user_id)
    }
    if not traces:
        return set()
    query = select(CALL.c.seq).where(
        CALL.c.project_id == project_id,
        CALL.c.trace_id.in_(sorted(traces)),
        or_(CALL.c.session_id.is_(None), CALL.c.user_id.is_(None)),
    )
    return set(connection.scalars(query))


def _calls_of_responses(connection: Connection, project_id: int, calls: Sequence[NewCall]) -> dict[str, int]:
    """Return, by id, those calls that an application has sent already: of the same response or span.

    What came over OpenTelemetry is joined by its fragments, which know more than the id. Each sent call is
    one told call's, as in `ingest.one_call`.
    """
    by_response: dict[str, list[NewCall]] = defaultdict(list)
    for call in calls:
        if call.response_id:
            by_response[call.response_id].append(call)
    by_span = {(call.trace_id, call.span_id): call for call in calls}
    of_a_span = CALL.c.id == CALL.c.trace_id + ":" + CALL.c.span_id
    fields = (CALL.c.seq, CALL.c.response_id, CALL.c.trace_id, CALL.c.span_id)
    near: list[tuple[int, int, NewCall]] = []
    for column, keys in (
        (CALL.c.response_id, by_response),
        (CALL.c.trace_id, {trace for trace, _ in by_span}),
    ):
        query = select(*fields, CALL.c.started_at_ms, CALL.c.latency_ms).where(
            CALL.c.project_id == project_id,
            column.in_(sorted(filter(None, keys))),
            or_(CALL.c.trace_id.is_(None), CALL.c.span_id.is_(None), not_(of_a_span)),
        )
        for seq, response_id, trace_id, span_id, started_at_ms, latency_ms in connection.execute(query):
            of_span = by_span.get((trace_id, span_id))
            told = [of_span] if of_span is not None else []
            for call in told + by_response.get(response_id or "", []):
                gap_ms = call.started_at_ms - started_at_ms
                fits = -SAME_TIME_MS <= gap_ms <= SAME_TIME_MS + (latency_ms or 0)
                if fits and len({response_id, call.response_id} - {None}) <= 1:
                    near.append((abs(gap_ms), seq, call))
    known: dict[str, int] = {}
    for _gap_ms, seq, call in sorted(near, key=lambda found: found[:2]):
        if call.id not in known and seq not in known.values():
            known[call.id] = seq
    return known


def _seq_of(connection: Connection, project_id: int, call_id: str) -> int:
    query = select(CALL.c.seq).where(CALL.c.project_id == project_id, CALL.c.id == call_id)
    return int(connection.execute(query).scalar_one())
