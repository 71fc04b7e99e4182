"""Rubrics in use: their versions, and in a window the share of each status and the levels' distribution.

Flow: `rubric_version` rows (small) and score rows of the window's newest calls -> `RubricUse`. Six rubrics
make six rows a call, so the shares are taken over at most CALLS_READ calls; the page says so.
"""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Subquery, func, select

from critic.tables import STATUSES, RubricVersion, Score
from dashboards.filters import Window
from dashboards.queries import AnyRow
from dashboards.words import moment
from ingest.tables import Call, columns
from outliers.intervals import Z95

CALL, SCORE, RUBRIC = columns(Call), columns(Score), columns(RubricVersion)

#: Newest calls of a window that shares and means are taken over: a share is then good to 2.2 points.
CALLS_READ = 2_000


@dataclass(frozen=True)
class Version:
    """One version of a rubric, as it was used.

    Attributes:
        name: of the rubric: its file without `.jinja`.
        blob: git blob id of the file's bytes.
        question: what the critic is asked.
        levels: seven situations, worst first.
        source: the file.
        committed: whether git knew it when first used; None without a repository.
        first_used_at: UTC.
    """

    name: str
    blob: str
    question: str
    levels: tuple[str, ...]
    source: str
    committed: bool | None
    first_used_at: datetime


@dataclass(frozen=True)
class Mean:
    """A mean over scored calls with its 95 % interval; no interval of a single call."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class RubricUse:
    """How one version of a rubric was answered by one critic in a window.

    Attributes:
        name, blob, critic: which.
        by_status: calls by status, every status named; they sum to `n`.
        n: calls that the rubric applied to.
        mean: mean score 1..7 of the scored ones; None where none was.
        p_low: mean P(level <= 2) among the scored; None where none was.
        levels: mean probability of each level 1..7 among the scored; empty where none was.
        reasons: for statuses other than scored, the commonest reason that was given.
    """

    name: str
    blob: str
    critic: str
    by_status: dict[str, int]
    n: int
    mean: Mean | None
    p_low: Mean | None
    levels: tuple[float, ...]
    reasons: dict[str, str]

    @property
    def scored(self) -> int:
        """Calls that enter the mean."""
        return self.by_status["scored"]


def versions(connection: Connection, name: str | None = None) -> tuple[Version, ...]:
    """Versions of all rubrics, or of one; by name, newest first."""
    statement = select(RUBRIC).order_by(RUBRIC.c.name, RUBRIC.c.first_used_at_ms.desc())
    if name is not None:
        statement = statement.where(RUBRIC.c.name == name)
    return tuple(
        Version(
            row.name,
            row.blob,
            row.question,
            tuple(row.levels),
            row.source,
            row.committed,
            moment(row.first_used_at_ms),
        )
        for row in connection.execute(statement.limit(500))
    )


def newest_calls(project_id: int, window: Window) -> Subquery:
    """Return the keys of a window's newest calls, at most CALLS_READ."""
    return (
        select(CALL.c.seq, CALL.c.sample_rate)
        .where(
            CALL.c.project_id == project_id,
            CALL.c.started_at_ms >= window.since_ms,
            CALL.c.started_at_ms < window.until_ms,
        )
        .order_by(CALL.c.started_at_ms.desc())
        .limit(CALLS_READ)
        .subquery()
    )


