"""How fresh the worst, the findings and the case are: a page never waits for them, and says so.

Flow: `outlier_progress` (outliers.experience.refresh, outliers.process) -> `freshness` -> every page's footer
line.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from ingest.tables import Call, columns
from outliers.tables import Progress

_call, _progress = columns(Call), columns(Progress)


@dataclass(frozen=True)
class Freshness:
    """When the outlier module last ran, and what it has not ranked yet.

    Attributes:
        ran_at_ms: end of the last run, milliseconds since 1970 (UTC); None before the first.
        caught_up: every call kept now is ranked.
        calls_behind: calls kept and not ranked yet.
    """

    ran_at_ms: int | None
    caught_up: bool
    calls_behind: int


def freshness(connection: Connection, project_id: int) -> Freshness:
    """Return how fresh a project's experiences are."""
    progress: dict[str, int] = dict(connection.execute(select(_progress.c.name, _progress.c.value)).all())
    behind = connection.execute(
        select(func.count())
        .select_from(_call)
        # Without "+ 0" SQLite walks all of the project's calls instead of the few newest: 5 ms of every page.
        .where(_call.c.seq > progress.get("calls", 0), _call.c.project_id + 0 == project_id)
    ).scalar_one()
    return Freshness(progress.get("ran_at_ms"), behind == 0, behind)


def ranked_at_ms(connection: Connection) -> int | None:
    """Return the end of the last run, milliseconds since 1970 (UTC); None before the first."""
    return connection.execute(select(_progress.c.value).where(_progress.c.name == "ran_at_ms")).scalar()
