"""The reading process: what it reads is read as in the server, and nothing is lost with it."""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ingest.otlp.telling import Asked, Rows, Told, told_of
from ingest.reader import passing, process
from ingest.reader.process import Answer, Reader, ReadHere, Unread
from ingest.wire import BadBody
from tests.otlp_captures import ROOT, captures

NOW_MS = 1_800_000_000_000


async def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition, for as long as a busy machine may need."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@asynccontextmanager
async def running(reader: Reader) -> AsyncIterator[Reader]:
    """The reader once its process takes bodies."""
    try:
        for _another in range(100):
            assert not reader.takes(others_wait=False), "nobody has waited yet"
        for _another in range(process.CROWD - 1):
            assert not reader.takes(others_wait=True)
        assert reader._starting is None, "it is not worth it yet"
        await until(lambda: reader.takes(others_wait=True))
        yield reader
    finally:
        reader.close()


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> Reader:
    """A reader whose process can be ended, held and broken by what it is sent."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return Reader(program="tests.unit.odd_reader")


def plain(rows: Rows) -> Any:
    """Rows as they are written."""
    return rows.ended(), rows.others()


def outcome(read: Callable[[], Told]) -> Any:
    """What a request tells, or why it is none."""
    try:
        summary, rows = read()
    except BadBody as error:
        return error.code, str(error), error.field
    return tuple(summary), None if rows is None else plain(rows)


def bodies() -> list[tuple[bytes, Asked]]:
    """Every capture, protobuf and JSON, and every eighth once more with a few bytes changed."""
    chance = random.Random(7)
    found = []
    for number, capture in enumerate(captures()):
        for is_json in (False, True):
            body = capture.body(is_json=is_json)
            asked = Asked(capture.signal, is_json, 1, NOW_MS, NOW_MS + 10_000, True)
            found.append((body, asked))
            if number % 8 == 0:
                shaken = bytearray(body)
                for _change in range(3):
                    shaken[chance.randrange(len(shaken))] = chance.randrange(256)
                found.append((bytes(shaken), asked))
    nothing = Asked("traces", True, 1, NOW_MS, NOW_MS, True)
    return [
        *found,
        (b"", nothing._replace(is_json=False)),
        (b"\xff\xff\xff", nothing._replace(is_json=False)),
        (b"{", nothing),
        (b'{"resourceSpans": 5}', nothing),
        (b'{"resourceSpans": [{"scopeSpans": [{"spans": [' + b"{}," * 10_000 + b"{}]}]}]}", nothing),
    ]


def test_the_process_tells_of_every_body_what_the_server_would() -> None:
    """Rows to the byte, and the same words about what is none."""

    async def scenario() -> None:
        async with running(Reader()) as reader:
            asked = bodies()
            # Many at a time: more than it has hands.
            answers = await asyncio.gather(
                *(reader.read("otlp", body, tuple(about)) for body, about in asked), return_exceptions=True
            )
            for (body, about), answer in zip(asked, answers, strict=True):
                found: Any
                if isinstance(answer, Answer):
                    found = answer.summary, plain(Rows(*answer.rows)) if answer.rows else None
                else:
                    assert isinstance(answer, BadBody), answer
                    found = answer.code, str(answer), answer.field
                assert found == outcome(lambda body=body, about=about: told_of(body, about))  # type: ignore[misc]
            assert sum(isinstance(answer, BadBody) for answer in answers) >= 4

    asyncio.run(scenario())


def test_what_it_was_not_reading_is_read_by_the_server_when_it_ends(
    odd: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what it was reading by its successor: it may be why it ended."""
    takes_when_lost = []
    lose = odd._lose

    def lost(*how: Any, **hung: Any) -> None:
        lose(*how, **hung)
        takes_when_lost.append(odd.takes(others_wait=True))

    monkeypatch.setattr(odd, "_lose", lost)

    async def scenario() -> None:
        async with running(odd) as reader:
            first = asyncio.ensure_future(reader.read("dies_once", b"x" * 100_000, (str(tmp_path / "died"),)))
            others = [asyncio.ensure_future(reader.read("echoes", b"y", ())) for _number in range(20)]
            for other in others:
                with pytest.raises(ReadHere):
                    await other
            answer = await first
            assert takes_when_lost == [False], "it starts; what comes meanwhile is read in the server"
            assert (answer.summary, answer.rows) == (b"x" * 100_000, [b"x" * 100_000])
            assert (await reader.read("echoes", b"y", (1, "a"))).summary[1:] == (1, "a")

    asyncio.run(scenario())


