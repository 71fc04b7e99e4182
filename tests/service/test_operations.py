"""What an operator asks a server: is it there, can it keep calls, what runs, what does it take."""

import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import lowlight
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection, text

from api.door.drops import REASONS, ClientDrops
from api.operating.metrics import metrics_of
from api.operating.readiness import readiness
from ingest.errors import StoreUnavailable
from ingest.settings import Settings
from ingest.store import OpenStore


@pytest.fixture
def client(service_url: str) -> Iterator[httpx.Client]:
    """A client of the module's server."""
    with httpx.Client(base_url=service_url, timeout=30) as opened:
        yield opened


class Down:
    """A child that does not run."""

    alive = False


def test_a_running_server_is_ready_and_says_how_far_it_is(client: httpx.Client) -> None:
    client.post(
        "/v1/calls", json={"calls": [{"output": "4"}]}, headers={"X-Lowlight-Dropped": "queue_full=3"}
    )
    answer = client.get("/readyz")
    state = answer.json()
    assert (answer.status_code, state["ready"], state["database"]) == (200, True, "ok")
    assert state["children"] == {"outliers": "running"}
    assert state["critic"]["calls_waiting"] >= 1
    assert set(state["outliers"]) == {"ran_at", "caught_up", "calls_behind"}
    assert state["dropped_by_clients"] == {"queue_full": 3}
    assert client.get("/healthz").json() == {"status": "ok"}


def test_a_stopped_writer_is_not_ready(store: OpenStore) -> None:
    """A call sent now would not be kept."""
    assert readiness(store, {}, ClientDrops())["ready"]
    store.writer.close()
    state = readiness(store, {}, ClientDrops())
    assert not state["ready"]
    assert not state["writer"]["alive"]
    assert "Start the server again" in state["problems"][0]


def test_a_database_that_does_not_answer_is_not_ready(store: OpenStore, settings: Settings) -> None:
    with sqlite3.connect(settings.database_url.removeprefix("sqlite:///")) as other:
        other.execute("drop table todo")
    state = readiness(store, {}, ClientDrops())
    assert not state["ready"]
    assert "todo" in state["database"]


def test_a_child_that_is_down_is_said_and_calls_are_still_kept(store: OpenStore) -> None:
    state = readiness(store, {"critic": Down()}, ClientDrops())
    assert state["children"] == {"critic": "down"}
    assert state["ready"]


def test_what_clients_dropped_is_bounded() -> None:
    """A header is anybody's to write: what it says beyond the known reasons is counted, and not repeated."""
    drops = ClientDrops()
    for i in range(1000):
        drops.note(f"reason_{'abcdefghij'[i % 10]}=1, queue_full=2, nonsense, =5, closed=-1, {'x' * 100}=1")
    assert drops.counts() == {"other": 1000, "queue_full": 2000}


def test_every_reason_that_the_sdk_gives_is_known() -> None:
    package = Path(lowlight.__file__).parent
    given = {
        reason
        for module in package.glob("*.py")
        for reason in re.findall(r'_?drop\(\s*"([a-z_]+)"', module.read_text())
    }
    assert {"shutdown", "no_receipt"} <= given <= REASONS


