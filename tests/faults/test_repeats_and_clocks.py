"""A client that sends the same batch five times, one after the other and at once, and clocks two days off."""

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from ingest.settings import Settings

DAYS_OFF_MS = 2 * 24 * 3600 * 1000


@pytest.fixture(scope="module")
def path(service_settings: Settings) -> Path:
    """The file of the module's server."""
    return Path(service_settings.database_url.removeprefix("sqlite:///"))


def rows(path: Path, query: str, *values: Any) -> list[Any]:
    """What a query finds in the file."""
    connection = sqlite3.connect(path)
    found = connection.execute(query, values).fetchall()
    connection.close()
    return found


@pytest.mark.parametrize("at_once", [1, 5])
def test_the_same_batch_five_times(service_url: str, path: Path, at_once: int) -> None:
    """Each call is kept, counted and given to the critic once; five receipts, one of them with all of it."""
    name = f"five-{at_once}"
    calls = [{"id": f"{name}-{i}", "prompt": {"name": name}, "latency_ms": 50.0} for i in range(200)]
    signals = [{"id": f"{name}-s{i}", "call_id": f"{name}-{i}", "kind": "thumbs_down"} for i in range(50)]
    labels = [{"call_id": f"{name}-0", "rubric": "tone", "level": 2, "labeller": "ada"}]
    with ThreadPoolExecutor(at_once) as pool:

        def send(what: str, items: list[dict[str, Any]]) -> list[tuple[int, int]]:
            def one(_time: int) -> tuple[int, int]:
                answer = httpx.post(f"{service_url}/v1/{what}", json={what: items}, timeout=60).json()
                return answer["accepted"], answer["duplicates"]

            return sorted(pool.map(one, range(5)))

        assert send("calls", calls) == [(0, 200)] * 4 + [(200, 0)]
        assert send("signals", signals) == [(0, 50)] * 4 + [(50, 0)]
        send("labels", labels)
    ours = "from call where id like ?"
    assert rows(path, f"select count(*), count(distinct id) {ours}", f"{name}-%") == [(200, 200)]
    (slices,) = rows(path, "select count(distinct slice_id) from call where id like ?", f"{name}-%")
    assert slices == (1,)
    counted = (
        "select sum(n) from latency_count where measure = 'total' and slice_id = "
        "(select slice_id from call where id = ?)"
    )
    httpx.get(
        f"{service_url}/v1/latency"
    ).raise_for_status()  # whoever reads the counts has all calls in them
    assert rows(path, counted, f"{name}-0") == [(200,)]
    assert rows(path, "select count(*) from signal where call_id like ?", f"{name}-%") == [(50,)]
    assert rows(path, "select count(*) from label where call_id like ?", f"{name}-%") == [(1,)]
    todo = "select count(*) from todo join call on call.seq = call_seq where reason = 'new' and id like ?"
    assert rows(path, todo, f"{name}-%") == [(200,)]


@pytest.mark.parametrize("off_ms", [-DAYS_OFF_MS, DAYS_OFF_MS])
def test_a_client_whose_clock_is_two_days_off(service_url: str, path: Path, off_ms: int) -> None:
    """A late clock is believed, for calls may come late; one from the future is set to the receipt."""
    name = f"clock{off_ms}"
    claimed = datetime.now(UTC) + timedelta(milliseconds=off_ms)
    before_ms = time.time_ns() // 1_000_000
    call = {"id": name, "started_at": claimed.isoformat(), "latency_ms": 70.0, "session_id": name}
    signal = {"session_id": name, "kind": "thumbs_down", "at": (claimed + timedelta(minutes=1)).isoformat()}
    assert httpx.post(f"{service_url}/v1/calls", json={"calls": [call]}).json()["accepted"] == 1
    assert httpx.post(f"{service_url}/v1/signals", json={"signals": [signal]}).json()["accepted"] == 1
    after_ms = time.time_ns() // 1_000_000
    ((started_ms, received_ms, seq),) = rows(
        path, "select started_at_ms, received_at_ms, seq from call where id = ?", name
    )
    assert before_ms <= received_ms <= after_ms
    if off_ms > 0:
        assert before_ms <= started_ms <= after_ms
    else:
        assert abs(started_ms - claimed.timestamp() * 1000) < 2
    # The session's signal finds its call in either case, and both are read back.
    assert rows(path, "select call_seq from signal where session_id = ?", name) == [(seq,)]
    shown = httpx.get(f"{service_url}/v1/calls/{name}").json()
    assert shown["call"]["id"] == name
    assert len(shown["signals"]) == 1


@pytest.mark.parametrize("off_ms", [-DAYS_OFF_MS, DAYS_OFF_MS])
def test_an_exporter_whose_clock_is_two_days_off(service_url: str, off_ms: int) -> None:
    """A span closes by the server's clock: its call appears after the quiet period, whatever it claims."""
    start_ns = time.time_ns() + off_ms * 1_000_000
    trace_id = f"{abs(off_ms) + (off_ms > 0):032x}"
    span = {
        "traceId": trace_id,
        "spanId": "00000000000000ab",
        "name": "chat m",
        "kind": 3,
        "startTimeUnixNano": str(start_ns),
        "endTimeUnixNano": str(start_ns + 80_000_000),
        "attributes": [
            {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
            {"key": "gen_ai.request.model", "value": {"stringValue": "m"}},
        ],
    }
    sent = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
    assert httpx.post(f"{service_url}/v1/traces", json=sent).status_code == 200
    deadline = time.monotonic() + 60
    while (answer := httpx.get(f"{service_url}/v1/calls/{trace_id}:00000000000000ab")).status_code != 200:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)
    assert answer.json()["call"]["latency_ms"] == 80.0
