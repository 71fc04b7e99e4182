"""Whether a verdict on a fix is right, looked at every day: part of `make bench BENCH=incidents`.

Flow: incidents_world, incidents_traffic (weeks of calls) -> trouble that lasts until its fix, or does not
end -> the product's own search nominates the week's cohort -> the product's own `gather` and `judge`, once a
day for six weeks -> figures.

What could fool a verdict is in it: the cohort is the most extreme of its week; after the fix there are more
or fewer calls, other languages and prompts, and all calls go better or worse; versions and releases change
by themselves; the same people come back. A fifth of the cases are nothing but the extreme of a quiet week.

    .venv/bin/python -m tests.bench.incidents_verdicts --verdicts 200
"""

import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from zoneinfo import ZoneInfo

import numpy as np

from outliers.casework.proof import WEEKS_BACK, Trouble, gather
from outliers.casework.verification import judge
from outliers.cohorts.candidates import holds
from outliers.cohorts.discovery import discover
from outliers.cohorts.questions import about_bad
from outliers.conditions import Condition
from outliers.frame import DAY_MS, Floats, Ints, Mask, Names, WeekCalls, held_back
from outliers.weeks import Week, week_after, week_by_id
from tests.bench.figures import Figure, options, report
from tests.bench.incidents_shapes import Shapes, read_shapes
from tests.bench.incidents_traffic import Traffic, draw_week
from tests.bench.incidents_world import LANGUAGES, MODELS, PROMPTS, REGIONS, TENANTS, TOOLS, World, make_world

VERDICTS = 200
CALLS = 6_000
#: Weeks with calls before the case's own, and after it.
WEEKS_BEFORE, WEEKS_AFTER = WEEKS_BACK, 6
#: Share of the cases that are an extreme of a quiet week, with no fix; half of the rest are fixed.
EXTREME_SHARE = 0.2
#: Drawn again where the week's first cohort is another one than what was planted.
TRIES_MAX = 12
_ZONE = ZoneInfo("UTC")
_FIRST = week_by_id("2026-W10", _ZONE)


@dataclass(frozen=True)
class Looked:
    """One case and what was said of it.

    Attributes:
        what: "fixed" (a fix that works), "unfixed" (one that does not) or "extreme" (nothing was wrong).
        verdict: the first one that was not "too early"; "too_early" where none came in all weeks.
        days: after how many days it came.
        ever_fixed: whether "fixed" was said on any day.
        last: what was said on the last day.
        first_needed: "about so many more calls" on the third day.
        needed: calls that it took.
        naive: whether comparing the case's own week with the next by a 95 % interval says "fixed".
    """

    what: str
    verdict: str
    days: int
    ever_fixed: bool
    last: str
    first_needed: int | None
    needed: int
    naive: bool


def main() -> None:
    """Judge the cases on all cores given, print what was said."""
    parser = options(__doc__ or "")
    parser.add_argument("--verdicts", type=int, default=VERDICTS, help="cases judged (default 200)")
    parser.add_argument("--calls", type=int, default=CALLS, help="calls of a week (default 6,000)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: one a core")
    asked = parser.parse_args()
    found = verdicts(read_shapes(asked.data), asked.seed, asked.verdicts, asked.calls, asked.processes)
    report("incidents_verdicts", figures(found))


def verdicts(
    shapes: Shapes, seed: int = 0, count: int = VERDICTS, calls: int = CALLS, processes: int = 1
) -> list[Looked]:
    """Draw and judge `count` cases."""
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(partial(one_case, shapes, seed, calls, count), range(count)))


def figures(found: Sequence[Looked]) -> list[Figure]:
    """Return what the issue asks of verdicts, and how long they took."""
    told = [one for one in found if one.verdict != "too_early"]
    right = [one for one in told if one.verdict in _RIGHT[one.what]]
    without = [one for one in found if one.what != "fixed"]
    naive = [one for one in without if one.naive]
    days = {what: [one.days for one in told if one.what == what] for what in ("fixed", "unfixed")}
    wrong = Counter(f"{one.what}: {one.verdict}" for one in told if one.verdict not in _RIGHT[one.what])
    for what, n in wrong.most_common():
        print(f"wrong verdicts, {what}: {n}")
    share = len(right) / max(1, len(told))
    false = sum(one.ever_fixed for one in without) / max(1, len(without))
    told_right = "right in at least 95 %"
    rarely = '"fixed" without a fix in at most 3 %'
    guessed = [
        abs(math.log2(max(1, one.first_needed) / max(1, one.needed)))
        for one in told
        if one.first_needed is not None and one.needed
    ]
    return [
        Figure("verdicts", len(found)),
        Figure("verdicts_right", share, goal=told_right, holds=share >= 0.95),
        Figure("fixed_without_a_fix", false, goal=rarely, holds=false <= 0.03),
        Figure("fixed_without_a_fix_of_a_week_against_the_next", len(naive) / max(1, len(without))),
        Figure("too_early_after_six_weeks", 1 - len(told) / max(1, len(found))),
        *(
            Figure(f"days_until_{what}_median", float(np.median(n)) if n else None)
            for what, n in days.items()
        ),
        Figure("calls_needed_off_by_doublings_median", float(np.median(guessed)) if guessed else None),
    ]


