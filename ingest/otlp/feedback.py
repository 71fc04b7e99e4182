"""Feedback on a span that is no call: it belongs to the last call of that span's trace.

Flow: `ingest.otlp.intake` and `ingest.otlp.closing` -> `adopt_signals` -> signal.call_seq, todo. Applications
attach a thumb to the span of the request they answered, often days later; the call lies beneath it, or is
another span of the same response.
"""

from collections.abc import Iterable

from sqlalchemy import Connection, insert, select, update

from ingest.tables import Call, OtlpFragment, Signal, Todo, columns

CALL, SIGNAL, TODO, FRAGMENT = columns(Call), columns(Signal), columns(Todo), columns(OtlpFragment)


def adopt_signals(connection: Connection, project_id: int, trace_ids: Iterable[str]) -> int:
    """Give signals that wait for a span of these traces their call; return how many found one.

    A trace with calls that have not closed yet is left for their closing.
    """
    traces = sorted(trace_ids)
    waiting = select(SIGNAL.c.seq, SIGNAL.c.trace_id, SIGNAL.c.span_id, SIGNAL.c.at_ms).where(
        SIGNAL.c.call_seq.is_(None),
        SIGNAL.c.project_id == project_id,
        SIGNAL.c.trace_id.in_(traces),
        SIGNAL.c.span_id.is_not(None),
        SIGNAL.c.call_id.is_(None),
        SIGNAL.c.response_id.is_(None),
    )
    adopted = 0
    for seq, trace_id, span_id, at_ms in connection.execute(waiting).all():
        call_seq = _call_of_span(connection, project_id, trace_id, span_id, at_ms)
        if call_seq is not None:
            adopted += 1
            connection.execute(update(SIGNAL).where(SIGNAL.c.seq == seq).values(call_seq=call_seq))
            connection.execute(insert(TODO).values(call_seq=call_seq, reason="signal"))
    return adopted


def _call_of_span(
    connection: Connection, project_id: int, trace_id: str, span_id: str, at_ms: int
) -> int | None:
    of_trace = (FRAGMENT.c.project_id == project_id, FRAGMENT.c.trace_id == trace_id)
    still_open = select(FRAGMENT.c.seq).where(
        *of_trace, FRAGMENT.c.due_at_ms.is_not(None), FRAGMENT.c.role != "scope"
    )
    if connection.execute(still_open.limit(1)).first() is not None:
        return None
    another = select(FRAGMENT.c.call_seq).where(
        *of_trace, FRAGMENT.c.span_id == span_id, FRAGMENT.c.call_seq.is_not(None)
    )
    call_seq = connection.execute(another.limit(1)).scalar()
    if call_seq is None:
        last = (
            select(CALL.c.seq)
            .where(
                CALL.c.project_id == project_id, CALL.c.trace_id == trace_id, CALL.c.started_at_ms <= at_ms
            )
            .order_by(CALL.c.started_at_ms.desc(), CALL.c.seq.desc())
        )
        call_seq = connection.execute(last.limit(1)).scalar()
    return call_seq
