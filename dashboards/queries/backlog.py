"""What waits, and what critics have answered since somebody began to count: for /metrics.

No query here grows with the number of calls ever kept: counting stops at a bound, and answers are counted
from where the last count ended.
"""

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from critic.tables import Score
from dashboards.queries.freshness import COUNT_MAX, critic_work
from ingest.tables import DEFAULT_PROJECT, Call, OtlpFragment, Todo, columns
from outliers.freshness import freshness

CALL, FRAGMENT, SCORE, TODO = columns(Call), columns(OtlpFragment), columns(Score), columns(Todo)


@dataclass(frozen=True)
class Backlog:
    """What still has to be done.

    Attributes:
        calls_waiting, answers_waiting, otlp_open: counted to `count_max`.
        oldest_s: age of the oldest call that no critic has taken up, in seconds; 0 where there is none.
        unranked: calls kept and not ranked.
        ranked_age_s: seconds since the outliers were last computed; None before the first time.
        paused: critics that take no work now.
    """

    calls_waiting: int
    answers_waiting: int
    otlp_open: int
    count_max: int
    oldest_s: float
    unranked: int
    ranked_age_s: float | None
    paused: tuple[str, ...]


class ScoresDone:
    """Counts of critics' answers by (critic, status), from the first time that they are counted."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._counted_to: int | None = None

    def count(self, connection: Connection) -> None:
        """Add what was answered since the last time."""
        newest = connection.execute(select(func.max(SCORE.c.changed))).scalar() or 0
        if self._counted_to is not None and newest > self._counted_to:
            rows = connection.execute(
                select(SCORE.c.critic, SCORE.c.status, func.count())
                .where(SCORE.c.changed > self._counted_to, SCORE.c.changed <= newest)
                .group_by(SCORE.c.critic, SCORE.c.status)
            )
            for critic, status, n in rows:
                self.counts[(critic, status)] += n
        self._counted_to = newest


def backlog(connection: Connection, now_ms: int) -> Backlog:
    """Return what waits now."""
    work = critic_work(connection, now_ms)
    fresh = freshness(connection, DEFAULT_PROJECT)
    first = select(TODO.c.call_seq).order_by(TODO.c.seq).limit(1).scalar_subquery()
    oldest_ms = connection.execute(select(CALL.c.received_at_ms).where(CALL.c.seq == first)).scalar()
    is_open = select(FRAGMENT.c.seq).where(FRAGMENT.c.due_at_ms.is_not(None)).limit(COUNT_MAX).subquery()
    return Backlog(
        calls_waiting=work.calls_waiting,
        answers_waiting=work.answers_waiting,
        otlp_open=connection.execute(select(func.count()).select_from(is_open)).scalar_one(),
        count_max=COUNT_MAX,
        oldest_s=0.0 if oldest_ms is None else max(0, now_ms - oldest_ms) / 1000,
        unranked=fresh.calls_behind,
        ranked_age_s=None if fresh.ran_at_ms is None else max(0, now_ms - fresh.ran_at_ms) / 1000,
        paused=tuple(pause.critic for pause in work.pauses),
    )
