"""Rows for the pages' benchmark: a quarter of calls up to now, written in bulk.

Flow: `kinds` (some thousand calls with texts, answers, signals, and an experience by the real arithmetic)
-> `fill` (each call is one kind at its own time, in its own slice, of its own user) -> SQLite's executemany.
The weeks before the last ended one are kept as ranked; that week and the running one are left to the real
ranking. Texts, tokens and tails have the shapes of the real thing: log-normal latencies with a slow model, a
few failures, sparse thumbs, six answers a call, and a prompt version that is worse than the rest.
"""

import json
import random
import time
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, delete, insert, select

from critic.tables import GuardReading, RubricVersion, Score
from ingest.counting import count_new_calls
from ingest.store import OpenStore
from ingest.tables import DEFAULT_PROJECT, Call, CallText, EndUser, Signal, Slice, columns
from outliers.experience.parts import (
    Evidence,
    Graded,
    SignalSeen,
    SliceMeans,
    parts_as_json,
    praise_of,
    rank,
    see,
)
from outliers.experience.refresh import keep_progress
from outliers.tables import CaseEvent, Experience, Finding, LatencyCauses, WeekCase, WeekChanges, WeekCosts
from outliers.weeks import last_ended, weeks_between

PROMPTS = tuple(f"prompt-{i}" for i in range(8))
MODELS = ("aurora-2", "aurora-2-mini", "peregrine-large")
RUBRICS = ("tone", "accuracy", "faithfulness", "completeness", "fluency", "instruction_following")
WORDS = (
    *("order", "invoice", "oven", "flour", "bread", "shift", "payment", "refund", "delivery", "allergen"),
    *("recipe", "label", "export", "login", "plan", "report", "customer", "price", "holiday", "basket"),
)
#: A quarter: 13 weeks.
SPAN_MS = 91 * 86_400_000
HOUR_MS = 3_600_000
#: Calls of a user on average, and calls of a session.
CALLS_OF_A_USER, CALLS_OF_A_SESSION = 20, 5
KINDS = 4_000
CHUNK = 10_000
#: What a slice's p95 is taken for where a call is kept as ranked.
P95_MS = 3_000.0


@dataclass(frozen=True)
class Kind:
    """What many calls have alike; rows without the call's key, time and user.

    Attributes:
        scores: one tuple a rubric: status, reason, p1..p7, score.
        guard: p_fail, kind, kinds.
        p_bad, parts: its experience, parts as JSON.
    """

    outcome: str
    latency_ms: float
    input_tokens: int
    input: str
    output: str | None
    signal: str | None
    scores: tuple[tuple[Any, ...], ...]
    guard: tuple[float, str, str]
    p_bad: float
    parts: str


def call_id(i: int) -> str:
    """The id of the i-th call."""
    return f"call-{i:08d}"


