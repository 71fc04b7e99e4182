"""The line under the masthead: what time it is, how fresh the page is, what the critic still has to do."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from dashboards.panels import Panel, panel
from dashboards.queries.freshness import CriticWork, critic_work
from dashboards.words import moment
from ingest.tables import DEFAULT_PROJECT
from outliers.freshness import freshness


@dataclass(frozen=True)
class Dateline:
    """How fresh a page is.

    Attributes:
        now: when the page was made.
        ranked_at: end of the last computation of the worst and the causes; None before the first.
        calls_behind: calls kept that it has not ranked yet.
        critic: what the critic still has to do.
    """

    now: datetime
    ranked_at: datetime | None
    calls_behind: int
    critic: CriticWork


def dateline(connection: Connection, now: datetime) -> Panel[Dateline]:
    """Return the line; it fails alone like any other panel."""

    def _dateline() -> Dateline:
        fresh = freshness(connection, DEFAULT_PROJECT)
        return Dateline(
            now=now,
            ranked_at=None if fresh.ran_at_ms is None else moment(fresh.ran_at_ms),
            calls_behind=fresh.calls_behind,
            critic=critic_work(connection, round(now.timestamp() * 1000)),
        )

    return panel("Freshness", connection, _dateline)
