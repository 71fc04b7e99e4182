"""The weekly computation in a process of its own, as the outlier child does it: how long, how much memory.

Flow: `compute_last_week` opens the store for reading -> outliers.weekly.compute_week -> `Weekly` back
through a queue. Nothing is written: in production that is one job of the server's writer.
"""

import time
from dataclasses import dataclass
from multiprocessing import SimpleQueue
from multiprocessing.synchronize import Event

from sqlalchemy import func, select

from ingest.settings import Settings
from ingest.store import OpenStore
from ingest.tables import DEFAULT_PROJECT, Call, columns
from outliers.weekly import compute_week
from outliers.weeks import last_ended
from tests.bench.figures import peak_memory_mb

_DAYS_BEFORE_MS = 28 * 86_400_000


@dataclass(frozen=True)
class Weekly:
    """What one computation took.

    Attributes:
        calls, before: of the week, and of the 28 days before it.
        peak_mb: largest resident memory of the process, in 10^6 bytes, Python and libraries included.
    """

    calls: int
    before: int
    took_s: float
    cpu_s: float
    peak_mb: float


def compute_last_week(database_url: str, done: Event, answer: "SimpleQueue[Weekly]") -> None:
    """Compute the last ended week, tell what it took, and set the event."""
    settings = Settings(database_url=database_url, critic="none")
    store = OpenStore(database_url)
    try:
        now_ms = round(time.time() * 1000)
        week = last_ended(now_ms, settings.zone)
        started, cpu = time.perf_counter(), time.process_time()
        compute_week(store, settings, DEFAULT_PROJECT, week, now_ms)
        took_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
        peak_mb = peak_memory_mb()
        call = columns(Call)

        def _calls(since_ms: int, until_ms: int) -> int:
            inside = (call.c.started_at_ms >= since_ms, call.c.started_at_ms < until_ms)
            of_project = call.c.project_id == DEFAULT_PROJECT
            with store.read() as connection:
                return int(
                    connection.execute(
                        select(func.count()).select_from(call).where(of_project, *inside)
                    ).scalar_one()
                )

        before = _calls(week.since_ms - _DAYS_BEFORE_MS, week.since_ms)
        answer.put(Weekly(_calls(week.since_ms, week.until_ms), before, took_s, cpu_s, peak_mb))
    finally:
        done.set()
        store.close()
