"""Keeping experiences up to date: whenever a call, signal, score or reading is new, its call is ranked anew.

Flow: cursors of `outlier_progress` -> calls that something new is known about -> outliers.experience.evidence
-> outliers.experience.parts -> rows of `experience`, written a thousand to a job through `Store.write`
together with the cursor, so that a crash between two jobs repeats work and never skips it.
"""

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import Connection, and_, func, select

from critic.tables import GuardReading, Score
from ingest.settings import Settings
from ingest.store import Store, read_counted
from ingest.tables import Call, Signal, columns
from ingest.upsert import upsert
from outliers.experience.evidence import evidence_of
from outliers.experience.fit import weights_in_use
from outliers.experience.parts import SliceMeans, parts_as_json, praise_of, rank, see
from outliers.latency.history import LatencyHistory
from outliers.tables import Experience, Progress
from outliers.weeks import week_after, week_by_id
from rubrics import BadRubric, load_rubrics

_call, _signal, _score, _guard = columns(Call), columns(Signal), columns(Score), columns(GuardReading)
_experience, _progress = columns(Experience), columns(Progress)

#: Calls ranked at once and rows written in one job: the writer is held for some 30 ms.
PAGE = 1000
#: Newest ranked calls that a fresh process reads to know what a slice's parts are on average.
MEANS_FROM = 20_000

#: Cursor name -> (what grows with each new thing, the call it is about). Values of one source never repeat.
SOURCES = {
    "calls": (_call.c.seq, _call.c.seq),
    "signals": (_signal.c.seq, _signal.c.call_seq),
    "scores": (_score.c.changed, _score.c.call_seq),
    "guard": (_guard.c.changed, _guard.c.call_seq),
}

log = logging.getLogger(__name__)


@dataclass
class Ranking:
    """What ranking needs beyond the calls; a process reads it once and keeps it.

    Attributes:
        rubric_weights: by rubric name.
        means: by project; running means of each part.
        weights: by project; what each part can do, read anew by every refresh.
    """

    settings: Settings
    rubric_weights: Mapping[str, float]
    history: LatencyHistory = field(default_factory=LatencyHistory)
    means: dict[int, SliceMeans] = field(default_factory=dict)
    weights: dict[int, Mapping[str, float]] = field(default_factory=dict)

    def weights_of(self, connection: Connection, project_id: int) -> Mapping[str, float]:
        """Return the weights that a project's calls are ranked with."""
        if project_id not in self.weights:
            self.weights[project_id] = weights_in_use(connection, project_id)
        return self.weights[project_id]

    def means_of(self, project_id: int) -> SliceMeans:
        """Return the running means of one project."""
        return self.means.setdefault(project_id, SliceMeans(self.settings.base_rate))


@dataclass(frozen=True)
class Refreshed:
    """What one refresh did.

    Attributes:
        ranked: calls ranked.
        weeks: (project, week id) of these calls.
    """

    ranked: int
    weeks: frozenset[tuple[int, str]]


def new_ranking(settings: Settings, connection: Connection) -> Ranking:
    """Read what ranking needs; the running means start from the newest ranked calls."""
    try:
        weights = {rubric.name: rubric.weight for rubric in load_rubrics(settings.rubrics_dir)}
    except (BadRubric, OSError) as error:
        log.warning("every rubric weighs 1 until the rubrics can be read: %s", error)
        weights = {}
    ranking = Ranking(settings, weights)
    newest = connection.execute(select(func.max(_experience.c.call_seq))).scalar() or 0
    rows = connection.execute(
        select(_experience.c.project_id, _call.c.slice_id, _call.c.sample_rate, _experience.c.parts)
        .join(_call, _call.c.seq == _experience.c.call_seq)
        .where(_experience.c.call_seq > newest - MEANS_FROM)
    )
    for project_id, slice_id, sample_rate, parts in rows:
        _count(ranking.means_of(project_id), slice_id, parts, sample_rate, 1)
    return ranking


