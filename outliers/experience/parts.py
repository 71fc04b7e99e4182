"""Experience: the probability that one call was a bad experience, from four parts that each say how bad.

Flow: a call's scores, guard reading, signals, latency and outcome -> `Evidence` -> `rank` -> `Ranked`, which
`outliers.experience.refresh` keeps. Pure arithmetic; no database.

    P = 1 - product over parts of (1 - w * b),  w * b at most .99;  praise multiplies its odds P / (1 - P)

b in 0..1 says how bad a part was, w how far a part alone can convince. Why these parts and weights:
docs/decisions/0006-experience-is-a-probability-with-parts.md.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

PARTS = ("critic", "signals", "latency", "error")

#: What a part can do alone, at its worst.
WEIGHTS: Mapping[str, float] = {"critic": 0.9, "signals": 0.6, "latency": 0.5, "error": 0.95}
#: No part is ever certain.
CONVICTION_MAX = 0.99
#: A full praise (a thumbs-up) multiplies the odds of a bad experience by this: people also praise an
#: answer that a critic can prove wrong. In ConvAI2 content people gave 77 % of their thumbs up, and those who
#: were not still 50 %: a thumbs-up is .65 times as frequent in a bad experience as in a good one.
PRAISED_ODDS = 0.65
#: From here on a call counts as bad where calls are counted ("118 of 130 calls").
BAD_FROM = 0.5
#: Below this the likeliest kind of failure is a guess not worth a word.
KIND_NAMED_FROM = 0.1

#: How bad (negative) or good (positive) each kind of signal is; a rating by its place in its range.
POLARITY: Mapping[str, float] = {
    "thumbs_up": 1.0,
    "thumbs_down": -1.0,
    "escalate": -0.9,
    "rephrase": -0.6,
    "regenerate": -0.6,
    "abandon": -0.5,
    "edit": -0.3,
    "copy": 0.5,
}
#: A stopped answer was not wanted or took too long; a failed one did not come.
ERROR_OF_OUTCOME: Mapping[str, float] = {"answered": 0.0, "aborted": 0.3, "failed": 1.0}


@dataclass(frozen=True)
class Part:
    """What one part says about one call.

    Attributes:
        name: critic, signals, latency or error.
        b: how bad, 0..1.
        weight: how far this part alone can convince, 0..1.
        share: its share of P(bad), 0..1; the shares of a call sum to 1, or are all 0.
        known: False where nothing is known and `b` is the mean of the call's slice.
        detail: what it saw, in one word or two ("wrong_language", "faithfulness", "thumbs_down",
            "3.1 x p95", "RateLimitError"); "" where unknown or nothing.
    """

    name: str
    b: float
    weight: float
    share: float
    known: bool
    detail: str = ""
    #: how many calls it stands for in its slice's mean; see `Seen`
    stands_for: float = 1.0


@dataclass(frozen=True)
class SignalSeen:
    """One signal about a call; value and range as sent, None where not given."""

    kind: str
    value: float | None = None
    value_min: float | None = None
    value_max: float | None = None


@dataclass(frozen=True)
class Graded:
    """One critic's usable answer about a call: P(level <= 2) under a rubric, 0..1.

    Attributes:
        inclusion: the probability with which the critic's sample took the call in; 1 where it takes all.
    """

    rubric: str
    critic: str
    p_low: float
    inclusion: float = 1.0


@dataclass(frozen=True)
class Evidence:
    """All that is known about one call. None and empty mean unknown, never good.

    Attributes:
        graded: at most one answer a rubric: the newest version's, by the first critic that scored.
        left_out: whether a critic's sample left the call out, so that others stand for it.
        guard_p_fail: the guard's probability of a failure that can be seen.
        guard_kind: its likeliest kind.
        latency_ms: until the answer was complete, failed or aborted.
        latency_p95_ms: what the slice's p95 was when the call was first ranked.
    """

    outcome: str
    error_type: str | None = None
    latency_ms: float | None = None
    latency_p95_ms: float | None = None
    graded: tuple[Graded, ...] = ()
    left_out: bool = False
    guard_p_fail: float | None = None
    guard_kind: str | None = None
    signals: tuple[SignalSeen, ...] = ()


@dataclass(frozen=True)
class Ranked:
    """P(bad) of one call and its parts."""

    p_bad: float
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Seen:
    """How bad one part was, before it is weighed: `b` None where nothing is known.

    Attributes:
        stands_for: how many calls of its slice it speaks for in a mean: 1 / inclusion of a sampled answer,
            0 for a call that was left out of the sample, as those in it stand for it (Horvitz & Thompson
            1952). What a critic with a budget judges is worse than the rest, and must not count for more.
    """

    b: float | None
    detail: str = ""
    stands_for: float = 1.0


@dataclass
class SliceMeans:
    """Running weighted means of each part's b by slice; what a missing part is taken for.

    A slice with fewer than `ENOUGH` known calls takes the mean of all, and where nothing at all is known the
    critic's part is the expected base rate and any other part 0.

    Attributes:
        sums: weighted sum of b, sum of weights, calls that have one.
    """

    base_rate: float
    sums: dict[tuple[int | None, str], list[float]] = field(default_factory=dict)

    ENOUGH = 20

    def add(self, slice_id: int, part: str, b: float, *, stands_for: float = 1.0, n: int = 1) -> None:
        """Count `n` calls of a slice alike; -1 takes one out again."""
        if not stands_for:
            return
        for key in ((slice_id, part), (None, part)):
            cell = self.sums.setdefault(key, [0.0, 0.0, 0])
            cell[0] += n * stands_for * b
            cell[1] += n * stands_for
            cell[2] += n

    def mean(self, slice_id: int, part: str) -> float:
        """Return what an unknown part of a call in this slice is taken for, 0..1."""
        for key, enough in (((slice_id, part), self.ENOUGH), ((None, part), 1)):
            total, weight, n = self.sums.get(key, (0.0, 0.0, 0))
            if n >= enough and weight > 0:
                return min(1.0, max(0.0, total / weight))
        return self.base_rate if part == "critic" else 0.0


def see(
    evidence: Evidence, rubric_weights: Mapping[str, float], polarity: Mapping[str, float]
) -> dict[str, Seen]:
    """Return how bad each part was, unweighted.

    Args:
        rubric_weights: by rubric name; 1 where not named.
        polarity: the team's own signals, -1..1; overrides `POLARITY`.
    """
    return {
        "critic": _critic(evidence, rubric_weights),
        "signals": _signals(evidence.signals, polarity),
        "latency": _latency(evidence.latency_ms, evidence.latency_p95_ms),
        "error": Seen(
            ERROR_OF_OUTCOME[evidence.outcome],
            (evidence.error_type or evidence.outcome) if evidence.outcome != "answered" else "",
        ),
    }


def rank(
    seen: Mapping[str, Seen],
    praise: float,
    slice_id: int,
    means: SliceMeans,
    weights: Mapping[str, float] = WEIGHTS,
) -> Ranked:
    """Weigh the parts of one call.

    Args:
        seen: from `see`.
        praise: the strongest positive signal, 0..1, from `praise_of`.
    """
    b = {name: means.mean(slice_id, name) if seen[name].b is None else seen[name].b for name in PARTS}
    logs = {name: math.log1p(-min(CONVICTION_MAX, weights[name] * (b[name] or 0.0))) for name in PARTS}
    total = sum(logs.values())
    parts = tuple(
        Part(
            name=name,
            b=round(b[name] or 0.0, 4),
            weight=weights[name],
            share=round(logs[name] / total, 4) if total else 0.0,
            known=seen[name].b is not None,
            detail=seen[name].detail,
            stands_for=seen[name].stands_for,
        )
        for name in PARTS
    )
    return Ranked(praised(1 - math.exp(total), praise), parts)


def praised(p_bad: float, praise: float) -> float:
    """Return P(bad) after a positive signal, which multiplies its odds; never less than P * PRAISED_ODDS.

    Multiplying P itself would put what a critic is certain of behind a mere thumbs-down.

    Args:
        praise: how positive, 0..1; half a praise multiplies by the root of `PRAISED_ODDS`.
    """
    factor: float = PRAISED_ODDS**praise
    return p_bad * factor / (1 - p_bad + p_bad * factor)


def praise_of(signals: Iterable[SignalSeen], polarity: Mapping[str, float]) -> float:
    """Return the strongest positive signal, 0..1; 0 where there is none."""
    return max((max(0.0, polarity_of(signal, polarity)) for signal in signals), default=0.0)


def polarity_of(signal: SignalSeen, polarity: Mapping[str, float]) -> float:
    """Return how bad (-1) or good (1) a signal is; 0 for a team's own name that declares no polarity."""
    if signal.kind in polarity:
        return max(-1.0, min(1.0, polarity[signal.kind]))
    if signal.kind == "rating" and signal.value is not None:
        low = 1.0 if signal.value_min is None else signal.value_min
        high = 5.0 if signal.value_max is None else signal.value_max
        if high <= low:
            return 0.0
        return max(-1.0, min(1.0, 2 * (signal.value - low) / (high - low) - 1))
    return POLARITY.get(signal.kind, 0.0)


