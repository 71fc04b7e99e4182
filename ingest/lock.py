"""One server to a SQLite file: a lock file beside it that names the server's address.

Flow: `serve` takes `<file>.lock` (flock, so the kernel gives it back however the process ends) and writes its
address into it; a second server, and commands that want to write, read who holds it.
"""

import fcntl
import os
from pathlib import Path
from types import TracebackType

from ingest.errors import IngestError, StoreUnavailable


class AlreadyServed(IngestError):
    """Another server owns this database. Use that one, or stop it first.

    Attributes:
        address: where it listens, as an URL; None while it is still starting.
    """

    def __init__(self, path: Path, address: str | None) -> None:
        where = f"at {address}" if address else "by a server that is just starting"
        super().__init__(
            f"{path.absolute()} is already served {where}. Use or stop that server, "
            "or set LOWLIGHT_DATABASE_URL to another file."
        )
        self.address = address


class ServerLock:
    """Held by the one server of a SQLite file, as a context manager."""

    def __init__(self, database: Path) -> None:
        """Take the lock.

        Raises:
            AlreadyServed: another process holds it.
            StoreUnavailable: its file cannot be made there.
        """
        self._path = lock_path(database)
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StoreUnavailable(
                f"{self._path} cannot be written: {error.strerror}. "
                "The folder of the database must exist and be writable; see LOWLIGHT_DATABASE_URL."
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise AlreadyServed(database, _address_in(self._path)) from None
        os.ftruncate(self._file, 0)

    def tell(self, address: str) -> None:
        """Write down where this server listens."""
        os.pwrite(self._file, address.encode(), 0)

    def __enter__(self) -> "ServerLock":
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        # The file stays: removing it would let two servers hold locks on two files of one name.
        os.ftruncate(self._file, 0)
        os.close(self._file)


def lock_path(database: Path) -> Path:
    """Return the lock file of a SQLite file."""
    return database.with_name(f"{database.name}.lock")


def server_of(database: Path) -> str | None:
    """Return the address of the server that owns a SQLite file; None where none runs.

    Raises:
        AlreadyServed: one is just starting, and its address is not known yet.
    """
    path = lock_path(database)
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        address = _address_in(path)
        if address is None:
            raise AlreadyServed(database, None) from None
        return address
    finally:
        os.close(file)
    return None


def _address_in(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None
