"""The one writer: groups, savepoints, a full queue, a locked and a full database."""

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from ingest import writer as writer_module
from ingest.call_rows import NewCall, new_call
from ingest.errors import StoreUnavailable, WriterBusy
from ingest.one_call import KeepCalls
from ingest.probe import WriteProbe
from ingest.settings import Settings
from ingest.store import OpenStore, read_counted, sqlite_path, writing_engine
from ingest.wire import Call
from ingest.writer import Writer


def add(name: str) -> Callable[[Connection], str]:
    """A job that adds a project; two of one name break the table's rule."""

    def job(connection: Connection) -> str:
        connection.execute(text("insert into project (name) values (:name)"), {"name": name})
        return name

    return job


def names(store: OpenStore) -> set[str]:
    """The projects that are committed."""
    with store.read() as connection:
        return set(connection.execute(text("select name from project")).scalars())


class Held:
    """A job that holds the writer until it is let go, so that others gather behind it."""

    def __init__(self, store: OpenStore) -> None:
        self._go, self._begun = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=store.write, args=(self._wait,))
        self._thread.start()
        assert self._begun.wait(10)

    def _wait(self, _connection: Connection) -> None:
        self._begun.set()
        self._go.wait(10)

    def let_go(self) -> None:
        """Let the writer go on."""
        self._go.set()
        self._thread.join()


def waiting(store: OpenStore, jobs: list[Callable[[Connection], Any]], pool: ThreadPoolExecutor) -> list[Any]:
    """Queue jobs behind a held writer; return their futures once all of them wait."""
    futures = [pool.submit(store.write, job) for job in jobs]
    while store.writer.waiting < len(jobs):
        threading.Event().wait(0.005)
    return futures


def test_a_result_is_committed_when_it_is_returned(store: OpenStore) -> None:
    assert store.write(add("mine")) == "mine"
    assert "mine" in names(store)


def test_one_bad_job_takes_none_of_its_group_with_it(store: OpenStore) -> None:
    """Neither those before it nor those after, and its own earlier writes go."""

    def half_done(connection: Connection) -> None:
        add("half")(connection)
        add("first")(connection)

    with ThreadPoolExecutor(4) as pool:
        held = Held(store)
        futures = waiting(store, [add("first"), half_done, add("last")], pool)
        held.let_go()
        assert (futures[0].result(), futures[2].result()) == ("first", "last")
        with pytest.raises(IntegrityError):
            futures[1].result()
    assert names(store) >= {"first", "last"}
    assert "half" not in names(store)


def test_a_lone_bad_job_is_undone_and_the_writer_goes_on(store: OpenStore) -> None:
    def half_done(connection: Connection) -> None:
        add("half")(connection)
        raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        store.write(half_done)
    assert store.writer.last_failure is None  # the job's mistake, not the database's
    assert store.write(add("next")) == "next"
    assert "half" not in names(store)


def test_a_full_queue_is_said_at_once(store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "WAITING_MAX", 2)
    small = Writer(writing_engine(store.database_url))
    go = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        begun = threading.Event()

        def hold(_connection: Connection) -> None:
            begun.set()
            go.wait(10)

        pool.submit(small.write, hold)
        assert begun.wait(10)
        futures = [pool.submit(small.write, lambda _connection: 1) for _ in range(2)]
        while small.waiting < 2:
            threading.Event().wait(0.005)
        with pytest.raises(WriterBusy) as busy:
            small.write(lambda _connection: 1)
        assert busy.value.retry_after_s >= 1
        go.set()
        assert [future.result() for future in futures] == [1, 1]
    small.close()


def test_a_locked_database_is_unavailable_and_then_works_again(settings: Settings) -> None:
    path = settings.database_url.removeprefix("sqlite:///")
    writer = Writer(writing_engine(settings.database_url, lock_timeout_s=0.1))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("begin immediate")
    with pytest.raises(StoreUnavailable, match="locked"):
        writer.write(add("late"))
    assert writer.last_failure is not None
    assert "locked" in writer.last_failure.error
    other.execute("rollback")
    other.close()
    assert writer.write(add("late")) == "late"
    assert writer.last_failure is None
    writer.close()


def test_a_full_disk_is_unavailable_writes_nothing_and_recovers(store: OpenStore) -> None:
    """SQLite's own page limit stands in for the disk."""

    def fill(connection: Connection) -> None:
        (pages,) = connection.execute(text("pragma page_count")).one()
        connection.execute(text(f"pragma max_page_count = {pages}"))
        add("too much")(connection)
        connection.execute(text("update project set name = name || :long"), {"long": "x" * 1_000_000})

    def unlimited(connection: Connection) -> None:
        connection.execute(text("pragma max_page_count = 1000000"))

    with pytest.raises(StoreUnavailable, match="full"):
        store.write(fill)
    failure = store.writer.last_failure
    assert failure is not None
    assert "full" in failure.error
    assert failure.at_ms > 0
    store.write(unlimited)
    assert store.write(add("again")) == "again"
    assert names(store) & {"too much", "again"} == {"again"}


def test_nothing_is_acknowledged_into_a_file_that_is_gone(store: OpenStore, tmp_path: Path) -> None:
    """SQLite would go on: the file has no name any more, and ends with the process."""
    store.write(add("before"))
    path = sqlite_path(store.database_url)
    assert path is not None
    away = path.rename(tmp_path / "away.db")
    with pytest.raises(StoreUnavailable, match="was removed or moved away while the server ran"):
        store.write(add("while away"))
    assert "Put it back" in (WriteProbe(store).trouble() or "")
    with pytest.raises(StoreUnavailable, match="moved away"):
        store.write(add("while away"))
    assert not path.exists(), "no empty file is made in its place"
    path.write_bytes(b"")
    with pytest.raises(StoreUnavailable, match="was replaced by another while the server ran"):
        store.write(add("into another"))
    assert "goes on with the file that lies there now" in (WriteProbe(store).trouble() or "")
    away.replace(path)
    store.write(add("after"))
    assert {"before", "after"} == names(store) - {"default"}
    assert WriteProbe(store).trouble() is None


