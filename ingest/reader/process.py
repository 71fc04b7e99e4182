"""The server's side of the reading process: starts it when bodies wait for one another, survives its end.

Flow: `api.door.bodies` -> `Reader.takes`, `Reader.read` -> a slot -> `child` -> rows. Everything but the
start of the process happens on the event loop, which puts a body into a slot, and takes rows out of one, in a
fraction of a millisecond for a megabyte.

The process is there to be lost. Bodies that it had not begun are read by the server then (`ReadHere`); the
one that it was reading may be why it ended, so a new process gets it, once, and never the server. A reading
that takes too long ends with its process.
"""

import asyncio
import logging
import marshal
import os
import subprocess
import sys
from collections import deque
from functools import partial
from itertools import accumulate
from multiprocessing import Pipe
from typing import Any, Literal, NamedTuple

from ingest.errors import IngestError
from ingest.reader.passing import BAD, READY, SLOTS, TOLD, clear, new_slot, put, receive, send, take
from ingest.wire import BadBody

#: Longest time that reading a body may take: this, and as much again for each of so many bytes. A hundred
#: times what it takes on a machine that does nothing else.
READ_S, READ_S_BYTES = 5.0, 2 * 1024 * 1024
#: So many bodies within so long that had to wait for one another are worth a process: it takes 50 MB, and a
#: third of a second of a processor to start.
CROWD, CROWD_S = 4, 1.0
#: It ends when it had nothing to read for so long.
IDLE_S = 60.0
#: How long its start and its end may take.
START_S, END_S = 20.0, 1.0
#: Before it is started again where it ended a second time without an answer; doubled each time.
PAUSE_MIN_S, PAUSE_MAX_S = 1.0, 60.0
#: The module that it runs.
PROGRAM = "ingest.reader.child"

log = logging.getLogger(__name__)


def wanted(setting: Literal["auto", "on", "off"]) -> bool:
    """Whether LOWLIGHT_READER asks for the process: it needs a processor of its own to be of use."""
    return setting == "on" or (setting == "auto" and processors() > 1)


