"""Keeps a week of the benchmark's traffic in a real store, as intake and critic would have: calls, texts,
people, thumbs, latency counts, one critic's scores and the guard's readings.

Flow: Traffic (settled) -> `keep_week` -> rows, and `Truth`: what really happened, which no row tells. The
critic is simulated: it is off by one label on average, grades nine calls in ten and no failed call. So is the
guard: it misses one visible failure in four and sees one where there is none in 3 % of calls.
"""

import json
import random
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, func, insert, select

from critic.tables import RubricVersion
from ingest.bulk import insert_rows
from ingest.counting import count_new_calls
from ingest.store import OpenStore
from ingest.tables import DEFAULT_PROJECT, Call, Slice, columns
from ingest.upsert import upsert
from tests.bench.incidents_shapes import Floats, Shapes
from tests.bench.incidents_texts import answered, asked
from tests.bench.incidents_traffic import Traffic
from tests.bench.incidents_world import LANGUAGES, MODELS, PLANS, PROMPTS, REGIONS, TOOLS, Ints

CHUNK = 4_000
CRITIC = "openai:gpt-6-luna"
RUBRIC = "helpfulness"
GRADED = 0.9
#: Failures that can be seen in a text, and how often the guard sees them.
VISIBLE = ("off_topic", "truncated", "refusal", "repeated", "empty", "rude", "wrong_language")
CAUGHT = 0.75
FALSE_ALARMS = 0.03
#: Standard deviation of the critic's reading around the true level: its mean is then off by one on average.
READING_SD = 1.45
LEVELS_OF_GOOD = (0.08, 0.17, 0.30, 0.30, 0.15)  # levels 3..7
#: How bad a level feels.
HARM_OF_LEVEL = np.array([0.0, 0.95, 0.8, 0.4, 0.2, 0.1, 0.05, 0.0])


@dataclass(frozen=True)
class Truth:
    """What really happened, each of shape (n,) in the order of `seq`.

    Attributes:
        spoiled_by: the place of the incident that spoiled the call, -1 for none.
        harm: how bad the experience really was, 0..1; ties broken at random.
        reading_error: the critic's mean less the true level; NaN where it did not grade.
        mean_score: the critic's mean, NaN where it did not grade.
        thumb: 1, 0, NaN where none.
    """

    seq: Ints
    spoiled_by: Ints
    harm: Floats
    reading_error: Floats
    mean_score: Floats
    thumb: Floats


def keep_week(store: OpenStore, traffic: Traffic, shapes: Shapes, source: np.random.Generator) -> Truth:
    """Keep the calls of a settled week; return the truth about them."""
    with store.read() as connection:
        last = connection.execute(select(func.max(columns(Call).c.seq))).scalar() or 0
    n = len(traffic)
    seq = np.arange(last + 1, last + 1 + n)
    truth, levels = _truth(traffic, shapes, source, seq)
    slices: dict[tuple[str, ...], int] = {}  # filled as rows are made
    texts = random.Random(int(source.integers(2**62)))
    for at in range(0, n, CHUNK):
        part = np.arange(at, min(at + CHUNK, n))
        rows = _Rows(traffic, truth, levels, part, source, texts)
        store.write(lambda connection, rows=rows: rows.keep(connection, slices))
    store.write(_keep_rubric)
    while store.write(count_new_calls):
        pass
    return truth


def _truth(traffic: Traffic, shapes: Shapes, source: np.random.Generator, seq: Ints) -> tuple[Truth, Floats]:
    n = len(seq)
    bad = (traffic.kind != "") & (traffic.kind != "error")
    level = np.where(bad, source.integers(1, 3, n), 3 + source.choice(5, n, p=LEVELS_OF_GOOD))
    slow = np.clip(np.log2(traffic.latency_ms / traffic.usual_ms) / 2, 0, 1) * 0.7
    harm = 1 - (1 - HARM_OF_LEVEL[level]) * (1 - slow)
    harm = np.where(traffic.error != "", 1.0, harm)
    low = harm >= 0.5
    vote = source.random(n) < np.minimum(0.9, np.where(low, *shapes.vote_rate) * traffic.votes)
    down = source.random(n) < np.where(low, *shapes.down_rate)
    thumb = np.where(vote, np.where(down, 0.0, 1.0), np.nan)
    reading = np.clip(level + source.normal(0, READING_SD, n), 0.5, 7.5)
    places = np.arange(1, 8)
    levels = np.exp(-np.abs(places[None, :] - reading[:, None]) / 0.45)
    levels /= levels.sum(axis=1, keepdims=True)
    levels[(traffic.error != "") | (source.random(n) > GRADED)] = np.nan
    mean = levels @ places
    harm = harm + source.uniform(0, 1e-6, n)
    return Truth(seq, traffic.spoiled_by, harm, mean - level, mean, thumb), levels


