"""What is known about a page of calls, read from the tables of intake and critic.

Flow: call, score, guard_reading, signal, latency_count -> `evidence_of` -> `Known` ->
outliers.experience.refresh.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Connection, func, select

from critic.tables import GuardReading, RubricVersion, Score
from ingest.tables import Call, Signal, columns
from outliers.experience.parts import Evidence, Graded, SignalSeen
from outliers.latency.history import LatencyHistory
from outliers.tables import Experience
from outliers.weeks import Week, weeks_of

_call, _signal, _score, _guard = columns(Call), columns(Signal), columns(Score), columns(GuardReading)
_version, _experience = columns(RubricVersion), columns(Experience)


@dataclass(frozen=True)
class Known:
    """One call with its evidence.

    Attributes:
        week: the week it started in.
        parts_before: its parts as ranked last; None where it was not.
    """

    seq: int
    project_id: int
    slice_id: int
    week: Week
    sample_rate: float
    evidence: Evidence
    parts_before: Mapping[str, Mapping[str, Any]] | None


def evidence_of(
    connection: Connection,
    seqs: Sequence[int],
    *,
    zone: ZoneInfo,
    critics: Sequence[str],
    history: LatencyHistory,
) -> list[Known]:
    """Return what is known about these calls (at most a thousand), in any order.

    Args:
        critics: configured order; of two that scored a rubric's newest version the first one counts.
    """
    if not seqs:
        return []
    calls = connection.execute(
        select(
            _call.c.seq,
            _call.c.project_id,
            _call.c.slice_id,
            _call.c.started_at_ms,
            _call.c.outcome,
            _call.c.error_type,
            _call.c.latency_ms,
            _call.c.sample_rate,
        ).where(_among(_call.c.seq, seqs))
    ).all()
    ranked = connection.execute(
        select(_experience.c.call_seq, _experience.c.latency_p95_ms, _experience.c.parts).where(
            _among(_experience.c.call_seq, seqs)
        )
    )
    before = {seq: (p95, parts) for seq, p95, parts in ranked}
    weeks = weeks_of((call.started_at_ms for call in calls), zone)
    slices_of_week: dict[Week, set[int]] = defaultdict(set)
    for call, week in zip(calls, weeks, strict=True):
        if before.get(call.seq, (None, None))[0] is None and call.latency_ms is not None:
            slices_of_week[week].add(call.slice_id)
    usual = {week: history.p95_ms(connection, week, slices) for week, slices in slices_of_week.items()}
    graded = _graded(connection, seqs, critics)
    left_out = _left_out(connection, seqs)
    readings = connection.execute(
        select(_guard.c.call_seq, _guard.c.p_fail, _guard.c.kind).where(_among(_guard.c.call_seq, seqs))
    )
    guard = {seq: (p_fail, kind) for seq, p_fail, kind in readings}
    signals = _signals(connection, seqs)
    known = []
    for call, week in zip(calls, weeks, strict=True):
        p95_ms, parts_before = before.get(call.seq, (None, None))
        p_fail, kind = guard.get(call.seq, (None, None))
        evidence = Evidence(
            outcome=call.outcome,
            error_type=call.error_type,
            latency_ms=call.latency_ms,
            latency_p95_ms=usual.get(week, {}).get(call.slice_id) if p95_ms is None else p95_ms,
            graded=tuple(graded.get(call.seq, {}).values()),
            left_out=call.seq in left_out,
            guard_p_fail=p_fail,
            guard_kind=kind,
            signals=tuple(signals.get(call.seq, ())),
        )
        known.append(
            Known(call.seq, call.project_id, call.slice_id, week, call.sample_rate, evidence, parts_before)
        )
    return known


def _among(seq: ColumnElement[int], seqs: Sequence[int]) -> ColumnElement[bool]:
    """Return the condition that a call is one of these; new ones come in a row, quicker to ask for."""
    first, last = min(seqs), max(seqs)
    return seq.between(first, last) if last - first + 1 == len(seqs) else seq.in_(seqs)


def _graded(
    connection: Connection, seqs: Sequence[int], critics: Sequence[str]
) -> dict[int, dict[str, Graded]]:
    """Return for each call and rubric one answer: the newest version's, by the first critic that scored.

    Newest means newest among those that scored this call: after a rubric is edited, last week's answers
    under the old version say more about last week's calls than none.
    """
    order = {critic: place for place, critic in enumerate(critics)}
    first_used: dict[str, int] = dict(
        connection.execute(select(_version.c.blob, _version.c.first_used_at_ms)).all()
    )
    rows = connection.execute(
        select(
            _score.c.call_seq,
            _score.c.rubric,
            _score.c.rubric_blob,
            _score.c.critic,
            _score.c.p1,
            _score.c.p2,
            _score.c.inclusion,
        )
        .where(_among(_score.c.call_seq, seqs), _score.c.status == "scored", _score.c.occasion == "")
        .order_by(_score.c.seq)
    )
    best: dict[int, dict[str, Graded]] = defaultdict(dict)
    places: dict[tuple[int, str], tuple[int, int]] = {}
    for seq, rubric, blob, critic, p1, p2, inclusion in rows:
        place = (first_used.get(blob, 0), -order.get(critic, len(order)))
        if place >= places.get((seq, rubric), (-1, -len(order) - 1)):
            places[seq, rubric] = place
            best[seq][rubric] = Graded(rubric, critic, min(1.0, p1 + p2), inclusion)
    return best


def _left_out(connection: Connection, seqs: Sequence[int]) -> frozenset[int]:
    """Return the calls that a critic's sample left out, and that no sampled answer is kept of."""
    return frozenset(
        connection.scalars(
            select(_score.c.call_seq)
            .where(_among(_score.c.call_seq, seqs), _score.c.occasion == "", _score.c.inclusion < 1)
            .group_by(_score.c.call_seq)
            .having(func.count().filter(_score.c.status != "skipped") == 0)
        )
    )


def _signals(connection: Connection, seqs: Sequence[int]) -> dict[int, list[SignalSeen]]:
    rows = connection.execute(
        select(
            _signal.c.call_seq, _signal.c.kind, _signal.c.value, _signal.c.value_min, _signal.c.value_max
        ).where(_among(_signal.c.call_seq, seqs))
    )
    signals: dict[int, list[SignalSeen]] = defaultdict(list)
    for seq, *said in rows:
        signals[seq].append(SignalSeen(*said))
    return signals
