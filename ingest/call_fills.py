"""A kept call learns what was not known when it was written: NULL becomes known, nothing known changes.

Flow: `ingest.otlp.closing`, `ingest.one_call` -> `fill_calls` -> call, call_text, todo, latency_count,
end_user, and the signals of a session that is only now known. A latency that becomes known is counted then;
where the prompt, the environment or another field of the slice becomes known, what was counted moves to the
call's new slice. So each measure of a call is counted once, whenever it came.
"""

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, insert, select, update

from ingest.call_rows import CALL_COLUMNS, TEXT_COLUMNS, NewCall, SliceKey
from ingest.call_writes import OTHER_KEY, see_users, slice_ids
from ingest.counting import Latencies, add_counts, counted_through
from ingest.signal_writes import resolve_waiting
from ingest.tables import Call, CallText, Slice, Todo, columns
from ingest.wire import TAGS_MAX

CALL, TEXT, TODO, SLICE = columns(Call), columns(CallText), columns(Todo), columns(Slice)

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
    "trace_id",
    "span_id",
    "input_chars",
    "output_chars",
    "context_chars",
)
_OF_FAILURES = ("error_type", "error_message")
#: Kept as JSON.
_FILLED_JSON = ("tags", "tools")
_SLICE_FIELDS = ("provider", "model", "prompt", "prompt_version", "environment", "release")
#: Texts, each with the columns that describe it.
_TEXTS = {
    "input": ("input", "input_json", "input_sha256"),
    "output": ("output", "output_json", "output_sha256"),
    "context": ("context",),
}


def fill_calls(connection: Connection, project_id: int, late: Sequence[tuple[int, NewCall]]) -> int:
    """Fill what is unknown in kept calls with what these say; return how many calls learned something.

    Args:
        late: (seq of the kept call, what came after it). `seq` and `slice_id` of the latter are set.
    """
    learned = 0
    for seq, told in late:
        found = connection.execute(select(CALL).where(CALL.c.seq == seq)).mappings().first()
        if found is None:
            continue
        kept = dict(found)
        told.seq, told.slice_id = seq, kept["slice_id"]
        said = dict(zip(CALL_COLUMNS, told.row, strict=True))
        values = {name: said[name] for name in _FILLED if kept[name] is None and said[name] is not None}
        if kept["trace_id"] is not None or kept["span_id"] is not None:
            # Half a span's name from one teller and half from another would name none.
            values = {name: value for name, value in values.items() if name not in ("trace_id", "span_id")}
        values |= _json_values(kept, said)
        kept = _in_its_slice(connection, project_id, kept, told)
        ended = _ending(kept, said)
        values |= ended
        if values:
            connection.execute(update(CALL).where(CALL.c.seq == seq).values(values))
            _count(connection, kept, {**kept, **values})
            _introduce(connection, project_id, {**kept, **values}, values, told)
        if _fill_texts(connection, seq, told) or "outcome" in ended:
            connection.execute(insert(TODO).values(call_seq=seq, reason="text"))
        elif not values:
            continue
        learned += 1
    return learned


def _ending(kept: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """Return how the call ended, where that was not known.

    What an application asked may be told minutes before the answer is. An answer of unknown length may turn
    out to have been broken off, or to be none; nothing was counted for it yet.
    """
    values: dict[str, Any] = {}
    unknown = kept["outcome"] == "answered" and kept["latency_ms"] is None and kept["first_token_ms"] is None
    if unknown and said["outcome"] != "answered":
        values["outcome"] = said["outcome"]
    if said["outcome"] == values.get("outcome", kept["outcome"]) == "failed":
        values |= {name: said[name] for name in _OF_FAILURES if kept[name] is None and said[name] is not None}
    return values


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
    values: dict[str, Any] = {column: said[column] for name in missing for column in _TEXTS[name]}
    if "context" in values:
        values["context"] = orjson.loads(values["context"])
    if kept is None:
        connection.execute(insert(TEXT).values(call_seq=seq, **values))
    else:
        connection.execute(update(TEXT).where(TEXT.c.call_seq == seq).values(values))
    return True


def _json_values(kept: Any, said: dict[str, Any]) -> dict[str, Any]:
    """Return tags of both, and tools where none were known."""
    told = {name: orjson.loads(said[name]) for name in _FILLED_JSON if said[name] is not None}
    values: dict[str, Any] = {}
    if "tags" in told:
        tags = dict(list({**(kept["tags"] or {}), **told["tags"], **(kept["tags"] or {})}.items())[:TAGS_MAX])
        values |= {"tags": tags} if tags != kept["tags"] else {}
    if "tools" in told and kept["tools"] is None:
        values["tools"] = told["tools"]
    return values


def _in_its_slice(
    connection: Connection, project_id: int, kept: dict[str, Any], told: NewCall
) -> dict[str, Any]:
    """Return a kept call in the slice that both tellings name together, its counts moved there."""
    query = select(*(SLICE.c[name] for name in _SLICE_FIELDS)).where(SLICE.c.id == kept["slice_id"])
    known = tuple(connection.execute(query).one())
    if known == OTHER_KEY or not any(new and not old for old, new in zip(known, told.slice_key, strict=True)):
        return kept
    key: SliceKey = tuple(old or new for old, new in zip(known, told.slice_key, strict=True))  # type: ignore[assignment]
    slice_id = slice_ids(connection, project_id, {key})[key]
    moved = {**kept, "slice_id": slice_id}
    told.slice_id = slice_id
    if kept["seq"] <= counted_through(connection):
        add_counts(connection, [(_latencies(kept), None)], -1)
        add_counts(connection, [(_latencies(moved), None)])
    connection.execute(update(CALL).where(CALL.c.seq == kept["seq"]).values(slice_id=slice_id))
    return moved


def _count(connection: Connection, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Bring what was counted of a call up to its row, unless the whole call is still to be counted."""
    if after["seq"] > counted_through(connection):
        return
    old, new = _latencies(before), _latencies(after)
    counted, counts = old.measures(), new.measures()
    # A failed call has been counted as slower than any until its latency is known.
    add_counts(connection, [(old, [pair for pair in counted if pair not in counts])], -1)
    add_counts(connection, [(new, [pair for pair in counts if pair not in counted])])


def _latencies(call: dict[str, Any]) -> Latencies:
    return Latencies(*(call[name] for name in Latencies._fields))


def _introduce(
    connection: Connection, project_id: int, call: dict[str, Any], values: dict[str, Any], told: NewCall
) -> None:
    """Make a call known to its user, and to the signals that wait for its session or response."""
    names = {"user_id", "session_id", "response_id", "trace_id"} & values.keys()
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
