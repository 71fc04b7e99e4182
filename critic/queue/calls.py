"""The calls that the critic takes and judges, with their texts: named reads, each short.

Flow: `waiting_todo` -> seqs -> `calls_by_seq` -> critic.working.taking (guard) and critic.working.lane (views
for a driver).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from critic.egress import DEFAULT_PROJECT_NAME
from critic.local import Reading, Texts, input_text
from critic.queue.rows import CALL_FAILED, NO_INPUT, NO_OUTPUT
from critic.spending.sampling import Given
from critic.tables import GuardReading, RubricVersion, Score
from ingest.tables import DEFAULT_PROJECT, Call, CallText, Project, Signal, Slice, Todo, columns
from rubrics import CallView
from rubrics.messages import messages_of

CALL, TEXT, SLICE = columns(Call), columns(CallText), columns(Slice)
TODO, SCORE, SIGNAL, PROJECT = columns(Todo), columns(Score), columns(Signal), columns(Project)
READING, VERSION = columns(GuardReading), columns(RubricVersion)

_READING = ("p_fail", "kind", "kinds", "grounding", "input_language", "output_language", "why")


@dataclass(frozen=True)
class WaitingTodo:
    """One todo row; `reason` is 'new', 'signal' or 'text'."""

    seq: int
    call_seq: int
    reason: str


@dataclass(frozen=True)
class WaitingRow:
    """A pending score row with what decides who may judge its call."""

    seq: int
    call_seq: int
    rubric: str
    rubric_blob: str
    view_blob: str
    occasion: str
    prompt: str
    project: str
    stratum: str
    inclusion: float
    uniform: bool
    urgency: float


@dataclass(frozen=True)
class TakenCall:
    """A call as the critic needs it. Texts are None where they were not sent."""

    call_seq: int
    outcome: str
    prompt: str
    prompt_version: str
    model: str
    tags: Mapping[str, str]
    finish_reason: str | None
    input: str | None
    input_json: bool
    output: str | None
    output_json: bool
    context: tuple[str, ...]
    id: str = ""
    project_id: int = DEFAULT_PROJECT
    project: str = DEFAULT_PROJECT_NAME
    slice_id: int = 0
    latency_ms: float | None = None
    #: characters as sent, where the store keeps only a text's head and tail
    input_chars: int | None = None
    output_chars: int | None = None
    context_chars: int | None = None

    @property
    def not_judged_because(self) -> str | None:
        """Why no critic can judge this call; None where one can. An empty output is judged."""
        if self.outcome == "failed" and not self.output:
            return CALL_FAILED
        if self.output is None:
            return NO_OUTPUT
        return NO_INPUT if self.input is None else None

    @property
    def output_text(self) -> str | None:
        """The output as plain text: of a list of messages their texts, one below the other."""
        if self.output is None or not self.output_json:
            return self.output
        return "\n".join(message.text for message in messages_of(_messages(self.output)))

    def view(self) -> CallView:
        """Return what a rubric's template may show; a text that was not sent is empty."""
        given = self.input or ""
        return CallView(
            input=_messages(given) if self.input_json else given,
            output=self.output_text or "",
            context=self.context,
            prompt=self.prompt,
            prompt_version=self.prompt_version,
            model=self.model,
            tags=self.tags,
            finish_reason=self.finish_reason,
            input_chars=self.input_chars,
            output_chars=self.output_chars,
            context_chars=self.context_chars,
        )

    def texts(self) -> Texts:
        """Return what the guard reads."""
        return Texts(input_text(self.input or "", self.input_json), self.output_text, self.context)


def waiting_todo(connection: Connection, limit: int) -> list[WaitingTodo]:
    """Return the oldest calls that no critic has looked at."""
    oldest = select(TODO.c.seq, TODO.c.call_seq, TODO.c.reason).order_by(TODO.c.seq).limit(limit)
    return [WaitingTodo(**row._mapping) for row in connection.execute(oldest)]


def calls_by_seq(connection: Connection, call_seqs: Sequence[int]) -> dict[int, TakenCall]:
    """Return calls with their texts; one that is gone is left out."""
    whole = (
        select(
            CALL.c.seq.label("call_seq"),
            CALL.c.outcome,
            CALL.c.tags,
            CALL.c.finish_reason,
            SLICE.c.prompt,
            SLICE.c.prompt_version,
            SLICE.c.model,
            TEXT.c.input,
            TEXT.c.input_json,
            TEXT.c.output,
            TEXT.c.output_json,
            TEXT.c.context,
            CALL.c.id,
            CALL.c.project_id,
            func.coalesce(PROJECT.c.name, DEFAULT_PROJECT_NAME).label("project"),
            CALL.c.slice_id,
            CALL.c.latency_ms,
            CALL.c.input_chars,
            CALL.c.output_chars,
            CALL.c.context_chars,
        )
        .join(SLICE, SLICE.c.id == CALL.c.slice_id)
        .outerjoin(PROJECT, PROJECT.c.seq == CALL.c.project_id)
        .outerjoin(TEXT, TEXT.c.call_seq == CALL.c.seq)
        .where(CALL.c.seq.in_(call_seqs))
    )
    calls = {}
    for row in connection.execute(whole).mappings():
        calls[row["call_seq"]] = TakenCall(
            **{
                **row,
                "tags": row["tags"] or {},
                "context": tuple(row["context"] or ()),
                "input_json": bool(row["input_json"]),
                "output_json": bool(row["output_json"]),
            }
        )
    return calls


