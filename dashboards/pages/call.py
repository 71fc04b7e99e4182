"""A call: its texts, what critics and users said of it, where its time went, what else happened to them."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from critic.explaining.explanations import why_no_words
from dashboards.drawing.reasons import why
from dashboards.pages.dateline import Dateline, dateline
from dashboards.panels import Panel, panel
from dashboards.queries import call as queries
from dashboards.queries.call import (
    CallRecord,
    CallTexts,
    Guard,
    LabelLine,
    RankedCall,
    RubricScore,
    SignalLine,
)
from dashboards.queries.calls import CallLine
from dashboards.words import duration, share
from ingest.settings import Settings
from ingest.tables import DEFAULT_PROJECT


@dataclass(frozen=True)
class CallPage:
    """Context of call.html.

    Attributes:
        headline: how the call went, in one sentence.
        dateline: how fresh the page is.
        call: the record, texts apart.
        texts: input, output and context as they were kept.
        ranked: P(bad) and its parts; data None while not ranked.
        scores: every critic's answer, by rubric; the one that counts first in its rubric.
        no_words: why no score can be explained in words; None where one can be, or none is there yet.
        guard: a failure that shows without a model; data None while not read.
        signals: what users did about it, oldest first.
        labels: people's levels.
        session: calls of the same session around this one, oldest first; empty without a session.
    """

    headline: str
    dateline: Panel[Dateline]
    call: CallRecord
    texts: Panel[CallTexts]
    ranked: Panel[RankedCall | None]
    scores: Panel[tuple[RubricScore, ...]]
    no_words: str | None
    guard: Panel[Guard | None]
    signals: Panel[tuple[SignalLine, ...]]
    labels: Panel[tuple[LabelLine, ...]]
    session: Panel[tuple[CallLine, ...]]


def build(connection: Connection, settings: Settings, call_id: str, now: datetime) -> CallPage | None:
    """Read the page; None where no call has this id."""
    seq = queries.seq_of(connection, DEFAULT_PROJECT, call_id)
    if seq is None:
        return None
    call = queries.record_of(connection, seq)

    def _session() -> tuple[CallLine, ...]:
        if call.session_id is None:
            return ()
        return queries.session_around(
            connection, DEFAULT_PROJECT, call.session_id, call.started_at, settings.critics
        )

    ranked = panel("Experience", connection, lambda: queries.ranked_of(connection, seq))
    scores = panel("Scores", connection, lambda: queries.scores_of(connection, seq, settings.critics))
    return CallPage(
        headline=_headline(call, ranked.data),
        dateline=dateline(connection, now),
        call=call,
        texts=panel("Texts", connection, lambda: queries.texts_of(connection, seq)),
        ranked=ranked,
        scores=scores,
        no_words=_no_words(scores.data or ()),
        guard=panel("Guard", connection, lambda: queries.guard_of(connection, seq)),
        signals=panel("Signals", connection, lambda: queries.signals_of(connection, seq)),
        labels=panel("Labels", connection, lambda: queries.labels_of(connection, DEFAULT_PROJECT, call_id)),
        session=panel("Session", connection, _session),
    )


def _no_words(scores: tuple[RubricScore, ...]) -> str | None:
    scored = [score for score in scores if score.status == "scored"]
    if not scored or not all(score.local for score in scored):
        return None
    return why_no_words((score.critic, score.status, score.reason) for score in scores)


def _headline(call: CallRecord, ranked: RankedCall | None) -> str:
    if ranked is None:
        fate = {"failed": "It failed", "aborted": "It was aborted"}.get(call.outcome, "It was answered")
        took = f" after {duration(call.latency_ms)}" if call.latency_ms is not None else ""
        return f"{fate}{took}; not ranked yet."
    because = why(ranked.parts)
    how = (
        "Almost surely a bad experience"
        if ranked.p_bad >= 0.9
        else "Probably a bad experience"
        if ranked.p_bad >= 0.5
        else "Perhaps a bad experience"
        if ranked.p_bad >= 0.2
        else "Nothing speaks of a bad experience"
    )
    if ranked.p_bad < 0.2 or not because:
        return f"{how} ({share(ranked.p_bad)})."
    return f"{how} ({share(ranked.p_bad)}): {because}."
