"""Whether the week's incidents are found, first and by their right name: `make bench BENCH=incidents`.

Flow: incidents_shapes (public traces) -> incidents_world, incidents_traffic (weeks of calls) ->
incidents_kinds (what is planted) -> incidents_rows (a real store) -> the product's own ranking and weekly
computation -> `findings_of` -> incidents_judged. Each seed is another application with two ordinary weeks
of half as many calls before the one that is judged; the quiet weeks are four applications, half a year each,
in which nothing happens.

Nothing but rows of the store reaches the product. The kinds are a registry (incidents_kinds.KINDS); `--kinds`
picks some of them.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from api.schema import upgrade
from ingest.settings import Settings
from ingest.store import OpenStore
from ingest.tables import DEFAULT_PROJECT
from outliers.cohorts.findings import findings_of
from outliers.experience.refresh import refresh_experience
from outliers.frame import WeekCalls, week_calls
from outliers.weekly import compute_week, keep_week
from outliers.weeks import Week, last_ended, week_before
from tests.bench import incidents_kinds_later  # also enters its kinds into the registry
from tests.bench.figures import Figure, options, report
from tests.bench.incidents_judged import Found, Judged, judge
from tests.bench.incidents_kinds import KINDS, TUNED, plant
from tests.bench.incidents_rows import Truth
from tests.bench.incidents_rows import keep_week as keep_traffic
from tests.bench.incidents_shapes import Shapes, read_shapes
from tests.bench.incidents_traffic import Traffic, draw_week
from tests.bench.incidents_verdicts import VERDICTS, verdicts
from tests.bench.incidents_verdicts import figures as figures_of_verdicts
from tests.bench.incidents_world import make_world

CALLS, CALLS_QUIET = 50_000, 10_000
HISTORY, HISTORY_QUIET = 2, 4
PLANTED_MAX = 6
QUIET_AT_ONCE = 25


@dataclass(frozen=True)
class Sight:
    """What one seed showed.

    Attributes:
        took_s: of the weekly computation.
        ranked: recall of the truly worst tenth by each ranking.
        critic_off: the critic's mean absolute error in labels.
    """

    seed: int
    judged: Judged
    took_s: float
    ranked: dict[str, float]
    critic_off: float


def main() -> None:
    """Run the seeds and the quiet weeks on all cores given, print what was found."""
    asked = _asked()
    shapes = read_shapes(asked.data)
    names = {
        "all": (),
        "tuned": tuple(TUNED),
        "unseen": tuple(k for k in KINDS if k not in TUNED),
        "later": tuple(k for k, one in KINDS.items() if one.__module__ == incidents_kinds_later.__name__),
    }
    kinds = names.get(asked.kinds, tuple(asked.kinds.split(",")))
    seeds = range(asked.seed, asked.seed + asked.seeds)
    started = time.perf_counter()
    with ProcessPoolExecutor(asked.processes) as pool:
        quiet = [
            pool.submit(quiet_weeks, asked.seed * 1000 + i, min(QUIET_AT_ONCE, asked.weeks - at), shapes)
            for i, at in enumerate(range(0, asked.weeks, QUIET_AT_ONCE))
        ]
        weeks = [pool.submit(eventful_week, seed, asked.calls, kinds, shapes) for seed in seeds]
        sights = []
        for task in weeks:
            sights.append(task.result())
            _say(sights[-1])
        false = [one for task in quiet for one in task.result()]
    print(f"{len(seeds)} seeds and {len(false)} quiet weeks in {time.perf_counter() - started:.0f} s")
    rows = figures(sights, false)
    if asked.verdicts:
        looked = verdicts(shapes, asked.seed, asked.verdicts, processes=asked.processes)
        rows += figures_of_verdicts(looked)
        print(f"and {asked.verdicts} verdicts, after {time.perf_counter() - started:.0f} s in all")
    report("incidents", rows)


def _asked() -> argparse.Namespace:
    parser = options(__doc__ or "")
    parser.add_argument("--seeds", type=int, default=20, help="eventful weeks, a seed each (default 20)")
    parser.add_argument("--weeks", type=int, default=100, help="quiet weeks (default 100)")
    parser.add_argument("--verdicts", type=int, default=VERDICTS, help="verdicts on fixes (default 200)")
    parser.add_argument("--calls", type=int, default=CALLS, help="calls of a week (default 50,000)")
    parser.add_argument(
        "--kinds", default="all", help=f"all, tuned, unseen, later, or names with commas: {', '.join(KINDS)}"
    )
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)"
    )
    asked = parser.parse_args()
    unknown = [k for k in asked.kinds.split(",") if k not in (*KINDS, "all", "tuned", "unseen", "later")]
    if unknown:
        parser.error(f"no such kind: {', '.join(unknown)}; there are {', '.join(KINDS)}")
    return asked


def eventful_week(seed: int, calls: int, kinds: Sequence[str], shapes: Shapes) -> Sight:
    """Make one application, plant 0 to 6 incidents in its third week, and see what the product finds."""
    source = np.random.default_rng(seed)
    world = make_world(source, shapes)
    with tempfile.TemporaryDirectory(prefix="lowlight-bench-") as folder:
        settings, store = fresh_store(Path(folder))
        weeks = weeks_back(settings, HISTORY + 1)
        for number, week in enumerate(weeks):
            n = calls if number == HISTORY else calls // 2
            traffic = draw_week(world, shapes, source, number, week.since_ms, n)
            planted = []
            if number == HISTORY:
                planted = plant(traffic, source, int(source.integers(0, PLANTED_MAX + 1)), kinds)
            traffic.settle(world, source)
            truth = keep_traffic(store, traffic, shapes, source)
        refresh_experience(store, settings)
        found, took_s = _computed(store, settings, weeks[-1])
        frame = week_calls(store, DEFAULT_PROJECT, weeks[-1])
        judged = judge(frame, found, planted, truth, settings.zone)
        store.close()
    off = float(np.nanmean(np.abs(truth.reading_error)))
    return Sight(seed, judged, took_s, worst_tenth_recall(frame, traffic, truth, source), off)


def quiet_weeks(seed: int, count: int, shapes: Shapes) -> list[tuple[str, ...]]:
    """Make one application in which nothing happens; return what the product claims of each week."""
    source = np.random.default_rng(10_000_019 + seed)
    world = make_world(source, shapes)
    claimed = []
    with tempfile.TemporaryDirectory(prefix="lowlight-bench-") as folder:
        settings, store = fresh_store(Path(folder))
        weeks = weeks_back(settings, HISTORY_QUIET + count)
        for number, week in enumerate(weeks):
            traffic = draw_week(world, shapes, source, number, week.since_ms, CALLS_QUIET)
            traffic.settle(world, source)
            keep_traffic(store, traffic, shapes, source)
        refresh_experience(store, settings)
        for week in weeks[HISTORY_QUIET:]:
            found, _took_s = _computed(store, settings, week)
            claimed.append(tuple(one.condition.words(settings.zone) for one in found))
        store.close()
    return claimed


def fresh_store(folder: Path) -> tuple[Settings, OpenStore]:
    """Return a new SQLite store in a folder."""
    settings = Settings(database_url=f"sqlite:///{folder / 'incidents.db'}", critic="none")
    upgrade(settings.database_url)
    return settings, OpenStore(settings.database_url)


def weeks_back(settings: Settings, count: int) -> list[Week]:
    """Return the newest `count` weeks that have ended, oldest first."""
    weeks = [last_ended(time.time_ns() // 1_000_000, settings.zone)]
    while len(weeks) < count:
        weeks.append(week_before(weeks[-1], settings.zone))
    return weeks[::-1]


def _computed(store: OpenStore, settings: Settings, week: Week) -> tuple[list, float]:
    """Let the product compute a week and return its cohorts as a page reads them, and the CPU seconds."""
    started = time.process_time()
    now_ms = time.time_ns() // 1_000_000
    results = compute_week(store, settings, DEFAULT_PROJECT, week, now_ms)
    took_s = time.process_time() - started
    store.write(partial(keep_week, project_id=DEFAULT_PROJECT, found=results, mark=now_ms, now_ms=now_ms))
    with store.read() as connection:
        return findings_of(connection, DEFAULT_PROJECT, week.id, "bad"), took_s


def worst_tenth_recall(
    frame: WeekCalls, traffic: Traffic, truth: Truth, source: np.random.Generator
) -> dict[str, float]:
    """Return how much of the truly worst tenth of the calls each ranking has in its first tenth.

    Where a ranking knows nothing of a call, it stands in the middle; ties are broken at random.
    """
    order = np.argsort(truth.seq, kind="stable")
    at = order[np.searchsorted(truth.seq[order], frame.seq)]
    n, tenth = len(at), len(at) // 10
    worst = np.zeros(n, dtype=bool)
    worst[np.argsort(-truth.harm[at])[:tenth]] = True
    scores = truth.mean_score[at]
    rankings = {
        "experience": frame.p_bad,
        "mean_score": -np.where(np.isnan(scores), np.nanmean(scores), scores),
        "latency": np.where(np.isnan(frame.latency_ms), np.nanmedian(frame.latency_ms), frame.latency_ms),
        "thumbs": -np.where(np.isnan(frame.thumb), 0.5, frame.thumb),
    }
    found = {}
    for name, values in rankings.items():
        first = np.lexsort((source.random(n), -values))[:tenth]
        found[name] = float(worst[first].mean())
    return found


def figures(sights: Sequence[Sight], quiet: Sequence[tuple[str, ...]]) -> list[Figure]:
    """Return the issue's figures."""
    rows: list[Figure] = []
    found = [(one, max(5, len(sight.judged.found))) for sight in sights for one in sight.judged.found]
    rows += _of_incidents(found)
    largest = [
        one.place == 0 for sight in sights for one in _clearly_largest(sight.judged.found) if one is not None
    ]
    rows.append(
        _goal("largest_first", np.mean(largest) if largest else None, ">= 0.9 where twice the next", 0.9)
    )
    rows.append(Figure("weeks_with_a_clearly_largest", len(largest)))
    false = sum(len(claimed) for claimed in quiet) / len(quiet) if quiet else None
    rows.append(
        Figure("false_cohorts_per_quiet_week", false, goal="<= 0.1", holds=false is not None and false <= 0.1)
    )
    rows.append(Figure("quiet_weeks", len(quiet)))
    rows.append(Figure("false_cohorts_per_eventful_week", _mean([sight.judged.false for sight in sights])))
    by = {name: _mean([sight.ranked[name] for sight in sights]) for name in sights[0].ranked}
    for name in ("mean_score", "latency", "thumbs"):
        rows.append(Figure(f"worst_tenth_recall_by_{name}", by[name]))
    best = max(value for name, value in by.items() if name != "experience" and value is not None)
    rows.append(
        Figure(
            "worst_tenth_recall_by_experience",
            by["experience"],
            floor=best,
            goal="above mean score, latency, thumbs alone",
            holds=by["experience"] is not None and by["experience"] > best,
        )
    )
    rows.append(Figure("critic_off_by_labels", _mean([sight.critic_off for sight in sights])))
    rows.append(Figure("weekly_cpu_s", max(sight.took_s for sight in sights)))
    return rows


