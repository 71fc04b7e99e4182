"""Rows for the pages' benchmark: calls of the last ended week and the running one, made with Core inserts.

Texts, tokens and tails are random but have the shapes of the real thing: log-normal latencies with a slow
model, a few failures, sparse thumbs, six answers a call, and a prompt version that is worse than the rest.
"""

import random
import time
from collections import Counter
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, insert

from critic.tables import GuardReading, RubricVersion, Score
from ingest.latency import bucket_of
from ingest.store import OpenStore
from ingest.tables import DEFAULT_PROJECT, Call, CallText, EndUser, LatencyCount, Signal, Slice, columns
from outliers.weeks import last_ended

PROMPTS = tuple(f"prompt-{i}" for i in range(8))
MODELS = ("aurora-2", "aurora-2-mini", "peregrine-large")
RUBRICS = ("tone", "accuracy", "faithfulness", "completeness", "fluency", "instruction_following")
WORDS = (
    *("order", "invoice", "oven", "flour", "bread", "shift", "payment", "refund", "delivery", "allergen"),
    *("recipe", "label", "export", "login", "plan", "report", "customer", "price", "holiday", "basket"),
)
CHUNK = 5_000


def call_id(i: int) -> str:
    """The id of the i-th call."""
    return f"call-{i:08d}"