def test_a_body_that_ends_the_process_twice_is_given_up_and_the_next_one_read(
    odd: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "PAUSE_MIN_S", 0.01)

    async def scenario() -> None:
        async with running(odd) as reader:
            with pytest.raises(Unread, match="send it again"):
                await reader.read("dies", b"x", ())
            await until(lambda: reader.takes(others_wait=True))
            assert (await reader.read("echoes", b"y", ())).rows == [b"y"]

    asyncio.run(scenario())


def test_a_process_that_cannot_start_is_not_started_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(program="ingest.reader.there_is_no_such_module")
    starts = 0
    child = process._Child

    def counted(program: str) -> Any:
        nonlocal starts
        starts += 1
        return child(program)

    monkeypatch.setattr(process, "_Child", counted)

    async def scenario() -> None:
        await until(lambda: reader.takes(others_wait=True) or reader._losses == 2)
        for _another in range(1000):
            assert not reader.takes(others_wait=True)
            await asyncio.sleep(0)
        assert starts == 2

    asyncio.run(scenario())
    reader.close()


def test_a_reading_that_takes_too_long_ends_with_its_process(
    odd: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with running(odd) as reader:
            pid, *_rest = (await reader.read("echoes", b"", ())).summary
            with monkeypatch.context() as hasty:
                hasty.setattr(process, "READ_S", 0.5)
                hung = asyncio.ensure_future(reader.read("hangs", b"x", ()))
                waits = asyncio.ensure_future(reader.read("echoes", b"y", ()))
                with pytest.raises(Unread):
                    await hung
                with pytest.raises(ReadHere):
                    await waits
            await until(lambda: not alive(pid))
            await until(lambda: reader.takes(others_wait=True))
            assert (await reader.read("echoes", b"y", ())).summary[0] != pid

    asyncio.run(scenario())


def test_a_bug_in_reading_is_the_servers_to_meet(odd: Reader) -> None:
    async def scenario() -> None:
        async with running(odd) as reader:
            for kind in ("breaks", "cannot_be_carried"):
                with pytest.raises(ReadHere):
                    await reader.read(kind, b"x", ())
            assert (await reader.read("echoes", b"y", ())).summary

    asyncio.run(scenario())


def test_it_ends_when_it_has_nothing_to_read_and_starts_again(odd: Reader) -> None:
    async def scenario() -> None:
        async with running(odd) as reader:
            reader._idle_s = 0.05  # from the next answer on
            pid, *_rest = (await reader.read("echoes", b"", ())).summary
            await until(lambda: not reader.running)
            await until(lambda: not alive(pid))
            with pytest.raises(ReadHere):
                await reader.read("echoes", b"", ())
            assert not reader.takes(others_wait=False)
            reader._idle_s = 60
            await until(lambda: reader.takes(others_wait=True))

    asyncio.run(scenario())


def test_whoever_goes_away_is_not_waited_for(odd: Reader) -> None:
    async def scenario() -> None:
        async with running(odd) as reader:
            gone = [asyncio.ensure_future(reader.read("echoes", b"x" * 1000, ())) for _number in range(10)]
            await asyncio.sleep(0)
            for one in gone:
                one.cancel()
            assert (await reader.read("echoes", b"y", ())).rows == [b"y"]

    asyncio.run(scenario())


def alive(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_slot_holds_what_was_put_there_also_where_no_file_lies_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for kind in ("memory", "file"):
        if kind == "file":
            monkeypatch.delattr(os, "memfd_create", raising=False)
        slot = passing.new_slot()
        try:
            passing.put(slot, b"a" * (passing.SLOT_BYTES_KEPT + 1))
            passing.put(slot, b"told", b"", b"rows")
            assert (passing.take(slot, 0, 4), passing.take(slot, 4, 4)) == (b"told", b"rows")
            passing.clear(slot)
            assert os.fstat(slot).st_size == 0
            with pytest.raises(EOFError):
                passing.take(slot, 0, 1)
        finally:
            os.close(slot)
