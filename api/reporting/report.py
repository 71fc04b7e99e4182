"""A week in one page of plain data: the case, who had it worst, the tail, and what nobody has read yet.

Flow: the store -> `report_of` -> GET /v1/report (`api.routes.reports`), `lowlight report`, `lowlight demo` ->
`api.reporting.report_text` prints it. Durations are milliseconds, instants ISO 8601 with Z, shares 0..1.
"""

import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from critic.queue import backlog
from dashboards.queries.calls import newest_call
from dashboards.queries.volume import volume
from ingest.settings import Settings
from ingest.tables import DEFAULT_PROJECT
from outliers.casework.cases import Case, case_of
from outliers.cohorts.describing import failure
from outliers.cohorts.findings import Finding, findings_of
from outliers.freshness import freshness
from outliers.latency.tails import SlowCall, Tail, slowest, tails
from outliers.settled import settled
from outliers.weeks import Week, last_ended, week_by_id
from outliers.worst import WorstUser, worst_users

USERS = 5
SLOWEST = 3
FINDINGS = 6


def report_of(connection: Connection, settings: Settings, week_id: str | None = None) -> dict[str, Any]:
    """Return a week's report; the last ended week's unless one is named.

    `newest_week` is that of the newest call, None in an empty store.

    Raises:
        UnknownWeek: no such week.
    """
    now_ms = time.time_ns() // 1_000_000
    zone = settings.zone
    week = week_by_id(week_id, zone) if week_id else last_ended(now_ms, zone)
    everybody = worst_users(connection, DEFAULT_PROJECT, week.since_ms, week.until_ms, zone=zone, limit=USERS)
    newest = newest_call(connection, DEFAULT_PROJECT, zone)
    return {
        "week": {
            "id": week.id,
            "since": _iso(week.since_ms),
            "until": _iso(week.until_ms),
            "calls": volume(connection, DEFAULT_PROJECT, week).n,
        },
        "newest_week": None if newest is None else newest.week,
        "case": _case(case_of(connection, DEFAULT_PROJECT, week.id)),
        "findings": _findings(connection, week),
        "worst_users": [_user(one) for one in everybody.rows if one.n_bad],
        "tail": _tail(connection, week),
        "critic": {"critics": settings.critics, "by_status": dict(backlog(connection).by_status)},
        "progress": progress_of(connection, settings),
    }


def _case(case: Case | None) -> dict[str, Any] | None:
    if case is None:
        return None
    return {
        "sentence": case.sentence,
        "status": case.status,
        "condition": case.cohort.condition.as_json(),
        "seed_call_id": case.seed_call_id,
        "calls": case.cohort.n,
        "bad_calls": case.cohort.n_in,
        "users": case.cohort.users,
        "root_cause": case.root_cause,
        "owner": case.owner,
    }


def _findings(connection: Connection, week: Week) -> dict[str, list[dict[str, Any]]]:
    return {
        about: [_finding(one) for one in findings_of(connection, DEFAULT_PROJECT, week.id, about)[:FINDINGS]]
        for about in ("bad", "tail")
    }


def _finding(finding: Finding) -> dict[str, Any]:
    kept = asdict(finding)
    kept["condition"] = finding.condition.as_json()
    kept["first_seen_at"] = _iso(kept.pop("first_seen_at_ms"))
    return kept


def _user(user: WorstUser) -> dict[str, Any]:
    return {
        "user_id": user.user_id,
        "p_bad": round(user.p_bad, 4),
        "calls": user.n,
        "bad_calls": user.n_bad,
        "first_seen_at": None if user.first_seen_at_ms is None else _iso(user.first_seen_at_ms),
        "worst_call_id": user.worst.id,
        "prompt": user.worst.prompt,
        "prompt_version": user.worst.prompt_version,
        "why": failure(user.worst.parts),
    }


def _tail(connection: Connection, week: Week) -> dict[str, Any]:
    window = (connection, DEFAULT_PROJECT, week.since_ms, week.until_ms)
    return {
        "all": [_group(one) for one in tails(*window)],
        "by_prompt": [_group(one) for one in tails(*window, group_by="prompt")],
        "slowest": [_slow(one) for one in slowest(*window, limit=SLOWEST)],
    }


def _group(tail: Tail) -> dict[str, Any]:
    return {
        "group": tail.group,
        "calls": tail.n,
        "failed": tail.n_failed,
        "aborted": tail.n_aborted,
        "quantiles": [asdict(one) for one in tail.quantiles],
        "answered_p99": asdict(tail.answered_p99),
    }


def _slow(call: SlowCall) -> dict[str, Any]:
    return {
        "id": call.id,
        "latency_ms": call.value_ms,
        "outcome": call.outcome,
        "prompt": call.prompt,
        "model": call.model,
        "input_tokens": call.input_tokens,
        "user_id": call.user_id,
    }


def progress_of(connection: Connection, settings: Settings) -> dict[str, Any]:
    """Return how much critic and outliers still have to do; cheap enough to ask again and again.

    Keys: waiting_calls (no critic has met them), due_scores, answers (scores that were answered, whatever
    came of it), calls_behind (not ranked), settled (nothing is left to do).
    """
    waiting = backlog(connection)
    done = settled(connection, settings, time.time_ns() // 1_000_000)
    return {
        "waiting_calls": waiting.todo,
        "due_scores": waiting.pending,
        "answers": sum(waiting.by_status.values()) - waiting.pending,
        "calls_behind": freshness(connection, DEFAULT_PROJECT).calls_behind,
        "settled": done and waiting.todo == 0 and waiting.pending == 0,
    }


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