def parts_from_json(kept: Mapping[str, Mapping[str, Any]]) -> tuple[Part, ...]:
    """Return the parts as `Experience.parts` keeps them, the largest share first."""
    parts = (
        Part(
            name,
            cell["b"],
            cell["w"],
            cell["share"],
            cell["known"],
            cell.get("detail", ""),
            cell.get("stands_for", 1.0),
        )
        for name, cell in kept.items()
    )
    return tuple(sorted(parts, key=lambda part: -part.share))


def parts_as_json(parts: Iterable[Part]) -> dict[str, dict[str, Any]]:
    """Return the parts as `Experience.parts` keeps them."""
    return {
        part.name: {
            "b": part.b,
            "w": part.weight,
            "share": part.share,
            "known": part.known,
            "detail": part.detail,
            # nearly always 1, and then not worth its bytes
            **({} if part.stands_for == 1.0 else {"stands_for": round(part.stands_for, 4)}),
        }
        for part in parts
    }


def _critic(evidence: Evidence, rubric_weights: Mapping[str, float]) -> Seen:
    """Return the largest weighted P(level <= 2): six rubrics that see the same fault are one fault.

    The guard's own reading counts unless another critic than the local one scored the call: it reads the
    same text, and less well.
    """
    worst: Seen = Seen(None)
    for graded in evidence.graded:
        b = min(1.0, rubric_weights.get(graded.rubric, 1.0) * graded.p_low)
        if worst.b is None or b > worst.b:
            worst = Seen(b, graded.rubric, 1.0 / graded.inclusion)
    by_others = any(graded.critic != "local" for graded in evidence.graded)
    if evidence.guard_p_fail is not None and not by_others and evidence.guard_p_fail >= (worst.b or 0.0):
        kind = evidence.guard_kind if evidence.guard_p_fail >= KIND_NAMED_FROM else None
        worst = Seen(evidence.guard_p_fail, kind or "")
    # Whoever judged it instead, the calls of the sample stand for it.
    return replace(worst, stands_for=0.0) if evidence.left_out else worst


def _signals(signals: tuple[SignalSeen, ...], polarity: Mapping[str, float]) -> Seen:
    if not signals:
        return Seen(None)
    worst = min(signals, key=lambda signal: polarity_of(signal, polarity))
    return Seen(max(0.0, -polarity_of(worst, polarity)), worst.kind)


def _latency(latency_ms: float | None, p95_ms: float | None) -> Seen:
    if latency_ms is None or not p95_ms:
        return Seen(None)
    if latency_ms <= p95_ms:
        return Seen(0.0)
    times = latency_ms / p95_ms
    return Seen(min(1.0, math.log2(times) / 2), f"{times:.1f} x p95")
