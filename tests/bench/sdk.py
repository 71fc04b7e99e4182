"""What the SDK costs the application that uses it: `make bench BENCH=sdk`.

Import: the least of several fresh interpreters' times for `import lowlight`; the floor is the same for the
standard modules that any such SDK needs at once (threading, logging, typing). `record()`: each call is timed
alone, with pauses as an application has them, while the SDK's thread sends to a server in another process
that keeps nothing; the floor appends the same fields as a dict to a `deque`.
"""

import multiprocessing
import subprocess
import sys
import time
from collections import deque
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

import lowlight

from tests.bench.figures import Figure, options, report
from tests.sdk.fake_server import running

IMPORT = "import time; began = time.perf_counter(); import {}; print(time.perf_counter() - began)"
MESSAGES = [
    {"role": "system", "content": "You answer questions about parcels. " * 12},
    {"role": "user", "content": "Where is my parcel? I ordered it two weeks ago. " * 8},
]


def main() -> None:
    """Measure, print the table and the JSON line."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=40_000, help="calls recorded (default 40000)")
    parser.add_argument("--imports", type=int, default=15, help="interpreters started (default 15)")
    args = parser.parse_args()
    import_ms = least_import_ms("lowlight", args.imports)
    figures = [
        Figure(
            "import_ms",
            round(import_ms, 2),
            floor=round(least_import_ms("threading, logging, typing", args.imports), 2),
            goal="< 50",
            holds=import_ms < 50,
        )
    ]
    floor_us = sorted(floor_times_us(args.calls))
    times_us, drops = record_times_us(args.calls)
    times_us.sort()
    for name, q in (("record_p50_us", 0.5), ("record_p99_us", 0.99), ("record_p999_us", 0.999)):
        figures.append(Figure(name, rank(times_us, q), floor=rank(floor_us, q)))
    figures.append(Figure("record_dropped", drops))
    report("sdk", figures)


def least_import_ms(modules: str, times: int) -> float:
    """The least of several fresh interpreters: what importing costs where nothing else disturbs it."""
    found = [
        float(
            subprocess.run(
                [sys.executable, "-c", IMPORT.format(modules)], capture_output=True, check=True
            ).stdout
        )
        for _ in range(times)
    ]
    return min(found) * 1000


def record_times_us(calls: int) -> tuple[list[float], int]:
    """Return the time of each `record()` in microseconds, and how many calls were dropped."""
    message = SimpleNamespace(
        role="assistant", content="It will be with you tomorrow. " * 20, tool_calls=None
    )
    response = SimpleNamespace(
        id="chatcmpl-1",
        model="gpt-6-mini",
        choices=[SimpleNamespace(index=0, message=message, finish_reason="stop")],
        usage=SimpleNamespace(prompt_tokens=240, completion_tokens=120),
    )
    times_us = []
    now = time.perf_counter_ns
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    server = spawn.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    with lowlight.Client(ours.recv()) as client:
        for first in range(0, calls, 2_000):
            for i in range(first, min(first + 2_000, calls)):
                began = now()
                client.record(
                    response,
                    input=MESSAGES,
                    latency_ms=812.5,
                    prompt=("support-answer", "v7"),
                    user_id="u-17",
                    session_id="s-17",
                    tags={"tenant": "acme"},
                )
                times_us.append((now() - began) / 1000)
                if i % 50 == 0:
                    time.sleep(0.001)  # as an application does, which waits for its model most of the time
            client.flush(60)
        dropped = sum(client.stats()["dropped"].values())
    server.kill()
    return times_us, dropped


def serve(pipe: Connection) -> None:
    """Tell the address of a server that keeps nothing, then serve until killed."""
    with running() as server:
        pipe.send(server.url)
        while True:
            for kept in (server.requests, server.calls, server.signals):
                kept.clear()
            time.sleep(0.5)


def floor_times_us(calls: int) -> list[float]:
    """The least that any SDK could do: a dict of the fields, appended to a deque."""
    queue: deque[dict[str, Any]] = deque(maxlen=2_000)
    times_us = []
    now = time.perf_counter_ns
    for _ in range(calls):
        began = now()
        queue.append(
            {
                "input": MESSAGES[:],
                "latency_ms": 812.5,
                "prompt": ("support-answer", "v7"),
                "user_id": "u-17",
                "session_id": "s-17",
                "tags": {"tenant": "acme"},
            }
        )
        times_us.append((now() - began) / 1000)
    return times_us


def rank(sorted_us: list[float], q: float) -> float:
    """The q-th quantile by nearest rank, in microseconds."""
    return round(sorted_us[max(0, -(-int(len(sorted_us) * q * 1000) // 1000) - 1)], 2)


if __name__ == "__main__":
    main()