def readings_by_call(connection: Connection, call_seqs: Sequence[int]) -> dict[int, Reading]:
    """Return what the guard saw, by call; a call that was never taken is left out."""
    columns_read = (READING.c.call_seq, *(READING.c[name] for name in _READING))
    readings = {}
    for row in connection.execute(select(*columns_read).where(READING.c.call_seq.in_(call_seqs))):
        columns_kept = dict(row._mapping)
        call_seq = columns_kept.pop("call_seq")
        readings[call_seq] = Reading(**{**columns_kept, "why": columns_kept["why"] or {}})
    return readings


def p_fails_by_call(connection: Connection, call_seqs: Sequence[int]) -> dict[int, float | None]:
    """Return the guard's probability of a failure, by call that was taken."""
    wanted = select(READING.c.call_seq, READING.c.p_fail).where(READING.c.call_seq.in_(call_seqs))
    return dict(connection.execute(wanted).all())


def taken_already(connection: Connection, call_seqs: Sequence[int]) -> set[int]:
    """Return those of the calls that have been taken once: each of them has a guard reading."""
    return set(connection.scalars(select(READING.c.call_seq).where(READING.c.call_seq.in_(call_seqs))))


def signals_by_call(connection: Connection, call_seqs: Sequence[int]) -> dict[int, tuple[Given, ...]]:
    """Return the signals that have come for these calls; a call without one is left out."""
    given: dict[int, list[Given]] = {}
    wanted = select(SIGNAL.c.call_seq, *(SIGNAL.c[name] for name in Given.__dataclass_fields__))
    for row in connection.execute(wanted.where(SIGNAL.c.call_seq.in_(call_seqs))):
        signal = dict(row._mapping)
        given.setdefault(signal.pop("call_seq"), []).append(Given(**signal))
    return {call_seq: tuple(signals) for call_seq, signals in given.items()}


def waiting_rows(
    connection: Connection, critics: Sequence[str], *, others: bool, after_seq: int, limit: int
) -> list[WaitingRow]:
    """Return pending rows of `critics`, or of all others, by `seq`, to page through.

    Rows that go by batch are none of them: they stay with the critic that was chosen for them.
    """
    of_critics = SCORE.c.critic.not_in(critics) if others else SCORE.c.critic.in_(critics)
    page = (
        select(
            SCORE.c.seq,
            SCORE.c.call_seq,
            SCORE.c.rubric,
            SCORE.c.rubric_blob,
            SCORE.c.view_blob,
            SCORE.c.occasion,
            SLICE.c.prompt,
            func.coalesce(PROJECT.c.name, DEFAULT_PROJECT_NAME).label("project"),
            SCORE.c.stratum,
            SCORE.c.inclusion,
            SCORE.c.uniform,
            SCORE.c.urgency,
        )
        .join(CALL, CALL.c.seq == SCORE.c.call_seq)
        .join(SLICE, SLICE.c.id == CALL.c.slice_id)
        .outerjoin(PROJECT, PROJECT.c.seq == CALL.c.project_id)
        # Not compared as it is: SQLite would sort the whole backlog by `seq` for every page.
        .where(
            func.coalesce(SCORE.c.status, "") == "pending",
            of_critics,
            SCORE.c.seq > after_seq,
            SCORE.c.batch.is_(None),
        )
        .order_by(SCORE.c.seq)
        .limit(limit)
    )
    return [WaitingRow(**row._mapping) for row in connection.execute(page)]


def version_source(connection: Connection, blob: str) -> tuple[str, str] | None:
    """Return name and source of a rubric version that was used once; None for one that never was."""
    row = connection.execute(select(VERSION.c.name, VERSION.c.source).where(VERSION.c.blob == blob)).first()
    return None if row is None else (row.name, row.source)


def outputs_read(connection: Connection) -> int:
    """Return how many calls had an output that the guard could read."""
    return connection.scalar(select(func.count()).where(READING.c.p_fail.is_not(None))) or 0


def reading_row(
    call_seq: int, reading: Reading, version: str, marks: Sequence[Mapping[str, str]] | None
) -> dict[str, Any]:
    """Return the row that keeps a guard reading and what `critic.hostile` marked in the texts."""
    seen = {name: getattr(reading, name) for name in _READING}
    return {"call_seq": call_seq, **seen, "version": version, "marks": marks}


def _messages(text: str) -> str | list[dict[str, Any]]:
    """Return the list of messages that a text holds as JSON; the text itself where it was cut on the way."""
    try:
        messages = json.loads(text)
    except ValueError:
        return text
    return messages if isinstance(messages, list) else text