def refresh_experience(store: Store, settings: Settings, ranking: Ranking | None = None) -> Refreshed:
    """Rank every call that is new, or that something new is known about.

    Args:
        ranking: kept by a process that refreshes again and again.

    Raises:
        WriterBusy: the writer has too much to do; what is not written is taken up again next time.
        StoreUnavailable: the database could not be read or written.
    """
    with read_counted(store) as connection:
        ranking = ranking or new_ranking(settings, connection)
        ranking.weights.clear()
        progress: dict[str, int] = dict(connection.execute(select(_progress.c.name, _progress.c.value)).all())
        # All that was there when we began is covered by ranking its call once, whichever source names it.
        ends = {
            name: connection.execute(select(func.max(grows))).scalar() or 0
            for name, (grows, _of_call) in SOURCES.items()
        }
    done: set[int] = set()
    weeks: set[tuple[int, str]] = set()
    for name in SOURCES:
        at = progress.get(name, 0)
        while at < ends[name]:
            with store.read() as connection:
                at, seqs = _page(connection, name, at, ends[name])
                rows = ranked_rows(connection, ranking, sorted(seqs - done))
                if name == "calls":
                    # A call that comes late may have taken a session's signal over from one ranked with it.
                    left = sorted(_left_by_a_signal(connection, seqs) - seqs)
                    for start in range(0, len(left), PAGE):
                        rows += ranked_rows(connection, ranking, left[start : start + PAGE])
            changed = {(row["project_id"], row["week"]) for row in rows}
            with store.read() as connection:
                compared = _weeks_compared(connection, changed, settings)
            store.write(
                partial(keep_experience, rows=rows, cursor=(name, at), now_ms=now_ms(), also_changed=compared)
            )
            done |= seqs
            weeks |= changed
    for project_id, week_id in sorted(weeks):
        done |= _fill_latency(store, ranking, project_id, week_id)
    return Refreshed(len(done), frozenset(weeks))


def ranked_rows(connection: Connection, ranking: Ranking, seqs: Sequence[int]) -> list[dict[str, Any]]:
    """Return the rows of `experience` for these calls, at most a thousand."""
    settings = ranking.settings
    known = evidence_of(
        connection, seqs, zone=settings.zone, critics=settings.critics, history=ranking.history
    )
    seen = [see(call.evidence, ranking.rubric_weights, settings.signal_polarity) for call in known]
    # First all are counted, then all are ranked: a first page has means to take unknown parts from.
    for call, parts in zip(known, seen, strict=True):
        means = ranking.means_of(call.project_id)
        if call.parts_before is not None:
            _count(means, call.slice_id, call.parts_before, call.sample_rate, -1)
        now = {
            name: {"b": part.b, "known": part.b is not None, "stands_for": part.stands_for}
            for name, part in parts.items()
        }
        _count(means, call.slice_id, now, call.sample_rate, 1)
    rows = []
    for call, parts in zip(known, seen, strict=True):
        praise = praise_of(call.evidence.signals, settings.signal_polarity)
        weights = ranking.weights_of(connection, call.project_id)
        ranked = rank(parts, praise, call.slice_id, ranking.means_of(call.project_id), weights)
        rows.append(
            {
                "call_seq": call.seq,
                "project_id": call.project_id,
                "week": call.week.id,
                "p_bad": ranked.p_bad,
                "parts": parts_as_json(ranked.parts),
                "latency_p95_ms": call.evidence.latency_p95_ms,
            }
        )
    return rows


def keep_experience(
    connection: Connection,
    rows: Sequence[dict[str, Any]],
    cursor: tuple[str, int] | None,
    now_ms: int,
    also_changed: Collection[tuple[int, str]] = (),
) -> None:
    """Write job: keep the rows, note that their weeks have changed, and move the cursor.

    Args:
        also_changed: other (project, week) whose findings are made from these calls too.
    """
    if rows:
        kept = upsert(connection, _experience)
        new = {name: kept.excluded[name] for name in ("week", "p_bad", "parts", "latency_p95_ms")}
        connection.execute(kept.on_conflict_do_update(index_elements=["call_seq"], set_=new), list(rows))
    progress = {week_mark(row["project_id"], row["week"]): now_ms for row in rows}
    progress |= {week_mark(*one): now_ms for one in also_changed}
    if cursor is not None:
        progress[cursor[0]] = cursor[1]
    keep_progress(connection, progress)


def keep_progress(connection: Connection, progress: Mapping[str, int]) -> None:
    """Write job: set marks of `outlier_progress`."""
    if progress:
        kept = upsert(connection, _progress)
        connection.execute(
            kept.on_conflict_do_update(index_elements=["name"], set_={"value": kept.excluded.value}),
            [{"name": name, "value": value} for name, value in progress.items()],
        )


def week_mark(project_id: int, week_id: str) -> str:
    """Return the name that marks a week as ranked anew since its findings were computed."""
    return f"week/{project_id}/{week_id}"


