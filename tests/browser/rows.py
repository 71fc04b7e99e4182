"""Rows for the pages: three weeks of calls through the real intake, ranked by the real computation.

Made so that each page has something to say: a prompt version that fails its users in the last ended week,
two calls of 150 that took longer than 100 s, scores and an "ungraded", and texts that want to be markup.
"""

import json
import random
import time
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import Connection, insert, select

from critic.tables import GuardReading, RubricVersion, Score
from ingest import wire
from ingest.intake import Intake
from ingest.settings import Settings
from ingest.store import OpenStore
from ingest.tables import DEFAULT_PROJECT, Call, Label, columns
from outliers.casework import case_actions
from outliers.casework.case_actions import By
from outliers.casework.cases import Fix, Proof, cases_of, kept_case
from outliers.casework.following import keep_proof
from outliers.casework.verification import Verdict
from outliers.process import run_once
from outliers.weeks import last_ended, week_before, week_by_id

HOSTILE = (
    "</textarea></pre></bdi><script>document.title='owned'</script>"
    "<img src=x onerror=\"document.title='owned'\"> {{ 7*7 }} ${7*7} \u202efdp.exe\u202c 'quoted' \"so\" & so"
)
#: What an id may hold, hostile all the same: it stands in addresses.
HOSTILE_ID = "a/b?c=d&e#f <script>'\"{{7*7}}.json"
SEED = 7
DAY_MS = 86_400_000

BAD = (0.55, 0.2, 0.1, 0.05, 0.05, 0.03, 0.02)
GOOD = (0.0, 0.01, 0.04, 0.1, 0.2, 0.35, 0.3)


