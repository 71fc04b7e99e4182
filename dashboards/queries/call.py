"""One call, whole: its record, texts, scores, guard reading, experience, signals, labels, and its session.

Everything is found by the call's key or its session; nothing here grows with the calls ever kept.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from critic.tables import Explanation, GuardReading, RubricVersion, Score
from dashboards.queries import AnyRow
from dashboards.queries.calls import CallLine, lines_by_seq, not_by_start
from dashboards.queries.grades import is_local, preference
from dashboards.texts import Message, messages_of
from dashboards.words import moment
from ingest.tables import Call, CallAlias, CallText, Label, Signal, Slice, columns
from outliers.experience.parts import Part, parts_from_json
from outliers.tables import Experience

CALL, TEXT, SIGNAL, SLICE = columns(Call), columns(CallText), columns(Signal), columns(Slice)
ALIAS = columns(CallAlias)
SCORE, RUBRIC, GUARD, LABEL = columns(Score), columns(RubricVersion), columns(GuardReading), columns(Label)
EXPERIENCE, EXPLANATION = columns(Experience), columns(Explanation)

#: Calls of a session around the one at hand; a bot's session can have thousands.
SESSION_CALLS = 40
SIGNALS_MAX = 200


@dataclass(frozen=True)
class CallRecord:
    """A call without its texts. Units stand last in names; None is unknown; '' is not given."""

    id: str
    started_at: datetime
    received_at: datetime
    provider: str
    model: str
    prompt: str
    prompt_version: str
    environment: str
    release: str
    outcome: str
    latency_ms: float | None
    first_token_ms: float | None
    finish_reason: str | None
    error_type: str | None
    error_message: str | None
    retries: int | None
    input_tokens: int | None
    output_tokens: int | None
    cached_input_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: float | None
    user_id: str | None
    session_id: str | None
    trace_id: str | None
    span_id: str | None
    response_id: str | None
    sample_rate: float
    input_chars: int | None
    output_chars: int | None
    context_chars: int | None
    tags: dict[str, str]
    tools: tuple[str, ...]


@dataclass(frozen=True)
class CallTexts:
    """A call's texts as they were kept.

    Attributes:
        input, output: messages in order; empty where none was sent.
        context: what was retrieved for the prompt, one text each.
        marks: what happened to a field on the way in: "cut" (head and tail kept) or "replaced".
        kept: False where the call came without any text.
    """

    input: tuple[Message, ...]
    output: tuple[Message, ...]
    context: tuple[str, ...]
    marks: dict[str, str]
    kept: bool


@dataclass(frozen=True)
class Words:
    """What a critic wrote about a score, after the score was given and never part of it.

    Attributes:
        status: wanted (not written yet), written, refused or failed; `reason` says why there is no text.
        text: the critic's own words, hostile as a call's texts; None unless written.
        writer: the model that wrote them, as its provider names it.
    """

    status: str
    text: str | None
    reason: str | None
    writer: str | None
    written_at: datetime | None


@dataclass(frozen=True)
class RubricScore:
    """One critic's answer for the call under one version of one rubric.

    Attributes:
        rubric, rubric_blob: name and version (git blob id) of the rubric.
        question: what the critic was asked; None where the version's text was not kept.
        levels: the seven situations, worst first; empty where not kept.
        critic: as configured; `model_reported` is the provider's own word.
        local: True where no model read the text: a convention of features, until labels calibrate it.
        status: pending, scored, ungraded, refused, failed, deferred or skipped; `reason` says why.
        probabilities: of the levels 1..7, summing to 1; empty unless scored.
        score: their mean, 1..7; None unless scored.
        draws: how many levels were drawn where the critic gives one at a time.
        why: shares of the local critic's features.
        seen_share: share of the texts' characters that the critic was shown; None where not kept.
        label_mass: probability that went to no level; None where the critic could say nothing else.
        input_tokens, cached_input_tokens, output_tokens: this rubric's part of the request; None: unknown.
        answer_ms: how long the request took; several rubrics may share one.
        words: an explanation; None where none was asked for.
        shown: True for the answer that averages and rankings use: newest version, first critic that scored.
    """

    rubric: str
    rubric_blob: str
    question: str | None
    levels: tuple[str, ...]
    critic: str
    local: bool
    status: str
    reason: str | None
    probabilities: tuple[float, ...]
    score: float | None
    confidence: float | None
    draws: int | None
    why: dict[str, Any]
    model_reported: str | None
    cost_usd: float | None
    finished_at: datetime | None
    seen_share: float | None
    label_mass: float | None
    input_tokens: int | None
    cached_input_tokens: int | None
    output_tokens: int | None
    answer_ms: float | None
    words: Words | None
    shown: bool


@dataclass(frozen=True)
class Guard:
    """What the guard saw: a failure that shows without a model.

    Attributes:
        p_fail: probability of such a failure at the configured base rate; None where it could not read.
        kind: the likeliest kind: empty, truncated, off_topic, wrong_language, repeated, refusal, swapped
            or rude.
        kinds: probability by kind, likeliest first.
        grounding: quantile in this team's traffic of how well the source carries the output, 0..1.
        input_language, output_language: ISO 639-1; None where too short to tell.
        version: of the local critic.
        marks: passages that look as if written for a critic: {"kind", "field", "text"}; the text is hostile.
    """

    p_fail: float | None
    kind: str | None
    kinds: dict[str, float]
    grounding: float | None
    input_language: str | None
    output_language: str | None
    version: str
    marks: tuple[dict[str, str], ...] = ()


@dataclass(frozen=True)
class SignalLine:
    """One thing a user did about the call; `value` lies in `value_min`..`value_max` for a rating."""

    kind: str
    value: float | None
    value_min: float | None
    value_max: float | None
    comment: str | None
    at: datetime


@dataclass(frozen=True)
class LabelLine:
    """A person's level for the call under a rubric."""

    rubric: str
    level: int
    labeller: str
    at: datetime