def now_ms() -> int:
    """Return the time, milliseconds since 1970 (UTC)."""
    return time.time_ns() // 1_000_000


def _page(connection: Connection, source: str, at: int, end: int) -> tuple[int, set[int]]:
    """Return (next cursor, the calls named) of the next thousand things after a cursor."""
    grows, of_call = SOURCES[source]
    rows = connection.execute(
        select(grows, of_call).where(grows > at, grows <= end).order_by(grows).limit(PAGE)
    ).all()
    return (rows[-1][0] if len(rows) == PAGE else end), {seq for _value, seq in rows if seq is not None}


def _left_by_a_signal(connection: Connection, seqs: Collection[int]) -> set[int]:
    """Return the ranked calls of these calls' sessions that were ranked with a signal.

    A session's signal belongs to its last call before it, and moves when a later one arrives after it.
    """
    mine = select(_call.c.project_id, _call.c.session_id).where(
        _call.c.seq.in_(seqs), _call.c.session_id.is_not(None)
    )
    sessions: dict[int, set[str]] = {}
    for project_id, session_id in connection.execute(mine.distinct()):
        sessions.setdefault(project_id, set()).add(session_id)
    left: set[int] = set()
    for project_id, names in sessions.items():
        signalled = connection.execute(
            select(_signal.c.session_id)
            .where(
                _signal.c.project_id == project_id,
                _signal.c.session_id.in_(list(names)),
                _signal.c.call_id.is_(None),
                _signal.c.response_id.is_(None),
                _signal.c.span_id.is_(None),
            )
            .distinct()
        ).scalars()
        of_session = and_(_call.c.project_id == project_id, _call.c.session_id.in_(list(signalled)))
        ranked = connection.execute(
            select(_experience.c.call_seq, _experience.c.parts)
            .join(_call, _call.c.seq == _experience.c.call_seq)
            .where(of_session)
        )
        left |= {seq for seq, parts in ranked if parts["signals"]["known"]}
    return left


def _weeks_compared(
    connection: Connection, changed: Collection[tuple[int, str]], settings: Settings
) -> set[tuple[int, str]]:
    """Return the weeks after these that have ranked calls: what changed in them is told against these."""
    after = {
        (project_id, week_after(week_by_id(week_id, settings.zone), settings.zone).id)
        for project_id, week_id in changed
    } - set(changed)
    return {
        (project_id, week_id)
        for project_id, week_id in after
        if connection.execute(
            select(_experience.c.call_seq)
            .where(_experience.c.project_id == project_id, _experience.c.week == week_id)
            .limit(1)
        ).scalar()
        is not None
    }


def _fill_latency(store: Store, ranking: Ranking, project_id: int, week_id: str) -> set[int]:
    """Rank anew the calls of a week whose slice had no p95 when they came and has one now."""
    filled: set[int] = set()
    week = week_by_id(week_id, ranking.settings.zone)
    without = (
        select(_call.c.slice_id)
        .join(_experience, _experience.c.call_seq == _call.c.seq)
        .where(
            _experience.c.project_id == project_id,
            _experience.c.week == week_id,
            _experience.c.latency_p95_ms.is_(None),
            _call.c.latency_ms.is_not(None),
        )
    )
    with store.read() as connection:
        slices = connection.execute(without.distinct()).scalars().all()
        known = ranking.history.p95_ms(connection, week, slices)
    while known:
        with store.read() as connection:
            wanted = without.with_only_columns(_call.c.seq).where(_call.c.slice_id.in_(list(known)))
            rows = ranked_rows(connection, ranking, connection.execute(wanted.limit(PAGE)).scalars().all())
        if not rows:
            break
        store.write(partial(keep_experience, rows=rows, cursor=None, now_ms=now_ms()))
        filled |= {row["call_seq"] for row in rows}
    return filled


def _count(
    means: SliceMeans, slice_id: int, parts: Mapping[str, Mapping[str, Any]], sample_rate: float, n: int
) -> None:
    """Count a call's known parts in the means, or take them out (n = -1).

    A call that was sent as one of many (`sample_rate`) stands for them all.

    Silence counts as 0 in the mean of the signals: most users never say anything, and the mean of those who
    do would make every silent call look half bad.
    """
    for name, part in parts.items():
        if part["known"]:
            stands_for = part.get("stands_for", 1.0) / sample_rate
            means.add(slice_id, name, part["b"], stands_for=stands_for, n=n)
        elif name == "signals":
            means.add(slice_id, name, 0.0, stands_for=1.0 / sample_rate, n=n)
