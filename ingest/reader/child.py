"""The reading process: bodies in, rows out, one after the other, until the server hangs up.

Run by `ingest.reader.process` as `python -m ingest.reader.child SOCKET SLOT ...` (file descriptors). It keeps
nothing, opens nothing and knows no settings: it may be killed at any moment.
"""

import gc
import marshal
import os
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from ingest.otlp.telling import Asked, told_of
from ingest.reader.passing import BAD, BROKEN, READY, TOLD, put, receive, send, take
from ingest.wire import BadBody


def _otlp(body: bytes, asked: tuple[Any, ...]) -> tuple[Any, Sequence[bytes]]:
    summary, rows = told_of(body, Asked(*asked))
    return tuple(summary), rows or ()


#: How to read a body, by kind: body and what was asked, plain values, to a summary, plain values, and rows.
READERS: dict[str, Callable[[bytes, tuple[Any, ...]], tuple[Any, Sequence[bytes]]]] = {"otlp": _otlp}


def main() -> None:
    """Read what the server sends until it hangs up."""
    # Ctrl-C and a service's stop reach the whole group; the server alone decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pipe, slots = Connection(int(sys.argv[1])), [int(number) for number in sys.argv[2:]]
    # As in `api.serving`: else the collector walks all modules again and again.
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    try:
        send(pipe, (READY,))
        while True:
            _answer(pipe, slots, *receive(pipe))
    except (EOFError, OSError):
        os._exit(0)  # the server is gone, or wants no more


def _answer(
    pipe: Connection,
    slots: list[int],
    slot: int,
    size: int,
    limit_s: float,
    kind: str,
    asked: tuple[Any, ...],
) -> None:
    # The server ends a reading that takes too long. Where there is none any more, the kernel does.
    signal.setitimer(signal.ITIMER_REAL, 2 * limit_s)
    try:
        summary, rows = READERS[kind](take(slots[slot], 0, size), asked)
        parts = (marshal.dumps(summary), *rows)
    except BadBody as error:
        send(pipe, (BAD, error.code, str(error), error.field))
        return
    except Exception:  # a bug, and the server will meet it too; or what marshal cannot carry
        send(pipe, (BROKEN,))
        return
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    put(slots[slot], *parts)
    send(pipe, (TOLD, *map(len, parts)))


if __name__ == "__main__":
    main()
