"""How long "what else went wrong like this?" takes with a million calls kept: `make bench BENCH=alike`.

Flow: `pages_rows.fill` (Core inserts, then the real ranking) -> `outliers.cohorts.alike` from bad calls of
the window, one after another, as the route asks -> p95; beside it the heat strip's query, and what the weekly
computation adds for spells and causes of one week.
"""

import random
import tempfile
import time
from pathlib import Path

import numpy as np
from sqlalchemy import select

from api.schema import upgrade
from ingest.settings import Settings
from ingest.store import OpenStore
from ingest.tables import DEFAULT_PROJECT
from outliers.causes.tail_causes import find_causes
from outliers.cohorts.alike import alike, alike_window
from outliers.experience.refresh import refresh_experience
from outliers.frame import week_calls
from outliers.latency.heat import latency_by_hour
from outliers.latency.past import read_counts
from outliers.latency.spells import find_spells
from outliers.tables import Experience
from outliers.weeks import last_ended
from tests.bench.figures import Figure, options, report
from tests.bench.pages_rows import fill

GOAL_MS = 1000.0


def main() -> None:
    """Fill, ask, print."""
    parser = options(__doc__ or "")
    parser.add_argument("--calls", type=int, default=1_000_000, help="calls kept (default 1,000,000)")
    parser.add_argument("--requests", type=int, default=30, help="seeds asked about (default 30)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lowlight-bench-") as folder:
        settings = Settings(
            database_url=f"sqlite:///{Path(folder) / 'alike.db'}", port=0, critic="none", refresh_s=3600
        )
        upgrade(settings.database_url)
        store = OpenStore(settings.database_url)
        started = time.perf_counter()
        fill(store, settings.zone, asked.calls, asked.seed)
        refresh_experience(store, settings)
        print(f"{asked.calls:,} calls kept and ranked in {time.perf_counter() - started:.0f} s", flush=True)
        report("alike", [*_alike(store, settings, asked.requests, asked.seed), *_latencies(store, settings)])
        store.close()


def _alike(store: OpenStore, settings: Settings, requests: int, seed: int) -> list[Figure]:
    experience = Experience.__table__  # type: ignore[attr-defined]
    with store.read() as connection:
        bad = (
            connection.execute(
                select(experience.c.call_seq)
                .where(experience.c.p_bad >= 0.5)
                .order_by(experience.c.call_seq)
                .limit(50_000)
            )
            .scalars()
            .all()
        )
    took_ms, looked_at = [], 0
    began = time.process_time()
    for seq in random.Random(seed).sample(list(bad), requests):
        started = time.perf_counter()
        with store.read() as connection:
            window = alike_window(connection, seq, settings.zone)
            found = alike(connection, DEFAULT_PROJECT, seq, *window, zone=settings.zone)
        took_ms.append((time.perf_counter() - started) * 1000)
        looked_at = max(looked_at, found.n_bad)
    p95 = float(np.quantile(took_ms, 0.95))
    return [
        Figure("bad_calls_looked_at", looked_at),
        Figure("alike_cpu_ms", (time.process_time() - began) * 1000 / requests),
        Figure("alike_p50_ms", float(np.median(took_ms))),
        Figure(
            "alike_p95_ms",
            p95,
            goal="answered within a second with 1,000,000 calls kept",
            holds=p95 < GOAL_MS,
        ),
    ]


def _latencies(store: OpenStore, settings: Settings) -> list[Figure]:
    week = last_ended(round(time.time() * 1000), settings.zone)
    figures = []
    started, began = time.perf_counter(), time.process_time()
    with store.read() as connection:
        heat = latency_by_hour(connection, DEFAULT_PROJECT, week.since_ms, week.until_ms)
    figures.append(Figure("heat_strip_of_a_week_ms", (time.perf_counter() - started) * 1000))
    figures.append(Figure("heat_strip_of_a_week_cpu_ms", (time.process_time() - began) * 1000))
    figures.append(Figure("heat_strip_cells", sum(len(row.cells) for row in heat.rows)))
    started = time.process_time()
    with store.read() as connection:
        counts = read_counts(connection, DEFAULT_PROJECT, week)
    find_spells(counts, week, settings.zone)
    figures.append(Figure("spells_of_a_week_cpu_s", time.process_time() - started))
    calls = week_calls(store, DEFAULT_PROJECT, week)
    started = time.process_time()
    find_causes(store, DEFAULT_PROJECT, calls, settings.zone)
    figures.append(Figure("causes_of_a_week_cpu_s", time.process_time() - started))
    figures.append(Figure("calls_of_that_week", len(calls)))
    return figures


if __name__ == "__main__":
    main()
