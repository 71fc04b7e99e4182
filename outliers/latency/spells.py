"""Provider spells: hours in which one provider's or service's latency left its own baseline.

Flow: `latency_count` (28 days and the week) -> outliers.latency.past -> `find_spells` -> rows of
`latency_spell` (outliers.weekly) -> the latency page, GET /v1/latency/spells.

No threshold is set by hand: a latency is compared with its own past (outliers.latency.past). The mean rank of
n calls varies by 1 / (12 n), and by as much more as it did between the service's own earlier hours (mixes,
bursts, restarts). Spans of 1 to 24 hours are tried at every hour. A spell's p-value stays below what lets
half a false alarm a month through over all spans of all services of the project, and its calls took at least
1.3 times as long: less is nobody's bad afternoon. `make bench BENCH=spells` measures both sides.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from statistics import NormalDist
from zoneinfo import ZoneInfo

import numpy as np
from sqlalchemy import Connection, delete, insert, select

from ingest.latency import BUCKETS_PER_DOUBLING, value_ms
from ingest.tables import columns
from outliers.frame import Floats
from outliers.latency.past import Clock, Counts, Past, against_past, medians
from outliers.latency.tails import HOUR_MS
from outliers.tables import LatencySpell
from outliers.weeks import Week

_kept = columns(LatencySpell)

#: Spans tried, hours.
SPANS = (1, 2, 3, 4, 6, 12, 24)
#: False alarms let through in a month of 720 hours, over all spans of all services; the goal is one.
ALARMS_A_MONTH = 0.5
#: Overlapping spans say much the same: per hour they count as so many tests.
TESTS_AN_HOUR = 4.0
#: Fewest calls of a span.
CALLS_MIN = 20
#: A spell's calls take at least this many times as long as usual.
TIMES_MIN = 1.3
_DAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")


@dataclass(frozen=True)
class Spell:
    """Some hours in which one provider's or service's answers took longer than they do at that time.

    Attributes:
        provider, model: whose; the model is "" where several of the provider's models were slow at once.
        since_ms, until_ms: its first instant, and the first after it.
        n: calls in it.
        p50_ms: their median latency.
        usual_p50_ms: what that median would have been at that hour in the weeks before.
        times: p50_ms / usual_p50_ms, by slice and hour.
        p_value: of so slow a span by chance, one span looked at.
        sentence: "openai gpt-x was 2.4x slower than its Tuesdays 14:00-16:00 (p50 1.9 s against 0.8 s,
            n 412)".
    """

    provider: str
    model: str
    since_ms: int
    until_ms: int
    n: int
    p50_ms: float
    usual_p50_ms: float
    times: float
    p_value: float
    sentence: str


def find_spells(counts: Counts, week: Week, zone: ZoneInfo) -> list[Spell]:
    """Return a week's spells, the first first; of a week that still runs those so far."""
    if not len(counts.n):
        return []
    by_service = _spells(counts, week, zone)
    providers = sorted({provider for provider, _model in counts.units})
    several = {p for p in providers if sum(provider == p for provider, _model in counts.units) > 1}
    if not several:
        return by_service
    place = np.array([providers.index(provider) for provider, _model in counts.units], dtype=np.int64)
    whole = replace(
        counts, unit=place[counts.unit], units=tuple((provider, "") for provider in providers)
    ).only(np.isin(place[counts.unit], [providers.index(p) for p in several]))
    return _told_once(by_service, _spells(whole, week, zone))


def spells_of(connection: Connection, project_id: int, since_ms: int, until_ms: int) -> list[Spell]:
    """Return the kept spells that overlap a window, the newest first."""
    rows = connection.execute(
        select(_kept.c.spell)
        .where(_kept.c.project_id == project_id, _kept.c.since_ms < until_ms)
        .order_by(_kept.c.since_ms.desc())
    ).scalars()
    return [spell for spell in (Spell(**row) for row in rows) if spell.until_ms > since_ms]


def keep_spells(connection: Connection, project_id: int, week_id: str, spells: Sequence[Spell]) -> None:
    """Write job: replace a week's spells."""
    connection.execute(delete(_kept).where(_kept.c.project_id == project_id, _kept.c.week == week_id))
    if spells:
        connection.execute(
            insert(_kept),
            [
                {"project_id": project_id, "week": week_id, "since_ms": one.since_ms, "spell": asdict(one)}
                for one in spells
            ],
        )


def _told_once(services: Sequence[Spell], providers: Sequence[Spell]) -> list[Spell]:
    """Name the provider where several of its services were slow at once, or none alone; else the one."""
    found: list[Spell] = []
    told: set[int] = set()
    for spell in providers:
        parts = [
            i
            for i, one in enumerate(services)
            if one.provider == spell.provider
            and one.since_ms < spell.until_ms
            and one.until_ms > spell.since_ms
        ]
        if len({services[i].model for i in parts}) != 1:
            found.append(spell)
            told.update(parts)
    found += [one for i, one in enumerate(services) if i not in told]
    return sorted(found, key=lambda one: (one.since_ms, one.provider, one.model))


