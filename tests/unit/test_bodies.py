"""Room for bodies: bounded, first come first served, given back whatever becomes of a request."""

import asyncio
import gzip

import pytest
from starlette.requests import Request
from starlette.types import Message

from api.door import gate
from api.door.bodies import Bodies, Hold, Room
from api.errors import Refused


def test_who_finds_no_room_is_told_when_to_come_again() -> None:
    async def scenario() -> None:
        room = Room(100, wait_s=0.05)
        await room.enter(80)
        with pytest.raises(Refused) as refused:
            await room.enter(30)
        assert (refused.value.status, refused.value.code, refused.value.retry_after_s) == (503, "busy", 1)
        assert room.held == 80
        room.leave(80)
        await room.enter(30)

    asyncio.run(scenario())


def test_who_waits_longest_is_let_in_first_and_a_small_one_does_not_overtake() -> None:
    async def scenario() -> None:
        room = Room(100)
        order: list[str] = []

        async def enter(name: str, n: int) -> None:
            await room.enter(n)
            order.append(name)

        await room.enter(90)
        waiting = [asyncio.create_task(enter("large", 50)), asyncio.create_task(enter("small", 5))]
        await asyncio.sleep(0)
        assert order == []
        room.leave(90)
        await asyncio.gather(*waiting)
        assert order == ["large", "small"]
        assert room.held == 55

    asyncio.run(scenario())


def test_one_body_larger_than_the_room_goes_alone() -> None:
    async def scenario() -> None:
        room = Room(100, wait_s=0.05)
        await room.enter(500)
        with pytest.raises(Refused):
            await room.enter(1)
        room.leave(500)
        assert room.held == 0

    asyncio.run(scenario())


def test_who_gives_up_waiting_leaves_no_trace_and_blocks_nobody() -> None:
    async def scenario() -> None:
        room = Room(100)
        await room.enter(90)
        large = asyncio.create_task(room.enter(50))
        small = asyncio.create_task(room.enter(10))
        await asyncio.sleep(0)
        large.cancel()
        with pytest.raises(asyncio.CancelledError):
            await large
        await small
        assert room.held == 100

    asyncio.run(scenario())


def test_cancelled_and_then_passed_over_at_the_same_moment_is_no_bug() -> None:
    """Its turn came after its time was up and before it heard of that: 500 under load, once in ten crowds."""

    async def scenario() -> None:
        room = Room(100)
        await room.enter(100)
        waiting = asyncio.create_task(room.enter(50))
        await asyncio.sleep(0)
        waiting.cancel()
        room.leave(100)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert room.held == 0
        await room.enter(100)

    asyncio.run(scenario())


def test_let_in_and_cancelled_at_the_same_moment_gives_the_room_back() -> None:
    async def scenario() -> None:
        room = Room(100)
        await room.enter(90)
        late = asyncio.create_task(room.enter(50))
        await asyncio.sleep(0)
        room.leave(90)
        late.cancel()
        with pytest.raises(asyncio.CancelledError):
            await late
        assert room.held == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("drip", [False, True], ids=["stuck", "dripping"])
def test_a_body_that_does_not_come_is_not_waited_for_and_frees_its_room(
    monkeypatch: pytest.MonkeyPatch, drip: bool
) -> None:
    """Two clients whose network had gone held all the room, and every other call got 503 for good."""
    monkeypatch.setattr(gate, "STILL_S", 0.05)
    monkeypatch.setattr(gate, "BODY_S", 0.3)
    headers = [(b"content-length", b"16000000"), (b"content-type", b"application/json")]

    async def receive() -> Message:
        await asyncio.sleep(0.01 if drip else 3600)
        return {"type": "http.request", "body": b"{", "more_body": True}

    async def scenario() -> None:
        bodies = Bodies()
        hold = bodies.hold()
        request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
        with pytest.raises(Refused) as refused:
            await asyncio.wait_for(bodies.parsed(request, hold, lambda body: body), 30)
        assert (refused.value.status, refused.value.code, refused.value.close) == (503, "too_slow", True)
        hold.leave()
        await asyncio.wait_for(bodies.hold().take(gate.WIRE_BYTES_MAX), 1)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "announced",
    [
        [(b"content-length", b"16777216")],
        [],
        [(b"content-length", b"900000"), (b"content-encoding", b"gzip")],
    ],
    ids=["large", "of unknown length", "packed"],
)
def test_a_body_that_comes_slowly_keeps_nobody_out(
    monkeypatch: pytest.MonkeyPatch, announced: list[tuple[bytes, bytes]]
) -> None:
    """One client on a bad line had all the room set aside for it, and all others got 503 for a minute."""
    monkeypatch.setattr(gate, "HASTE_S", 0.01)
    parts: asyncio.Queue[bytes] = asyncio.Queue()

    async def receive() -> Message:
        part = await parts.get()
        return {"type": "http.request", "body": part, "more_body": bool(part)}

    async def scenario() -> None:
        bodies = Bodies()
        hold = bodies.hold()
        request = Request({"type": "http", "method": "POST", "headers": announced}, receive)
        reading = asyncio.create_task(bodies.parsed(request, hold, len))
        packed = gzip.compress(bytes(200_000)) if len(announced) > 1 else bytes(200_000)
        for part in (packed[:90], packed[90:150], packed[150:]):
            parts.put_nowait(part)
            await asyncio.sleep(0.05)
            other = Hold(bodies._packed if len(announced) > 1 else bodies._plain)
            await asyncio.wait_for(other.take(gate.WIRE_BYTES_MAX - 200_000), 1)
            other.leave()
        parts.put_nowait(b"")
        assert await asyncio.wait_for(reading, 30) == 200_000
        assert hold.bytes == 200_000
        hold.leave()

    asyncio.run(scenario())


def test_what_has_come_of_a_body_goes_before_bodies_that_wait() -> None:
    """It can be done with sooner, and they could not begin before that anyway."""

    async def scenario() -> None:
        room = Room(100)
        slow = Hold(room)
        await slow.take(10)
        waiting = asyncio.create_task(room.enter(100))
        await asyncio.sleep(0)
        await asyncio.wait_for(slow.reach(60), 1)
        assert (slow.bytes, room.held, waiting.done()) == (60, 60, False)
        slow.leave()
        await asyncio.wait_for(waiting, 1)

    asyncio.run(scenario())


def test_a_hold_gives_back_all_it_took_once() -> None:
    async def scenario() -> None:
        room = Room(100)
        hold = Hold(room)
        await hold.take(30)
        await hold.take(20)
        assert room.held == 50
        hold.leave()
        hold.leave()
        assert room.held == 0

    asyncio.run(scenario())
