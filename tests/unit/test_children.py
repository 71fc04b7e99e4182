"""Child processes: they read and write through the server's store, are started again, and stop when told."""

import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from ingest import children as children_module
from ingest.children import Child, Stop
from ingest.errors import StoreUnavailable
from ingest.settings import Settings
from ingest.store import OpenStore, Store


def add(connection: Connection, name: str) -> str:
    """A job: module-level, so that it travels."""
    connection.execute(text("insert into project (name) values (:name)"), {"name": name})
    return name


def fail(_connection: Connection) -> None:
    """A job with a mistake in it."""
    raise ValueError("a mistake")


class UnreadableByTheServer(str):
    """What a child can send and nobody can read."""

    def __reduce__(self) -> tuple[object, ...]:
        return fail, (None,)


def answers_with_a_lock(_connection: Connection) -> object:
    """A job whose result cannot be pickled."""
    return threading.Lock()


def is_not_kept_waiting(_settings: Settings, store: Store, stop: Stop) -> None:
    """A child whose jobs cannot travel, one on the way there and one on the way back, and that goes on."""
    found = []
    for job in (partial(add, name=UnreadableByTheServer()), answers_with_a_lock):
        try:
            store.write(job)
        except StoreUnavailable as error:
            found.append(str(error))
    store.write(partial(add, name=" and ".join(found)))
    stop.wait()


def writes_and_reads(_settings: Settings, store: Store, stop: Stop) -> None:
    """A child's whole life: write, read back, see a failing job fail, say so, wait for the end."""
    store.write(partial(add, name="from the child"))
    with store.read() as connection:
        found = connection.execute(text("select name from project where name like 'from%'")).scalar_one()
    try:
        store.write(fail)
    except StoreUnavailable as error:
        found += f", {error}"
    store.write(partial(add, name=f"read {found}"))
    stop.wait()
    store.write(partial(add, name="stopped"))


def dies_once(_settings: Settings, store: Store, stop: Stop) -> None:
    """A child that ends with an error the first time."""
    with store.read() as connection:
        begun_before = connection.execute(text("select count(*) from project")).scalar_one()
    store.write(partial(add, name=f"begun {begun_before} by {os.getpid()}"))
    if begun_before == 0:
        os._exit(3)
    stop.wait()


def looks_all_the_time(_settings: Settings, store: Store, stop: Stop) -> None:
    """A child that hardly does anything but ask whether it should stop."""
    store.write(partial(add, name=str(os.getpid())))
    while not stop.is_set():
        pass
    store.write(partial(add, name="stopped"))


def names(store: OpenStore) -> list[str]:
    """What the children wrote."""
    with store.read() as connection:
        return list(connection.execute(text("select name from project order by seq")).scalars())


def wait_for(store: OpenStore, n: int) -> list[str]:
    """Wait until `n` names are there."""
    deadline = time.monotonic() + 30
    while len(names(store)) < n and time.monotonic() < deadline:
        time.sleep(0.02)
    return names(store)


@pytest.fixture
def empty(store: OpenStore) -> OpenStore:
    """A store without the project that the schema begins with."""

    def clear(connection: Connection) -> None:
        connection.execute(text("delete from project"))

    store.write(clear)
    return store


def test_a_child_writes_through_the_server_and_stops_when_told(settings: Settings, empty: OpenStore) -> None:
    child = Child("test", writes_and_reads, settings, empty)
    found = wait_for(empty, 2)
    assert child.alive
    child.stop()
    assert found == ["from the child", "read from the child, ValueError: a mistake"]
    assert names(empty)[-1] == "stopped"
    assert not child.alive


def test_a_child_that_dies_is_started_again(
    settings: Settings, empty: OpenStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(children_module, "RESTART_PAUSE_MIN_S", 0.05)
    child = Child("test", dies_once, settings, empty)
    found = wait_for(empty, 2)
    child.stop()
    assert [name.split(" by ")[0] for name in found] == ["begun 0", "begun 1"]
    assert len({name.split(" by ")[1] for name in found}) == 2


def test_a_job_that_cannot_travel_fails_and_keeps_its_child_from_nothing(
    settings: Settings, empty: OpenStore
) -> None:
    child = Child("test", is_not_kept_waiting, settings, empty)
    [found] = wait_for(empty, 1)
    child.stop()
    unreadable, unpicklable = found.split(" and ")
    assert unreadable == "ValueError: a mistake"
    assert "cannot pickle" in unpicklable


def test_a_child_killed_while_it_looks_keeps_neither_its_successor_nor_the_server_from_stopping(
    settings: Settings, empty: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the two share must not stay locked by the dead."""
    monkeypatch.setattr(children_module, "RESTART_PAUSE_MIN_S", 0.01)
    monkeypatch.setattr(children_module, "RESTART_PAUSE_MAX_S", 0.01)
    child = Child("test", looks_all_the_time, settings, empty)
    for lives in range(1, 6):
        found = wait_for(empty, lives)
        assert len(found) == lives
        if lives < 5:
            time.sleep(0.01)
            os.kill(int(found[-1]), signal.SIGKILL)
    stopping = threading.Thread(target=child.stop, daemon=True)
    stopping.start()
    stopping.join(30)
    assert not stopping.is_alive()
    assert names(empty)[-1] == "stopped"
    assert not child.alive
