"""Following cases: does the fix hold, and does a closed case stay closed?

Flow: `week_case` rows with a fix -> `follow_cases` once a day -> outliers.casework.proof +
outliers.casework.comparable -> outliers.casework.verification.judge -> `week_case.verdict`, status and
history. A proven fix closes its case; a closed case is watched for a year and reopens by itself when the rate
returns.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from sqlalchemy import Connection, func, select, update

from ingest.settings import Settings
from ingest.store import Store
from ingest.tables import LatencyCount, Slice, columns
from outliers.casework.cases import LOWLIGHT, Case, Event, Proof, kept_case, note_event
from outliers.casework.comparable import Measure, measure_for, usual_p95_ms
from outliers.casework.proof import (
    WEEKS_BACK,
    After,
    Gathered,
    NothingComesBack,
    Read,
    Trouble,
    gather,
    gather_recent,
)
from outliers.casework.spell_over import it_was_over, nothing_comes_back, over_before_fix
from outliers.casework.verification import HORIZON_DAYS, Outcomes, Verdict, judge, returned, spread_per_call
from outliers.cohorts.text_columns import add_words
from outliers.conditions import Condition
from outliers.experience.fit import weights_in_use
from outliers.frame import DAY_MS, Ints, WeekCalls, week_calls
from outliers.latency.tails import HOUR_MS
from outliers.tables import WeekCase
from outliers.weeks import Week, week_before, week_by_id, week_of, weeks_between

_case, _slice, _count = columns(WeekCase), columns(Slice), columns(LatencyCount)

#: A case is looked at once a day: a look reads weeks of calls, and its sequence counts every look.
EVERY_MS = DAY_MS
#: A closed case is watched for so long, by its calls of the newest week that have settled.
WATCHED_DAYS = 365
RECENT_DAYS = 7
#: Cases looked at in one run at most; the rest waits for the next one.
CASES_MAX = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Watch:
    """What a closed case is watched by, as it was when its fix was proven.

    Attributes:
        before, rest_before: mean badness under the condition and of the rest while it was in trouble.
        spread: variance of the mean under the condition times its calls.
        after: which calls count since the fix.
        sources: what both sides were judged by, as `outliers.casework.comparable.Measure.sources`.
    """

    before: float
    rest_before: float
    spread: float
    after: After
    sources: tuple[tuple[str, str, str], ...]


def follow_cases(store: Store, settings: Settings, rubric_weights: Mapping[str, float], now_ms: int) -> int:
    """Look at the cases that are due; return how many were.

    Raises:
        WriterBusy: the writer has too much to do; what is not written is looked at again next time.
        StoreUnavailable: the database could not be read or written.
    """
    with store.read() as connection:
        due = due_cases(connection, now_ms)
    follower = _Follower(store, settings, rubric_weights, now_ms)
    for project_id, week_id in due[:CASES_MAX]:
        with store.read() as connection:
            case = kept_case(connection, project_id, week_id)
            watch = _watch_of(connection, project_id, week_id)
        if case is None or case.fix is None:
            continue
        if case.status == "verified":
            follower.watch(project_id, case, watch)
        else:
            follower.prove(project_id, case)
    return len(due[:CASES_MAX])


def due_cases(connection: Connection, now_ms: int) -> list[tuple[int, str]]:
    """Return (project, week) of the cases to look at now, those never looked at first."""
    rows = connection.execute(
        select(_case.c.project_id, _case.c.week, _case.c.followed_at_ms, _case.c.closed_at_ms)
        .where(_case.c.status.in_(("fixed", "verified")))
        .order_by(_case.c.week.desc())
    ).all()
    due = [
        row
        for row in rows
        if (row.followed_at_ms is None or row.followed_at_ms <= now_ms - EVERY_MS)
        and (row.closed_at_ms is None or row.closed_at_ms > now_ms - WATCHED_DAYS * DAY_MS)
    ]
    return [(row.project_id, row.week) for row in sorted(due, key=lambda row: row.followed_at_ms or 0)]


class _Follower:
    """One run over cases; the newest weeks are read once for all of them."""

    def __init__(
        self, store: Store, settings: Settings, rubric_weights: Mapping[str, float], now_ms: int
    ) -> None:
        self._store, self._settings = store, settings
        self._rubric_weights, self._now_ms = rubric_weights, now_ms
        self._newest: dict[tuple[int, str], WeekCalls] = {}

    def prove(self, project_id: int, case: Case) -> None:
        """Look at the calls since a fix, and keep what they show."""
        found = self._gathered(project_id, case)
        if found is None:
            proof = Proof(nothing_comes_back(), self._now_ms, 0, ())
            self._keep(project_id, case, proof, None)
            return
        gathered, sources = found
        assert case.fix is not None
        verdict = judge(gathered.sides, (self._now_ms - case.fix.at_ms) / DAY_MS)
        ended_ms = over_before_fix(case, week_by_id(case.week, self._settings.zone))
        if ended_ms is not None:
            verdict = it_was_over(verdict, case, gathered.sides.after, ended_ms, self._settings.zone)
        if gathered.not_comparable:
            verdict = replace(verdict, sentence=_with_others(verdict.sentence, gathered.not_comparable))
        proof = Proof(verdict, self._now_ms, gathered.not_comparable, gathered.followed_by)
        self._keep(project_id, case, proof, _watch(gathered, verdict, sources))

    def watch(self, project_id: int, case: Case, watch: Watch | None) -> None:
        """Look at the newest calls of a closed case, and reopen it when its trouble is back."""
        recent = None
        if watch is not None:
            trouble = _trouble(case, self._settings)
            weeks = self._weeks(self._now_ms - (RECENT_DAYS + 2) * DAY_MS)
            with self._store.read() as connection:
                usual = usual_p95_ms(connection, project_id, trouble.week)
            measure = Measure(
                self._store,
                case.cohort.measure == "latency",
                frozenset(watch.sources),
                usual,
                self._rubric_weights,
                self._settings.signal_polarity,
                self._weights(project_id),
            )
            recent = gather_recent(
                trouble,
                watch.after,
                weeks,
                partial(self._read_week, project_id, trouble.condition),
                measure.read,
                self._now_ms - (RECENT_DAYS + 1) * DAY_MS,
                self._now_ms,
            )
        is_back = (
            watch is not None
            and recent is not None
            and returned(watch.before, watch.rest_before, recent, watch.spread)
        )
        words = _back(recent) if is_back and recent is not None else None
        job = partial(keep_watched, project_id=project_id, case=case, words=words, now_ms=self._now_ms)
        self._store.write(job)

    def _gathered(
        self, project_id: int, case: Case
    ) -> tuple[Gathered, frozenset[tuple[str, str, str]]] | None:
        trouble = _trouble(case, self._settings)
        used: list[Measure] = []

        def _measure(before: Ints) -> Read:
            measure = measure_for(
                self._store,
                project_id,
                trouble.week,
                before,
                by_latency=case.cohort.measure == "latency",
                rubric_weights=self._rubric_weights,
                polarity=self._settings.signal_polarity,
                weights=self._weights(project_id),
            )
            used.append(measure)
            return measure.read

        until_ms = min(self._now_ms, trouble.fixed_at_ms + (HORIZON_DAYS + 7) * DAY_MS)
        try:
            gathered = gather(
                trouble,
                weeks_before_fix(trouble, self._settings),
                weeks_between(trouble.fixed_at_ms, until_ms, self._settings.zone),
                partial(self._read_week, project_id, trouble.condition),
                _measure,
                self._now_ms,
            )
        except NothingComesBack:
            return None
        return gathered, used[0].sources

    def _weights(self, project_id: int) -> Mapping[str, float]:
        """Return the weights in use now, the same on both sides whatever calls were ranked with."""
        with self._store.read() as connection:
            return weights_in_use(connection, project_id)

    def _weeks(self, since_ms: int) -> list[Week]:
        return weeks_between(since_ms, self._now_ms, self._settings.zone)

    def _read_week(self, project_id: int, condition: Condition, week: Week) -> WeekCalls:
        if week.until_ms <= self._now_ms - 2 * RECENT_DAYS * DAY_MS:
            calls = week_calls(self._store, project_id, week)
        else:
            key = (project_id, week.id)
            if key not in self._newest:
                self._newest[key] = week_calls(self._store, project_id, week)
            calls = self._newest[key]
        add_words(self._store, project_id, calls, condition)
        return calls

    def _keep(self, project_id: int, case: Case, proof: Proof, watch: Watch | None) -> None:
        job = partial(keep_proof, project_id=project_id, case=case, proof=proof, watch=watch)
        self._store.write(job)


def weeks_before_fix(trouble: Trouble, settings: Settings) -> list[Week]:
    """Return the weeks with calls before the fix, newest first."""
    zone = settings.zone
    first = trouble.week
    for _ in range(WEEKS_BACK):
        first = week_before(first, zone)
    fixed_in = max(week_of(trouble.fixed_at_ms, zone).until_ms, trouble.week.until_ms)
    return weeks_between(first.since_ms, fixed_in, zone)[::-1]


def keep_proof(
    connection: Connection, project_id: int, case: Case, proof: Proof, watch: Watch | None
) -> None:
    """Write job: keep what the calls since a fix show; a proven fix closes its case.

    What was looked at may have changed meanwhile: another fix was entered, or a person reopened the case.
    """
    now = kept_case(connection, project_id, case.week)
    if now is None or now.fix != case.fix or now.status != "fixed":
        return
    closes = proof.verdict.verdict == "fixed"
    values: dict[str, Any] = {
        "verdict": asdict(proof),
        "watch": None if watch is None else asdict(watch),
        "followed_at_ms": proof.at_ms,
    }
    if closes:
        values |= {"status": "verified", "closed_at_ms": proof.at_ms}
    connection.execute(
        update(_case).where(_case.c.project_id == project_id, _case.c.week == case.week).values(**values)
    )
    before = None if now.proof is None else now.proof.verdict.verdict
    if closes:
        event = Event(case.week, proof.at_ms, LOWLIGHT, "verified", proof.verdict.sentence)
        note_event(connection, project_id, event)
    elif before != proof.verdict.verdict:
        event = Event(case.week, proof.at_ms, LOWLIGHT, "verdict", proof.verdict.sentence)
        note_event(connection, project_id, event)


def keep_watched(connection: Connection, project_id: int, case: Case, words: str | None, now_ms: int) -> None:
    """Write job: note that a closed case was looked at; with words, reopen it."""
    now = kept_case(connection, project_id, case.week)
    if now is None or now.status != "verified":
        return
    values: dict[str, Any] = {"followed_at_ms": now_ms}
    if words is not None:
        values |= {"status": "reopened", "fix": None, "watch": None, "closed_at_ms": None}
        note_event(connection, project_id, Event(case.week, now_ms, LOWLIGHT, "reopened", words))
    connection.execute(
        update(_case).where(_case.c.project_id == project_id, _case.c.week == case.week).values(**values)
    )


def _trouble(case: Case, settings: Settings) -> Trouble:
    assert case.fix is not None
    return Trouble(
        condition=case.cohort.condition,
        week=week_by_id(case.week, settings.zone),
        found_among=case.cohort.found_among,
        fixed_at_ms=case.fix.at_ms,
        prompt_version=case.fix.prompt_version,
        release=case.fix.release,
    )


def _watch(gathered: Gathered, verdict: Verdict, sources: frozenset[tuple[str, str, str]]) -> Watch | None:
    if verdict.before is None or verdict.rest_before is None:
        return None
    spread = spread_per_call(gathered.sides.before)
    return Watch(verdict.before, verdict.rest_before, spread, gathered.after, tuple(sorted(sources)))


def _watch_of(connection: Connection, project_id: int, week_id: str) -> Watch | None:
    kept = connection.execute(
        select(_case.c.watch).where(_case.c.project_id == project_id, _case.c.week == week_id)
    ).scalar_one_or_none()
    if kept is None:
        return None
    after = kept["after"]
    names = {name: tuple(after[name]) for name in ("allowed", "known_before", "prompts")}
    sources = tuple((rubric, blob, critic) for rubric, blob, critic in kept["sources"])
    return Watch(
        kept["before"],
        kept["rest_before"],
        kept["spread"],
        After(**names, takes_new=after["takes_new"]),
        sources,
    )


def _with_others(sentence: str, n: int) -> str:
    return (
        f"{sentence} {n:,} more calls since the fix were judged by another rubric version or critic, "
        "or not yet, and are not compared."
    )


def _back(recent: Outcomes) -> str:
    share = f"{float(recent.y.mean()):.0%}".replace("%", " %")
    return f"The trouble is back: {share} bad in the {len(recent):,} calls of the last seven days."


def first_used_ms(
    connection: Connection, project_id: int, case: Case, prompt_version: str | None, release: str | None
) -> int | None:
    """Return the hour in which a prompt version or release that is newer than the trouble was first used.

    None where neither is given, it was in use before (a rollback), or no call has it yet.
    """
    if prompt_version is None and release is None:
        return None
    named = [_slice.c.project_id == project_id]
    if prompt_version is not None:
        prompt, _, version = prompt_version.rpartition("@")
        prompts = prompt or next(
            (
                str(part.value).rpartition("@")[0] if part.field == "prompt_version" else str(part.value)
                for part in case.cohort.condition.parts
                if part.field in ("prompt", "prompt_version")
            ),
            "",
        )
        named.append(_slice.c.prompt_version == version)
        if prompts:
            named.append(_slice.c.prompt == prompts)
    if release is not None:
        named.append(_slice.c.release == release)
    slices = list(connection.execute(select(_slice.c.id).where(*named)).scalars())
    hour = connection.execute(select(func.min(_count.c.hour)).where(_count.c.slice_id.in_(slices))).scalar()
    if hour is None or hour * HOUR_MS <= case.cohort.first_seen_at_ms:
        return None
    return int(hour * HOUR_MS)
