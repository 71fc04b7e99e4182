"""Counting behind the calls: whatever happens in between, each call is counted once, as its row says."""

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Connection, delete, select, text

from api.schema import _config, upgrade
from ingest import counting
from ingest.call_fills import fill_calls
from ingest.call_rows import NewCall, new_call
from ingest.call_writes import keep_calls
from ingest.counting import HOUR_MS, count_new_calls
from ingest.errors import StoreUnavailable
from ingest.latency import counted_latencies
from ingest.settings import Settings
from ingest.store import OpenStore, read_counted, writing_engine
from ingest.tables import Call, LatencyCount, columns
from ingest.wire import Call as SentCall

CALL, COUNT = columns(Call), columns(LatencyCount)


@pytest.fixture
def connection(settings: Settings) -> Iterator[Connection]:
    """A writing connection without a writer: nothing is counted but by the test."""
    engine = writing_engine(settings.database_url)
    with engine.connect() as opened:
        yield opened


def made(call_id: str, **fields: Any) -> NewCall:
    """A call as intake makes it."""
    return new_call(SentCall.model_validate({"id": call_id, "model": "m", **fields}), 1_000_000)


def keep(connection: Connection, *calls: NewCall) -> list[int]:
    """Commit calls; return their seqs."""
    with connection.begin():
        keep_calls(connection, 1, calls, {})
    return [call.seq for call in calls]


def count(connection: Connection) -> None:
    """Count all that waits."""
    with connection.begin():
        while count_new_calls(connection):
            pass


def counts(connection: Connection) -> dict[tuple[Any, ...], tuple[int, float]]:
    """What latency_count says, but for what went to nothing."""
    with connection.begin():
        rows = connection.execute(select(COUNT).where(COUNT.c.n != 0)).mappings().all()
    key = ("slice_id", "measure", "hour", "outcome", "bucket")
    return {tuple(row[name] for name in key): (row["n"], pytest.approx(row["weight"])) for row in rows}


def expected(connection: Connection) -> dict[tuple[Any, ...], tuple[int, float]]:
    """What the calls themselves say."""
    found: dict[tuple[Any, ...], tuple[int, float]] = {}
    with connection.begin():
        rows = connection.execute(select(CALL)).mappings().all()
    for row in rows:
        measures = counted_latencies(
            row["latency_ms"], row["first_token_ms"], row["output_tokens"], row["outcome"]
        )
        for measure, bucket in measures:
            at = (row["slice_id"], measure, row["started_at_ms"] // HOUR_MS, row["outcome"], bucket)
            n, weight = found.get(at, (0, 0.0))
            found[at] = (n + 1, weight + 1 / row["sample_rate"])
    return found


def test_any_order_of_keeping_completing_and_counting_comes_to_the_same(connection: Connection) -> None:
    """A call may learn a latency, its tokens or its prompt before it is counted, or after."""
    source = random.Random(5)
    seqs: list[int] = []
    for step in range(300):
        what = source.choice(("keep", "keep", "fill", "fill", "count"))
        if what == "keep":
            fields: dict[str, Any] = {"sample_rate": source.choice((1.0, 0.25))}
            if source.random() < 0.5:
                fields["latency_ms"] = source.choice((100.0, 900.0))
            if source.random() < 0.2:
                fields["error"] = {"type": "Timeout"}
            seqs += keep(connection, made(f"c{step}", **fields))
        elif what == "fill" and seqs:
            told: dict[str, Any] = {"latency_ms": 100.0} if source.random() < 0.4 else {}
            told |= {"first_token_ms": 20.0} if source.random() < 0.4 else {}
            told |= {"usage": {"output_tokens": 9}} if source.random() < 0.4 else {}
            told |= {"prompt": {"name": source.choice("pq")}} if source.random() < 0.4 else {}
            with connection.begin():
                fill_calls(connection, 1, [(source.choice(seqs), made("told", **told))])
        elif what == "count":
            count(connection)
    count(connection)
    assert len(counts(connection)) > 20
    assert counts(connection) == expected(connection)


def test_what_is_rolled_back_is_counted_later_and_once(connection: Connection) -> None:
    keep(connection, made("a", latency_ms=5.0))
    with connection.begin() as transaction:
        count_new_calls(connection)
        transaction.rollback()
    assert counts(connection) == {}
    for _time in range(2):
        count(connection)
        assert counts(connection) == expected(connection)


def test_a_call_under_a_deleted_ones_number_is_counted(connection: Connection) -> None:
    """Whoever deletes the newest calls frees their numbers; what comes under one would pass for counted."""
    (seq,) = keep(connection, made("gone", latency_ms=5.0))
    count(connection)
    with connection.begin():
        connection.execute(delete(CALL).where(CALL.c.seq == seq))
    (next_seq,) = keep(connection, made("new", latency_ms=5.0))
    assert next_seq > seq
    count(connection)
    with connection.begin():
        assert connection.execute(select(COUNT.c.n)).scalars().all() == [2]


def test_a_reader_finds_what_a_killed_server_left_uncounted(
    settings: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "CALLS_MAX", 2)
    keep(connection, *(made(str(i), latency_ms=10.0 * i) for i in range(5)))
    connection.close()
    store = OpenStore(settings.database_url)
    for _time in range(2):
        with read_counted(store) as reading:
            assert reading.execute(text("select sum(n) from latency_count")).scalar() == 5
    store.close()


def test_the_writer_counts_by_itself_at_rest_under_load_and_at_its_end(settings: Settings) -> None:
    def total() -> int:
        with closing(sqlite3.connect(settings.database_url.removeprefix("sqlite:///"))) as file:
            return file.execute("select coalesce(sum(n), 0) from latency_count").fetchone()[0]  # type: ignore[no-any-return]

    def wait_for(holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def kept(*ids: str) -> Callable[[Connection], Any]:
        return lambda connection: keep_calls(connection, 1, [made(one, latency_ms=1.0) for one in ids], {})

    store = OpenStore(settings.database_url)
    store.write(kept("at rest"))
    wait_for(lambda: total() == 1)

    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            store.write(lambda _connection: None)

    thread = threading.Thread(target=busy)
    thread.start()
    store.write(kept("under load"))
    wait_for(lambda: total() == 2)
    stop.set()
    thread.join()

    store.write(kept("at its", "end"))
    store.close()
    assert total() == 4


class _Unwritable:
    """A store that can be read alone."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self._connection.begin():
            yield self._connection

    def write(self, _job: Callable[[Connection], Any]) -> Any:
        raise StoreUnavailable("The disk is full.")


def test_where_nothing_can_be_written_the_counts_are_read_as_they_are(
    connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    keep(connection, made("a", latency_ms=5.0))
    with read_counted(_Unwritable(connection)) as reading:
        assert reading.execute(text("select count(*) from latency_count")).scalar() == 0
    assert "The disk is full" in caplog.text


def test_calls_of_before_the_revision_are_not_counted_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    upgrade(url)
    engine = writing_engine(url)
    with engine.connect() as connection:
        keep(connection, made("a", latency_ms=5.0), made("b", latency_ms=5.0))
        count(connection)
        command.downgrade(_config(connection), "0004")
    upgrade(url, keep_copy=False)
    with engine.connect() as connection:
        keep(connection, made("c", latency_ms=5.0))
        count(connection)
        assert counts(connection) == expected(connection)