def _spells(counts: Counts, week: Week, zone: ZoneInfo) -> list[Spell]:
    clock = Clock(int(counts.hour.min()), -(-week.until_ms // HOUR_MS), week.since_ms // HOUR_MS, zone)
    compared = against_past(counts, clock)
    if compared is None:
        return []
    counts, past = compared
    tested = np.nonzero(past.known)[0]
    if not len(tested):
        return []
    highest = NormalDist().inv_cdf(1 - ALARMS_A_MONTH / (720 * TESTS_AN_HOUR * len(tested)))
    found = []
    for unit in tested.tolist():
        for z, since, until in _spans_beyond(past, unit, clock, highest):
            spell = _spell(counts, past, unit, (since, until), z, zone)
            if spell.times >= TIMES_MIN:
                found.append(spell)
    return sorted(found, key=lambda spell: (spell.since_ms, spell.provider, spell.model))


def _spans_beyond(past: Past, unit: int, clock: Clock, highest: float) -> list[tuple[float, int, int]]:
    """Return (deviate, first hour, hour after) of this week's spans beyond `highest`, none overlapping."""
    sums = np.concatenate([[0.0], np.cumsum(past.sums[unit])])
    calls = np.concatenate([[0.0], np.cumsum(past.calls[unit])])
    start = clock.start - clock.first
    found: list[tuple[float, int, int]] = []
    for span in SPANS:
        n, total = calls[span:] - calls[:-span], sums[span:] - sums[:-span]
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.where(n > 0, total / n, 0.0)
        gauge = np.arange(len(n)) + span <= start if past.weekly else np.ones(len(n), dtype=np.bool_)
        gauge &= n >= CALLS_MIN
        between = _between(mean[gauge], n[gauge])
        z = mean / np.sqrt(1 / (12 * np.maximum(n, 1)) + between)
        beyond = np.nonzero((n >= CALLS_MIN) & (z > highest) & (np.arange(len(n)) + span > start))[0]
        found += [(float(z[i]), i + clock.first, i + span + clock.first) for i in beyond.tolist()]
    kept: list[tuple[float, int, int]] = []
    for z, since, until in sorted(found, key=lambda one: -one[0]):
        if all(until <= other_since or since >= other_until for _z, other_since, other_until in kept):
            kept.append((z, max(since, clock.start), until))
    return _joined(kept)


def _joined(spans: list[tuple[float, int, int]]) -> list[tuple[float, int, int]]:
    """Join spans that touch: one slow day is one spell."""
    joined: list[tuple[float, int, int]] = []
    for z, since, until in sorted(spans, key=lambda one: one[1]):
        if joined and since <= joined[-1][2]:
            joined[-1] = (max(z, joined[-1][0]), joined[-1][1], until)
        else:
            joined.append((z, since, until))
    return joined


def _between(mean: Floats, n: Floats) -> float:
    """Return by how much more the mean ranks of earlier spans varied than their calls explain.

    So that half, and 95 %, of them lie where half and 95 % of a normal deviate do, whichever takes more: the
    few spans that were spells themselves do not count.
    """
    if len(mean) < 8:
        return 0.0
    own = 1 / (12 * n)
    found = 0.0
    for share, square in ((0.5, 0.4549), (0.95, 3.8415)):
        low, high = 0.0, 0.25
        for _turn in range(40):
            middle = (low + high) / 2
            beyond = float(np.mean(mean**2 / (own + middle) > square))
            low, high = (middle, high) if beyond > 1 - share else (low, middle)
        found = max(found, low)
    return found


def _spell(counts: Counts, past: Past, unit: int, span: tuple[int, int], z: float, zone: ZoneInfo) -> Spell:
    since, until = span
    inside = (counts.unit == unit) & (counts.hour >= since) & (counts.hour < until)
    n = int(counts.n[inside].sum())
    nothing = np.zeros(int(inside.sum()), dtype=np.int64)
    excess = float(medians(nothing, past.excess[inside], counts.n[inside], 1)[0])
    median = float(medians(nothing, counts.bucket[inside].astype(np.float64), counts.n[inside], 1)[0])
    p50_ms, times = value_ms(int(median)), 2 ** (excess / BUCKETS_PER_DOUBLING)
    provider, model = counts.units[unit]
    name = f"{provider} {model}".strip() or "calls without a model"
    when = _when(since, until, zone, past.weekly)
    return Spell(
        provider=provider,
        model=model,
        since_ms=since * HOUR_MS,
        until_ms=until * HOUR_MS,
        n=n,
        p50_ms=p50_ms,
        usual_p50_ms=p50_ms / times,
        times=times,
        p_value=math.erfc(z / math.sqrt(2)) / 2,
        sentence=f"{name} was {times:.1f}x slower than {when} "
        f"(p50 {_seconds(p50_ms)} against {_seconds(p50_ms / times)}, n {n:,})",
    )


def _when(since: int, until: int, zone: ZoneInfo, weekly: bool) -> str:
    begin, end = (datetime.fromtimestamp(hour * 3600, UTC).astimezone(zone) for hour in (since, until))
    if not weekly:
        return f"on other days {begin:%H:%M}-{end:%H:%M}"
    if end - begin <= timedelta(hours=24) and (begin.date() == end.date() or end.hour == 0):
        return f"its {_DAYS[begin.weekday()]} {begin:%H:%M}-{end:%H:%M}"
    return f"usual from {begin:%a %H:%M} to {end:%a %H:%M}"


def _seconds(ms: float) -> str:
    return f"{ms / 1000:.1f} s" if ms >= 950 else f"{ms:.0f} ms"
