"""Lists of calls: newest first, filtered, with a bounded search in their texts.

Flow: `CallsQuery` -> `list_calls` (keyset pages over the call_started index) -> `CallLine` rows. Texts
are read for the rows of one page only. Where a filter has no index, and in a search, calls are looked for
back from the newest for a bounded time; the answer says how far that went.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Select, func, or_, select

from critic.tables import GuardReading, Score
from dashboards.filters import CallsQuery, Window
from dashboards.queries import AnyRow
from dashboards.queries.grades import Grade, grades_of
from dashboards.queries.slices import slice_ids
from dashboards.texts import excerpt
from dashboards.words import moment
from ingest.packed_text import plain
from ingest.tables import Call, CallText, Signal, Slice, columns
from outliers.errors import BadCursor
from outliers.frame import KIND_FROM
from outliers.tables import Experience
from outliers.weeks import week_of

CALL, TEXT, SIGNAL, SLICE = columns(Call), columns(CallText), columns(Signal), columns(Slice)
EXPERIENCE, GUARD, SCORE = columns(Experience), columns(GuardReading), columns(Score)

#: How long one list is looked for before the answer says what was found and how far back that reaches.
SEARCH_TIME_S = 0.06
#: Calls looked at at once: at first, and at most; of a search in texts always as many as at first.
_CHUNK, _CHUNK_MAX = 500, 2_000
#: Filters that no index answers: calls that match may be rare, and a window can have millions.
_WALKED = (
    *("prompt", "version", "provider", "model", "environment", "release", "outcome"),
    *("finish_reason", "error", "guard", "status", "language", "q"),
)
#: A thumb may be stamped a little before the answer that it is about.
_EARLY_SIGNAL_MS = 86_400_000


@dataclass(frozen=True)
class CallLine:
    """One call in a list.

    Attributes:
        id: the caller's id.
        started_at: UTC.
        prompt, prompt_version, provider, model: '' where not given.
        outcome: answered, failed or aborted.
        latency_ms: None where unknown.
        error_type: of a failed call.
        user_id, session_id: the application's own; None where not given.
        p_bad: P(this was a bad experience), 0..1; None while not ranked.
        signals: kinds of its signals, oldest first, each once.
        asked: start of the last thing the user said, one line.
        answered: start of the output, one line.
        grade: what critics made of it; None while no critic took it up.
    """

    id: str
    started_at: datetime
    prompt: str
    prompt_version: str
    provider: str
    model: str
    outcome: str
    latency_ms: float | None
    error_type: str | None
    user_id: str | None
    session_id: str | None
    p_bad: float | None
    signals: tuple[str, ...]
    asked: str
    answered: str
    grade: Grade | None


@dataclass(frozen=True)
class CallList:
    """One page of a list of calls.

    Attributes:
        calls: newest first.
        next_cursor: where to go on; None at the window's end.
        searched_back_to: how far back was looked where that did not reach the window's start, UTC.
    """

    calls: tuple[CallLine, ...]
    next_cursor: str | None
    searched_back_to: datetime | None = None


@dataclass(frozen=True)
class Newest:
    """When the newest call started, and its ISO week, so that an empty window can point there."""

    at: datetime
    week: str


def list_calls(
    connection: Connection, project_id: int, window: Window, asked: CallsQuery, critics: list[str]
) -> CallList:
    """Calls of the window that match every filter, newest first.

    Args:
        critics: as configured, first choice first.

    Raises:
        BadCursor: `asked.cursor` is not one of this list.
    """
    few = asked.user is not None or asked.session is not None or asked.signal is not None
    if asked.q or (not few and any(getattr(asked, name) is not None for name in _WALKED)):
        return _walk(connection, project_id, window, asked, critics)
    statement = matching(connection, project_id, window, asked)
    rows = connection.execute(statement.limit(asked.limit + 1)).all()
    more = len(rows) > asked.limit
    rows = rows[: asked.limit]
    return CallList(lines_of(connection, rows, critics), _cursor(rows[-1]) if more else None)


def count_calls(connection: Connection, project_id: int, window: Window) -> int:
    """How many calls started in the window; one range of an index."""
    return connection.execute(
        select(func.count())
        .select_from(CALL)
        .where(
            CALL.c.project_id == project_id,
            CALL.c.started_at_ms >= window.since_ms,
            CALL.c.started_at_ms < window.until_ms,
        )
    ).scalar_one()


def lines_by_seq(connection: Connection, seqs: Sequence[int], critics: list[str]) -> dict[int, CallLine]:
    """Lines of the calls with these keys, by key."""
    if not seqs:
        return {}
    rows = connection.execute(_lines().where(CALL.c.seq.in_(seqs))).all()
    return {row.seq: line for row, line in zip(rows, lines_of(connection, rows, critics), strict=True)}


def newest_call(connection: Connection, project_id: int, zone: ZoneInfo) -> Newest | None:
    """The newest call of all; None where there is none. One step in an index."""
    started_at_ms = connection.execute(
        select(func.max(CALL.c.started_at_ms)).where(CALL.c.project_id == project_id)
    ).scalar()
    return None if started_at_ms is None else Newest(moment(started_at_ms), week_of(started_at_ms, zone).id)


def not_by_start() -> Any:
    """The start time as an expression that no index holds.

    Where a user or a session is given, SQLite would otherwise walk every call of the window in order of
    time; so it takes the index on users or sessions, and sorts the few calls found.
    """
    return CALL.c.started_at_ms + 0


def _lines() -> Select[Any]:
    return select(
        CALL.c.seq,
        CALL.c.id,
        CALL.c.started_at_ms,
        CALL.c.outcome,
        CALL.c.latency_ms,
        CALL.c.error_type,
        CALL.c.user_id,
        CALL.c.session_id,
        CALL.c.slice_id,
        EXPERIENCE.c.p_bad,
    ).select_from(CALL.outerjoin(EXPERIENCE, EXPERIENCE.c.call_seq == CALL.c.seq))


def newest_in(project_id: int, window: Window, limit: int) -> Select[Any]:
    """Keys and times of a window's newest calls, whatever they are; the index has all that this takes."""
    return (
        select(CALL.c.seq, CALL.c.started_at_ms)
        .where(
            CALL.c.project_id == project_id,
            CALL.c.started_at_ms >= window.since_ms,
            CALL.c.started_at_ms < window.until_ms,
        )
        .order_by(CALL.c.started_at_ms.desc(), CALL.c.seq.desc())
        .limit(limit)
    )


