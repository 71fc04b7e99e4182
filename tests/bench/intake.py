"""Committed calls per second over HTTP, beside the floor of `tests.bench.intake_floor`.

Flow: a real server process (critic off) or the floor -> `tests.bench.intake_load` in a third process -> calls
acknowledged per second, checked against the rows in the file. Ours and the floors take turns, so that a busy
machine slows them alike; of the turns the median counts.
"""

import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from api.background import start, stop
from ingest.settings import Settings
from tests.bench.figures import Figure, options, report

BATCHES = (1, 50, 500)
GOAL = "at least 0.5 of floor"
OURS = "lowlight"


def main() -> None:
    """Measure and report."""
    parser = options("Committed calls per second over HTTP at batches of 1, 50 and 500, beside a bare app.")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of one turn (default 6)")
    parser.add_argument("--turns", type=int, default=3, help="turns of each server and batch (default 3)")
    args = parser.parse_args()
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
                with tempfile.TemporaryDirectory(prefix="lowlight-bench-") as folder:
                    path = Path(folder)
                    with server(path) as (address, process_id):
                        cpu_s = _cpu_s(process_id)
                        run = _load(address, batch, args.seconds, args.seed + turn)
                        cpu_us[name, batch].append((_cpu_s(process_id) - cpu_s) / run["acknowledged"] * 1e6)
                        memory_mb = _memory_mb(process_id)
                    _check_kept(path / "calls.db", run["acknowledged"])
                    rates[name, batch].append(run["acknowledged"] / run["seconds"])
                    if name == OURS:
                        ours[f"p99_ms_batch_{batch}"].append(run["p99_ms"])
                        ours["memory_mb"].append(memory_mb)
                        size = (path / "calls.db").stat().st_size
                        ours["bytes_per_call"].append(size / max(1, run["acknowledged"]))
                print(
                    f"turn {turn + 1}, batch {batch}: {name} {rates[name, batch][-1]:,.0f} calls/s",
                    flush=True,
                )
    report("intake", _figures(rates, cpu_us, ours))


def _figures(
    rates: dict[tuple[str, int], list[float]],
    cpu_us: dict[tuple[str, int], list[float]],
    ours: dict[str, list[float]],
) -> list[Figure]:
    figures = []
    for batch in BATCHES:
        value = statistics.median(rates[OURS, batch])
        floor = max(statistics.median(rates[f"floor on {kind}", batch]) for kind in ("loop", "thread"))
        goal = GOAL if batch == 500 else None
        holds = goal is None or value >= 0.5 * floor
        figures.append(Figure(f"calls_per_s_batch_{batch}", value, floor, goal, holds))
    for batch in BATCHES:
        floor = min(statistics.median(cpu_us[f"floor on {kind}", batch]) for kind in ("loop", "thread"))
        name = f"server_cpu_us_per_call_batch_{batch}"
        figures.append(Figure(name, statistics.median(cpu_us[OURS, batch]), floor))
    for batch in BATCHES:
        name = f"p99_ms_batch_{batch}"
        figures.append(Figure(f"receipt_{name}", statistics.median(ours[name])))
    figures.append(Figure("bytes_on_disk_per_call", statistics.median(ours["bytes_per_call"])))
    figures.append(Figure("server_memory_mb", max(ours["memory_mb"])))
    return figures


@contextmanager
def _lowlight(folder: Path) -> Iterator[tuple[str, int]]:
    settings = Settings(
        database_url=f"sqlite:///{folder / 'calls.db'}", port=0, critic="none", refresh_s=86_400
    )
    process, address = start(settings, folder / "server.log")
    try:
        yield address, process.pid
    finally:
        stop(process)


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


def _load(address: str, batch: int, seconds: float, seed: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.intake_load", address, str(batch), str(seconds), str(seed)]
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


def _memory_mb(process_id: int) -> float:
    """Resident memory of the server process alone; NaN where the system does not say."""
    status = Path(f"/proc/{process_id}/status")
    if not status.exists():
        return float("nan")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
