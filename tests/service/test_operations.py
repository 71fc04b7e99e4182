"""What an operator asks a server: is it there, can it keep calls, what runs, what does it take."""

import sqlite3
from collections.abc import Iterator

import httpx2 as httpx
import pytest

from api.drops import REASONS_MAX, ClientDrops
from api.readiness import readiness
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
    """A header is anybody's to write."""
    drops = ClientDrops()
    letters = "abcdefghijklmnopqrstuvwxyzabcd"
    for reason in (f"reason_{one}{two}" for one in letters[:6] for two in letters[:6]):
        drops.note(f"{reason}=1, nonsense, =5, {reason}=-1, {'x' * 100}=1")
    counts = drops.counts()
    assert len(counts) == REASONS_MAX + 1
    assert counts["other"] == 36 - REASONS_MAX


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