def matching(
    connection: Connection, project_id: int, window: Window, asked: CallsQuery, *, by_key: bool = False
) -> Select[Any]:
    """The lines that match, newest first, from the cursor on; the words searched for aside.

    Args:
        by_key: the keys of a few calls will be given, by which the database shall find them.
    """
    started_at_ms = CALL.c.started_at_ms
    if by_key or asked.user is not None or asked.session is not None:
        started_at_ms = not_by_start()
    statement = (
        _lines()
        .where(
            # with a sum no index holds it: SQLite would walk the whole project instead of the keys
            (CALL.c.project_id + 0 if by_key else CALL.c.project_id) == project_id,
            started_at_ms >= window.since_ms,
            started_at_ms < window.until_ms,
        )
        .order_by(started_at_ms.desc(), CALL.c.seq.desc())
    )
    fields = {
        "prompt": asked.prompt,
        "prompt_version": asked.version,
        "provider": asked.provider,
        "model": asked.model,
        "environment": asked.environment,
        "release": asked.release,
    }
    wanted = {name: value for name, value in fields.items() if value is not None}
    if wanted:
        statement = statement.where(CALL.c.slice_id.in_(slice_ids(connection, project_id, wanted)))
    for column, value in (
        (CALL.c.outcome, asked.outcome),
        (CALL.c.finish_reason, asked.finish_reason),
        (CALL.c.error_type, asked.error),
        (CALL.c.user_id, asked.user),
        (CALL.c.session_id, asked.session),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if asked.min_latency_ms is not None:
        statement = statement.where(CALL.c.latency_ms >= asked.min_latency_ms)
    if asked.signal is not None:
        about = select(SIGNAL.c.call_seq).where(
            SIGNAL.c.project_id == project_id,
            SIGNAL.c.at_ms >= window.since_ms - _EARLY_SIGNAL_MS,
            SIGNAL.c.kind == asked.signal,
            SIGNAL.c.call_seq.is_not(None),
        )
        statement = statement.where(CALL.c.seq.in_(about))
    for condition in _read_by_others(asked):
        statement = statement.where(condition)
    return _from_cursor(statement, asked.cursor) if asked.cursor else statement


def _read_by_others(asked: CallsQuery) -> list[Any]:
    """What the guard and the critics must have said of a call."""
    of_call = GUARD.c.call_seq == CALL.c.seq
    conditions: list[Any] = []
    if asked.guard is not None:
        seen = (of_call, GUARD.c.kind == asked.guard, GUARD.c.p_fail >= KIND_FROM)
        conditions.append(select(GUARD.c.call_seq).where(*seen).exists())
    if asked.language is not None:
        spoken = (of_call, GUARD.c.input_language == asked.language)
        conditions.append(select(GUARD.c.call_seq).where(*spoken).exists())
    if asked.status is not None:
        answer = (SCORE.c.call_seq == CALL.c.seq, SCORE.c.occasion == "", SCORE.c.status == asked.status)
        conditions.append(select(SCORE.c.seq).where(*answer).exists())
    return conditions


def _from_cursor(statement: Select[Any], cursor: str) -> Select[Any]:
    match = re.fullmatch(r"(\d{1,16})\.(\d{1,18})", cursor)
    if match is None:
        raise BadCursor("Not a cursor that this list gave; leave it out to start at the newest call.")
    started_at_ms, seq = int(match[1]), int(match[2])
    return statement.where(
        # The first condition alone lets the index start in the right place.
        CALL.c.started_at_ms <= started_at_ms,
        or_(CALL.c.started_at_ms < started_at_ms, CALL.c.seq < seq),
    )


def _cursor(row: AnyRow) -> str:
    return f"{row.started_at_ms}.{row.seq}"


def _walk(
    connection: Connection, project_id: int, window: Window, asked: CallsQuery, critics: list[str]
) -> CallList:
    """Walk back through the window's calls in chunks and keep those that match, until the time is up."""
    deadline = time.monotonic() + SEARCH_TIME_S
    statement = matching(connection, project_id, window, asked, by_key=True)
    found: list[AnyRow] = []
    cursor, size = asked.cursor, _CHUNK
    while True:
        newest = newest_in(project_id, window, size)
        chunk = connection.execute(_from_cursor(newest, cursor) if cursor else newest).all()
        if not chunk:
            return CallList(lines_of(connection, found, critics), None)
        rows = connection.execute(statement.where(CALL.c.seq.in_([row.seq for row in chunk]))).all()
        if asked.q:
            hits = _with_words(connection, [row.seq for row in rows], asked.q)
            rows = [row for row in rows if row.seq in hits]
        found += rows[: asked.limit + 1 - len(found)]
        if len(found) > asked.limit:
            last = found[asked.limit - 1]
            return CallList(lines_of(connection, found[:-1], critics), _cursor(last))
        if len(chunk) < size:
            return CallList(lines_of(connection, found, critics), None)
        cursor = _cursor(chunk[-1])
        if time.monotonic() > deadline:
            return CallList(lines_of(connection, found, critics), cursor, moment(chunk[-1].started_at_ms))
        size = _CHUNK if asked.q else min(2 * size, _CHUNK_MAX)


def _with_words(connection: Connection, seqs: list[int], words: str) -> set[int]:
    """Which of these calls have `words` in their input or output."""
    pattern = "%" + re.sub(r"([%_/])", r"/\1", words) + "%"
    texts = plain(TEXT.c.input), plain(TEXT.c.output)
    if connection.dialect.name == "sqlite":  # LIKE ignores ASCII case by itself
        holds = or_(*(text.like(pattern, escape="/") for text in texts))
    else:
        holds = or_(*(text.ilike(pattern, escape="/") for text in texts))
    return set(connection.execute(select(TEXT.c.call_seq).where(TEXT.c.call_seq.in_(seqs), holds)).scalars())


def lines_of(connection: Connection, rows: Sequence[AnyRow], critics: list[str]) -> tuple[CallLine, ...]:
    """Add slices, signals, grades and the texts' beginnings to rows of `_lines`."""
    if not rows:
        return ()
    seqs = [row.seq for row in rows]
    slices = {
        row.id: row
        for row in connection.execute(select(SLICE).where(SLICE.c.id.in_({row.slice_id for row in rows})))
    }
    signals: dict[int, list[str]] = {}
    for call_seq, kind in connection.execute(
        select(SIGNAL.c.call_seq, SIGNAL.c.kind).where(SIGNAL.c.call_seq.in_(seqs)).order_by(SIGNAL.c.at_ms)
    ):
        if kind not in signals.setdefault(call_seq, []):
            signals[call_seq].append(kind)
    texts = {
        row.call_seq: row
        for row in connection.execute(
            select(TEXT.c.call_seq, TEXT.c.input, TEXT.c.input_json, TEXT.c.output, TEXT.c.output_json).where(
                TEXT.c.call_seq.in_(seqs)
            )
        )
    }
    grades = grades_of(connection, seqs, critics)
    return tuple(
        _line(
            row,
            slices[row.slice_id],
            tuple(signals.get(row.seq, ())),
            texts.get(row.seq),
            grades.get(row.seq),
        )
        for row in rows
    )


def _line(
    row: AnyRow, of: AnyRow, signals: tuple[str, ...], texts: AnyRow | None, grade: Grade | None
) -> CallLine:
    return CallLine(
        id=row.id,
        started_at=moment(row.started_at_ms),
        prompt=of.prompt,
        prompt_version=of.prompt_version,
        provider=of.provider,
        model=of.model,
        outcome=row.outcome,
        latency_ms=row.latency_ms,
        error_type=row.error_type,
        user_id=row.user_id,
        session_id=row.session_id,
        p_bad=row.p_bad,
        signals=signals,
        asked=excerpt(texts.input, texts.input_json) if texts is not None else "",
        answered=excerpt(texts.output, texts.output_json) if texts is not None else "",
        grade=grade,
    )
