"""How bad calls were by one measure on both sides of a fix: same rubric versions, same critics, same slow.

Flow: call, score, guard_reading, signal, latency_count ->
`measure_for` (by what the calls before were judged) -> `Measure.read` -> outliers.casework.proof.

P(bad) as ranked is no fair comparison: a rubric edited on the day of the fix, a guard fitted anew, another
critic or a new slice's own p95 would each look like one. So it is computed again from what both sides have.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import Connection, func, select

from critic.tables import GuardReading, Score
from ingest.latency import value_ms
from ingest.store import Store
from ingest.tables import Call, LatencyCount, Signal, Slice, columns
from outliers.experience.parts import (
    WEIGHTS,
    Evidence,
    Graded,
    SignalSeen,
    SliceMeans,
    praise_of,
    rank,
    see,
)
from outliers.frame import DAY_MS, Floats, Ints
from outliers.intervals import calls_needed
from outliers.latency.history import DAYS_BEFORE
from outliers.latency.tails import HOUR_MS
from outliers.weeks import Week

_call, _slice, _signal, _score = columns(Call), columns(Slice), columns(Signal), columns(Score)
_guard, _count = columns(GuardReading), columns(LatencyCount)

#: Calls read at once.
PAGE = 1000
#: Share of the calls before that a rubric version and critic must have judged to be asked for after.
COVERS = 0.6
#: A signal counts where it came within a day of its call: calls since the fix had no more time than that.
SIGNAL_WITHIN_MS = DAY_MS
GUARD = "guard"

#: (rubric or "guard", its blob or the guard's version, critic)
Source = tuple[str, str, str]
_NOTHING_KNOWN = SliceMeans(base_rate=0.0)


@dataclass(frozen=True)
class _Judged:
    """One call with all that any critic said of it."""

    seq: int
    who: str
    evidence: Evidence
    answers: Mapping[Source, tuple[float, str]]


@dataclass(frozen=True)
class Measure:
    """By what both sides are measured.

    Attributes:
        by_latency: whether a call is bad for being slow (for a case that latency set apart) or by P(bad).
        sources: rubric versions with their critics, and the guard's version, that a call must have.
        usual_p95_ms: by (provider, model, prompt), (provider, model, "") and (provider, "", ""), of the 28
            days before the case's week.
    """

    store: Store
    by_latency: bool
    sources: frozenset[Source]
    usual_p95_ms: Mapping[tuple[str, str, str], float]
    rubric_weights: Mapping[str, float]
    polarity: Mapping[str, float]
    weights: Mapping[str, float] = field(default_factory=lambda: WEIGHTS)

    def read(self, seqs: Ints) -> tuple[Floats, list[str]]:
        """Return how bad each call was, NaN where it cannot be compared, and whom it happened to."""
        y, who = np.full(len(seqs), np.nan), [""] * len(seqs)
        place = {seq: i for i, seq in enumerate(seqs.tolist())}
        for start in range(0, len(seqs), PAGE):
            page = seqs[start : start + PAGE].tolist()
            with self.store.read() as connection:
                judged = _judged(connection, page, self.usual_p95_ms)
            for call in judged:
                y[place[call.seq]] = self._badness(call)
                who[place[call.seq]] = call.who
        return y, who

    def _badness(self, call: _Judged) -> float:
        evidence = call.evidence
        if self.by_latency:
            if evidence.latency_ms is None or not evidence.latency_p95_ms:
                return float("nan")
            return float(evidence.latency_ms > evidence.latency_p95_ms)
        given = {source: call.answers[source] for source in self.sources if source in call.answers}
        # a call that failed has no answer to be judged; all others need all that the calls before had
        if len(given) < len(self.sources) and evidence.outcome != "failed":
            return float("nan")
        graded = tuple(
            Graded(rubric, critic, p_low)
            for (rubric, _blob, critic), (p_low, _kind) in given.items()
            if rubric != GUARD
        )
        guard = next((said for source, said in given.items() if source[0] == GUARD), (None, None))
        compared = Evidence(
            outcome=evidence.outcome,
            error_type=evidence.error_type,
            latency_ms=evidence.latency_ms,
            latency_p95_ms=evidence.latency_p95_ms,
            graded=graded,
            guard_p_fail=guard[0],
            guard_kind=guard[1],
            signals=evidence.signals,
        )
        praise = praise_of(evidence.signals, self.polarity)
        seen = see(compared, self.rubric_weights, self.polarity)
        return rank(seen, praise, 0, _NOTHING_KNOWN, self.weights).p_bad


def measure_for(
    store: Store,
    project_id: int,
    week: Week,
    before: Ints,
    *,
    by_latency: bool,
    rubric_weights: Mapping[str, float],
    polarity: Mapping[str, float],
    weights: Mapping[str, float] = WEIGHTS,
) -> Measure:
    """Return the measure that the calls before a fix allow.

    Args:
        before: keys of calls under the condition before the fix; a thousand of them are looked at.
        week: the case's.
    """
    with store.read() as connection:
        usual = usual_p95_ms(connection, project_id, week)
        judged = _judged(connection, before[:PAGE].tolist(), usual)
    answered = [call for call in judged if call.evidence.outcome != "failed"]
    counted = Counter(source for call in answered for source in call.answers)
    first_of: dict[str, tuple[Source, int]] = {}
    for source, n in counted.most_common():
        first_of.setdefault(source[0], (source, n))
    enough = frozenset(source for source, n in first_of.values() if n >= COVERS * len(answered))
    if not enough and counted:
        enough = frozenset([counted.most_common(1)[0][0]])
    return Measure(store, by_latency, enough, usual, rubric_weights, polarity, weights)


def usual_p95_ms(connection: Connection, project_id: int, week: Week) -> dict[tuple[str, str, str], float]:
    """Return the p95 of answered calls of the 28 days before a week, else of that week, where 72 are known.

    Keys are (provider, model, prompt), (provider, model, "") and (provider, "", ""); prompt versions and
    releases are not told apart, because a fix changes them.
    """
    found: dict[tuple[str, str, str], float] = {}
    before_ms = week.since_ms - DAYS_BEFORE * DAY_MS
    for since_ms, until_ms in ((before_ms, week.since_ms), (week.since_ms, week.until_ms)):
        counted: dict[tuple[str, str, str], Counter[int]] = defaultdict(Counter)
        rows = connection.execute(
            select(_slice.c.provider, _slice.c.model, _slice.c.prompt, _count.c.bucket, func.sum(_count.c.n))
            .join(_slice, _slice.c.id == _count.c.slice_id)
            .where(
                _slice.c.project_id == project_id,
                _count.c.hour >= since_ms // HOUR_MS,
                _count.c.hour < -(-until_ms // HOUR_MS),
                _count.c.measure == "total",
                _count.c.outcome == "answered",
            )
            .group_by(_slice.c.provider, _slice.c.model, _slice.c.prompt, _count.c.bucket)
        )
        for provider, model, prompt, bucket, n in rows:
            for key in {(provider, model, prompt), (provider, model, ""), (provider, "", "")}:
                counted[key][bucket] += n
        for key, buckets in counted.items():
            if key not in found and buckets.total() >= calls_needed(0.95):
                found[key] = _p95_ms(buckets)
    return found


def _p95_ms(buckets: Counter[int]) -> float:
    left = 0.95 * buckets.total()
    bucket = 0
    for bucket in sorted(buckets):
        left -= buckets[bucket]
        if left <= 1e-9:
            break
    return value_ms(bucket)


def _judged(
    connection: Connection, seqs: Sequence[int], usual: Mapping[tuple[str, str, str], float]
) -> list[_Judged]:
    """Read what is known about these calls, at most a thousand."""
    if not seqs:
        return []
    calls = connection.execute(
        select(
            _call.c.seq,
            _call.c.id,
            _call.c.user_id,
            _call.c.session_id,
            _call.c.started_at_ms,
            _call.c.outcome,
            _call.c.error_type,
            _call.c.latency_ms,
            _slice.c.provider,
            _slice.c.model,
            _slice.c.prompt,
        )
        .join(_slice, _slice.c.id == _call.c.slice_id)
        .where(_call.c.seq.in_(seqs))
    ).all()
    started = {call.seq: call.started_at_ms for call in calls}
    answers = _answers(connection, seqs)
    signals = _signals(connection, seqs, started)
    judged = []
    for call in calls:
        keys = (
            (call.provider, call.model, call.prompt),
            (call.provider, call.model, ""),
            (call.provider, "", ""),
        )
        evidence = Evidence(
            outcome=call.outcome,
            error_type=call.error_type,
            latency_ms=call.latency_ms,
            latency_p95_ms=next((usual[key] for key in keys if key in usual), None),
            signals=tuple(signals.get(call.seq, ())),
        )
        who = call.user_id or call.session_id or call.id
        judged.append(_Judged(call.seq, who, evidence, answers.get(call.seq, {})))
    return judged


def _answers(connection: Connection, seqs: Sequence[int]) -> dict[int, dict[Source, tuple[float, str]]]:
    answers: dict[int, dict[Source, tuple[float, str]]] = defaultdict(dict)
    scores = connection.execute(
        select(
            _score.c.call_seq,
            _score.c.rubric,
            _score.c.rubric_blob,
            _score.c.critic,
            _score.c.p1,
            _score.c.p2,
        ).where(_score.c.call_seq.in_(seqs), _score.c.status == "scored", _score.c.occasion == "")
    )
    for seq, rubric, blob, critic, p1, p2 in scores:
        answers[seq][rubric, blob, critic] = (min(1.0, p1 + p2), "")
    readings = connection.execute(
        select(_guard.c.call_seq, _guard.c.version, _guard.c.p_fail, _guard.c.kind).where(
            _guard.c.call_seq.in_(seqs), _guard.c.p_fail.is_not(None)
        )
    )
    for seq, version, p_fail, kind in readings:
        answers[seq][GUARD, _guard_line(version), "local"] = (p_fail, kind or "")
    return answers


def _guard_line(version: str) -> str:
    """Return which guard read: fits on ever more of the team's own outputs ("… own 1000") are one."""
    line, _, n = version.rpartition(" ")
    return line if n.isdigit() else version


def _signals(
    connection: Connection, seqs: Sequence[int], started: Mapping[int, int]
) -> dict[int, list[SignalSeen]]:
    rows = connection.execute(
        select(
            _signal.c.call_seq,
            _signal.c.at_ms,
            _signal.c.kind,
            _signal.c.value,
            _signal.c.value_min,
            _signal.c.value_max,
        ).where(_signal.c.call_seq.in_(seqs))
    )
    signals: dict[int, list[SignalSeen]] = defaultdict(list)
    for seq, at_ms, *said in rows:
        if seq in started and at_ms <= started[seq] + SIGNAL_WITHIN_MS:
            signals[seq].append(SignalSeen(*said))
    return signals