_RIGHT = {"fixed": ("fixed",), "unfixed": ("no_change",), "extreme": ("no_change",)}


@dataclass
class _Weeks:
    """The weeks of one application as the product's columns, with a reading for each call."""

    frames: dict[str, WeekCalls] = field(default_factory=dict)
    y: list[Floats] = field(default_factory=list)
    who: list[Ints] = field(default_factory=list)
    n: int = 0

    def add(self, week: Week, traffic: Traffic, source: np.random.Generator) -> WeekCalls:
        """Keep a week; `seq` numbers the calls of all weeks."""
        y = _reading(traffic, source)
        frame = _frame(week, traffic, y, self.n)
        self.frames[week.id] = frame
        self.y.append(y)
        self.who.append(traffic.user)
        self.n += len(traffic)
        return frame

    def read(self, seqs: Ints) -> tuple[Floats, list[str]]:
        """See `outliers.casework.proof.Read`."""
        return np.concatenate(self.y)[seqs], [str(who) for who in np.concatenate(self.who)[seqs].tolist()]


Site = Callable[[Traffic], Mask]


def one_case(shapes: Shapes, seed: int, calls: int, count: int, place: int) -> Looked:
    """Draw one application with its trouble, let the product nominate, and look every day."""
    what = "extreme" if place < EXTREME_SHARE * count else ("fixed", "unfixed")[place % 2]
    for again in range(TRIES_MAX):
        source = np.random.default_rng([seed, place, again])
        looked = _try(shapes, source, calls, what)
        if looked is not None:
            return looked
    raise RuntimeError(f"case {place} of seed {seed}: nothing was nominated in {TRIES_MAX} weeks")


def _try(shapes: Shapes, source: np.random.Generator, calls: int, what: str) -> Looked | None:
    world = make_world(source, shapes)
    season = _Season(source, calls)
    trouble = None if what == "extreme" else _Planted(source, world, what == "fixed")
    weeks, week, kept = [_FIRST], _FIRST, _Weeks()
    while len(weeks) < WEEKS_BEFORE + 1 + WEEKS_AFTER:
        week = week_after(week, _ZONE)
        weeks.append(week)
    case_week = weeks[WEEKS_BEFORE]
    fixed_at_ms = case_week.until_ms + int(source.uniform(0.2, 5) * DAY_MS)
    if trouble is not None:
        began_ms = case_week.since_ms + int(source.uniform(0, 4) * DAY_MS)
        if source.random() < 0.3:  # lasting trouble that a person takes on
            began_ms = weeks[0].since_ms
        trouble.lasts(began_ms, fixed_at_ms)
    condition, found_among = None, ""
    for number, week in enumerate(weeks):
        n = calls if number <= WEEKS_BEFORE else season.calls
        traffic = draw_week(world, shapes, source, number, week.since_ms, n)
        season.change(traffic, source, fixed_at_ms)
        if trouble is not None:
            trouble.plant(traffic, source)
        traffic.settle(world, source)
        frame = kept.add(week, traffic, source)
        if week is case_week:
            condition, found_among = _nominated(frame) if trouble is not None else _extreme(frame)
            if condition is None or (trouble is not None and not trouble.is_meant(condition, traffic, frame)):
                return None
    assert condition is not None
    version = None if trouble is None else trouble.version_after
    given = Trouble(condition, case_week, found_among, fixed_at_ms, version)
    return _look(given, weeks, kept, what)


