"""What pages say first, where there is next to nothing to say: one call, none, no week before."""

from datetime import UTC, datetime
from functools import partial
from typing import Any

from dashboards.drawing.render import Frame, render
from dashboards.filters import (
    CallsQuery,
    LatencyQuery,
    PersonQuery,
    WeekCostsQuery,
    WeekQuery,
    WindowQuery,
    WorstQuery,
)
from dashboards.pages import calls, costs, critic, latency, person, this_week, worst
from ingest.settings import Settings
from ingest.store import OpenStore
from outliers.experience.refresh import refresh_experience
from outliers.weekly import compute_weeks
from tests.rows import put_calls

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)
NOW_MS = round(NOW.timestamp() * 1000)
WEEK = "2026-W47"


def pages(settings: Settings, store: OpenStore) -> dict[str, Any]:
    """Build every page about the running week, rendered too: a template fails on what it does not know."""
    settings = settings.model_copy(update={"critic": "local"})
    with store.read() as connection:
        read = partial(_read, connection, settings)
        built = {
            "this_week": read(this_week, WeekQuery(week=WEEK)),
            "calls": read(calls, CallsQuery(model="m")),
            "latency": read(latency, LatencyQuery(week=WEEK)),
            "costs": read(costs, WeekCostsQuery(week=WEEK)),
            "costs before": read(costs, WeekCostsQuery()),
            "critic": read(critic, WindowQuery()),
            "worst": read(worst, WorstQuery()),
            "user": person.build(connection, settings, "user", "u", PersonQuery(), NOW),
            "session": person.build(connection, settings, "session", "s", PersonQuery(), NOW),
        }
    said = {name: page.headline for name, page in built.items() if page is not None}
    frame = Frame("", "http://127.0.0.1", "", settings.zone)
    said["week in full"] = " ".join(render("this_week.html", built["this_week"], frame).split())
    render("costs.html", built["costs"], frame)
    return said


def _read(connection: Any, settings: Settings, page: Any, asked: Any) -> Any:
    return page.build(connection, settings, asked, NOW)


def test_one_call_reads_as_one(settings: Settings, store: OpenStore) -> None:
    call = {"started_at_ms": NOW_MS - 60_000, "model": "m", "latency_ms": 812, "user_id": "u",
            "session_id": "s", "p_fail": 0.003, "kind": "refusal", "cost_usd": None}  # fmt: skip
    store.write(partial(put_calls, calls=[call]))
    refresh_experience(store, settings)
    compute_weeks(store, settings, NOW_MS)
    said = pages(settings, store)
    assert said["calls"] == "1 call with model m."
    assert said["user"].startswith("Their one call was not bad: ")
    assert said["session"].startswith("Its one call was not bad: ")
    assert said["latency"] == "1 answered call, too few for a median; the slowest, 812 ms, is of m."
    assert said["critic"] == "None of 1 call has a score."
    assert said["this_week"] == "No case: none of 1 ranked call of week 47 was bad."
    assert "Of 1 ranked call in the week none was bad: 0 %" in said["week in full"]
    assert "Nothing to compare with: the week before has no calls." in said["week in full"]
    assert said["costs"] == "No call of week 47 so far says what it cost."
    assert said["costs before"] == "No calls in week 46."


def test_nothing_reads_as_nothing(settings: Settings, store: OpenStore) -> None:
    said = pages(settings, store)
    assert said["this_week"] == "No calls yet."
    assert said["costs"] == said["costs before"] == "No calls yet."
    assert said["latency"] == "No latencies in this window."
    assert said["critic"] == "No call in this window."
    assert {"user", "session"}.isdisjoint(said)
