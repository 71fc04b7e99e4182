"""How many bytes of bodies the server holds at once: what does not fit yet waits in the client's socket.

Flow: `api.routes.intake` -> `Bodies.parsed`: room for the body, then the body, then the one parsing thread
-> the writer; `Hold.leave` once its receipt is made. A body that finds no room within WAIT_S is
answered 503 with Retry-After, unread.

One thread parses, because Python runs one at a time anyway: eight of them only held eight batches in memory
and made the writer wait for the interpreter lock behind each. Where bodies wait for that thread, the reading
process takes them (`ingest.reader`), if their handler knows how to ask it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from starlette.requests import Request

from api.door.gate import WIRE_BYTES_MAX, gunzip, header, packing, read_packed, read_small
from api.errors import Refused
from ingest.reader.process import Reader, ReadHere, Unread

T = TypeVar("T")

#: Bodies on their way from the socket to their receipt, unpacked; one larger than this goes alone.
HELD_BYTES_MAX = 16 * 1024 * 1024
#: Packed bodies that wait to be unpacked, one after the other.
PACKED_BYTES_MAX = WIRE_BYTES_MAX
#: Longest wait of a request for room; a client's own time-out is longer.
WAIT_S = 5.0
#: Bodies up to this are parsed on the event loop, in about half a millisecond.
SMALL_BYTES = 64 * 1024


class Room:
    """Bytes that may be held at once. Used on one event loop; who waits longest is let in first."""

    def __init__(self, bytes_max: int, wait_s: float = WAIT_S) -> None:
        self.held = 0
        self._bytes_max = bytes_max
        self._wait_s = wait_s
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def enter(self, n: int) -> None:
        """Take room for `n` bytes, waiting for it; give it back with `leave`.

        Raises:
            Refused: 503, there was none for `wait_s` seconds.
        """
        if self.enter_at_once(n):
            return
        let_in = asyncio.get_running_loop().create_future()
        self._waiting.append((n, let_in))
        try:
            async with asyncio.timeout(self._wait_s):
                await let_in
        except BaseException as error:
            if let_in.done() and not let_in.cancelled():
                self.leave(n)  # let in and given up at the same moment
            else:
                # Passed over already, where its turn came before it heard that its time was up.
                with suppress(ValueError):
                    self._waiting.remove((n, let_in))
                self._let_in()
            if isinstance(error, TimeoutError):
                raise Refused(
                    503,
                    "busy",
                    f"The server holds {self._bytes_max >> 20} MiB of requests already; send this later.",
                    retry_after_s=1,
                ) from None
            raise

    def enter_at_once(self, n: int) -> bool:
        """Take room for `n` bytes if nobody waits for it; return whether it was there."""
        if self._waiting or not self._fits(n):
            return False
        self.held += n
        return True

    def grow(self, n: int) -> bool:
        """Take room for `n` bytes more before those who have none yet; return whether it was there."""
        if not self._fits(n):
            return False
        self.held += n
        return True

    def leave(self, n: int) -> None:
        """Give back room for `n` bytes."""
        self.held -= n
        self._let_in()

    def _fits(self, n: int) -> bool:
        return self.held == 0 or self.held + n <= self._bytes_max

    def _let_in(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            n, let_in = self._waiting.popleft()
            if not let_in.done():
                self.held += n
                let_in.set_result(None)


class Hold:
    """What one request holds of the room; `leave` when its receipt is made, whatever became of it."""

    __slots__ = ("_bytes", "_room")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._bytes = 0

    async def take(self, n: int) -> None:
        """Wait for room for `n` bytes more; see `Room.enter`."""
        await self._room.enter(n)
        self._bytes += n

    def take_at_once(self, n: int) -> bool:
        """Take room for `n` bytes more if it is there now; return whether it was."""
        if not self._room.enter_at_once(n):
            return False
        self._bytes += n
        return True

    @property
    def bytes(self) -> int:
        """How many bytes that is."""
        return self._bytes

    async def reach(self, n: int) -> None:
        """Wait for room until `n` bytes are held; see `Room.enter`."""
        more = n - self._bytes
        if more > 0 and self._room.grow(more):
            self._bytes = n
        elif more > 0:
            await self.take(more)

    def keep(self, n: int) -> None:
        """Give back all but `n` bytes: a body that comes slowly holds what has come of it."""
        if self._bytes > n:
            self._room.leave(self._bytes - n)
            self._bytes = n

    def leave(self) -> None:
        """Give everything back."""
        if self._bytes:
            self._room.leave(self._bytes)
            self._bytes = 0


class Bodies:
    """Reads and parses bodies within bounds. One per app; used on its event loop."""

    def __init__(self, reader: Reader | None = None) -> None:
        """Args: reader: the reading process; without one everything is read here."""
        self._reader = reader
        self._parsing = 0
        self._plain = Room(HELD_BYTES_MAX)
        self._packed = Room(PACKED_BYTES_MAX)
        self._unpacking = asyncio.Lock()
        # Its thread starts with the first large body.
        self._parser = ThreadPoolExecutor(1, "lowlight-parser")

    def hold(self) -> Hold:
        """Return an empty hold; leave it in a `finally`."""
        return Hold(self._plain)

    async def parsed(
        self,
        request: Request,
        hold: Hold,
        parse: Callable[[bytes], T],
        parse_apart: Callable[[Reader, bytes], Awaitable[T]] | None = None,
    ) -> T:
        """Return `parse(body)`, run on the loop for a small body and in the parsing thread for a large one.

        Args:
            parse_apart: does the same in the reading process, which takes large bodies while it runs.

        Raises:
            Refused: 413, 415 or 400 as `api.door.gate.read_body`; 503 where there is no room.
            Exception: whatever `parse` raises.
        """
        encoding = packing(request)
        announced = header(request, b"content-length")
        # One without a length, as some exporters send them, takes room as it comes.
        size = int(announced) if announced.isdigit() else SMALL_BYTES + 1
        loop = asyncio.get_running_loop()
        if encoding is None and size <= SMALL_BYTES:
            body = await read_small(request)
            await hold.take(len(body))
            return parse(body)
        if encoding is None:
            # A body that is refused for its size is not waited for.
            await hold.take(min(size, WIRE_BYTES_MAX))
            body = await read_packed(request, hold)
            hold.keep(len(body))
            if len(body) <= SMALL_BYTES:
                return parse(body)
            return await self._parsed_large(body, parse, parse_apart)
        packed = Hold(self._packed)
        try:
            await packed.take(min(size, WIRE_BYTES_MAX))
            body = await read_packed(request, packed)
            packed.keep(len(body))
            # One at a time, and it waits for room with the turn in hand: what holds that room is with the
            # writer or in the parsing thread, and needs no turn.
            async with self._unpacking:
                body = await loop.run_in_executor(self._parser, gunzip, body)
                await hold.take(len(body))
        finally:
            packed.leave()
        return await self._parsed_large(body, parse, parse_apart)

    async def _parsed_large(
        self,
        body: bytes,
        parse: Callable[[bytes], T],
        parse_apart: Callable[[Reader, bytes], Awaitable[T]] | None,
    ) -> T:
        reader = self._reader
        if reader is not None and parse_apart is not None and reader.takes(others_wait=self._parsing > 0):
            try:
                return await parse_apart(reader, body)
            except ReadHere:
                pass
            except Unread as error:
                raise Refused(503, "unread", str(error), retry_after_s=error.retry_after_s) from None
        self._parsing += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._parser, parse, body)
        finally:
            self._parsing -= 1