def _slice_fields(traffic: Traffic, i: int) -> tuple[str, str, str, str, str, str]:
    provider, model = MODELS[traffic.model[i]]
    return (
        provider,
        str(traffic.model_name[i]) or model,
        PROMPTS[traffic.prompt[i]][0],
        f"v{traffic.prompt_version[i]}",
        "staging" if traffic.staging[i] else "production",
        f"2.{traffic.release[i]}",
    )


class _Rows:
    """A piece of a week as rows of every table."""

    def __init__(
        self,
        traffic: Traffic,
        truth: Truth,
        levels: Floats,
        part: Ints,
        source: np.random.Generator,
        texts: random.Random,
    ) -> None:
        self.traffic, self.truth, self.levels, self.part = traffic, truth, levels, part
        self.source, self.texts = source, texts

    def keep(self, connection: Connection, slices: dict[tuple[str, ...], int]) -> None:
        """Write job."""
        calls = self._calls(connection, slices)
        insert_rows(connection, "call", _CALL, calls)
        insert_rows(connection, "call_text", _TEXT, self._texts())
        insert_rows(connection, "score", _SCORE, self._scores())
        insert_rows(connection, "guard_reading", _GUARD, self._readings())
        insert_rows(connection, "signal", _SIGNAL, self._signals())
        insert_rows(connection, "end_user", _PERSON, self._people(), "ON CONFLICT DO NOTHING")

    def _calls(self, connection: Connection, slices: dict[tuple[str, ...], int]) -> list[tuple[object, ...]]:
        t, rows = self.traffic, []
        whole = {name: _plain(getattr(t, name)[self.part]) for name in _NUMBERS}
        for place, i in enumerate(self.part.tolist()):
            fields = _slice_fields(t, i)
            slice_id = slices.get(fields) or _slice_of(connection, fields, slices)
            error = str(t.error[i])
            region, tenant = REGIONS[t.region[i]], f"tenant-{t.tenant[i]:02d}"
            tags = f'{{"region": "{region}", "tenant": "{tenant}", "plan": "{PLANS[t.plan[i]]}"}}'
            started, user = int(t.started_ms[i]), person(int(t.user[i]))
            seq, tool = int(self.truth.seq[i]), t.tool[i]
            rows.append(
                (
                    seq, DEFAULT_PROJECT, f"c{seq}", slice_id, started, started,
                    "failed" if error else "answered", whole["latency_ms"][place],
                    whole["first_token_ms"][place], None if error else str(t.finish[i]) or None,
                    error or None,
                    int(t.retries[i]), whole["input_tokens"][place], whole["output_tokens"][place],
                    whole["cached_tokens"][place], (whole["input_tokens"][place] or 0) * 2e-6,
                    user, f"{user}-{t.session[i]}", (whole["input_tokens"][place] or 0) * 4,
                    (whole["output_tokens"][place] or 0) * 4, whole["context_chars"][place], 1.0, tags,
                    json.dumps([TOOLS[tool]]) if tool < len(TOOLS) else None,
                )
            )  # fmt: skip
        return rows

    def _texts(self) -> list[tuple[object, ...]]:
        t = self.traffic
        return [
            (int(self.truth.seq[i]), asked(self.texts, LANGUAGES[t.language[i]]), False,
             answered(self.texts, LANGUAGES[t.language[i]], str(t.kind[i])), False)
            for i in self.part.tolist()
        ]  # fmt: skip

    def _scores(self) -> list[tuple[object, ...]]:
        graded = self.part[np.isfinite(self.levels[self.part, 0])]
        levels = self.levels[graded].tolist()
        return [
            (seq, RUBRIC, "bench", "bench", CRITIC, "", "scored", *shares, mean, 0, seq, 0, 0)
            for seq, shares, mean in zip(
                self.truth.seq[graded].tolist(), levels, self.truth.mean_score[graded].tolist(), strict=True
            )
        ]

    def _readings(self) -> list[tuple[object, ...]]:
        t, n = self.traffic, len(self.part)
        kinds = t.kind[self.part]
        seen = np.isin(kinds, VISIBLE) & (self.source.random(n) < CAUGHT)
        alarmed = ~seen & (self.source.random(n) < FALSE_ALARMS)
        p_fail = np.where(
            seen,
            self.source.beta(6, 2, n),
            np.where(alarmed, self.source.beta(2, 3, n), self.source.beta(0.4, 40, n)),
        )
        guessed = np.array(VISIBLE)[self.source.integers(len(VISIBLE), size=n)]
        right = seen & (self.source.random(n) < 0.85)
        named = np.where(right, kinds, guessed).tolist()
        return [
            (seq, p, kind, f'{{"{kind}": {p:.3f}}}', LANGUAGES[language], "bench", seq)
            for seq, p, kind, language, error in zip(
                self.truth.seq[self.part].tolist(), p_fail.tolist(), named, t.language[self.part].tolist(),
                t.error[self.part].tolist(), strict=True,
            )
            if not error
        ]  # fmt: skip

    def _signals(self) -> list[tuple[object, ...]]:
        given = self.part[np.isfinite(self.truth.thumb[self.part])]
        return [
            (DEFAULT_PROJECT, f"t{seq}", seq, f"c{seq}", "thumbs_up" if up else "thumbs_down", at, at)
            for seq, up, at in zip(
                self.truth.seq[given].tolist(), self.truth.thumb[given].tolist(),
                (self.traffic.started_ms[given] + 20_000).tolist(), strict=True,
            )
        ]  # fmt: skip

    def _people(self) -> list[tuple[object, ...]]:
        who, since = self.traffic.user[self.part].tolist(), self.traffic.first_seen_ms[self.part].tolist()
        seen = dict(zip(who, since, strict=True))
        return [(DEFAULT_PROJECT, person(user), at) for user, at in seen.items()]


