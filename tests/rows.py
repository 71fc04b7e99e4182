"""Rows for tests, written straight into a fresh database: calls, scores, readings, signals, experiences.

Calls are plain dicts with only what a test cares about; the rest is filled in.
"""

import json
import random
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select

from critic.tables import GuardReading, RubricVersion, Score
from ingest.counting import count_new_calls
from ingest.tables import Call, CallText, EndUser, Project, Signal, Slice, columns
from outliers.frame import READ, Columns, WeekCalls
from outliers.weeks import Week

SLICE_FIELDS = ("provider", "model", "prompt", "prompt_version", "environment", "release")
_CALL_FIELDS = frozenset(columns(Call).c.keys())
HOUR_MS = 3_600_000


def put_calls(connection: Connection, calls: Iterable[dict[str, Any]], project_id: int = 1) -> list[int]:
    """Insert calls as intake would: slices, latency counts and end users with them; return their seqs.

    Args:
        calls: columns of `call` and of `slice`; `started_at_ms` is needed. Also `p_fail` and `kind` (a guard
            reading), `language` (its input's), `signals` (kinds), `text` (columns of `call_text`).
    """
    slices: dict[tuple[str, ...], int] = {
        tuple(row[name] for name in SLICE_FIELDS): row["id"]
        for row in connection.execute(select(columns(Slice))).mappings()
    }
    first = connection.execute(select(func.max(columns(Call).c.seq))).scalar() or 0
    rows: dict[type, list[dict[str, Any]]] = {t: [] for t in (Call, CallText, GuardReading, Signal)}
    first_seen: dict[str, int] = {}
    seqs = []
    for seq, sent in enumerate(calls, first + 1):
        call = {"outcome": "answered", "latency_ms": 800.0, "sample_rate": 1.0, **sent}
        key = tuple(str(call.get(name, "")) for name in SLICE_FIELDS)
        slice_id = slices.setdefault(key, len(slices) + 1)
        filled = {
            "seq": seq,
            "project_id": project_id,
            "id": f"call-{seq}",
            "slice_id": slice_id,
            "received_at_ms": call["started_at_ms"],
            **dict.fromkeys(_CALL_FIELDS - {"seq", "project_id", "id", "slice_id", "received_at_ms"}),
        }
        rows[Call].append(filled | {name: value for name, value in call.items() if name in _CALL_FIELDS})
        if call.get("user_id"):
            seen = first_seen.get(call["user_id"], call["started_at_ms"])
            first_seen[call["user_id"]] = min(seen, call.get("first_seen_at_ms", call["started_at_ms"]))
        if "p_fail" in call:
            rows[GuardReading].append(
                {
                    "call_seq": seq,
                    "p_fail": call["p_fail"],
                    "kind": call.get("kind"),
                    "input_language": call.get("language"),
                    "version": "test",
                    "changed": seq,
                }
            )
        rows[Signal] += [
            {
                "project_id": project_id,
                "id": f"signal-{seq}-{kind}",
                "call_seq": seq,
                "kind": kind,
                "at_ms": call["started_at_ms"],
                "received_at_ms": call["started_at_ms"],
            }
            for kind in call.get("signals", ())
        ]
        if "text" in call:
            rows[CallText].append(
                {"call_seq": seq, "input_json": False, "output_json": False, **call["text"]}
            )
        seqs.append(seq)
    _put_slices(connection, slices, project_id)
    for table, many in rows.items():
        if many:
            connection.execute(insert(columns(table)), many)
    while count_new_calls(connection):
        pass
    if first_seen:
        connection.execute(
            insert(columns(EndUser)).prefix_with("or ignore"),
            [
                {"project_id": project_id, "user_id": user, "first_seen_at_ms": at}
                for user, at in first_seen.items()
            ],
        )
    return seqs


def _put_slices(connection: Connection, slices: dict[tuple[str, ...], int], project_id: int) -> None:
    connection.execute(
        insert(columns(Slice)).prefix_with("or ignore"),
        [
            {"id": slice_id, "project_id": project_id, **dict(zip(SLICE_FIELDS, key, strict=True))}
            for key, slice_id in slices.items()
        ],
    )
    connection.execute(
        insert(columns(Project)).prefix_with("or ignore"), [{"seq": project_id, "name": "default"}]
    )


