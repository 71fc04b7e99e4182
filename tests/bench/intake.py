"""Committed calls per second over HTTP, beside the floor of `tests.bench.intake_floor`, and what they cost.

Flow: a real server process (critic off) or the floor -> `tests.bench.intake_load` in a third process -> calls
acknowledged per second, checked against the rows in the file. Ours and the floors take turns, so that a busy
machine slows them alike; of the turns the median counts. Ours is measured once its child processes have
started. Then ours alone: receipts at half of that load, and the same load with the local critic on. At last
both again where `--kept` calls are kept already (written through the same intake, in bulk). All get the same
bodies. Their calls begin within the last minute, as live ones do; `--spread-hours 24` spreads them over a
day, as an import does, which costs more pages to write.
"""

import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import text

from api.background import start, stop
from api.schema import upgrade
from ingest.intake import Intake
from ingest.settings import Settings
from ingest.store import OpenStore
from ingest.tables import DEFAULT_PROJECT
from ingest.wire import parse_calls
from outliers.experience.refresh import keep_progress
from tests.bench.figures import Figure, options, peak_memory_mb, report
from tests.bench.intake_floor import commit, opened, rows_of
from tests.bench.intake_load import LIVE_HOURS, PLACE, bodies

BATCHES = (1, 50, 500)
SHARE_OF_FLOOR = 0.65
GOAL = "at least 0.65 of it at each"
P99_GOAL = "p99 of a receipt under 100 ms at half load"
FLAT_GOAL = "flat to 1,000,000 calls kept"
BYTES_GOAL = "at most 3.5 kB"
MEMORY_GOAL = "at most 250 MB"
#: What counts as flat: at least this share of the rate of an empty store.
FLAT_SHARE = 0.9
OURS = "lowlight"
#: Longest wait for the server's child processes.
CHILDREN_S = 120.0
#: Disk that a kept call may take at most, with its copy in the write-ahead log's share.
KEPT_BYTES_MAX = 4_000


class Traffic(NamedTuple):
    """Which calls are sent: equal ones for equal traffic."""

    seed: int
    spread_hours: float

    def turn(self, number: int) -> "Traffic":
        """Return other calls of the same kind."""
        return self._replace(seed=self.seed + number)


def main() -> None:
    """Measure and report."""
    parser = options("Committed calls per second over HTTP at batches of 1, 50 and 500, beside a bare app.")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of one turn (default 6)")
    parser.add_argument("--turns", type=int, default=3, help="turns of each server and batch (default 3)")
    parser.add_argument(
        "--kept",
        type=int,
        default=1_000_000,
        help="calls kept before the last turn (default 1000000; 0: none)",
    )
    parser.add_argument(
        "--spread-hours",
        type=float,
        default=LIVE_HOURS,
        help="calls begin anywhere in this many hours before now (default: within the last minute)",
    )
    args = parser.parse_args()
    traffic = Traffic(args.seed, args.spread_hours)
    servers: dict[str, Callable[[Path], Any]] = {
        OURS: _lowlight,
        "floor on loop": lambda folder: _floor(folder, "loop"),
        "floor on thread": lambda folder: _floor(folder, "thread"),
    }
    rates: dict[tuple[str, int], list[float]] = defaultdict(list)
    cpu_us: dict[tuple[str, int], list[float]] = defaultdict(list)
    ours: dict[str, list[float]] = defaultdict(list)
    for turn in range(args.turns):
        for batch in BATCHES:
            for name, server in servers.items():
                run = _turn(server, batch, args.seconds, traffic.turn(turn))
                rates[name, batch].append(run["calls_per_s"])
                cpu_us[name, batch].append(run["cpu_us"])
                if name == OURS:
                    for figure in ("p99_ms", "memory_mb", "bytes_per_call"):
                        ours[f"{figure}_batch_{batch}"].append(run[figure])
                print(f"turn {turn + 1}, batch {batch}: {name} {run['calls_per_s']:,.0f} calls/s", flush=True)
    figures = _figures(rates, cpu_us, ours)
    for batch in BATCHES:
        half = statistics.median(rates[OURS, batch]) / 2
        run = _turn(_lowlight, batch, max(args.seconds, 10.0), traffic, calls_per_s=half)
        name = f"p99_ms_half_load_batch_{batch}"
        figures.append(Figure(f"receipt_{name}", run["p99_ms"], None, P99_GOAL, run["p99_ms"] < 100))
        print(f"half load, batch {batch}: p99 {run['p99_ms']:.1f} ms", flush=True)
    for batch in BATCHES:
        run = _turn(_with_critic, batch, args.seconds, traffic)
        figures.append(Figure(f"calls_per_s_batch_{batch}_local_critic_on", run["calls_per_s"]))
        print(f"local critic on, batch {batch}: {run['calls_per_s']:,.0f} calls/s", flush=True)
    if args.kept:
        figures += _flat(args.kept, args.seconds, traffic, args.turns)
    report("intake", figures)