def processors() -> int:
    """Return on how many processors this process may run."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class ReadHere(Exception):
    """The reading process did not come to this body; read it in the server."""


class Unread(IngestError):
    """A body was being read when the process ended, twice, or took too long; nothing of it was kept.

    Send it again after `retry_after_s`, best in smaller parts.
    """

    retry_after_s = 1


class Answer(NamedTuple):
    """What the reading process made of a body: a summary of plain values, and rows."""

    summary: Any
    rows: list[bytes]


class _Asked:
    """A body on its way."""

    def __init__(self, kind: str, body: bytes, asked: tuple[Any, ...]) -> None:
        self.kind, self.body, self.asked = kind, body, asked
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.tries = 0
        self.slot = -1

    @property
    def limit_s(self) -> float:
        """How long reading it may take."""
        return READ_S * (1 + len(self.body) / READ_S_BYTES)

    def fail(self, error: Exception) -> None:
        """Tell whoever waits, if anybody still does."""
        if not self.answer.done():
            self.answer.set_exception(error)


class _Child:
    """One life of the process, with its socket and slots. Starting and ending it may take a second."""

    def __init__(self, program: str) -> None:
        self.ready = False
        self.pipe, theirs = Pipe()
        self.slots: list[int] = []
        try:
            self.slots += (new_slot() for _number in range(SLOTS))
            given = (theirs.fileno(), *self.slots)
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", program, *map(str, given)],
                pass_fds=given,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        except OSError:
            self._close()
            raise
        finally:
            theirs.close()
        self.free = list(range(SLOTS))

    def end(self, *, at_once: bool = False) -> int:
        """Let the process end, or end it; return its status."""
        if at_once:
            self.process.kill()
        self._close()
        try:
            return self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def _close(self) -> None:
        self.pipe.close()
        for slot in self.slots:
            os.close(slot)


class Reader:
    """Reads bodies in a process of its own. Belongs to one event loop, but for `close`."""

    def __init__(self, *, idle_s: float = IDLE_S, program: str = PROGRAM) -> None:
        """Start nothing yet.

        Args:
            idle_s: the process ends when it had nothing to read for so long.
            program: the module that it runs.
        """
        self._idle_s = idle_s
        self._program = program
        self._child: _Child | None = None
        self._starting: asyncio.Task[None] | None = None
        self._waiting: deque[_Asked] = deque()
        self._in_hand: deque[_Asked] = deque()
        #: what a process was reading when it ended, until the next one has begun
        self._again: _Asked | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._crowd: deque[float] = deque(maxlen=CROWD)
        self._losses = 0
        self._not_before_s = 0.0
        self._closed = False

    @property
    def running(self) -> bool:
        """Whether the process takes bodies now."""
        return self._child is not None and self._child.ready

    def takes(self, *, others_wait: bool) -> bool:
        """Whether a body that came now should be given to `read`.

        Args:
            others_wait: it would have to wait for another one in the server. Where that happens often, the
                process is started.
        """
        if others_wait and self._child is None and self._starting is None and self._may_start():
            now_s = asyncio.get_running_loop().time()
            self._crowd.append(now_s)
            if len(self._crowd) == CROWD and now_s - self._crowd[0] < CROWD_S:
                self._crowd.clear()
                self._start()
        return self.running

    async def read(self, kind: str, body: bytes, asked: tuple[Any, ...]) -> Answer:
        """Return what the process makes of a body; see `ingest.reader.child.READERS`.

        Raises:
            BadBody: the body is none.
            ReadHere: the process did not come to it; the server may read it.
            Unread: it may be why the process ended; the server should not read it.
        """
        if not self.running:
            raise ReadHere
        it = _Asked(kind, body, asked)
        self._waiting.append(it)
        self._hand_on()
        return await it.answer

    def close(self) -> None:
        """End the process, in any thread, once the event loop has ended. Nothing is read afterwards."""
        self._closed = True
        child, self._child = self._child, None
        if child is not None:
            child.end()

    def _hand_on(self) -> None:
        """Give the process as many bodies as it has slots."""
        child = self._child
        while child is not None and child.free and self._waiting:
            it = self._waiting.popleft()
            it.slot = child.free.pop()
            it.tries += 1
            try:
                put(child.slots[it.slot], it.body)
                send(child.pipe, (it.slot, len(it.body), it.limit_s, it.kind, it.asked))
            except OSError:  # no memory for it, or the process is gone, as we shall hear
                child.free.append(it.slot)
                it.fail(ReadHere())
                continue
            self._in_hand.append(it)
            if len(self._in_hand) == 1:
                self._watch(child)

    def _heard(self, child: _Child) -> None:
        """Take a message of the process."""
        try:
            word, *told = receive(child.pipe)
        except (EOFError, OSError):
            self._lose(child, "it ended")
            return
        if word == READY:
            child.ready = True
            if self._again is not None:
                self._waiting.append(self._again)
                self._again = None
        else:
            self._losses = 0
            it = self._in_hand.popleft()
            try:
                _answer(it, child.slots[it.slot], word, told)
                clear(child.slots[it.slot])
            except (EOFError, OSError):
                it.fail(ReadHere())
            child.free.append(it.slot)
        self._watch(child)
        self._hand_on()

    def _watch(self, child: _Child) -> None:
        """Wait for the next thing to take too long: a reading, or the time without any."""
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        if self._in_hand:
            late = partial(self._lose, child, "it took too long", hung=True)
            self._timer = loop.call_later(self._in_hand[0].limit_s, late)
        else:
            self._timer = loop.call_later(self._idle_s, self._rest, child)

    def _may_start(self) -> bool:
        return not self._closed and asyncio.get_running_loop().time() >= self._not_before_s

    def _start(self) -> None:
        self._starting = asyncio.create_task(self._started())

    async def _started(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            child = await loop.run_in_executor(None, _Child, self._program)
        except OSError as error:
            log.error("the reading process could not be started: %s; requests are read in the server", error)
            self._losses += 1
            self._pause()
            if self._again is not None:
                self._again.fail(_unread())
                self._again = None
            return
        finally:
            self._starting = None
        if self._closed:
            child.end(at_once=True)
            return
        self._child = child
        loop.add_reader(child.pipe.fileno(), self._heard, child)
        self._timer = loop.call_later(START_S, partial(self._lose, child, "it did not begin", hung=True))

    def _rest(self, child: _Child) -> None:
        """End a process that had nothing to do."""
        self._let_go(child)
        asyncio.get_running_loop().run_in_executor(None, child.end)

    def _lose(self, child: _Child, why: str, *, hung: bool = False) -> None:
        """Go on without a process that ended or must: see the module."""
        self._let_go(child)
        asyncio.get_running_loop().run_in_executor(None, partial(_bury, child, why, at_once=hung))
        first = self._in_hand.popleft() if self._in_hand else self._again
        for it in (*self._in_hand, *self._waiting):
            it.fail(ReadHere())
        self._in_hand.clear()
        self._waiting.clear()
        self._again = None
        self._losses += 1
        if self._losses > 1:
            self._pause()
        if first is None:
            return
        if hung or first.tries > 1 or not self._may_start():
            first.fail(_unread())
        else:
            self._again = first
            self._start()

    def _let_go(self, child: _Child) -> None:
        if self._timer is not None:
            self._timer.cancel()
        asyncio.get_running_loop().remove_reader(child.pipe.fileno())
        self._child = None

    def _pause(self) -> None:
        pause_s = min(PAUSE_MIN_S * 2 ** min(self._losses, 10), PAUSE_MAX_S)
        self._not_before_s = asyncio.get_running_loop().time() + pause_s


def _answer(it: _Asked, slot: int, word: str, told: list[Any]) -> None:
    if it.answer.done():
        return  # whoever waited went away
    if word == TOLD:
        parts = [take(slot, at, size) for at, size in zip(accumulate(told, initial=0), told, strict=False)]
        summary = marshal.loads(parts.pop(0))  # noqa: S302 (a process of ours wrote it)
        it.answer.set_result(Answer(summary, parts))
    elif word == BAD:
        code, message, field = told
        it.fail(BadBody(code, message, field))
    else:
        it.fail(ReadHere())


def _unread() -> Unread:
    return Unread("The process that was reading this request ended; send it again, or less at once.")


def _bury(child: _Child, why: str, *, at_once: bool) -> None:
    status = child.end(at_once=at_once)
    log.error("the reading process was lost: %s (status %d); it is started again when needed", why, status)
