"""The queue without a lock: its bounds hold and nothing is forgotten, however many threads record at once."""

import sys
import threading
import time
from collections.abc import Callable, Iterator

import lowlight
import pytest
from lowlight._queue import QUIET_LINGERS

from tests.sdk.fake_server import FakeServer


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads take turns every few microseconds, and so at every place where they can."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before_s)


def at_once(record: Callable[[int], object], n: int) -> None:
    """Run `record(0)` to `record(n - 1)` in threads of their own, and wait for all."""
    threads = [threading.Thread(target=record, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("bounds", [{"items_max": 3_000}, {"bytes_max": 3 * 2**20}])
def test_threads_that_record_at_once_keep_within_the_bounds(
    hasty_threads: None, bounds: dict[str, int]
) -> None:
    """Each item is either held or counted as dropped, and what the others hold is known to each."""
    client = lowlight.Client("http://127.0.0.1:1", linger_s=600, **bounds)  # type: ignore[arg-type]
    at_once(lambda _: [client.record("4" * 100) for _ in range(1_000)], 8)
    stats = client.stats()
    assert stats["queued"] <= bounds.get("items_max", 10_000)
    assert stats["queued_bytes"] <= bounds.get("bytes_max", 64 * 2**20)
    assert stats["queued_bytes"] == 1_100 * stats["queued"]
    assert stats["recorded"] == stats["queued"]
    assert stats["queued"] + stats["dropped"]["queue_full"] == 8_000
    client.shutdown(0)


def test_calls_that_come_while_others_are_sent_are_neither_lost_nor_left_behind(
    hasty_threads: None, server: FakeServer
) -> None:
    """Calls of several threads, with rests in which the sender falls asleep and must be woken."""
    with lowlight.Client(server.url, linger_s=0.002) as client:

        def record(thread: int) -> None:
            for i in range(150):
                client.record("4", id=f"{thread}:{i}")
                if i % 30 == thread:
                    time.sleep(0.002 * QUIET_LINGERS * 1.5)

        at_once(record, 4)
        server.wait_for(lambda fake: len(fake.calls) == 600)  # without a flush, which would wake it
        assert client.flush(20)
        assert (client.stats()["queued"], client.stats()["queued_bytes"]) == (0, 0)


@pytest.mark.parametrize("step", ["__init__", "start"])
def test_where_no_thread_can_be_started_calls_wait_until_one_can(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, step: str
) -> None:
    """A container's limit of processes, the end of the interpreter, or one that allows no such threads."""

    def refused(_thread: threading.Thread, **_how: object) -> None:
        raise RuntimeError("can't start new thread")

    with lowlight.Client(server.url, linger_s=0.01) as client:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, step, refused)
            first = client.record("4")
            second = client.record("5")
        assert client.stats()["queued"] == 2
        third = client.record("6")
        assert client.flush(20)
    assert list(server.calls) == [first, second, third]
    assert [record.message for record in caplog.records] == [
        "no thread could be started (can't start new thread); calls wait until one can be"
    ]