def uses(
    connection: Connection, project_id: int, window: Window, name: str | None = None
) -> tuple[RubricUse, ...]:
    """How the rubrics were answered for a window's newest calls: per rubric, version and critic.

    A mean weighs each call by what it stands for, 1 / (sample_rate * inclusion): where a critic samples to
    its budget, bad calls are likelier to be judged and must not count for more (Horvitz & Thompson 1952).
    """
    newest = newest_calls(project_id, window)
    weight = 1.0 / (newest.c.sample_rate * SCORE.c.inclusion)
    probabilities = [func.sum(weight * SCORE.c[f"p{level}"]).label(f"p{level}") for level in range(1, 8)]
    low = SCORE.c.p1 + SCORE.c.p2
    statement = (
        select(
            SCORE.c.rubric,
            SCORE.c.rubric_blob,
            SCORE.c.critic,
            SCORE.c.status,
            func.count().label("n"),
            SCORE.c.reason,
            func.sum(weight).label("weights"),
            func.sum(weight * weight).label("weights_2"),
            func.sum(weight * SCORE.c.score).label("score_sum"),
            func.sum(weight * weight * SCORE.c.score).label("score_sum_2"),
            func.sum(weight * weight * SCORE.c.score * SCORE.c.score).label("score_squares_2"),
            func.sum(weight * weight * low).label("low_sum_2"),
            func.sum(weight * weight * low * low).label("low_squares_2"),
            *probabilities,
        )
        .select_from(newest.join(SCORE, SCORE.c.call_seq == newest.c.seq))
        .where(SCORE.c.occasion == "")
        .group_by(SCORE.c.rubric, SCORE.c.rubric_blob, SCORE.c.critic, SCORE.c.status, SCORE.c.reason)
        .order_by(SCORE.c.rubric, SCORE.c.rubric_blob, SCORE.c.critic)
    )
    if name is not None:
        statement = statement.where(SCORE.c.rubric == name)
    counts: dict[tuple[str, str, str], _Counts] = defaultdict(_Counts)
    for row in connection.execute(statement):
        counts[row.rubric, row.rubric_blob, row.critic].add(row)
    return tuple(_use(*key, counted) for key, counted in counts.items())


#: Weighted sums over scored answers; those that end in _2 are weighted by the square.
_SUMS = (
    *("weights", "weights_2", "score_sum", "score_sum_2", "score_squares_2"),
    *("low_sum_2", "low_squares_2"),
)


class _Counts:
    """Sums over the answers of one version by one critic."""

    def __init__(self) -> None:
        self.by_status = dict.fromkeys(STATUSES, 0)
        self.reasons: dict[str, Counter[str]] = defaultdict(Counter)
        self.levels = [0.0] * 7
        self.sums = dict.fromkeys(_SUMS, 0.0)

    def add(self, row: AnyRow) -> None:
        self.by_status[row.status] += row.n
        if row.status != "scored":
            self.reasons[row.status][row.reason or ""] += row.n
            return
        self.levels = [total + getattr(row, f"p{i}") for i, total in enumerate(self.levels, 1)]
        for name in _SUMS:
            self.sums[name] += getattr(row, name)


def _use(name: str, blob: str, critic: str, counted: _Counts) -> RubricUse:
    n, sums = counted.by_status["scored"], counted.sums
    return RubricUse(
        name=name,
        blob=blob,
        critic=critic,
        by_status=counted.by_status,
        n=sum(counted.by_status.values()),
        mean=_mean(n, sums, sums["score_sum"], sums["score_sum_2"], sums["score_squares_2"]),
        p_low=_mean(n, sums, counted.levels[0] + counted.levels[1], sums["low_sum_2"], sums["low_squares_2"]),
        levels=tuple(total / sums["weights"] for total in counted.levels) if n else (),
        reasons={
            status: said.most_common(1)[0][0]
            for status, said in counted.reasons.items()
            if said.most_common(1)[0][0]
        },
    )


def _mean(n: int, sums: dict[str, float], total: float, total_2: float, squares_2: float) -> Mean | None:
    """A weighted mean with its 95 % interval by the normal approximation; none below two values.

    The variance is that of a ratio of two sums, by its linear part (Särndal, Swensson, Wretman 1992, 5.7);
    with equal weights it is the usual one.
    """
    if n == 0:
        return None
    mean = total / sums["weights"]
    if n < 2:
        return Mean(mean, None, None)
    residuals = max(squares_2 - 2 * mean * total_2 + mean * mean * sums["weights_2"], 0.0)
    spread = Z95 * math.sqrt(residuals * n / (n - 1)) / sums["weights"]
    return Mean(mean, mean - spread, mean + spread)
