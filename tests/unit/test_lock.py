"""One server to a file, and where to find it."""

from pathlib import Path

import pytest

from ingest.errors import StoreUnavailable
from ingest.lock import AlreadyServed, ServerLock, lock_path, server_of


def test_the_lock_names_its_server_while_it_is_held(tmp_path: Path) -> None:
    database = tmp_path / "a.db"
    assert server_of(database) is None
    with ServerLock(database) as lock:
        with pytest.raises(AlreadyServed, match="just starting"):
            server_of(database)
        lock.tell("http://127.0.0.1:4545")
        assert server_of(database) == "http://127.0.0.1:4545"
        with pytest.raises(AlreadyServed, match="already served at http") as refused:
            ServerLock(database)
        assert refused.value.address == "http://127.0.0.1:4545"
    assert server_of(database) is None
    with ServerLock(database):
        pass


def test_an_address_left_behind_by_a_killed_server_is_not_believed(tmp_path: Path) -> None:
    database = tmp_path / "a.db"
    lock_path(database).write_text("http://127.0.0.1:1")
    assert server_of(database) is None
    with ServerLock(database), pytest.raises(AlreadyServed, match="just starting"):
        server_of(database)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="folder of the database must exist"):
        ServerLock(tmp_path / "nowhere" / "a.db")