def fill(store: OpenStore, zone: ZoneInfo, calls: int, seed: int) -> None:
    """Keep `calls` calls with texts, signals, scores, guard readings and latency counts."""
    source = random.Random(seed)
    since_ms = last_ended(round(time.time() * 1000), zone).since_ms
    until_ms = round(time.time() * 1000)
    store.write(_keep_slices_and_rubrics)
    counts: Counter[tuple[int, int, str, str, int]] = Counter()
    for at in range(0, calls, CHUNK):
        numbers = range(at, min(at + CHUNK, calls))
        rows = [_call(source, i, since_ms + (until_ms - since_ms) * i // calls, calls // 20) for i in numbers]
        for row in rows:
            for measure, ms in _measured(row).items():
                hour = row["started_at_ms"] // 3_600_000
                counts[row["slice_id"], hour, measure, row["outcome"], bucket_of(ms)] += 1
        store.write(lambda connection, rows=rows: _keep(connection, source, rows))
    store.write(lambda connection: _keep_counts(connection, counts, calls // 20, since_ms))


def _keep_slices_and_rubrics(connection: Connection) -> None:
    slices = [
        {"id": 1 + i, "project_id": DEFAULT_PROJECT, "provider": model.split("-")[0], "model": model,
         "prompt": prompt, "prompt_version": version, "environment": "production", "release": ""}
        for i, (prompt, version, model) in enumerate(_slices())
    ]  # fmt: skip
    connection.execute(insert(columns(Slice)), slices)
    rubrics = [
        {"blob": f"{name}-blob", "name": name, "view_blob": "v", "question": f"How is the {name}?",
         "levels": [f"Level {level}." for level in range(1, 8)], "source": "", "first_used_at_ms": 1}
        for name in RUBRICS
    ]  # fmt: skip
    connection.execute(insert(columns(RubricVersion)), rubrics)


def _slices() -> list[tuple[str, str, str]]:
    return [(prompt, version, model) for prompt in PROMPTS for version in ("v1", "v2") for model in MODELS]


def _call(source: random.Random, i: int, started_at_ms: int, users: int) -> dict[str, Any]:
    slice_id = 1 + source.randrange(len(_slices()))
    _prompt, version, model = _slices()[slice_id - 1]
    tokens = int(source.lognormvariate(6.5, 0.8))
    slow = 4.0 if model == "peregrine-large" and source.random() < 0.03 else 1.0
    outcome = "failed" if source.random() < (0.03 if version == "v2" else 0.005) else "answered"
    latency_ms = slow * source.lognormvariate(7.0, 0.5) + tokens / 10
    user = source.randrange(users)
    return {
        "seq": i + 1, "project_id": DEFAULT_PROJECT, "id": call_id(i), "slice_id": slice_id,
        "received_at_ms": started_at_ms, "started_at_ms": started_at_ms, "outcome": outcome,
        "latency_ms": latency_ms, "first_token_ms": latency_ms * 0.3,
        "error_type": "overloaded" if outcome == "failed" else None, "input_tokens": tokens,
        "output_tokens": 120, "cost_usd": tokens * 1e-6, "user_id": f"u{user}",
        "session_id": f"s{user}-{i // (users * 5)}", "input_chars": tokens * 4, "output_chars": 480,
    }  # fmt: skip


def _measured(call: dict[str, Any]) -> dict[str, float]:
    rest_ms = call["latency_ms"] - call["first_token_ms"]
    return {
        "total": call["latency_ms"],
        "first_token": call["first_token_ms"],
        "per_output_token": rest_ms / (call["output_tokens"] - 1),
    }


def _keep(connection: Connection, source: random.Random, calls: list[dict[str, Any]]) -> None:
    connection.execute(insert(columns(Call)), calls)
    texts = [
        {"call_seq": call["seq"], "input": _said(source, 60), "input_json": False,
         "output": None if call["outcome"] == "failed" else _said(source, 80), "output_json": False}
        for call in calls
    ]  # fmt: skip
    connection.execute(insert(columns(CallText)), texts)
    thumbs = [
        {"project_id": DEFAULT_PROJECT, "id": f"signal-{call['seq']}", "call_seq": call["seq"],
         "call_id": call["id"], "kind": "thumbs_down" if source.random() < 0.4 else "thumbs_up",
         "at_ms": call["started_at_ms"] + 9_000, "received_at_ms": call["started_at_ms"] + 9_000}
        for call in calls
        if source.random() < 0.04
    ]  # fmt: skip
    if thumbs:
        connection.execute(insert(columns(Signal)), thumbs)
    scores = [score for call in calls for score in _scores(source, call)]
    connection.execute(insert(columns(Score)), [score for score in scores if score["status"] == "scored"])
    connection.execute(insert(columns(Score)), [score for score in scores if score["status"] != "scored"])
    readings = [
        {"call_seq": call["seq"], "p_fail": source.random() ** 8, "kind": "rude", "kinds": {"rude": 0.1},
         "version": "bench", "changed": call["seq"]}
        for call in calls
    ]  # fmt: skip
    connection.execute(insert(columns(GuardReading)), readings)


def _scores(source: random.Random, call: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for i, name in enumerate(RUBRICS):
        row: dict[str, Any] = {
            "call_seq": call["seq"], "rubric": name, "rubric_blob": f"{name}-blob", "view_blob": "v",
            "critic": "local", "created_at_ms": call["started_at_ms"], "changed": call["seq"] * 10 + i,
        }  # fmt: skip
        if name == "accuracy" or call["outcome"] == "failed":
            rows.append(row | {"status": "ungraded", "reason": "no model read the text"})
            continue
        low = source.random() ** 6
        shares = [low * 0.6, low * 0.4, *((1 - low) * share for share in (0.1, 0.2, 0.3, 0.25, 0.15))]
        rows.append(
            row
            | {"status": "scored", "score": 1 + sum(level * p for level, p in enumerate(shares))}
            | {f"p{level}": p for level, p in enumerate(shares, 1)}
        )
    return rows


def _keep_counts(
    connection: Connection, counts: Counter[tuple[int, int, str, str, int]], users: int, since_ms: int
) -> None:
    rows = [
        {"slice_id": slice_id, "hour": hour, "measure": measure, "outcome": outcome, "bucket": bucket,
         "n": n, "weight": float(n)}
        for (slice_id, hour, measure, outcome, bucket), n in counts.items()
    ]  # fmt: skip
    connection.execute(insert(columns(LatencyCount)), rows)
    people = [
        {"project_id": DEFAULT_PROJECT, "user_id": f"u{i}", "first_seen_at_ms": since_ms}
        for i in range(users)
    ]
    connection.execute(insert(columns(EndUser)), people)


def _said(source: random.Random, words: int) -> str:
    return " ".join(source.choices(WORDS[:-1], k=words)) + "."