@dataclass(frozen=True)
class RankedCall:
    """The call's experience as it was ranked.

    Attributes:
        p_bad: P(this was a bad experience), 0..1.
        parts: critic, signals, latency and error, the largest share first.
        latency_p95_ms: the slice's p95 of the 28 days before; None where too few calls.
        week: ISO week it counts in.
    """

    p_bad: float
    parts: tuple[Part, ...]
    latency_p95_ms: float | None
    week: str


def seq_of(connection: Connection, project_id: int, call_id: str) -> int | None:
    """The key of the call with this id, or sent under it (`ingest.one_call`); None where there is none."""
    own = select(CALL.c.seq).where(CALL.c.project_id == project_id, CALL.c.id == call_id)
    sent = select(ALIAS.c.call_seq).where(ALIAS.c.project_id == project_id, ALIAS.c.id == call_id)
    return connection.execute(own).scalar() or connection.execute(sent).scalar()


def record_of(connection: Connection, seq: int) -> CallRecord:
    """The call with this key, texts apart."""
    row = connection.execute(
        select(CALL, *(SLICE.c[name] for name in _SLICE_FIELDS))
        .join(SLICE, SLICE.c.id == CALL.c.slice_id)
        .where(CALL.c.seq == seq)
    ).one()
    kept = row._mapping
    plain = {name: kept[name] for name in CallRecord.__dataclass_fields__ if name in kept}
    return CallRecord(
        **plain
        | {
            "started_at": moment(row.started_at_ms),
            "received_at": moment(row.received_at_ms),
            "tags": row.tags or {},
            "tools": tuple(row.tools or ()),
        }
    )


_SLICE_FIELDS = ("provider", "model", "prompt", "prompt_version", "environment", "release")


def texts_of(connection: Connection, seq: int) -> CallTexts:
    """The call's texts."""
    row = connection.execute(select(TEXT).where(TEXT.c.call_seq == seq)).one_or_none()
    if row is None:
        return CallTexts((), (), (), {}, kept=False)
    return CallTexts(
        input=messages_of(row.input, row.input_json),
        output=messages_of(row.output, row.output_json),
        context=tuple(row.context or ()),
        marks=row.marks or {},
        kept=row.input is not None or row.output is not None,
    )


def scores_of(connection: Connection, seq: int, critics: list[str]) -> tuple[RubricScore, ...]:
    """Every production answer for the call, by rubric; in a rubric the one that counts comes first.

    Args:
        critics: as configured, first choice first.
    """
    rows = connection.execute(
        select(SCORE, RUBRIC.c.question, RUBRIC.c.levels, RUBRIC.c.first_used_at_ms)
        .outerjoin(RUBRIC, RUBRIC.c.blob == SCORE.c.rubric_blob)
        .where(SCORE.c.call_seq == seq, SCORE.c.occasion == "")
    ).all()
    words = _words_of(connection, seq)
    shown: list[RubricScore] = []
    for row in sorted(rows, key=lambda row: (row.rubric, *preference(row, critics))):
        first = not shown or shown[-1].rubric != row.rubric
        shown.append(_rubric_score(row, words.get(row.seq), first=first))
    return tuple(shown)


