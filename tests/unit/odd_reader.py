"""A reading process that also knows bodies no real one is sent: those that end it, hold it or break it."""

import os
import signal
import time
from typing import Any

from ingest.reader import child


def _dies(body: bytes, _asked: tuple[Any, ...]) -> tuple[Any, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return body, []


def _dies_once(body: bytes, asked: tuple[Any, ...]) -> tuple[Any, Any]:
    """End the process unless the file that was asked for is there, and leave it there."""
    (path,) = asked
    if not os.path.exists(path):
        with open(path, "xb"):
            return _dies(body, asked)
    return body, [body]


def _hangs(body: bytes, _asked: tuple[Any, ...]) -> tuple[Any, Any]:
    while True:
        time.sleep(1)


def _breaks(_body: bytes, _asked: tuple[Any, ...]) -> tuple[Any, Any]:
    raise RuntimeError("a bug")


def _cannot_be_carried(_body: bytes, _asked: tuple[Any, ...]) -> tuple[Any, Any]:
    return object(), []


def _echoes(body: bytes, asked: tuple[Any, ...]) -> tuple[Any, Any]:
    return (os.getpid(), *asked), [body]


child.READERS.update(
    dies=_dies,
    dies_once=_dies_once,
    hangs=_hangs,
    breaks=_breaks,
    cannot_be_carried=_cannot_be_carried,
    echoes=_echoes,
)

if __name__ == "__main__":
    child.main()