_NUMBERS = ("latency_ms", "first_token_ms", "input_tokens", "output_tokens", "cached_tokens", "context_chars")
_CALL = (
    "seq", "project_id", "id", "slice_id", "received_at_ms", "started_at_ms", "outcome", "latency_ms",
    "first_token_ms", "finish_reason", "error_type", "retries", "input_tokens", "output_tokens",
    "cached_input_tokens", "cost_usd", "user_id", "session_id", "input_chars", "output_chars",
    "context_chars", "sample_rate", "tags", "tools",
)  # fmt: skip
_TEXT = ("call_seq", "input", "input_json", "output", "output_json")
_SCORE = (
    "call_seq", "rubric", "rubric_blob", "view_blob", "critic", "occasion", "status",
    "p1", "p2", "p3", "p4", "p5", "p6", "p7", "score", "created_at_ms", "changed", "attempts",
    "not_before_ms",
)  # fmt: skip
_GUARD = ("call_seq", "p_fail", "kind", "kinds", "input_language", "version", "changed")
_SIGNAL = ("project_id", "id", "call_seq", "call_id", "kind", "at_ms", "received_at_ms")
_PERSON = ("project_id", "user_id", "first_seen_at_ms")


def person(user: int) -> str:
    """Return the application's name for one of its people."""
    return f"u{user}"


def _plain(values: Floats) -> list[float | None]:
    """Return numbers as a row takes them: None where unknown."""
    return [None if value != value else value for value in values.tolist()]


def _slice_of(connection: Connection, fields: tuple[str, ...], slices: dict[tuple[str, ...], int]) -> int:
    table = columns(Slice)
    named = dict(
        zip(("provider", "model", "prompt", "prompt_version", "environment", "release"), fields, strict=True)
    )
    found = connection.execute(
        select(table.c.id).where(*(table.c[name] == value for name, value in named.items()))
    ).scalar()
    if found is None:
        found = connection.execute(
            insert(table).values(project_id=DEFAULT_PROJECT, **named)
        ).inserted_primary_key[0]
    slices[fields] = int(found)
    return int(found)


def _keep_rubric(connection: Connection) -> None:
    """Write job: the rubric the critic graded under."""
    kept = upsert(connection, columns(RubricVersion))
    connection.execute(
        kept.on_conflict_do_nothing(),
        [
            {"blob": "bench", "name": RUBRIC, "view_blob": "bench", "question": "Did it help?",
             "levels": [f"Level {level}." for level in range(1, 8)], "source": "", "first_used_at_ms": 1}
        ],
    )  # fmt: skip