def _turn(
    server: Callable[[Path], Any],
    batch: int,
    seconds: float,
    traffic: Traffic,
    *,
    calls_per_s: float | None = None,
) -> dict[str, float]:
    """One load on a fresh server: rate, server CPU a call, receipt p99, peak memory, bytes on disk a call."""
    with tempfile.TemporaryDirectory(prefix="lowlight-bench-") as folder:
        path = Path(folder)
        with server(path) as (address, process_id):
            run = _measured(address, process_id, batch, seconds, traffic, calls_per_s)
        _check_kept(path / "calls.db", int(run["acknowledged"]))
        size = (path / "calls.db").stat().st_size
        return {**run, "bytes_per_call": size / max(1, run["acknowledged"])}


def _measured(
    address: str,
    process_id: int,
    batch: int,
    seconds: float,
    traffic: Traffic,
    calls_per_s: float | None = None,
) -> dict[str, float]:
    cpu_s = _cpu_s(process_id)
    run: dict[str, float] = _load(address, batch, seconds, traffic, calls_per_s)
    return {
        **run,
        "calls_per_s": run["acknowledged"] / run["seconds"],
        "cpu_us": (_cpu_s(process_id) - cpu_s) / max(1, run["acknowledged"]) * 1e6,
        "memory_mb": peak_memory_mb(process_id),
    }


def _figures(
    rates: dict[tuple[str, int], list[float]],
    cpu_us: dict[tuple[str, int], list[float]],
    ours: dict[str, list[float]],
) -> list[Figure]:
    figures = []
    for batch in BATCHES:
        value = statistics.median(rates[OURS, batch])
        floor = max(statistics.median(rates[f"floor on {kind}", batch]) for kind in ("loop", "thread"))
        holds = value >= SHARE_OF_FLOOR * floor
        figures.append(Figure(f"calls_per_s_batch_{batch}", value, floor, GOAL, holds))
    for batch in BATCHES:
        floor = min(statistics.median(cpu_us[f"floor on {kind}", batch]) for kind in ("loop", "thread"))
        name = f"server_cpu_us_per_call_batch_{batch}"
        figures.append(Figure(name, statistics.median(cpu_us[OURS, batch]), floor))
    for batch in BATCHES:
        name = f"p99_ms_batch_{batch}"
        figures.append(Figure(f"receipt_{name}", statistics.median(ours[name])))
    # Of the largest batch: of a few thousand calls the empty tables would be a good part.
    size = statistics.median(ours[f"bytes_per_call_batch_{BATCHES[-1]}"])
    figures.append(Figure("bytes_on_disk_per_call", size, None, BYTES_GOAL, size <= 3500))
    memory_mb = max(max(ours[f"memory_mb_batch_{batch}"]) for batch in BATCHES)
    figures.append(Figure("server_memory_mb", memory_mb, None, MEMORY_GOAL, memory_mb <= 250))
    return figures


def _flat(kept: int, seconds: float, traffic: Traffic, turns: int) -> list[Figure]:
    """The rate at batch 500 with `kept` calls in the store, beside the bare app's with as many.

    Whoever keeps an index of random keys, such as a session's, pays a page for each new row once it is large:
    the bare app's share of an empty store's rate is the floor of ours. Flat means nine tenths of it.
    """
    with tempfile.TemporaryDirectory(prefix="lowlight-bench-") as name:
        room = shutil.disk_usage(name).free // (2 * KEPT_BYTES_MAX)
        if room < kept:
            print(f"The disk has room for {room:,} calls only, instead of {kept:,}.", flush=True)
            kept = room
        servers = {OURS: _lowlight, "bare": _floor_on_thread}
        for which, fill in ((OURS, _fill), ("bare", _fill_floor)):
            (Path(name) / which).mkdir()
            fill(Path(name) / which / "calls.db", kept, traffic)
        rates: dict[tuple[str, str], list[float]] = defaultdict(list)
        for turn in range(turns):
            for which, server in servers.items():
                # Seeds of their own: the ids of earlier turns are kept already.
                calls = traffic.turn(turn + 1)
                rates[which, "empty"].append(_turn(server, 500, seconds, calls)["calls_per_s"])
                if which == OURS:
                    _as_ranked(Path(name) / which / "calls.db")
                with server(Path(name) / which) as (address, process_id):
                    run = _measured(address, process_id, 500, seconds, calls)
                rates[which, "full"].append(run["calls_per_s"])
                print(
                    f"turn {turn + 1}, {kept:,} kept: {which} {run['calls_per_s']:,.0f} calls/s", flush=True
                )
    middle = {key: statistics.median(found) for key, found in rates.items()}
    share, bare_share = (middle[which, "full"] / middle[which, "empty"] for which in servers)
    holds = kept >= 1_000_000 and share >= FLAT_SHARE
    return [
        Figure(f"calls_per_s_batch_500_with_{kept}_kept", middle[OURS, "full"], middle["bare", "full"]),
        Figure(f"share_of_the_empty_stores_rate_with_{kept}_kept", share, bare_share, FLAT_GOAL, holds),
    ]


