"""Load for the intake benchmark: realistic calls, and a client that costs little.

Run as a program it posts from 8 connections for a given time and prints what was acknowledged:
`python -m tests.bench.intake_load ADDRESS BATCH SECONDS SEED [CALLS_PER_S [SPREAD_HOURS]]`. Bodies are made
beforehand; only the ids in them are replaced on the way out, never to an id of another seed. With a rate the
connections take turns at equal times, and a receipt's wait counts from the time its request was due, so that
a slow server cannot hide behind a client that waits for it.

Calls begin within the last minute, as live ones do, or anywhere in SPREAD_HOURS before now (an import,
clients that were offline): then their index entries and latency counts lie further apart.
"""

import json
import random
import socket
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import orjson

CONNECTIONS = 8
#: Live traffic: a call is sent within the minute that it began in.
LIVE_HOURS = 1 / 60
#: Stands in every id of a body, until the client puts the request's own number there.
PLACE = b"@@@@@@@@@@"
_WORDS = """
the a to of and in is your you for on it with that this we are can be not or have from was order refund
account please invoice delivery password reset subscription cancel charged support agent document policy
answer question naïve café 配送 customer within days payment method address however therefore information
available following contact us anytime thanks sorry help need
""".split()  # noqa: SIM905 (eighty quoted words read worse)


def call_of(random_: random.Random, number: int, spread_hours: float = LIVE_HOURS) -> dict[str, object]:
    """Return one call, begun in the last `spread_hours`: median 1.2 kB in and 0.8 kB out, up to 60 kB."""
    began = datetime.now(UTC) - timedelta(hours=random_.random() * spread_hours)
    latency_ms = random_.lognormvariate(7, 0.8)
    return {
        "id": f"{PLACE.decode()}-{number}",
        "started_at": began.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "latency_ms": round(latency_ms, 2),
        "first_token_ms": round(latency_ms * 0.2, 2),
        "provider": "openai",
        "model": random_.choice(("gpt-6-luna", "gpt-6-mini", "claude-6")),
        "prompt": {"name": random_.choice(("answer", "title", "triage")), "version": "7"},
        "finish_reason": "stop",
        "usage": {"input_tokens": random_.randrange(50, 9000), "output_tokens": random_.randrange(5, 900)},
        "user_id": f"user-{random_.randrange(5000)}",
        "session_id": f"session-{random_.randrange(20000)}",
        "environment": "production",
        "input": _text(random_, 1200),
        "output": _text(random_, 800),
    }


def _text(random_: random.Random, median: int) -> str:
    size = min(60_000, int(random_.lognormvariate(0, 1) * median))
    words = random_.choices(_WORDS, k=size // 6 + 1)
    return " ".join(words)[:size]


def bodies(batch: int, seed: int, spread_hours: float = LIVE_HOURS) -> list[bytes]:
    """Return some bodies of `batch` calls each, their ids still to be filled in."""
    random_ = random.Random(seed)
    n = max(2, 1000 // batch)
    return [
        orjson.dumps({"calls": [call_of(random_, i, spread_hours) for i in range(batch)]}) for _ in range(n)
    ]


class _Connection(threading.Thread):
    """Posts one body after another over one kept-alive connection, until told to stop."""

    def __init__(
        self,
        number: int,
        address: str,
        ready: list[bytes],
        batch: int,
        seed: int,
        calls_per_s: float | None = None,
    ) -> None:
        super().__init__(daemon=True)
        self.acknowledged = 0
        self.receipt_ms: list[float] = []
        self.error = ""
        self._number = number
        self._seed = seed
        self._bodies = ready
        #: seconds between two requests of this connection; None: as fast as it can
        self._every_s = None if calls_per_s is None else CONNECTIONS * batch / calls_per_s
        where = urlsplit(address)
        assert where.hostname is not None
        self._socket = socket.create_connection((where.hostname, where.port or 80))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._host = where.netloc
        self.stop = threading.Event()

    def run(self) -> None:
        """Post until `stop` is set or the server refuses."""
        sent = self._number
        due_s = time.perf_counter() + (self._every_s or 0) * self._number / CONNECTIONS
        while not self.stop.is_set():
            place = b"%02d%02d%06d" % (self._seed % 100, self._number, sent)
            body = self._bodies[sent % len(self._bodies)].replace(PLACE, place)
            head = (
                f"POST /v1/calls HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            ).encode()
            start = time.perf_counter()
            if self._every_s is not None:
                if self.stop.wait(max(0.0, due_s - start)):
                    return
                start, due_s = due_s, due_s + self._every_s
            self._socket.sendall(head + body)
            answer = self._socket.recv(65536)
            while b"\r\n\r\n" not in answer or not answer.endswith(b"}"):
                more = self._socket.recv(65536)
                if not more:
                    break
                answer += more
            self.receipt_ms.append((time.perf_counter() - start) * 1000)
            if not answer.startswith(b"HTTP/1.1 200"):
                self.error = answer[:300].decode(errors="replace")
                return
            self.acknowledged += orjson.loads(answer[answer.index(b"{") :])["accepted"]
            sent += 1


def main() -> None:
    """Run the load; print {"acknowledged", "seconds", "p99_ms"} as JSON."""
    address, batch, seconds, seed = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    # A rate of 0: as fast as the server answers.
    calls_per_s = (float(sys.argv[5]) or None) if len(sys.argv) > 5 else None
    spread_hours = float(sys.argv[6]) if len(sys.argv) > 6 else LIVE_HOURS
    ready = bodies(batch, seed, spread_hours)
    connections = [
        _Connection(number, address, ready, batch, seed, calls_per_s) for number in range(CONNECTIONS)
    ]
    start = time.perf_counter()
    for connection in connections:
        connection.start()
    time.sleep(seconds)
    for connection in connections:
        connection.stop.set()
    for connection in connections:
        connection.join()
    elapsed = time.perf_counter() - start
    for connection in connections:
        if connection.error:
            sys.exit(connection.error)
    receipts = sorted(ms for connection in connections for ms in connection.receipt_ms)
    print(
        json.dumps(
            {
                "acknowledged": sum(connection.acknowledged for connection in connections),
                "seconds": elapsed,
                "p99_ms": receipts[min(len(receipts) - 1, int(len(receipts) * 0.99))],
            }
        )
    )


if __name__ == "__main__":
    main()
