"""False alarms and finds of provider spells on traffic like the public traces: `make bench BENCH=spells`.

Flow: arrivals of traces_servegen and ratios of slow to usual of traces_llmperf -> months of counted calls of
20 slices, without a store -> outliers.latency.spells.find_spells week by week -> alarms a month where nothing
happened, and the share of doubled latencies of two hours that are found.

A month of one project: 5 services of 2 providers, 4 prompts each, in a rhythm of days and weeks that is also
the latencies' own (a busy hour is slower), few calls at night, and hours that differ by some 5 % from one
another for no reason anybody knows.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from ingest.latency import BUCKETS_PER_DOUBLING
from outliers.latency.past import Counts
from outliers.latency.spells import Spell, find_spells
from outliers.weeks import Week, week_by_id
from tests.bench.figures import Figure, options, report
from tests.bench.incidents_shapes import Shapes, read_shapes

HOUR_MS = 3_600_000
SERVICES = (
    ("aurora", "large"),
    ("aurora", "small"),
    ("aurora", "mini"),
    ("peregrine", "8b"),
    ("peregrine", "70b"),
)
PROMPTS = 4
WEEKS_BEFORE, WEEKS_JUDGED = 4, 4
HOURS = 168 * (WEEKS_BEFORE + WEEKS_JUDGED)
MONTH_HOURS = 720
FIRST = week_by_id("2026-W10", ZoneInfo("UTC")).since_ms // HOUR_MS

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Month:
    """Calls of one project: one row each; `hour` from 0, latency in milliseconds."""

    unit: NDArray[np.int64]
    slice: NDArray[np.int64]
    hour: NDArray[np.int64]
    latency_ms: Floats

    def week(self, number: int) -> tuple[Counts, Week]:
        """Count a week, and the four before it, as ingest does."""
        since = 168 * number
        kept = (self.hour >= since - 672) & (self.hour < since + 168)
        bucket = np.ceil(np.log2(self.latency_ms[kept]) * BUCKETS_PER_DOUBLING).astype(np.int64) - 1
        rows = np.stack([self.unit[kept], self.slice[kept], self.hour[kept] + FIRST, bucket], axis=1)
        rows, n = np.unique(rows, axis=0, return_counts=True)
        counts = Counts(
            *(rows[:, i] for i in range(4)), n.astype(np.int64), np.ones(len(n), dtype=np.bool_), SERVICES
        )
        start = (FIRST + since) * HOUR_MS
        return counts, Week(f"week {number}", start, start + 168 * HOUR_MS)


def draw_month(source: np.random.Generator, shapes: Shapes, calls: int) -> Month:
    """Draw eight weeks in which nothing happens.

    Args:
        calls: of a week, on average.
    """
    # two weeks of ten-minute windows in the trace, told as hours and repeated
    rhythm = np.tile(shapes.arrivals.reshape(-1, 6).sum(axis=1), HOURS // 336 + 1)[:HOURS]
    rhythm = rhythm / rhythm.mean()
    load = rhythm * source.gamma(6, 1 / 6, HOURS)
    hour = source.choice(HOURS, calls * HOURS // 168, p=load / load.sum())
    share = source.dirichlet(np.full(len(SERVICES) * PROMPTS, 0.8))
    slice_ = source.choice(len(share), len(hour), p=share)
    unit = slice_ // PROMPTS
    weather = np.zeros((len(SERVICES), HOURS))
    noise = source.normal(0, 0.05, weather.shape)
    for at in range(1, HOURS):
        weather[:, at] = 0.6 * weather[:, at - 1] + 0.8 * noise[:, at]
    busy = source.uniform(0, 0.25, len(SERVICES))[:, None] * np.log(0.3 + rhythm)[None, :]
    usual = source.lognormal(7, 0.7, len(share))
    tails = [
        source.choice(shapes.slowness[i % len(shapes.slowness)], len(hour)) for i in range(len(SERVICES))
    ]
    spread = source.lognormal(0, source.uniform(0.2, 0.7, len(share))[slice_])
    factor = np.exp(weather[unit, hour] + busy[unit, hour]) * np.choose(unit, tails) * spread
    return Month(unit, slice_, hour, np.maximum(1.0, usual[slice_] * factor))


def doubled(
    source: np.random.Generator, month: Month, number: int
) -> tuple[Month, tuple[int, int, int]] | None:
    """Double one service's latency for two hours of a week that hold 60 to 200 of its calls.

    Returns:
        the month, and the service, the first hour, the calls; None where no two hours hold as many.
    """
    table = np.bincount(month.unit * HOURS + month.hour, minlength=len(SERVICES) * HOURS).reshape(-1, HOURS)
    calls = table[:, :-1] + table[:, 1:]
    calls[:, : 168 * number] = calls[:, 168 * number + 167 :] = 0
    places = np.argwhere((calls >= 60) & (calls < 200)).tolist()
    if not places:
        return None
    unit, hour = places[int(source.integers(len(places)))]
    slow = (month.unit == unit) & (month.hour >= hour) & (month.hour < hour + 2)
    slowed = replace(month, latency_ms=np.where(slow, 2, 1) * month.latency_ms)
    return slowed, (unit, hour, int(calls[unit, hour]))


def alarms(month: Month) -> Iterator[Spell]:
    """Yield what is found in the judged weeks."""
    for number in range(WEEKS_BEFORE, WEEKS_BEFORE + WEEKS_JUDGED):
        yield from find_spells(*month.week(number), ZoneInfo("UTC"))


def found(month: Month, planted: tuple[int, int, int], number: int) -> bool:
    """Whether a planted spell is among those found: its service or provider, and an hour of it."""
    unit, hour, _n = planted
    provider, model = SERVICES[unit]
    return any(
        spell.provider == provider
        and spell.model in (model, "")
        and spell.since_ms < (FIRST + hour + 2) * HOUR_MS
        and spell.until_ms > (FIRST + hour) * HOUR_MS
        for spell in find_spells(*month.week(number), ZoneInfo("UTC"))
    )


def main() -> None:
    """Draw, look, print."""
    asked = _asked()
    shapes = read_shapes(asked.data)
    false, hits, planted = 0, 0, 0
    for turn in range(asked.projects):
        source = np.random.default_rng([asked.seed, turn])
        month = draw_month(source, shapes, int(source.choice([3_000, 10_000, 30_000])))
        said = list(alarms(month))
        false += len(said)
        for spell in said:
            print(f"  project {turn}: {spell.sentence}", flush=True)
        for number in range(WEEKS_BEFORE, WEEKS_BEFORE + WEEKS_JUDGED):
            slow = doubled(source, month, number)
            if slow is not None:
                planted += 1
                hits += found(*slow, number)
    months = asked.projects * WEEKS_JUDGED * 168 / MONTH_HOURS
    report(
        "spells",
        [
            Figure("project_months", round(months, 1)),
            Figure(
                "false_alarms_a_month",
                false / months,
                goal="at most one false alarm a month and project over all slices",
                holds=false / months <= 1,
            ),
            Figure("doubled_for_two_hours", planted),
            Figure(
                "found_share",
                hits / planted if planted else None,
                goal="a doubled latency for two hours with at least 60 calls is found",
                holds=bool(planted) and hits / planted >= 0.95,
            ),
        ],
    )


def _asked() -> argparse.Namespace:
    parser = options(__doc__ or "")
    parser.add_argument("--projects", type=int, default=60, help="projects of four weeks each (default 60)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
