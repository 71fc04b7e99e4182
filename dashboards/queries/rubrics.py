"""Rubrics in use: their versions, and in a window the share of each status and the levels' distribution.

Flow: `rubric_version` rows (small) and score rows of the window's newest calls -> `RubricUse`. Six rubrics
make six rows a call, so the shares are taken over at most CALLS_READ calls; the page says so.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from critic.tables import STATUSES, RubricVersion, Score
from dashboards.filters import Window
from dashboards.words import moment
from ingest.tables import Call, columns

CALL, SCORE, RUBRIC = columns(Call), columns(Score), columns(RubricVersion)

#: Newest calls of a window that shares and means are taken over: a share is then good to 1.4 points.
CALLS_READ = 5_000


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
class RubricUse:
    """How one version of a rubric was answered by one critic in a window.

    Attributes:
        name, blob, critic: which.
        by_status: calls by status, every status named; they sum to `n`.
        n: calls that the rubric applied to.
        mean: mean score 1..7 of the scored ones; None where none was.
        levels: mean probability of each level 1..7 among the scored; empty where none was.
        p_low: mean P(level <= 2) among the scored; None where none was.
        reasons: for statuses other than scored, one reason that was given.
    """

    name: str
    blob: str
    critic: str
    by_status: dict[str, int]
    n: int
    mean: float | None
    levels: tuple[float, ...]
    p_low: float | None
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


def uses(
    connection: Connection, project_id: int, window: Window, name: str | None = None
) -> tuple[RubricUse, ...]:
    """How the rubrics were answered for a window's newest calls: per rubric, version and critic."""
    newest = (
        select(CALL.c.seq)
        .where(
            CALL.c.project_id == project_id,
            CALL.c.started_at_ms >= window.since_ms,
            CALL.c.started_at_ms < window.until_ms,
        )
        .order_by(CALL.c.started_at_ms.desc())
        .limit(CALLS_READ)
        .subquery()
    )
    probabilities = [func.sum(SCORE.c[f"p{level}"]).label(f"p{level}") for level in range(1, 8)]
    statement = (
        select(
            SCORE.c.rubric,
            SCORE.c.rubric_blob,
            SCORE.c.critic,
            SCORE.c.status,
            func.count().label("n"),
            func.max(SCORE.c.reason).label("reason"),
            func.sum(SCORE.c.score).label("score_sum"),
            *probabilities,
        )
        .select_from(newest.join(SCORE, SCORE.c.call_seq == newest.c.seq))
        .where(SCORE.c.occasion == "")
        .group_by(SCORE.c.rubric, SCORE.c.rubric_blob, SCORE.c.critic, SCORE.c.status)
        .order_by(SCORE.c.rubric, SCORE.c.rubric_blob, SCORE.c.critic)
    )
    if name is not None:
        statement = statement.where(SCORE.c.rubric == name)
    groups: dict[tuple[str, str, str], dict[str, int]] = {}
    sums: dict[tuple[str, str, str], list[float]] = {}
    reasons: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in connection.execute(statement):
        key = (row.rubric, row.rubric_blob, row.critic)
        groups.setdefault(key, dict.fromkeys(STATUSES, 0))[row.status] += row.n
        if row.reason and row.status != "scored":
            reasons.setdefault(key, {})[row.status] = row.reason
        if row.status == "scored":
            sums[key] = [row.score_sum, *(getattr(row, f"p{level}") for level in range(1, 8))]
    found = []
    for key, by_status in groups.items():
        scored = by_status["scored"]
        score_sum, *level_sums = sums.get(key, [0.0])
        levels = tuple(total / scored for total in level_sums) if scored else ()
        found.append(
            RubricUse(
                *key,
                by_status=by_status,
                n=sum(by_status.values()),
                mean=score_sum / scored if scored else None,
                levels=levels,
                p_low=levels[0] + levels[1] if levels else None,
                reasons=reasons.get(key, {}),
            )
        )
    return tuple(found)
