"""Clients that send batch after batch, say again what was not acknowledged, and remember what was.

Flow: `Senders(address)` -> threads -> POST /v1/calls -> `acknowledged`; afterwards `Kept` reads the file.
"""

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx

BATCH = 20


def batch_of(sender: int, number: int) -> list[dict[str, object]]:
    """A batch whose ids say which one it is."""
    return [
        {"id": f"{sender}-{number}-{i}", "latency_ms": 100.0, "model": "m", "output": "x" * 500}
        for i in range(BATCH)
    ]


class Senders:
    """A few clients, each in a thread, each repeating a batch until it is acknowledged, as the SDK does.

    Attributes:
        wrong: answers that should never be given.
        acknowledged: (sender, number) of each batch whose receipt came.
        statuses: how often each status was answered; 0 for no answer.
    """

    def __init__(self, senders: int) -> None:
        self.acknowledged: set[tuple[int, int]] = set()
        self.statuses: Counter[int] = Counter()
        self.wrong: list[str] = []
        self._next = [0] * senders
        self._turn = threading.Lock()

    @contextmanager
    def sending(self, address: str) -> Iterator[None]:
        """Send while the block runs, going on where the last server left off; end after what is in hand."""
        stop = threading.Event()
        threads = [
            threading.Thread(target=self._send, args=(address, sender, stop))
            for sender in range(len(self._next))
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert self.wrong == []

    def wait_for(self, batches: int, timeout_s: float = 60.0) -> None:
        """Wait until this many more batches are acknowledged."""
        wanted = len(self.acknowledged) + batches
        deadline = time.monotonic() + timeout_s
        while len(self.acknowledged) < wanted:
            assert time.monotonic() < deadline, self.statuses
            time.sleep(0.002)

    def sent(self) -> set[tuple[int, int]]:
        """Every batch that was ever sent, the last one of each sender perhaps unheard of."""
        return {(sender, number) for sender, to in enumerate(self._next) for number in range(to + 1)}

    def _send(self, address: str, sender: int, stop: threading.Event) -> None:
        with httpx.Client(base_url=address, timeout=60) as client:
            while not stop.is_set():
                number = self._next[sender]
                try:
                    answer = client.post("/v1/calls", json={"calls": batch_of(sender, number)})
                except httpx.TransportError:
                    self._count(0)
                    stop.wait(0.05)
                    continue
                self._count(answer.status_code)
                if answer.status_code == 200:
                    told = answer.json()
                    if told["accepted"] + told["duplicates"] != BATCH:
                        self.wrong.append(answer.text)
                    self.acknowledged.add((sender, number))
                    self._next[sender] += 1
                else:
                    wait_s = int(answer.headers.get("Retry-After", 0))
                    if answer.status_code not in (429, 503) or not 1 <= wait_s <= 60:
                        self.wrong.append(f"{answer.status_code} {answer.text}")
                    stop.wait(0.1)

    def _count(self, status: int) -> None:
        with self._turn:
            self.statuses[status] += 1


def ids_of(batches: set[tuple[int, int]]) -> set[str]:
    """The ids of the calls in these batches."""
    return {f"{sender}-{number}-{i}" for sender, number in batches for i in range(BATCH)}


class Kept:
    """What a file holds: ids as often as they are there, how many calls are counted, and should be by now."""

    def __init__(self, path: Path) -> None:
        connection = sqlite3.connect(path, timeout=30)
        self.ids = [row[0] for row in connection.execute("select id from call")]
        (self.counted,) = connection.execute("select coalesce(sum(n), 0) from latency_count").fetchone()
        (self.due,) = connection.execute(
            "select count(*) from call where seq <= (select through_seq from latency_counted)"
        ).fetchone()
        (self.texts,) = connection.execute("select count(*) from call_text").fetchone()
        (self.sound,) = connection.execute("pragma quick_check").fetchone()
        connection.close()

    def check(self, senders: Senders) -> None:
        """Every acknowledged call is there, none is twice, none is half there, none was made up."""
        assert self.sound == "ok"
        assert len(self.ids) == len(set(self.ids))
        assert ids_of(senders.acknowledged) <= set(self.ids) <= ids_of(senders.sent())
        # A call and its text are one transaction; so are the counts and how far they have come.
        assert self.texts == len(self.ids)
        assert self.counted == self.due
        # So is a batch.
        batches = Counter(call_id.rpartition("-")[0] for call_id in self.ids)
        assert set(batches.values()) <= {BATCH}