def _words_of(connection: Connection, seq: int) -> dict[int, Words]:
    """Explanations of a call's scores, by score."""
    rows = connection.execute(select(EXPLANATION).where(EXPLANATION.c.call_seq == seq))
    return {
        row.score_seq: Words(
            row.status,
            row.words,
            row.reason,
            row.model_reported or row.critic,
            None if row.written_at_ms is None else moment(row.written_at_ms),
        )
        for row in rows
    }


def _rubric_score(row: AnyRow, words: Words | None, *, first: bool) -> RubricScore:
    return RubricScore(
        rubric=row.rubric,
        rubric_blob=row.rubric_blob,
        question=row.question,
        levels=tuple(row.levels or ()),
        critic=row.critic,
        local=is_local(row.critic),
        status=row.status,
        reason=row.reason,
        probabilities=tuple(getattr(row, f"p{level}") for level in range(1, 8))
        if row.status == "scored"
        else (),
        score=row.score,
        confidence=row.confidence,
        draws=row.draws,
        why=row.why or {},
        model_reported=row.model_reported,
        cost_usd=row.cost_usd,
        finished_at=None if row.finished_at_ms is None else moment(row.finished_at_ms),
        seen_share=row.seen_share,
        label_mass=row.label_mass,
        input_tokens=row.input_tokens,
        cached_input_tokens=row.cached_input_tokens,
        output_tokens=row.output_tokens,
        answer_ms=row.answer_ms,
        words=words,
        shown=first,
    )


def guard_of(connection: Connection, seq: int) -> Guard | None:
    """The guard's reading; None while it has not read the call."""
    row = connection.execute(select(GUARD).where(GUARD.c.call_seq == seq)).one_or_none()
    if row is None:
        return None
    kinds = sorted((row.kinds or {}).items(), key=lambda item: -item[1])
    return Guard(
        row.p_fail,
        row.kind,
        dict(kinds),
        row.grounding,
        row.input_language,
        row.output_language,
        row.version,
        tuple(row.marks or ()),
    )


def ranked_of(connection: Connection, seq: int) -> RankedCall | None:
    """The call's experience; None while it is not ranked."""
    row = connection.execute(select(EXPERIENCE).where(EXPERIENCE.c.call_seq == seq)).one_or_none()
    return (
        None
        if row is None
        else RankedCall(row.p_bad, parts_from_json(row.parts), row.latency_p95_ms, row.week)
    )


def signals_of(connection: Connection, seq: int) -> tuple[SignalLine, ...]:
    """What users did about the call, oldest first."""
    rows = connection.execute(
        select(SIGNAL).where(SIGNAL.c.call_seq == seq).order_by(SIGNAL.c.at_ms).limit(SIGNALS_MAX)
    )
    return tuple(
        SignalLine(row.kind, row.value, row.value_min, row.value_max, row.comment, moment(row.at_ms))
        for row in rows
    )


def labels_of(connection: Connection, project_id: int, call_id: str) -> tuple[LabelLine, ...]:
    """People's levels for the call."""
    rows = connection.execute(
        select(LABEL)
        .where(LABEL.c.project_id == project_id, LABEL.c.call_id == call_id)
        .order_by(LABEL.c.rubric, LABEL.c.at_ms)
        .limit(SIGNALS_MAX)
    )
    return tuple(LabelLine(row.rubric, row.level, row.labeller, moment(row.at_ms)) for row in rows)


def session_around(
    connection: Connection, project_id: int, session_id: str, started_at: datetime, critics: list[str]
) -> tuple[CallLine, ...]:
    """Calls of the session around a time, oldest first; at most SESSION_CALLS."""
    at_ms = round(started_at.timestamp() * 1000)
    in_session = select(CALL.c.seq).where(CALL.c.project_id == project_id, CALL.c.session_id == session_id)
    half = SESSION_CALLS // 2
    started_at_ms = not_by_start()
    before = connection.execute(
        in_session.where(started_at_ms <= at_ms).order_by(started_at_ms.desc()).limit(half)
    ).scalars()
    after = connection.execute(
        in_session.where(started_at_ms > at_ms).order_by(started_at_ms).limit(half)
    ).scalars()
    lines = lines_by_seq(connection, [*before, *after], critics)
    return tuple(sorted(lines.values(), key=lambda line: line.started_at))