def figures(client: httpx.Client) -> dict[str, float]:
    """What /metrics says, read by Prometheus' own parser: {'name{label="value"}': value}."""
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        sample.name
        + "".join(f" {name}={value}" for name, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_metrics_count_what_was_sent_and_answered(client: httpx.Client) -> None:
    before = figures(client)
    sent = [{"id": "m", "user_id": "user-secret"}, {"id": "m"}, {"latency_ms": -5}]
    client.post("/v1/calls", json={"calls": sent}, headers={"X-Lowlight-Dropped": "queue_full=3"})
    client.post("/v1/signals", json={"signals": [{"call_id": "m", "kind": "thumbs_down"}]})
    client.post("/v1/logs", json={})
    client.get("/v1/calls/user-secret")
    client.get("/no/such/user-secret")
    after = figures(client)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    for result in ("accepted", "duplicate", "rejected"):
        assert grown(f"lowlight_calls_total result={result}") == 1
    assert grown("lowlight_signals_total result=accepted") == 1
    assert grown("lowlight_request_seconds_count method=POST route=/v1/calls status=200") == 1
    assert grown("lowlight_request_seconds_count method=GET route=/v1/calls/{call_id:path} status=404") == 1
    assert grown("lowlight_request_seconds_count method=GET route=none status=404") == 1
    assert grown("lowlight_commit_seconds_count") >= 2
    assert grown("lowlight_commit_jobs_sum") >= 2
    assert grown("lowlight_client_dropped_total reason=queue_full") == 3
    assert after["lowlight_database_bytes"] > 0
    assert after["lowlight_child_up child=outliers"] == 1
    assert not [name for name in after if "user-secret" in name]


def test_the_figures_that_the_page_names_exist(client: httpx.Client) -> None:
    """docs/operations.md tells what to alert on; a label set that has nothing to count yet has no line."""
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    named = {
        name.removesuffix("_count").removesuffix("_total") for name in re.findall(r"lowlight_[a-z_]+", page)
    }
    assert "lowlight_writer_failing" in named
    deadline = time.monotonic() + 60
    families: set[str] = set()
    while not named <= families:  # the outliers have no age before they were first computed
        assert time.monotonic() < deadline, named - families
        families = {family.name for family in text_string_to_metric_families(client.get("/metrics").text)}


def test_metrics_say_when_the_database_cannot_be_read(store: OpenStore, settings: Settings) -> None:
    metrics = metrics_of(store, {}, ClientDrops())
    with sqlite3.connect(settings.database_url.removeprefix("sqlite:///")) as other:
        other.execute("drop table todo")
    assert b"lowlight_database_readable 0.0" in metrics.text()


def test_answers_of_critics_are_counted_once_each(store: OpenStore) -> None:
    """By what has changed since the last look: a table of a million answers is never walked."""
    metrics = metrics_of(store, {}, ClientDrops())
    metrics.text()
    write(
        store,
        "insert into score (call_seq, rubric, rubric_blob, view_blob, critic, occasion, status, attempts,"
        " not_before_ms, created_at_ms, changed) values"
        " (1, 'r', 'b', 'v', 'local', '', 'ungraded', 0, 0, 0, 1),"
        " (2, 'r', 'b', 'v', 'local', '', 'failed', 0, 0, 0, 2),"
        " (3, 'r', 'b', 'v', 'local', '', 'pending', 0, 0, 0, null)",
    )
    for _scrape in range(2):
        lines = metrics.text().decode().splitlines()
        assert 'lowlight_scores_total{critic="local",status="ungraded"} 1.0' in lines
        assert 'lowlight_scores_total{critic="local",status="failed"} 1.0' in lines
        assert "lowlight_answers_waiting 1.0" in lines


def write(store: OpenStore, statement: str) -> None:
    """Run one statement through the writer."""

    def job(connection: Connection) -> None:
        connection.execute(text(statement))

    store.write(job)


def test_a_locked_database_is_not_ready_and_is_again_by_itself(store: OpenStore, settings: Settings) -> None:
    """Also where nobody has tried to write yet, and while the first write still waits for the lock."""
    path = settings.database_url.removeprefix("sqlite:///")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("begin immediate")
    state = readiness(store, {}, ClientDrops())
    assert not state["ready"]
    assert "locked" in state["problems"][0]
    assert "Close that program" in state["problems"][0]
    assert state["database"] == "ok"  # it can be read
    other.execute("rollback")
    other.close()
    deadline = time.monotonic() + 30
    while not readiness(store, {}, ClientDrops())["ready"]:
        assert time.monotonic() < deadline


def test_a_full_database_is_not_ready_although_a_small_write_succeeds(store: OpenStore) -> None:
    def fill(connection: Connection) -> None:
        (pages,) = connection.exec_driver_sql("pragma page_count").one()
        connection.exec_driver_sql(f"pragma max_page_count = {pages + 4}")
        name = "x" * 100_000
        connection.execute(text("insert into project (name) values (:name)"), {"name": name})

    with pytest.raises(StoreUnavailable):
        store.write(fill)
    write(store, "update project set name = 'renamed' where name = 'default'")
    state = readiness(store, {}, ClientDrops())
    assert not state["ready"]
    assert "full" in state["problems"][0]
    assert "Free some space" in state["problems"][0]


def test_what_keeps_no_call_out_is_a_warning(store: OpenStore) -> None:
    later_ms = (time.time_ns() // 1_000_000) + 60_000
    write(
        store,
        "insert into critic_state (critic, paused_until_ms, reason, seen_at_ms)"
        f" values ('openai:m', {later_ms}, 'the key is not accepted', 0)",
    )
    state = readiness(store, {"critic": Down(), "outliers": Down()}, ClientDrops())
    assert state["ready"]
    assert state["problems"] == []
    assert any("critic process is down" in warning for warning in state["warnings"])
    assert any("openai:m" in warning and "key is not" in warning for warning in state["warnings"])


def test_version_names_what_an_issue_should_name(client: httpx.Client) -> None:
    assert set(client.get("/version").json()) == {"version", "schema", "python", "sqlite"}


def test_the_openapi_document_describes_what_intake_takes(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    shapes = document["components"]["schemas"]
    for name in ("Call", "Signal", "Label", "CallBatch", "Receipt", "Usage"):
        assert name in shapes
    body = document["paths"]["/v1/calls"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/CallBatch"}
    assert shapes["Call"]["properties"]["sample_rate"]["maximum"] == 1