def _fill(path: Path, n: int, traffic: Traffic) -> None:
    """Keep `n` calls of the load through intake itself, without HTTP."""
    settings = Settings(database_url=f"sqlite:///{path}", critic="none")
    upgrade(settings.database_url)
    store = OpenStore(settings.database_url)
    intake = Intake(store, settings)
    ready = bodies(500, *traffic)
    began_s = time.monotonic()
    for number in range(-(-n // 500)):
        body = ready[number % len(ready)].replace(PLACE, b"kept%06d" % number)
        intake.accept_calls(DEFAULT_PROJECT, parse_calls(body))
        if number % 400 == 399:
            print(f"kept {(number + 1) * 500:,} of {n:,} in {time.monotonic() - began_s:.0f} s", flush=True)
    store.close()


def _as_ranked(path: Path) -> None:
    """Say that all kept calls have been ranked, as they are in a server's life: a minute after they came."""
    store = OpenStore(f"sqlite:///{path}")
    with store.read() as connection:
        last = connection.execute(text("select max(seq) from call")).scalar_one()
    store.write(partial(keep_progress, progress={"calls": last}))
    store.close()


def _fill_floor(path: Path, n: int, traffic: Traffic) -> None:
    """Keep `n` calls of the load in the bare app's own file."""
    connection = opened(str(path))
    ready = bodies(500, *traffic)
    for number in range(-(-n // 500)):
        body = ready[number % len(ready)].replace(PLACE, b"kept%06d" % number)
        commit(connection, [(rows_of(body), None)])
    connection.close()


def _floor_on_thread(folder: Path) -> Any:
    return _floor(folder, "thread")


@contextmanager
def _with_critic(folder: Path) -> Iterator[tuple[str, int]]:
    with _served(folder, critic="local") as served:
        yield served


@contextmanager
def _lowlight(folder: Path) -> Iterator[tuple[str, int]]:
    with _served(folder, critic="none") as served:
        yield served


@contextmanager
def _served(folder: Path, *, critic: str) -> Iterator[tuple[str, int]]:
    settings = Settings(
        database_url=f"sqlite:///{folder / 'calls.db'}", port=0, critic=critic, refresh_s=86_400
    )
    started = datetime.now(UTC)
    process, address = start(settings, folder / "server.log")
    try:
        _await_children(address, started)
        yield address, process.pid
    finally:
        stop(process)


def _await_children(address: str, started: datetime) -> None:
    """Wait until the children have started and done what they do then: seconds of a processor, once."""
    deadline_s = time.monotonic() + CHILDREN_S
    while time.monotonic() < deadline_s:
        with urllib.request.urlopen(f"{address}/readyz") as answer:
            ran_at = json.load(answer)["outliers"]["ran_at"]
        if ran_at is not None and datetime.fromisoformat(ran_at) > started:
            return
        time.sleep(0.2)
    sys.exit(f"The server's children have not started within {CHILDREN_S:.0f} s.")


@contextmanager
def _floor(folder: Path, kind: str) -> Iterator[tuple[str, int]]:
    command = [sys.executable, "-m", "tests.bench.intake_floor", kind, str(folder / "calls.db")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip(), process.pid
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def _load(
    address: str, batch: int, seconds: float, traffic: Traffic, calls_per_s: float | None
) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.intake_load", address, str(batch), str(seconds)]
    command += [str(traffic.seed), str(calls_per_s or 0), str(traffic.spread_hours)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"The load broke off: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _check_kept(path: Path, acknowledged: int) -> None:
    """A rate of calls that were not kept would be no figure."""
    with sqlite3.connect(path) as connection:
        (kept,) = connection.execute("select count(*) from call").fetchone()
    if kept != acknowledged:
        sys.exit(f"{acknowledged} calls were acknowledged and {kept} are kept")


def _cpu_s(process_id: int) -> float:
    """Processor time of the server process so far; NaN where the system does not say."""
    status = Path(f"/proc/{process_id}/stat")
    if not status.exists():
        return float("nan")
    fields = status.read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
