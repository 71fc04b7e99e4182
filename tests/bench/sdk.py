"""What the SDK costs the application that uses it: `make bench BENCH=sdk`.

Import: the least of several fresh interpreters' times for `import lowlight`; the floor is the same for the
standard modules that any such SDK needs at once (threading, logging, typing).

`record()`: each call is timed alone, in wall time, while the SDK's thread sends to a live server in another
process that keeps nothing. Calls come in bursts of 50 with pauses of a millisecond between, as in an
application that waits for its models; so one in fifty is the first after a pause, on a cold processor, and
p99 is among those: `record_after_a_pause_p50_us` is the median of these alone. Taken in rounds, of which the
one with the least p99 counts: what else the machine does only adds. The floor is a function that takes the
same arguments and only appends them to a `deque`, called in the same bursts, its rounds in turn with the
SDK's. `record_busy_p99_us` is the same where hardly a pause is made, as in an application that is at work all
the time: what `record()` costs, without what a processor costs that has to wake up. `cpu_us_per_call` is the
processor time of the whole process, the sending included, for each call.

Memory: 1,000,000 calls with texts of their own are offered while the server is away; what the process has
grown by, beside the 64 MiB that the queue may hold.
"""

import multiprocessing
import resource
import subprocess
import sys
import time
from collections import deque
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any, NamedTuple

import lowlight

from tests.bench.figures import Figure, options, report
from tests.sdk.fake_server import running

IMPORT = "import time; began = time.perf_counter(); import {}; print(time.perf_counter() - began)"
MESSAGES = [
    {"role": "system", "content": "You answer questions about parcels. " * 12},
    {"role": "user", "content": "Where is my parcel? I ordered it two weeks ago. " * 8},
]
BURST = 50
#: Calls in one go where no pauses are made: what the queue holds beside what the sender takes meanwhile.
BUSY = 2_000
#: Grown by at most: what the queue may hold, one batch of it as JSON, and what the allocator keeps.
GROWN_MIB_MAX = 2 * 64
#: Run in a process of its own, so that nothing else has grown it; prints kB before and after, and drops.
OFFERED = """
import resource, sys, time, lowlight
def kb():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() // 1024
client = lowlight.Client("http://127.0.0.1:1")
for i in range(100): client.record("warm", input="up")
before, most = kb(), 0
for i in range({offered}):
    client.record("y" * 800 + str(i), input="x" * 1200 + str(i), session_id=str(i))
    if i % 10_000 == 0: most = max(most, kb())
stats = client.stats()
print(before, max(most, kb()), stats["queued"], sum(stats["dropped"].values()))
client.shutdown(0)
"""