def test_a_caller_that_goes_away_stops_nothing(store: OpenStore) -> None:
    """A server that is told to stop cancels what waits for a receipt."""
    held = Held(store)
    future = store.begin(add("left alone"))
    assert not future.cancel()
    held.let_go()
    assert store.write(add("next")) == "next"
    assert names(store) >= {"left alone", "next"}


def test_readers_cannot_write(store: OpenStore) -> None:
    with store.read() as connection, pytest.raises(Exception, match="readonly"):
        add("sly")(connection)


def test_a_closed_writer_finishes_what_it_has_and_refuses_more(settings: Settings, tmp_path: Path) -> None:
    store = OpenStore(settings.database_url)
    with ThreadPoolExecutor(4) as pool:
        held = Held(store)
        futures = waiting(store, [add("one"), add("two")], pool)
        closing = pool.submit(store.close)
        while store.writer.alive:
            threading.Event().wait(0.005)
        with pytest.raises(StoreUnavailable, match="stopping"):
            store.write(add("three"))
        held.let_go()
        assert [future.result() for future in futures] == ["one", "two"]
        closing.result(10)


def new_calls(*ids: str) -> list[NewCall]:
    return [new_call(Call(id=call_id, model="m", latency_ms=10.0), 0) for call_id in ids]


def test_batches_that_wait_together_are_written_once_and_told_apart(store: OpenStore) -> None:
    """Of two that send one call, the first has it accepted; each hears of its own."""
    batches = [["a", "b"], ["b", "c", "c"], ["a"], ["d"]]
    with ThreadPoolExecutor(4) as pool:
        held = Held(store)
        futures = waiting(store, [KeepCalls(1, new_calls(*ids), {}) for ids in batches], pool)
        held.let_go()
        # Queued by a pool of threads, so that their order is not ours to say.
        assert sum(future.result().accepted for future in futures) == 4
        assert futures[3].result().accepted == 1
    with read_counted(store) as connection:
        kept = connection.execute(text("select id, seq from call order by seq")).all()
        assert sorted(row.id for row in kept) == ["a", "b", "c", "d"]
        todo = connection.execute(text("select call_seq from todo order by 1")).scalars().all()
        assert todo == [row.seq for row in kept]
        assert connection.execute(text("select sum(n) from latency_count")).scalar_one() == 4


@pytest.mark.parametrize("beside", [[], ["a job of another kind"]])
def test_a_batch_that_cannot_be_written_sinks_none_of_those_written_with_it(
    store: OpenStore, beside: list[str]
) -> None:
    """Whether batches are all there is in the transaction, and it is rolled back, or only a part of it."""
    bad = new_calls("good half", "bad half")
    bad[1].row = (*bad[1].row[:3], "unheard-of", *bad[1].row[4:])
    with ThreadPoolExecutor(4) as pool:
        held = Held(store)
        jobs = [KeepCalls(1, calls, {}) for calls in (new_calls("x"), bad, new_calls("y"))]
        futures = waiting(store, [*map(add, beside), *jobs], pool)[len(beside) :]
        held.let_go()
        with pytest.raises(sqlite3.IntegrityError, match="outcome_known"):
            futures[1].result()
        assert [futures[0].result().accepted, futures[2].result().accepted] == [1, 1]
    with read_counted(store) as connection:
        assert set(connection.execute(text("select id from call")).scalars()) == {"x", "y"}
        assert connection.execute(text("select sum(n) from latency_count")).scalar_one() == 2
    assert names(store) >= set(beside)


def test_a_coroutine_that_waits_is_told_and_one_that_went_away_is_not_missed(store: OpenStore) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        waiters: list[asyncio.Future[str]] = [loop.create_future() for _ in range(3)]
        waiters[1].cancel()
        for name, waiter in zip(("stays", "gone", "twice"), waiters, strict=True):
            store.begin_for(add(name), waiter)
        assert [await waiters[0], await waiters[2]] == ["stays", "twice"]
        again: asyncio.Future[str] = loop.create_future()
        store.begin_for(add("twice"), again)
        with pytest.raises(IntegrityError):
            await again

    asyncio.run(scenario())
    assert names(store) >= {"stays", "gone", "twice"}


def test_the_log_goes_into_the_file_while_nobody_waits(store: OpenStore, tmp_path: Path) -> None:
    """Not within a later commit, whose receipts would wait for it."""

    def many(connection: Connection) -> None:
        rows = [{"name": f"p{i}"} for i in range(writer_module.CHECKPOINT_ROWS)]
        connection.execute(text("insert into project (name) values (:name)"), rows)

    store.write(many)
    path = sqlite_path(store.database_url)
    assert path is not None
    deadline_s = time.monotonic() + 30
    while True:
        # The file alone, without its log.
        copy = tmp_path / "alone.db"
        copy.write_bytes(path.read_bytes())
        with contextlib.closing(sqlite3.connect(copy)) as connection, contextlib.suppress(sqlite3.Error):
            (n,) = connection.execute("select count(*) from project").fetchone()
            if n >= writer_module.CHECKPOINT_ROWS:
                return
        assert time.monotonic() < deadline_s, "the log was not copied"
        time.sleep(0.05)
