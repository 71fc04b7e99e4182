"""What passes between the server and its reading process.

Messages are short, and go over a socket; bodies and rows lie in slots, files in memory that both have open:
one system call puts a body there, whatever its size, and the other side takes it when it likes. Over the
socket the two would have to wait for one another every 200 kB, and the server's side for its interpreter lock
each time. Both ends run the same code, so `marshal` may be used, which a pickle of the same takes 5 times as
long as.
"""

import marshal
import os
import tempfile
from multiprocessing.connection import Connection
from typing import Any

#: Bodies in the reading process's hands: the one that it reads, and what it goes on with meanwhile.
SLOTS = 6
#: A slot's memory is given back where it held more than this.
SLOT_BYTES_KEPT = 4 * 1024 * 1024

#: First words of the reading process's messages, which answer what it was sent in order:
#: (READY,)                      it can be given bodies now
#: (TOLD, size, ...)             a summary, and rows in any number of parts, lie in the slot in that order
#: (BAD, code, message, field)   the body is none
#: (BROKEN,)                     reading it failed as it should not
#: What it is sent is (slot, bytes of the body, seconds that reading it may take, kind, what was asked).
READY, TOLD, BAD, BROKEN = "ready", "told", "bad", "broken"


def send(pipe: Connection, message: tuple[Any, ...]) -> None:
    """Send a short message of plain values."""
    pipe.send_bytes(marshal.dumps(message))


def receive(pipe: Connection) -> tuple[Any, ...]:
    """Wait for a message and return it.

    Raises:
        EOFError, OSError: the other side is gone.
    """
    message: tuple[Any, ...] = marshal.loads(pipe.recv_bytes())  # noqa: S302 (a process of ours wrote it)
    return message


def new_slot() -> int:
    """Return the file descriptor of an empty slot: of memory where the system has such files."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("lowlight-reader")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def put(slot: int, *parts: bytes) -> None:
    """Write into a slot from its beginning."""
    at = 0
    for part in parts:
        left = memoryview(part)
        while left:
            n = os.pwrite(slot, left, at)
            at += n
            left = left[n:]


def take(slot: int, at: int, size: int) -> bytes:
    """Return `size` bytes of a slot.

    Raises:
        EOFError: there are not so many.
    """
    parts = []
    while size:
        part = os.pread(slot, size, at)
        if not part:
            raise EOFError("a slot holds less than was said")
        parts.append(part)
        at += len(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def clear(slot: int) -> None:
    """Give a slot's memory back where it is much."""
    if os.fstat(slot).st_size > SLOT_BYTES_KEPT:
        os.ftruncate(slot, 0)