def main() -> None:
    """Measure, print the table and the JSON line."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=20_000, help="calls recorded a round (default 20000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--imports", type=int, default=15, help="interpreters started (default 15)")
    parser.add_argument("--offered", type=int, default=1_000_000, help="calls without a server")
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
    with_sdk = Recording()
    floor, sdk = least_of_rounds(with_sdk, args.calls, args.rounds, BURST)
    busy_floor, busy_sdk = least_of_rounds(with_sdk, args.calls, args.rounds, BUSY)
    for name, q, most_us in (("p50", 0.5, 5.0), ("p99", 0.99, 20.0), ("p999", 0.999, None)):
        value = rank(sdk.all_us, q)
        goal = None if most_us is None else f"< {most_us:.0f}"
        holds = most_us is None or value < most_us
        figures.append(
            Figure(f"record_{name}_us", value, floor=rank(floor.all_us, q), goal=goal, holds=holds)
        )
    figures.append(
        Figure(
            "record_after_a_pause_p50_us",
            rank(sdk.after_a_pause_us, 0.5),
            floor=rank(floor.after_a_pause_us, 0.5),
        )
    )
    busy_p99_us = rank(busy_sdk.all_us, 0.99)
    figures.append(
        Figure(
            "record_busy_p99_us",
            busy_p99_us,
            floor=rank(busy_floor.all_us, 0.99),
            goal="< 20",
            holds=busy_p99_us < 20,
        )
    )
    figures.append(Figure("cpu_us_per_call", round(with_sdk.cpu_us_per_call, 1)))
    figures.append(Figure("record_dropped", with_sdk.close()))
    figures += offered_without_a_server(args.offered)
    report("sdk", figures)


def least_of_rounds(with_sdk: "Recording", calls: int, rounds: int, burst: int) -> tuple["Times", "Times"]:
    """Return the floor's and the SDK's rounds with the least p99, taken in turn."""
    taken = [(timed(Floor(), calls, burst), with_sdk.timed(calls, burst)) for _ in range(rounds)]
    floor, sdk = (min(times, key=Times.p99) for times in zip(*taken, strict=True))
    return floor, sdk


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


class Times(NamedTuple):
    """What the calls of one round took, microseconds, sorted: all of them, and the first after each pause."""

    all_us: list[float]
    after_a_pause_us: list[float]

    def p99(self) -> float:
        """The figure by which rounds are compared."""
        return rank(self.all_us, 0.99)


def timed(client: Any, calls: int, burst: int) -> Times:
    """Time each `record()` of one round, in bursts of so many calls."""
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
    record = client.record
    for i in range(calls):
        began = now()
        record(
            response,
            input=MESSAGES,
            latency_ms=812.5,
            prompt=("support-answer", "v7"),
            user_id="u-17",
            session_id="s-17",
            tags={"tenant": "acme"},
        )
        times_us.append((now() - began) / 1000)
        if i % burst == burst - 1:
            time.sleep(0.001)
        if i % 2_000 == 1_999:
            client.flush(60)
    return Times(sorted(times_us), sorted(times_us[burst::burst]))


class Floor:
    """The least that any SDK could do: a function of the same arguments that appends them to a deque."""

    def __init__(self) -> None:
        self._queue: deque[Any] = deque(maxlen=2_000)

    def record(self, response: Any = None, **named: Any) -> None:
        """Append what there is."""
        self._queue.append((response, named))

    def flush(self, _timeout_s: float) -> None:
        """Do nothing."""


class Recording:
    """A client at work, and a live server in another process that keeps nothing."""

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        self._server = spawn.Process(target=serve, args=(theirs,), daemon=True)
        self._server.start()
        self._client = lowlight.Client(ours.recv())
        self.cpu_us_per_call = float("inf")

    def timed(self, calls: int, burst: int) -> Times:
        """See `timed`; `cpu_us_per_call` is that of the cheapest round."""
        before_s = cpu_s()
        times = timed(self._client, calls, burst)
        self.cpu_us_per_call = min(self.cpu_us_per_call, (cpu_s() - before_s) / calls * 1e6)
        return times

    def close(self) -> int:
        """End both; return how many calls were dropped."""
        self._client.shutdown(60)
        self._server.kill()
        return sum(self._client.stats()["dropped"].values())


def cpu_s() -> float:
    """Processor time of this process so far, all threads, seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def serve(pipe: Connection) -> None:
    """Tell the address of a server that keeps nothing, then serve until killed."""
    with running() as server:
        pipe.send(server.url)
        while True:
            for kept in (server.requests, server.calls, server.signals):
                kept.clear()
            time.sleep(0.5)


def offered_without_a_server(offered: int) -> list[Figure]:
    """How much a process grows by that records without a server, and what became of the calls."""
    done = subprocess.run(
        [sys.executable, "-c", OFFERED.format(offered=offered)], capture_output=True, text=True, check=True
    )
    before_kb, most_kb, queued, dropped = map(int, done.stdout.split())
    grown_mib = (most_kb - before_kb) / 1024
    return [
        Figure(
            "grown_without_a_server_mib",
            round(grown_mib, 1),
            goal="memory bounded with the server down",
            holds=grown_mib <= GROWN_MIB_MAX and queued <= 10_000 and queued + dropped >= offered,
        ),
        Figure("queued_without_a_server", queued),
        Figure("dropped_without_a_server", dropped),
    ]


def rank(sorted_us: list[float], q: float) -> float:
    """The q-th quantile by nearest rank, in microseconds."""
    return round(sorted_us[max(0, -(-int(len(sorted_us) * q * 1000) // 1000) - 1)], 2)


if __name__ == "__main__":
    main()