def fill(settings: Settings, store: OpenStore) -> None:
    """Send everything, then rank it."""
    intake = Intake(store, settings)
    now_ms = round(time.time() * 1000)
    week = last_ended(now_ms, settings.zone)
    before = week_before(week, settings.zone)
    source = random.Random(SEED)
    calls: list[dict[str, Any]] = []
    signals: list[dict[str, Any]] = []
    for since_ms, n, broken in ((before.since_ms, 150, False), (week.since_ms, 400, True)):
        for i in range(n):
            _one(source, f"{since_ms}-{i}", since_ms + i * (7 * DAY_MS // n), broken, calls, signals)
    calls += [_slow(week.since_ms, i) for i in range(150)]
    calls.append(_hostile(now_ms))
    signals.append({"call_id": HOSTILE_ID, "kind": "thumbs_down", "comment": HOSTILE})
    _send(intake.accept_calls, wire.parse_calls, "calls", calls)
    _send(intake.accept_signals, wire.parse_signals, "signals", signals)
    store.write(_judge)
    run_once(settings, store)
    store.write(partial(_past_cases, settings=settings, now_ms=now_ms))


def _past_cases(connection: Connection, settings: Settings, now_ms: int) -> None:
    """Keep cases of earlier weeks, as persons and the proof of their fixes left them; in hostile words."""
    case = cases_of(connection, DEFAULT_PROJECT, limit=1)[0]
    weeks = [week_by_id(case.week, settings.zone)]
    while len(weeks) < 6:
        weeks.append(week_before(weeks[-1], settings.zone))
    by = By(HOSTILE[:100], now_ms - 9 * DAY_MS)
    for week, verdict, sentence in (
        (weeks[3], "fixed", "Fixed: 71 % bad before, 3 % in the 212 calls of 90 people since."),
        (weeks[5], "no_change", "No change seen: 71 % bad before, 68 % in the 96 calls of 41 people since."),
    ):
        cohort = replace(
            case.cohort, case_sentence=f"Answers came late {HOSTILE}", first_seen_at_ms=week.since_ms
        )
        case_actions.pick(connection, DEFAULT_PROJECT, week.id, by, cohort)
        case_actions.write_root_cause(connection, DEFAULT_PROJECT, week.id, by, HOSTILE)
        case_actions.set_owner(connection, DEFAULT_PROJECT, week.id, by, HOSTILE[:100])
        case_actions.add_note(connection, DEFAULT_PROJECT, week.id, by, HOSTILE)
        fix = Fix(by.at_ms, HOSTILE[:80], HOSTILE[:80], f"https://git.example/{HOSTILE}", by.who)
        case_actions.enter_fix(connection, DEFAULT_PROJECT, week.id, by, fix)
        is_now, n = (0.03, 212) if verdict == "fixed" else (0.68, 96)
        seen = Verdict(verdict, sentence, 0.71, is_now, 0.0, is_now + 0.1, 0.05, 0.05, 140, n, 60, 41, None)
        proof = Proof(seen, by.at_ms + DAY_MS, 7, (HOSTILE[:40],))
        kept = kept_case(connection, DEFAULT_PROJECT, week.id)
        assert kept is not None
        keep_proof(connection, DEFAULT_PROJECT, kept, proof, None)


def _one(
    source: random.Random,
    name: str,
    started_at_ms: int,
    broken: bool,
    calls: list[dict[str, Any]],
    signals: list[dict[str, Any]],
) -> None:
    version = source.choice(("v1", "v2"))
    bad = broken and version == "v2" and source.random() < 0.7
    call_id = f"call-{name}"
    calls.append(
        {
            "id": call_id,
            "started_at": started_at_ms / 1000,
            "latency_ms": 400 + 300 * source.random(),
            "first_token_ms": 120,
            "provider": "aurora",
            "model": "aurora-2",
            "prompt": {"name": "summary", "version": version},
            "input": [{"role": "user", "content": f"Please sum up report {name}."}],
            "output": "The report says that all went well, and names what is left to do.",
            "usage": {"input_tokens": 400, "output_tokens": 30},
            "user_id": f"user-{source.randrange(80)}",
            "session_id": f"session-{name[-2:]}",
            **({"error": {"type": "overloaded", "message": "try later"}, "output": None} if bad else {}),
        }
    )
    if bad or source.random() < 0.05:
        signals.append({"id": f"s-{name}", "call_id": call_id, "kind": "thumbs_down"})


def _slow(since_ms: int, i: int) -> dict[str, Any]:
    """A model that mostly answers in 2 s: its p95 hides the two that took longer than 100 s."""
    return {
        "id": f"slow-{i}",
        "started_at": (since_ms + i * 3_600_000) / 1000,
        "latency_ms": {40: 104_000, 90: 131_000}.get(i, 1_900 + 2 * i),
        "provider": "together",
        "model": "llama-13b",
        "prompt": {"name": "faq"},
        "input": "What are your hours?",
        "output": "We are open from eight to five.",
    }


def _hostile(now_ms: int) -> dict[str, Any]:
    return {
        "id": HOSTILE_ID,
        "started_at": (now_ms - 60_000) / 1000,
        "latency_ms": 900,
        "provider": HOSTILE,
        "model": HOSTILE,
        "prompt": {"name": HOSTILE, "version": HOSTILE[:60]},
        "input": [{"role": "system", "content": HOSTILE}, {"role": "user", "content": HOSTILE}],
        "output": HOSTILE,
        "context": [HOSTILE],
        "user_id": HOSTILE[:120],
        "session_id": HOSTILE[:120],
        "finish_reason": HOSTILE,
        "tags": {HOSTILE[:60]: HOSTILE},
        "tools": [HOSTILE],
        "release": HOSTILE,
    }


def _send(accept: Any, parse: Any, name: str, items: list[dict[str, Any]]) -> None:
    for at in range(0, len(items), 500):
        receipt = accept(DEFAULT_PROJECT, parse(json.dumps({name: items[at : at + 500]}).encode()))
        assert receipt.rejected == []


def _judge(connection: Connection) -> None:
    """Keep answers of two critics for some calls, as the critic's worker would."""
    call = columns(Call)
    now_ms = round(time.time() * 1000)
    levels = [f"Situation {level} {HOSTILE}" for level in range(1, 8)]
    for name in ("tone", "accuracy"):
        connection.execute(
            insert(columns(RubricVersion)).values(
                blob=f"{name}0123456789", name=name, view_blob="v", question=f"Is the {name} right?",
                levels=levels, source=HOSTILE, committed=True, first_used_at_ms=now_ms,
            )
        )  # fmt: skip
    rows = connection.execute(select(call.c.seq, call.c.id).order_by(call.c.seq.desc()).limit(200)).all()
    common = {"view_blob": "v", "created_at_ms": now_ms}
    connection.execute(
        insert(columns(Score)),
        [
            {"call_seq": row.seq, "rubric": "tone", "rubric_blob": "tone0123456789", "critic": "local",
             "status": "scored", "changed": 1, **_scored(BAD if row.id == HOSTILE_ID else GOOD), **common}
            for row in rows
        ],
    )  # fmt: skip
    connection.execute(
        insert(columns(Score)),
        [
            {"call_seq": row.seq, "rubric": "accuracy", "rubric_blob": "accuracy0123456789",
             "critic": "local", "status": "ungraded", "reason": f"no model read the text {HOSTILE}",
             "changed": 1, **common}
            for row in rows
        ],
    )  # fmt: skip
    for place, row in enumerate(rows[:60]):
        # Another critic mostly agrees; people's levels are a little above the worse of the two.
        answer = BAD if place % 12 == 3 else GOOD
        connection.execute(
            insert(columns(Score)).values(
                call_seq=row.seq, rubric="tone", rubric_blob="tone0123456789", critic="openai:gpt-6-luna",
                status="scored", changed=1, model_reported="gpt-6-luna-2026-10-01", input_tokens=420,
                output_tokens=7, cost_usd=0.00031, answer_ms=640.0, **_scored(answer), **common,
            )
        )  # fmt: skip
        for labeller, level in (("ann", 2 if answer is BAD else 6), ("bo", 3 if answer is BAD else 5)):
            connection.execute(
                insert(columns(Label)).values(
                    project_id=DEFAULT_PROJECT, call_id=row.id, rubric="tone", level=level,
                    labeller=labeller, at_ms=now_ms,
                )
            )  # fmt: skip
    connection.execute(
        insert(columns(GuardReading)),
        [{"call_seq": rows[0].seq, "p_fail": 0.93, "kind": "rude", "kinds": {"rude": 0.93}, "version": "t",
          "changed": 1}],
    )  # fmt: skip


def _scored(probabilities: tuple[float, ...]) -> dict[str, float]:
    shares = {f"p{level}": p for level, p in enumerate(probabilities, 1)}
    return {"score": 1 + sum(i * p for i, p in enumerate(probabilities)), **shares}
