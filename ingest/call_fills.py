"""A kept call learns what was not known when it was written: NULL becomes known, nothing known changes.

Flow: `ingest.otlp.closing` -> `fill_calls` -> call, call_text, todo, latency_count, end_user, and the
signals of a session that is only now known. A latency that becomes known is counted then, under the slice
and outcome that the call was written with; so each measure of a call is counted once, whenever it came.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, insert, select, update

from ingest.call_rows import CALL_COLUMNS, TEXT_COLUMNS, NewCall
from ingest.call_writes import count_latencies, see_users
from ingest.latency import bucket_of, per_output_token_ms
from ingest.signal_writes import resolve_waiting
from ingest.tables import Call, CallText, Todo, columns

CALL, TEXT, TODO = columns(Call), columns(CallText), columns(Todo)

_FILLED = (
    "latency_ms",
    "first_token_ms",
    "finish_reason",
    "retries",
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "reasoning_tokens",
    "cost_usd",
    "user_id",
    "session_id",
    "response_id",
    "input_chars",
    "output_chars",
)
_TEXTS = ("input", "output")


def fill_calls(connection: Connection, project_id: int, late: Sequence[tuple[int, NewCall]]) -> int:
    """Fill what is unknown in kept calls with what these say; return how many calls learned something.

    Args:
        late: (seq of the kept call, what came after it). `seq` and `slice_id` of the latter are set.
    """
    learned = 0
    for seq, told in late:
        kept = connection.execute(select(CALL).where(CALL.c.seq == seq)).mappings().first()
        if kept is None:
            continue
        told.seq, told.slice_id = seq, kept["slice_id"]
        said = dict(zip(CALL_COLUMNS, told.row, strict=True))
        values = {name: said[name] for name in _FILLED if kept[name] is None and said[name] is not None}
        # An answer of unknown length may turn out to have been broken off; nothing was counted for it yet.
        if kept["outcome"] == "answered" and kept["latency_ms"] is None and kept["first_token_ms"] is None:
            values |= {"outcome": told.outcome} if told.outcome == "aborted" else {}
        if values:
            connection.execute(update(CALL).where(CALL.c.seq == seq).values(values))
            _count(connection, dict(kept), {**kept, **values}, told)
            _introduce(connection, project_id, {**kept, **values}, values, told)
        if _fill_texts(connection, seq, told):
            connection.execute(insert(TODO).values(call_seq=seq, reason="text"))
        elif not values:
            continue
        learned += 1
    return learned


def _fill_texts(connection: Connection, seq: int, told: NewCall) -> bool:
    """Write the texts that the call lacks; return whether there were any."""
    if told.text is None:
        return False
    if connection.dialect.name == "sqlite":
        told.pack()
    said = dict(zip(TEXT_COLUMNS, told.text, strict=True))
    kept = connection.execute(select(TEXT).where(TEXT.c.call_seq == seq)).mappings().first()
    missing = [name for name in _TEXTS if said[name] is not None and (kept is None or kept[name] is None)]
    if not missing:
        return False
    values: dict[str, Any] = {}
    for name in missing:
        values |= {column: said[column] for column in (name, f"{name}_json", f"{name}_sha256")}
    if kept is None:
        connection.execute(insert(TEXT).values(call_seq=seq, **values))
    else:
        connection.execute(update(TEXT).where(TEXT.c.call_seq == seq).values(values))
    return True


def _count(connection: Connection, before: dict[str, Any], after: dict[str, Any], told: NewCall) -> None:
    """Count the measures that have become known."""
    known = {measure for measure, _bucket in _measures(before)}
    told.counted = [pair for pair in _measures(after) if pair[0] not in known]
    told.outcome, told.started_at_ms = after["outcome"], after["started_at_ms"]
    told.weight = 1 / after["sample_rate"]
    count_latencies(connection, [told])


def _measures(call: dict[str, Any]) -> list[tuple[str, int]]:
    """Return (measure, bucket) of a call's row, as `ingest.call_rows` counts them."""
    per_token_ms = per_output_token_ms(call["latency_ms"], call["first_token_ms"], call["output_tokens"])
    latencies = (
        # A failed call without a latency has been counted as slower than any.
        ("total", 0.0 if call["latency_ms"] is None and call["outcome"] == "failed" else call["latency_ms"]),
        ("first_token", call["first_token_ms"]),
        ("per_output_token", per_token_ms),
    )
    return [(measure, bucket_of(ms)) for measure, ms in latencies if ms is not None]


def _introduce(
    connection: Connection, project_id: int, call: dict[str, Any], values: dict[str, Any], told: NewCall
) -> None:
    """Make a call known to its user, and to the signals that wait for its session or response."""
    names = {"user_id", "session_id", "response_id"} & values.keys()
    if not names:
        return
    told.user_id, told.session_id, told.response_id = (
        call["user_id"],
        call["session_id"],
        call["response_id"],
    )
    told.id, told.trace_id, told.span_id = call["id"], call["trace_id"], call["span_id"]
    see_users(connection, project_id, [told])
    resolve_waiting(connection, project_id, [told])