def users_of(calls: int) -> int:
    """How many users so many calls have."""
    return max(1, calls // CALLS_OF_A_USER)


def session_id(i: int, calls: int) -> str:
    """The session of the i-th call: one in each five of a user's calls, on average."""
    users = users_of(calls)
    return f"s{i * 7919 % users}-{i // (users * CALLS_OF_A_SESSION)}"


def fill(store: OpenStore, zone: ZoneInfo, calls: int, seed: int) -> None:
    """Keep `calls` calls of the last quarter; see the module."""
    source = random.Random(seed)
    until_ms = round(time.time() * 1000)
    since_ms = until_ms - SPAN_MS
    ranked_until_ms = last_ended(until_ms, zone).since_ms
    weeks = weeks_between(since_ms, until_ms, zone)
    slices = [(prompt, version, model) for prompt in PROMPTS for version in ("v1", "v2") for model in MODELS]
    store.write(lambda connection: _keep_slices_and_rubrics(connection, slices, since_ms))
    good, bad, slow = (
        _kinds(source, KINDS, failing, times) for failing, times in ((0.005, 1), (0.03, 1), (0.005, 4))
    )
    signals = 0
    for at in range(0, calls, CHUNK):
        rows = _Rows()
        for i in range(at, min(at + CHUNK, calls)):
            started_at_ms = since_ms + SPAN_MS * i // calls
            slice_id = 1 + int(source.random() * len(slices))
            _prompt, version, model = slices[slice_id - 1]
            pool = (
                slow
                if model == "peregrine-large" and source.random() < 0.03
                else bad
                if version == "v2"
                else good
            )
            kind = pool[int(source.random() * KINDS)]
            user = i * 7919 % users_of(calls)
            week = next((one.id for one in weeks if one.holds(started_at_ms)), "")
            rows.add(
                i,
                slice_id,
                kind,
                started_at_ms,
                f"u{user}",
                session_id(i, calls),
                week if started_at_ms < ranked_until_ms else None,
            )
        store.write(rows.keep)
        signals += len(rows.signals)
        if rows.experience and len(rows.experience) == len(rows.calls):
            last = rows.calls[-1][0]
            cursor = {"calls": last, "signals": signals, "scores": last * 10 + 9, "guard": last}
            store.write(lambda connection, cursor=cursor: keep_progress(connection, cursor))
    store.write(lambda connection: _keep_people(connection, users_of(calls), since_ms))
    while store.write(count_new_calls):
        pass


class _Rows:
    """One chunk of rows, as SQLite takes them."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.texts: list[tuple[Any, ...]] = []
        self.signals: list[tuple[Any, ...]] = []
        self.scores: list[tuple[Any, ...]] = []
        self.readings: list[tuple[Any, ...]] = []
        self.experience: list[tuple[Any, ...]] = []

    def add(
        self, i: int, slice_id: int, kind: Kind, started_at_ms: int, user: str, session: str, week: str | None
    ) -> None:
        """Add one call; with its experience where a week is given."""
        seq, name = i + 1, call_id(i)
        self.calls.append(
            (seq, DEFAULT_PROJECT, name, slice_id, started_at_ms, started_at_ms, kind.outcome,
             kind.latency_ms, kind.latency_ms * 0.3, "overloaded" if kind.outcome == "failed" else None,
             kind.input_tokens, 120, kind.input_tokens * 1e-6, user, session, kind.input_tokens * 4, 480, 1.0)
        )  # fmt: skip
        self.texts.append((seq, kind.input, False, kind.output, False))
        if kind.signal:
            self.signals.append(
                (
                    DEFAULT_PROJECT,
                    f"signal-{seq}",
                    seq,
                    name,
                    kind.signal,
                    started_at_ms + 9_000,
                    started_at_ms + 9_000,
                )
            )
        for place, (rubric, answer) in enumerate(zip(RUBRICS, kind.scores, strict=True)):
            self.scores.append(
                (
                    seq,
                    rubric,
                    f"{rubric}-blob",
                    "v",
                    "local",
                    "",
                    0,
                    0,
                    *answer,
                    started_at_ms,
                    seq * 10 + place,
                )
            )
        self.readings.append((seq, *kind.guard, "bench", seq))
        if week is not None:
            self.experience.append((seq, DEFAULT_PROJECT, week, kind.p_bad, kind.parts, P95_MS))

    def keep(self, connection: Connection) -> None:
        """Write job."""
        for table, names, rows in (
            (Call, _CALL, self.calls),
            (CallText, "call_seq input input_json output output_json", self.texts),
            (Signal, "project_id id call_seq call_id kind at_ms received_at_ms", self.signals),
            (Score, _SCORE, self.scores),
            (GuardReading, "call_seq p_fail kind kinds version changed", self.readings),
            (Experience, "call_seq project_id week p_bad parts latency_p95_ms", self.experience),
        ):
            if rows:
                _insert(connection, columns(table).name, names.split(), rows)


_CALL = (
    "seq project_id id slice_id received_at_ms started_at_ms outcome latency_ms first_token_ms error_type "
    "input_tokens output_tokens cost_usd user_id session_id input_chars output_chars sample_rate"
)
_SCORE = (
    "call_seq rubric rubric_blob view_blob critic occasion attempts not_before_ms status reason "
    "p1 p2 p3 p4 p5 p6 p7 score created_at_ms changed"
)


def _insert(connection: Connection, table: str, names: list[str], rows: list[tuple[Any, ...]]) -> None:
    marks = ", ".join("?" * len(names))
    connection.exec_driver_sql(f"insert into {table} ({', '.join(names)}) values ({marks})", rows)


def _keep_slices_and_rubrics(
    connection: Connection, slices: list[tuple[str, str, str]], since_ms: int
) -> None:
    rows = [
        {"id": 1 + i, "project_id": DEFAULT_PROJECT, "provider": model.split("-")[0], "model": model,
         "prompt": prompt, "prompt_version": version, "environment": "production", "release": ""}
        for i, (prompt, version, model) in enumerate(slices)
    ]  # fmt: skip
    connection.execute(insert(columns(Slice)), rows)
    rubrics = [
        {"blob": f"{name}-blob", "name": name, "view_blob": "v", "question": f"How is the {name}?",
         "levels": [f"Level {level}." for level in range(1, 8)], "source": "", "first_used_at_ms": since_ms}
        for name in RUBRICS
    ]  # fmt: skip
    connection.execute(insert(columns(RubricVersion)), rubrics)


def _kinds(source: random.Random, n: int, failing: float, times: float) -> list[Kind]:
    """Return `n` kinds of calls, of which a share fails and all are slower than usual by a factor."""
    means = SliceMeans(0.05)
    return [_kind(source, failing, times, means) for _ in range(n)]


def _kind(source: random.Random, failing: float, times: float, means: SliceMeans) -> Kind:
    outcome = "failed" if source.random() < failing else "answered"
    tokens = int(source.lognormvariate(6.5, 0.8))
    latency_ms = times * source.lognormvariate(7.0, 0.5) + tokens / 10
    signal = None
    if source.random() < 0.04:
        signal = "thumbs_down" if source.random() < 0.4 else "thumbs_up"
    scores = tuple(_answer(source, name, outcome) for name in RUBRICS)
    p_fail = source.random() ** 8
    signals = (SignalSeen(signal),) if signal else ()
    evidence = Evidence(
        outcome=outcome,
        error_type="overloaded" if outcome == "failed" else None,
        latency_ms=latency_ms,
        latency_p95_ms=P95_MS,
        graded=tuple(
            Graded(name, "local", answer[2] + answer[3])
            for name, answer in zip(RUBRICS, scores, strict=True)
            if answer[0] == "scored"
        ),
        guard_p_fail=p_fail,
        guard_kind="rude",
        signals=signals,
    )
    ranked = rank(see(evidence, {}, {}), praise_of(signals, {}), 0, means)
    return Kind(
        outcome=outcome,
        latency_ms=latency_ms,
        input_tokens=tokens,
        input=_said(source, 60),
        output=None if outcome == "failed" else _said(source, 80),
        signal=signal,
        scores=scores,
        guard=(p_fail, "rude", '{"rude": 0.1}'),
        p_bad=ranked.p_bad,
        parts=json.dumps(parts_as_json(ranked.parts)),
    )


def _answer(source: random.Random, rubric: str, outcome: str) -> tuple[Any, ...]:
    """Return a critic's answer: status, reason, p1..p7, score."""
    if rubric == "accuracy" or outcome == "failed":
        return ("ungraded", "no model read the text", *(None,) * 8)
    low = source.random() ** 6
    shares = (low * 0.6, low * 0.4, *((1 - low) * share for share in (0.1, 0.2, 0.3, 0.25, 0.15)))
    return ("scored", None, *shares, 1 + sum(level * p for level, p in enumerate(shares)))


def _keep_people(connection: Connection, users: int, since_ms: int) -> None:
    people = [(DEFAULT_PROJECT, f"u{i}", since_ms) for i in range(users)]
    _insert(connection, columns(EndUser).name, ["project_id", "user_id", "first_seen_at_ms"], people)


def _said(source: random.Random, words: int) -> str:
    return " ".join(source.choices(WORDS[:-1], k=words)) + "."


def copy_history(store: OpenStore, zone: ZoneInfo) -> None:
    """Give the quarter's older weeks what was computed for the last one, so that cases are a history."""
    now_ms = round(time.time() * 1000)
    last = last_ended(now_ms, zone)
    older = [week.id for week in weeks_between(now_ms - SPAN_MS, last.since_ms, zone) if week != last]
    store.write(lambda connection: _copy_week(connection, last.id, older))


def _copy_week(connection: Connection, last: str, older: list[str]) -> None:
    for table in (Finding, WeekCase, CaseEvent, WeekChanges, WeekCosts, LatencyCauses):
        of = columns(table)
        kept = [column for column in of.columns if column.name != "seq"]
        copied = connection.execute(select(*kept).where(of.c.week == last)).mappings().all()
        rows = [{**row, "week": week} for week in older for row in copied]
        connection.execute(delete(of).where(of.c.week.in_(older)))
        if rows:
            connection.execute(insert(of), rows)
