"""Whether there is nothing left to compute: for commands that wait until a week's findings are final.

Flow: outlier_progress (outliers.experience.refresh, outliers.weekly), what grew since -> `settled` -> GET
/v1/report.
"""

from sqlalchemy import Connection, func, select

from ingest.settings import Settings
from ingest.tables import columns
from outliers.experience.refresh import SOURCES
from outliers.tables import Progress
from outliers.weekly import weeks_to_compute

_progress = columns(Progress)


def settled(connection: Connection, settings: Settings, now_ms: int) -> bool:
    """Return whether every call, signal, score and reading kept now is ranked and every week computed."""
    progress: dict[str, int] = dict(connection.execute(select(_progress.c.name, _progress.c.value)).all())
    for name, (grows, _of_call) in SOURCES.items():
        newest = connection.execute(select(func.max(grows))).scalar() or 0
        if progress.get(name, 0) < newest:
            return False
    return "ran_at_ms" in progress and not weeks_to_compute(connection, settings, now_ms)