def _of_incidents(found: Sequence[tuple[Found, int]]) -> list[Figure]:
    hits = [one for one, first in found if one.place is not None and one.place < first]
    return [
        Figure("planted_incidents", len(found)),
        _goal(
            "recall_of_planted",
            len(hits) / len(found) if found else None,
            ">= 0.85 among the first max(5, k)",
            0.85,
        ),
        _goal("condition_is_the_planted_one", _mean([one.named for one in hits]), ">= 0.8", 0.8),
        Figure("cohort_precision", _mean([one.precision for one in hits])),
        Figure("cohort_recall", _mean([one.recall for one in hits])),
    ]


def _clearly_largest(found: Sequence[Found]) -> list[Found]:
    """Return the incident that spoiled at least twice as many calls as the next; none where there is none."""
    by_size = sorted(found, key=lambda one: -one.spoiled)
    if len(by_size) >= 2 and by_size[0].spoiled >= 2 * by_size[1].spoiled:
        return by_size[:1]
    return []


def _goal(name: str, value: float | None, goal: str, least: float) -> Figure:
    return Figure(name, value, goal=goal, holds=value is not None and value >= least)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _say(sight: Sight) -> None:
    judged = sight.judged
    print(f"seed {sight.seed}: {len(judged.found)} planted, {judged.cohorts} cohorts", flush=True)
    for one in judged.found:
        place = "missed" if one.place is None else f"cohort {one.place + 1}"
        name = "" if one.place is None or one.named else f", called {one.said}"
        print(f"  {place}: {one.kind}, {one.spoiled} of {one.calls} calls ({one.right}){name}")
    for said in judged.false_said:
        print(f"  not planted: {said}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
