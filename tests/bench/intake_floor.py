"""The floor of the intake benchmark: the least a server can do and still keep calls safely.

A bare Starlette app under uvicorn: orjson, no validation, one `executemany` a request into one table (text in
the row, unique id, three indexes), group commit, synchronous=FULL. Run as a program:
`python -m tests.bench.intake_floor {loop,thread} FILE`; it prints its address. `loop` writes from the event
loop, `thread` from a writer thread; which is faster depends on the batch, so the benchmark takes the better.
"""

import asyncio
import contextlib
import queue
import socket
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_TABLE = """
create table if not exists call (seq integer primary key, id text not null unique, started_at text,
    latency_ms real, first_token_ms real, provider text, model text, prompt text, prompt_version text,
    finish_reason text, input_tokens integer, output_tokens integer, user_id text, session_id text,
    environment text, input text, output text);
create index if not exists call_started on call (started_at);
create index if not exists call_session on call (session_id);
create index if not exists call_user on call (user_id);
"""
_INSERT = f"insert into call values (null, {', '.join('?' * 16)}) on conflict (id) do nothing"

Waiting = tuple[list[tuple[Any, ...]], "asyncio.Future[int]"]


def rows_of(body: bytes) -> list[tuple[Any, ...]]:
    """Return the rows of a body, trusting it blindly."""
    return [
        (
            call["id"],
            call["started_at"],
            call["latency_ms"],
            call["first_token_ms"],
            call["provider"],
            call["model"],
            call["prompt"]["name"],
            call["prompt"]["version"],
            call["finish_reason"],
            call["usage"]["input_tokens"],
            call["usage"]["output_tokens"],
            call["user_id"],
            call["session_id"],
            call["environment"],
            call["input"],
            call["output"],
        )
        for call in orjson.loads(body)["calls"]
    ]


def opened(path: str) -> sqlite3.Connection:
    """Return the one connection, with the table made."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")
    connection.execute("pragma wal_autocheckpoint = 4000")
    connection.execute("pragma cache_size = -64000")
    connection.executescript(_TABLE)
    return connection


def commit(connection: sqlite3.Connection, group: Sequence[tuple[list[tuple[Any, ...]], Any]]) -> list[int]:
    """Write a group of requests in one transaction; return how many rows each added."""
    connection.execute("begin immediate")
    added = [connection.executemany(_INSERT, rows).rowcount for rows, _done in group]
    connection.execute("commit")
    return added


def app_on_loop(path: str) -> Starlette:
    """Return the app that writes from the event loop."""
    waiting: asyncio.Queue[Waiting] = asyncio.Queue()

    async def write() -> None:
        connection = opened(path)
        while True:
            group = [await waiting.get()]
            while not waiting.empty():
                group.append(waiting.get_nowait())
            for (_rows, done), added in zip(group, commit(connection, group), strict=True):
                done.set_result(added)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(write())
        yield
        task.cancel()

    async def post(request: Request) -> Response:
        rows = rows_of(await request.body())
        done = asyncio.get_running_loop().create_future()
        waiting.put_nowait((rows, done))
        return _receipt(await done)

    return Starlette(routes=[Route("/v1/calls", post, methods=["POST"])], lifespan=lifespan)


def app_on_thread(path: str) -> Starlette:
    """Return the app that writes from a thread of its own."""
    waiting: queue.SimpleQueue[Waiting] = queue.SimpleQueue()

    def write(loop: asyncio.AbstractEventLoop) -> None:
        connection = opened(path)
        while True:
            group = [waiting.get()]
            while not waiting.empty():
                group.append(waiting.get())
            added = commit(connection, group)
            loop.call_soon_threadsafe(_hand_out, group, added)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        threading.Thread(target=write, args=(asyncio.get_running_loop(),), daemon=True).start()
        yield

    async def post(request: Request) -> Response:
        rows = rows_of(await request.body())
        done = asyncio.get_running_loop().create_future()
        waiting.put((rows, done))
        return _receipt(await done)

    return Starlette(routes=[Route("/v1/calls", post, methods=["POST"])], lifespan=lifespan)


def _hand_out(group: list[Waiting], added: list[int]) -> None:
    for (_rows, done), n in zip(group, added, strict=True):
        done.set_result(n)


def _receipt(accepted: int) -> Response:
    return Response(orjson.dumps({"accepted": accepted}), media_type="application/json")


def main() -> None:
    """Serve until ended."""
    kind, path = sys.argv[1:]
    # With the protocol named, asyncio sets TCP_NODELAY on what it accepts; else each receipt waits 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(256)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    app = app_on_loop(path) if kind == "loop" else app_on_thread(path)
    config = uvicorn.Config(app, http="httptools", loop="asyncio", access_log=False, log_level="error")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
