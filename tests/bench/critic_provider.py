"""A provider in a process of its own for `make bench BENCH=critic`: answers /v1/decisions after 200 ms.

Flow: `python -m tests.bench.critic_provider --port-file F` -> its port in F -> POST decisions, GET stats.
It takes 100 requests at once and refuses more with a 429, as a rate limit does. Written on bare asyncio, so
that it costs the two processes it is measured with as little of the machine as can be.
"""

import argparse
import asyncio
import json
import random
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import orjson

AT_ONCE = 100
_CASE = re.compile(rb"CASE (\d+)")
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Provider:
    """What is shared by all connections.

    Args:
        answer_s: how long an answer takes.
        busy_share, hang_share: of requests that get a 429, and that never get an answer.
    """

    def __init__(self, answer_s: float, busy_share: float, hang_share: float, seed: int) -> None:
        self.answer_s = answer_s
        self._busy_share = busy_share
        self._hang_share = hang_share
        self._random = random.Random(seed)
        self.in_flight = 0
        self.counts: Counter[str] = Counter()
        self.answered: Counter[bytes] = Counter()
        self.first_at = 0.0
        self.answered_at: list[float] = []

    async def answer(self, body: bytes) -> bytes | None:
        """Return a response to one request; None for one that hangs."""
        self.first_at = self.first_at or time.monotonic()
        self.counts["asked"] += 1
        drawn = self._random.random()
        if self.in_flight >= AT_ONCE or drawn < self._busy_share:
            self.counts["over" if self.in_flight >= AT_ONCE else "busy"] += 1
            return _BUSY
        if drawn < self._busy_share + self._hang_share:
            self.counts["hung"] += 1
            return None
        self.in_flight += 1
        self.counts["most"] = max(self.counts["most"], self.in_flight)
        try:
            await asyncio.sleep(self.answer_s)
        finally:
            self.in_flight -= 1
        found = _CASE.search(body)
        self.answered[found[1] if found else b"?"] += 1
        self.answered_at.append(time.monotonic())
        return _http(200, _decision(body))

    def stats(self) -> bytes:
        """Return what was asked and answered so far; times in seconds from the first request on."""
        return _http(
            200,
            orjson.dumps(
                {
                    **self.counts,
                    "answered": sum(self.answered.values()),
                    "cases": len(self.answered),
                    "answered_at_s": [at - self.first_at for at in self.answered_at],
                }
            ),
        )


class Connection(asyncio.Protocol):
    """One kept-alive HTTP/1.1 connection with one request at a time."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._received = b""
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: Any) -> None:
        """See asyncio."""
        self._transport = transport

    def connection_lost(self, _error: Exception | None) -> None:
        """See asyncio."""
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = _LENGTH.search(head)
        if len(body) < (int(length[1]) if length else 0):
            return
        self._received = b""
        if head.startswith(b"GET"):
            self._transport.write(self._provider.stats())
        else:
            self._task = asyncio.get_running_loop().create_task(self._answer(body))

    async def _answer(self, body: bytes) -> None:
        answer = await self._provider.answer(body)
        if answer is not None:
            self._transport.write(answer)


def _decision(body: bytes) -> bytes:
    questions = orjson.loads(body)["questions"]
    levels = [{"label": str(i), "probability": 0.7 if i == 5 else 0.05, "value": i - 1} for i in range(1, 8)]
    answers = [
        {"type": "score", "name": q["name"], "confidence": 0.7, "score": 3.65, "probabilities": levels}
        for q in questions
    ]
    usage = {
        "input_tokens": len(body) // 4,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 7 * len(questions),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": len(body) // 4 + 7 * len(questions),
    }
    return orjson.dumps({"answers": answers, "model": "gpt-6-luna-2026-10-01", "usage": usage})


def _http(status: int, body: bytes, headers: str = "") -> bytes:
    kind = "content-type: application/json"
    return f"HTTP/1.1 {status} X\r\n{kind}\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body


_BUSY = _http(
    429,
    orjson.dumps({"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}}),
    "retry-after-ms: 100\r\n",
)


async def _serve(args: argparse.Namespace) -> None:
    provider = Provider(args.answer_s, args.busy_share, args.hang_share, args.seed)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(provider), "127.0.0.1", 0, backlog=1024
    )
    port = server.sockets[0].getsockname()[1]
    args.port_file.write_text(json.dumps(port))
    await server.serve_forever()


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port-file", type=Path, required=True)
    parser.add_argument("--answer-s", type=float, default=0.2)
    parser.add_argument("--busy-share", type=float, default=0.0)
    parser.add_argument("--hang-share", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
