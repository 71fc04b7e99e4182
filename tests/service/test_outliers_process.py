"""The refreshing child as the server runs it: a process of its own that writes through the pipe."""

import random
import time
from functools import partial
from zoneinfo import ZoneInfo

import pytest

from ingest.children import Child
from ingest.settings import Settings
from ingest.store import OpenStore
from outliers.casework.cases import Case, case_of
from outliers.experience.refresh import now_ms
from outliers.freshness import freshness
from outliers.process import run_outliers
from outliers.weeks import last_ended
from tests.rows import put_calls, quiet_calls


@pytest.mark.usefixtures("warm_children")
def test_the_child_ranks_finds_and_nominates_and_keeps_up(store: OpenStore, settings: Settings) -> None:
    week = last_ended(now_ms(), ZoneInfo("UTC"))
    calls = quiet_calls(random.Random(1), week.since_ms, 1000)
    for call in calls:
        if call["tags"]["tenant"] in ("t3", "t4", "t5"):
            call |= {"p_fail": 0.95, "kind": "truncated", "tags": {"tenant": "t3"}}
    store.write(partial(put_calls, calls=calls))
    child = Child("outliers", run_outliers, settings, store)
    try:
        case = wait_for_case(store, week.id)
        assert case.status == "nominated"
        assert case.sentence.startswith("Answers were cut short where tag tenant = t3: ")
        store.write(partial(put_calls, calls=[{"started_at_ms": now_ms()}]))
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with store.read() as connection:
                if freshness(connection, 1).caught_up:
                    break
            time.sleep(0.05)
        with store.read() as connection:
            assert freshness(connection, 1).caught_up
    finally:
        child.stop()
    assert not child.alive


def wait_for_case(store: OpenStore, week_id: str) -> Case:
    """Return the week's case once it is there, within 20 seconds."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with store.read() as connection:
            case = case_of(connection, 1, week_id)
        if case is not None:
            return case
        time.sleep(0.05)
    raise AssertionError("no case within 20 s")
