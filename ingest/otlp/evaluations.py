"""Scores and feedback that arrive over OpenTelemetry, as signals.

Three shapes: the log record (or span event) gen_ai.evaluation.result; OpenInference's annotations.N.* and
evaluations.N.* on a span, about that span or those it links to; session.evaluations.N.*, about a session.
Langfuse's SDK sends its scores beside OTLP, as JSON (`signals_of_scores`).

A person's thumb becomes thumbs_up or thumbs_down. Any other score becomes a signal named after it: as the
person's own word where a person gave it, else with "eval:" before it. A team's own names say nothing about
good or bad until LOWLIGHT_SIGNAL_POLARITY does, so another critic's scale is shown, never guessed.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Any

from ingest.otlp.reading.items import Record, Span
from ingest.otlp.values import Attributes, id_in, indexed, name_in, text_in
from ingest.wire import ITEMS_MAX, RATING_RANGE, SIGNAL_KINDS

EVENT = "gen_ai.evaluation.result"
#: Stands for the span in feedback on a whole trace; no span has it.
NO_SPAN = "0" * 16
#: Evaluations on one span.
EVALUATIONS_MAX = 100
_THUMBS = {
    "thumbs_up": "thumbs_up",
    "thumbs-up": "thumbs_up",
    "thumbs up": "thumbs_up",
    "👍": "thumbs_up",
    "thumbs_down": "thumbs_down",
    "thumbs-down": "thumbs_down",
    "thumbs down": "thumbs_down",
    "👎": "thumbs_down",
}
_NOT_IN_A_KIND = re.compile(r"[^A-Za-z0-9_.:-]")


def signals_of_record(record: Record) -> list[dict[str, Any]]:
    """Return the signal that a log record is, as `ingest.wire.Signal` takes it; [] for another record."""
    if record.name != EVENT:
        return []
    return _genai(record.attributes, record.trace_id, record.span_id, record.at_ns)


def signals_of_span(span: Span) -> list[dict[str, Any]]:
    """Return the signals that a span carries."""
    signals: list[dict[str, Any]] = []
    for event in span.events:
        if event.name == EVENT:
            signals += _genai(event.attributes, span.trace_id, span.span_id, event.at_ns)
    names = " ".join(span.attributes)  # one look at all of them: few spans carry any
    if ".evaluation." in names or ".annotation." in names:
        signals += _openinference(span)
    return signals


def signals_of_scores(scores: list[Any]) -> list[dict[str, Any]]:
    """Return the signals that Langfuse's scores are; those about neither trace nor session are left out."""
    signals = []
    for score in scores[:ITEMS_MAX]:
        if not isinstance(score, dict):
            continue
        trace_id, session_id = id_in(score, "traceId"), id_in(score, "sessionId")
        if trace_id is not None:
            # A score of the whole trace names no span: its last call is meant.
            about = {"trace_id": trace_id, "span_id": id_in(score, "observationId") or NO_SPAN}
        elif session_id is not None:
            about = {"session_id": session_id}
        else:
            continue
        value, comment = score.get("value"), text_in(score, "comment")
        said = value if isinstance(value, str) else comment
        label = said if said is not None and (said == value or said.lower() in _THUMBS) else None
        told = {"name": score.get("name"), "score": value, "label": label, "explanation": comment}
        signal = _signal(told, about, "langfuse", 0)
        if signal is not None:
            own_id = id_in(score, "id")
            if own_id is not None and len(own_id) <= 100:
                signal["id"] = f"langfuse:{own_id}"
            signal["at"] = score.get("timestamp") if isinstance(score.get("timestamp"), str) else None
            signals.append(signal)
    return signals


def _genai(attributes: Attributes, trace_id: str, span_id: str, at_ns: int) -> list[dict[str, Any]]:
    response_id = id_in(attributes, "gen_ai.response.id")
    about = {"response_id": response_id} if response_id else {"trace_id": trace_id, "span_id": span_id}
    told = {
        "name": attributes.get("gen_ai.evaluation.name"),
        "score": attributes.get("gen_ai.evaluation.score.value"),
        "label": attributes.get("gen_ai.evaluation.score.label"),
        "explanation": attributes.get("gen_ai.evaluation.explanation"),
    }
    signal = _signal(told, about, f"{trace_id}:{span_id}", at_ns)
    return [] if signal is None else [signal]


def _openinference(span: Span) -> Iterator[dict[str, Any]]:
    own = {"trace_id": span.trace_id, "span_id": span.span_id}
    linked = [{"trace_id": trace_id, "span_id": span_id} for trace_id, span_id in span.links]
    session_id = id_in(span.attributes, "session.id")
    for prefix, word, about in (
        ("annotations", "annotation", [own]),
        ("evaluations", "evaluation", linked or [own]),
        ("session.evaluations", "evaluation", [{"session_id": session_id}] if session_id else []),
    ):
        for found in indexed(span.attributes, prefix, EVALUATIONS_MAX):
            told = {name.removeprefix(f"{word}."): value for name, value in found.items()}
            for target in about[:EVALUATIONS_MAX]:
                signal = _signal(told, target, f"{span.trace_id}:{span.span_id}", span.ended_ns)
                if signal is not None:
                    yield signal


def _signal(told: Attributes, about: dict[str, str], place: str, at_ns: int) -> dict[str, Any] | None:
    """Return one signal; None where its name, target or anything it could say is missing."""
    name, label = name_in(told, "name"), name_in(told, "label")
    score = told.get("score")
    value = float(score) if isinstance(score, (int, float)) and abs(score) < 1e15 else None
    if name is None or (value is None and label is None) or not all(about.values()):
        return None
    said = f"{name} {label} {value} {told.get('identifier')} {sorted(about.items())}"
    digest = hashlib.blake2b(said.encode("utf-8", "replace"), digest_size=8).hexdigest()
    explanation = text_in(told, "explanation")
    by_a_person = told.get("annotator_kind") == "HUMAN"
    kind = _kind(name, label, value, by_a_person)
    repeated = label in (kind, explanation)
    comment = ": ".join(filter(None, (None if repeated else label, explanation)))
    signal: dict[str, Any] = {**about, "id": f"otlp:{place}:{digest}", "kind": kind, "value": value}
    if comment:
        signal["comment"] = comment
    if at_ns:
        signal["at"] = at_ns // 1_000_000
    return signal


def _kind(name: str, label: str | None, value: float | None, by_a_person: bool) -> str:
    for said in (label, name):
        if said is not None and said.lower() in _THUMBS:
            return _THUMBS[said.lower()]
    low, high = RATING_RANGE
    if name in SIGNAL_KINDS and (name != "rating" or (value is not None and low <= value <= high)):
        return name
    own = _NOT_IN_A_KIND.sub("_", name)
    if by_a_person and own not in SIGNAL_KINDS and own[0].isascii() and own[0].isalpha():
        return own[:64]
    return f"eval:{own}"[:64]