def _look(trouble: Trouble, weeks: Sequence[Week], kept: _Weeks, what: str) -> Looked:
    """Look every day until the weeks end."""
    before = [week for week in weeks if week.since_ms < trouble.fixed_at_ms][::-1]
    after = [week for week in weeks if week.until_ms > trouble.fixed_at_ms]
    first, days, needed_n, first_needed = "too_early", 0, 0, None
    ever_fixed, last = False, "too_early"
    for day in range(1, (weeks[-1].until_ms - trouble.fixed_at_ms) // DAY_MS):
        now_ms = trouble.fixed_at_ms + day * DAY_MS
        seen = gather(
            trouble,
            before,
            [week for week in after if week.since_ms < now_ms],
            lambda week: kept.frames[week.id],
            lambda _before: kept.read,
            now_ms,
        )
        verdict = judge(seen.sides, day)
        last = verdict.verdict
        if day == 3:
            first_needed = None if verdict.calls_needed is None else verdict.n_after + verdict.calls_needed
        ever_fixed = ever_fixed or last == "fixed"
        if first == "too_early" and last != "too_early":
            first, days, needed_n = last, day, verdict.n_after
        if last == "fixed":  # closes the case
            break
    naive = _naive(trouble, kept, week_after(trouble.week, _ZONE))
    return Looked(what, first, days, ever_fixed, last, first_needed, needed_n, naive)


def _naive(trouble: Trouble, kept: _Weeks, later: Week) -> bool:
    """Compare the case's own week with the next one, as one would without thinking."""
    was, is_now = (kept.frames[week.id] for week in (trouble.week, later))
    bad = [calls.p_bad[holds(trouble.condition, calls)] for calls in (was, is_now)]
    if min(map(len, bad)) < 2:
        return False
    spread = math.sqrt(sum(values.var() / len(values) for values in bad))
    return bool(bad[0].mean() - bad[1].mean() > 1.96 * spread)


class _Season:
    """What changes after the fix for other reasons: how many calls come, of which kind, how they go."""

    def __init__(self, source: np.random.Generator, calls: int) -> None:
        self.calls = int(calls * source.uniform(0.7, 1.4))
        self._bad = float(source.uniform(0.7, 1.4))
        self._rare_language = int(source.integers(len(LANGUAGES)))
        self._rare_prompt = int(source.integers(len(PROMPTS)))

    def change(self, traffic: Traffic, source: np.random.Generator, since_ms: int) -> None:
        """Turn the season in the calls since the fix."""
        later = traffic.started_ms >= since_ms
        weekend = (traffic.started_ms // DAY_MS + 3) % 7 >= 5
        traffic.p_bad[later] = np.minimum(0.6, traffic.p_bad[later] * self._bad)
        traffic.p_bad[weekend] = np.minimum(0.6, traffic.p_bad[weekend] * 1.3)
        rare = (traffic.language == self._rare_language) | (traffic.prompt == self._rare_prompt)
        moved = later & rare & (source.random(len(traffic)) < 0.5)
        others = np.nonzero(later & ~rare)[0]
        if len(others) and moved.any():
            taken = source.choice(others, int(moved.sum()))
            for name in ("language", "prompt", "model", "tool", "input_tokens", "p_bad", "prompt_version"):
                getattr(traffic, name)[moved] = getattr(traffic, name)[taken]


class _Planted:
    """One lasting trouble and where it is."""

    def __init__(self, source: np.random.Generator, world: World, works: bool) -> None:
        self.works = works
        self.raised = float(source.uniform(0.3, 0.8))
        self.kind = str(source.choice(["version", "tenant", "region", "language", "long", "tool", "release"]))
        self.prompt = int(source.choice(len(PROMPTS), p=world.prompt_share))
        self.tenant = int(source.integers(TENANTS))
        self.region = int(source.integers(len(REGIONS)))
        self.language = int(source.integers(1, len(LANGUAGES)))
        self.tool = int(source.integers(len(TOOLS)))
        self.tokens = float(source.uniform(3000, 9000))
        # of the fixes that do not work, half come with a version of their own
        self.version_after = "v91" if self.kind == "version" and (works or source.random() < 0.5) else None

    def lasts(self, began_ms: int, fixed_at_ms: int) -> None:
        """Say when it begins and when its fix is entered."""
        self.began_ms, self.fixed_at_ms = began_ms, fixed_at_ms

    def plant(self, traffic: Traffic, source: np.random.Generator) -> None:
        """Spoil a week's calls."""
        since = traffic.started_ms >= self.began_ms
        later = traffic.started_ms >= self.fixed_at_ms
        if self.kind == "version":
            mine = since & (traffic.prompt == self.prompt)
            traffic.prompt_version[mine] = np.where(later[mine] & (self.version_after is not None), 91, 90)
        elif self.kind == "release":
            traffic.release[since] = np.where(later[since] & self.works, 91, 90)
            since = since & (traffic.prompt == self.prompt)
        exposed = since & self._site(traffic)
        if self.works:
            exposed &= ~later
        hit = exposed & (source.random(len(traffic)) < self.raised)
        traffic.kind[hit] = "refusal"

    def is_meant(self, condition: Condition, traffic: Traffic, frame: WeekCalls) -> bool:
        """Whether a condition holds for the calls that were hit, more or less."""
        hit = self._site(traffic) & (traffic.started_ms >= self.began_ms)
        said = holds(condition, frame) & (traffic.started_ms >= self.began_ms)
        return int((hit & said).sum()) > 0.5 * int((hit | said).sum()) and int(hit.sum()) >= 60

    def _site(self, traffic: Traffic) -> Mask:
        sites: dict[str, Mask] = {
            "version": traffic.prompt == self.prompt,
            "release": traffic.prompt == self.prompt,
            "tenant": traffic.tenant == self.tenant,
            "region": traffic.region == self.region,
            "language": traffic.language == self.language,
            "long": traffic.input_tokens > self.tokens,
            "tool": traffic.tool == self.tool,
        }
        return np.asarray(sites[self.kind])


def _nominated(frame: WeekCalls) -> tuple[Condition | None, str]:
    """Return what the product's search puts first, and which half found it."""
    found = discover(frame, about_bad(frame))
    # hours of one week do not come back, and no fix of theirs can be proven
    lasting = [one for one in found if all(part.op != "within" for part in one.condition.parts)]
    if not lasting:
        return None, ""
    return lasting[0].condition, str(getattr(lasting[0], "found_among", "both"))


def _extreme(frame: WeekCalls) -> tuple[Condition | None, str]:
    """Return the tenant, language, prompt or model that looks worst to one half of a quiet week's people."""
    finders = ~frame.held_back
    most, worst = 0.0, None
    for key, column in frame.named.items():
        n = np.bincount(column.codes[finders] + 1, minlength=len(column.names) + 1)[1:]
        bad = np.bincount(
            column.codes[finders] + 1, weights=frame.p_bad[finders], minlength=len(column.names) + 1
        )[1:]
        for code in np.nonzero(n >= 60)[0].tolist():
            if bad[code] / n[code] > most:
                most = float(bad[code] / n[code])
                field_name, tag = key
                worst = Condition(field_name, "=", column.names[code], tag if field_name == "tag" else "")
    return worst, "others"


def _reading(traffic: Traffic, source: np.random.Generator) -> Floats:
    """Return P(bad) as a critic that is off by a label or so would give it."""
    n = len(traffic)
    bad = traffic.kind != ""
    missed = source.random(n) < np.where(bad, 0.12, 0.03)
    return np.where(bad != missed, source.beta(6, 3, n), source.beta(0.5, 12, n))


def _frame(week: Week, traffic: Traffic, y: Floats, first: int) -> WeekCalls:
    """Return a week as the product's columns."""
    n = len(traffic)
    versions = np.array(
        [f"{PROMPTS[p][0]}@v{v}" for p, v in zip(traffic.prompt, traffic.prompt_version, strict=True)]
    )
    named = {
        ("prompt", ""): _coded(traffic.prompt, [name for name, _trace in PROMPTS]),
        ("model", ""): _coded(traffic.model, [model for _provider, model in MODELS]),
        ("input_language", ""): _coded(traffic.language, list(LANGUAGES)),
        ("prompt_version", ""): _named(versions),
        ("release", ""): _named(np.array([f"2.{number}" for number in traffic.release.tolist()])),
        ("tag", "tenant"): _coded(traffic.tenant, [f"t{number}" for number in range(TENANTS)]),
        ("tag", "region"): _coded(traffic.region, list(REGIONS)),
    }
    for place, tool in enumerate(TOOLS):
        named["tool", tool] = Names(np.where(traffic.tool == place, 0, -1), (tool,))
    halves = {user: held_back(str(user)) for user in np.unique(traffic.user).tolist()}
    nothing = np.full(n, np.nan)
    return WeekCalls(
        week=week,
        seq=np.arange(first, first + n),
        started_at_ms=traffic.started_ms,
        p_bad=y,
        latency_ms=traffic.latency_ms,
        cost_usd=nothing,
        weight=np.ones(n),
        judged_for=np.ones(n),
        people=traffic.user,
        has_user=np.ones(n, dtype=np.bool_),
        held_back=np.array([halves[user] for user in traffic.user.tolist()]),
        answered=np.ones(n, dtype=np.bool_),
        failed=np.zeros(n, dtype=np.bool_),
        thumb=nothing,
        named=named,
        numbers={
            "input_tokens": traffic.input_tokens,
            "output_tokens": traffic.output_tokens,
            "input_chars": traffic.input_tokens * 4,
            "context_chars": traffic.context_chars,
            "retries": traffic.retries.astype(np.float64),
            "user_age_days": traffic.user_age_days,
            "calls_before": np.full(n, np.inf),
        },
    )


def _coded(codes: Ints, names: Sequence[str]) -> Names:
    return Names(codes.astype(np.int64), tuple(names))


def _named(values: np.ndarray) -> Names:
    names, codes = np.unique(values, return_inverse=True)
    return Names(codes.astype(np.int64), tuple(str(name) for name in names))


if __name__ == "__main__":
    main()
