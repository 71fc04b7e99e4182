"""Another program locks the database: requests wait or get 503, /readyz says no, and all ends by itself."""

import sqlite3
import time
from pathlib import Path

import httpx2 as httpx
import pytest

from ingest.settings import Settings
from tests.faults.senders import Kept, Senders
from tests.warm import background


@pytest.mark.parametrize("locked_s", [4.0, pytest.param(45.0, marks=pytest.mark.long)])
def test_a_lock_is_waited_for_said_and_survived(settings: Settings, tmp_path: Path, locked_s: float) -> None:
    """45 s is more than SQLite's own wait of 20 s: what waited so long gets 503, and comes again."""
    path = tmp_path / "lowlight.db"
    senders = Senders(6)
    with (
        background(settings, log_path=tmp_path / "server.log") as address,
        httpx.Client(base_url=address, timeout=60) as client,
        senders.sending(address),
    ):
        senders.wait_for(5)
        other = sqlite3.connect(path, isolation_level=None, timeout=30)
        other.execute("begin immediate")
        locked_at = time.monotonic()
        at_the_lock = len(senders.acknowledged)
        state: dict[str, object] = {"ready": True}
        while state["ready"] and time.monotonic() < locked_at + 30:
            answer = client.get("/readyz")
            state = answer.json()
        assert (answer.status_code, state["ready"]) == (503, False)
        assert "locked" in str(state["problems"])
        # Nothing can have been committed; reading goes on.
        assert len(senders.acknowledged) - at_the_lock <= 6
        assert client.get("/v1/calls").status_code == 200
        assert client.get("/healthz").status_code == 200
        while time.monotonic() < locked_at + locked_s:
            assert client.get("/readyz").status_code == 503
            time.sleep(0.5)
        other.execute("rollback")
        other.close()
        senders.wait_for(20)
        deadline = time.monotonic() + 30
        while not client.get("/readyz").json()["ready"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert (senders.statuses[503] > 0) == (locked_s > 20)
    Kept(path).check(senders)