def put_score(
    connection: Connection,
    call_seq: int,
    probabilities: Sequence[float],
    *,
    rubric: str = "faithfulness",
    blob: str = "b1",
    critic: str = "local",
    changed: int = 1,
) -> None:
    """Insert one scored answer; `blob` names the rubric's version, first used at its number."""
    connection.execute(
        insert(columns(RubricVersion)).prefix_with("or ignore"),
        [
            {
                "blob": blob,
                "name": rubric,
                "view_blob": "v",
                "question": "?",
                "levels": ["."] * 7,
                "source": "",
                "first_used_at_ms": int(blob[1:]),
            }
        ],
    )
    connection.execute(
        insert(columns(Score)),
        [
            {
                "call_seq": call_seq,
                "rubric": rubric,
                "rubric_blob": blob,
                "view_blob": "v",
                "critic": critic,
                "status": "scored",
                **{f"p{level}": p for level, p in enumerate(probabilities, 1)},
                "score": 1 + sum(i * p for i, p in enumerate(probabilities)),
                "created_at_ms": 0,
                "changed": changed,
            }
        ],
    )


def quiet_calls(
    source: random.Random, since_ms: int, n: int, *, users: int | None = None, hours: int = 168
) -> list[dict[str, Any]]:
    """Return n calls of a week in which nothing happened: four prompts, three models, flaws here and there.

    Users come back, some more than others, and differ a little in how their calls go, as people do.
    """
    users = users or max(20, n // 8)
    unlucky = [source.betavariate(0.5, 12) for _ in range(users)]
    weights = [source.paretovariate(1.2) for _ in range(users)]
    joined = [since_ms + int(source.random() * hours * HOUR_MS) for _ in range(users)]
    calls = []
    for user in source.choices(range(users), weights, k=n):
        prompt = source.choice(("faq", "faq", "summary", "draft", "welcome"))
        tokens = int(source.lognormvariate(6.5, 1.0))
        bad = source.random() < unlucky[user] / 2
        earliest_ms = since_ms if user % 5 else joined[user]
        started_at_ms = earliest_ms + int(source.random() * (since_ms + hours * HOUR_MS - earliest_ms))
        calls.append(
            {
                "started_at_ms": started_at_ms,
                "provider": "aurora",
                "model": source.choice(("large", "small", "small")),
                "prompt": prompt,
                "prompt_version": source.choice(("v6", "v7")) if prompt == "faq" else "v1",
                "environment": "production",
                "release": source.choice(("1.4", "1.5")),
                "user_id": f"u{user}",
                "first_seen_at_ms": since_ms - 86_400_000 if user % 5 else joined[user],
                "session_id": f"u{user}-{source.randrange(9)}",
                "input_tokens": tokens,
                "output_tokens": int(source.lognormvariate(5, 0.6)),
                "input_chars": tokens * 4,
                "context_chars": source.choice((0, int(source.lognormvariate(7, 0.7)))),
                "latency_ms": 400 * source.lognormvariate(0, 0.5) + 0.05 * tokens,
                "language": source.choice(("en", "en", "en", "de", "es")),
                "tags": {"plan": source.choice(("free", "team")), "tenant": f"t{source.randrange(30)}"},
                "tools": source.choice((None, None, ["search"])),
                "p_fail": min(0.99, source.uniform(0.4, 0.95)) if bad else source.betavariate(0.4, 40),
                "kind": source.choice(("truncated", "refusal", "off_topic")) if bad else None,
                "cost_usd": tokens * 2e-6,
                "signals": ("thumbs_down",) if bad and source.random() < 0.3 else (),
            }
        )
    return sorted(calls, key=lambda call: call["started_at_ms"])


def frame_of(calls: Sequence[dict[str, Any]], week: Week) -> WeekCalls:
    """Return calls (as `put_calls` takes them, oldest first) as a week's columns, without a database.

    P(bad) is the guard's p_fail, or the call's own "p_bad".
    """
    slices: dict[tuple[str, ...], int] = {}
    rows = []
    for seq, call in enumerate(calls, 1):
        key = tuple(str(call.get(name, "")) for name in SLICE_FIELDS)
        known = {
            "outcome": "answered",
            **call,
            "seq": seq,
            "id": f"call-{seq}",
            "slice_id": slices.setdefault(key, len(slices) + 1),
            "p_bad": call.get("p_bad", call.get("p_fail")),
            "input_language": call.get("language"),
            "tags": json.dumps(call.get("tags")),
            "tools": json.dumps(call.get("tools")),
        }
        rows.append([known.get(name) for name in READ])
    thumbs = {seq: 0.0 for seq, call in enumerate(calls, 1) if "thumbs_down" in call.get("signals", ())}
    fields = {number: dict(zip(SLICE_FIELDS, key, strict=True)) for key, number in slices.items()}
    columns_read = Columns()
    columns_read.add(rows, fields, thumbs)
    return columns_read.finish(week)
