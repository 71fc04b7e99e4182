"""The critic: how near its worker comes to a bare loop of the same SDK client, and what leasing costs.

Flow: a loopback provider in a process of its own (`tests.bench.critic_provider`) <- the bare loop
(`tests.bench.critic_floor`) and the worker, in turns, so that a busy machine slows them alike; of the rounds
the median of the ratios counts. The provider counts requests, so that nothing lost and nothing twice is its
word. The worker is the real child process beside the real writer, as a team has it: no setting differs from
its default but the provider's address and key. What was chosen:

- Its calls have been taken before (read by the guard, rows made), for that is done once a call, beside the
  judging, and costs the same whoever judges.
- Requests a second are those of the steady part: from 10 % of the calls answered to 90 %, for the floor as
  well. A worker widens by one an answer, so its first second is narrower. A call that hangs is asked again
  after the 30 s of its time limit, so the last answer of a run with hangs comes half a minute after all
  others. That nothing is lost is seen at the very end.
"""

import asyncio
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, func, select, text

from api.schema import upgrade
from critic import drivers, queue
from critic.drivers.local import LocalDriver
from critic.process import run_critic
from critic.queue.plan import Plan
from critic.queue.work import Work
from critic.tables import Score
from critic.working.refit import Refitting
from critic.working.taking import Taking
from ingest.children import Child
from ingest.intake import Intake
from ingest.settings import Settings
from ingest.store import OpenStore
from ingest.tables import columns
from ingest.wire import parse_calls
from rubrics import load_rubrics
from tests.bench import critic_replay
from tests.bench.critic_calls import MODEL, RUBRICS, text_of, write_rubrics
from tests.bench.figures import Figure, options, report

SCORE = columns(Score)
CRITIC = f"openai:{MODEL}"
STEADY_FROM, STEADY_TO = 0.1, 0.9
WAIT_S = 300.0
LEASES = 20
LEASED_CALLS = 100


@dataclass(frozen=True)
class Run:
    """One turn against the provider.

    Attributes:
        per_s: requests answered a second in the steady part, see the module.
        cpu_s: CPU seconds of the process that asked.
    """

    per_s: float
    cpu_s: float
    stats: dict[str, Any]


def main() -> None:
    """Measure and report."""
    parser = options("The critic's worker beside a bare loop of the SDK's client; leasing at many scores.")
    parser.add_argument("--calls", type=int, default=2000, help="calls judged in one turn (default 2000)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (default 3)")
    parser.add_argument("--scores", type=int, default=1_000_000, help="scores kept when leasing (default 1M)")
    args = parser.parse_args()
    figures = [*_against_the_provider(args.calls, args.rounds, args.seed), *_leasing(args.scores)]
    if (args.data / "summeval12").is_dir():
        figures += critic_replay.figures(critic_replay.replayed(args.data, args.seed))
    else:
        print(f"No recorded critics in {args.data}: their replay is left out (ARGS='--data DIR').")
    report("critic", figures)


def _against_the_provider(calls: int, rounds: int, seed: int) -> Iterator[Figure]:
    floors, ours, faulty = [], [], []
    with tempfile.TemporaryDirectory(prefix="lowlight-bench-") as name:
        folder = Path(name)
        write_rubrics(folder / "rubrics")
        _taken(folder, calls)
        for turn in range(rounds):
            with _provider(folder, seed + turn) as url:
                floors.append(_floor(url, folder, calls))
            with _provider(folder, seed + turn) as url:
                ours.append(_worker(url, folder, calls))
            with _provider(folder, seed + turn, "--busy-share", "0.05", "--hang-share", "0.01") as url:
                faulty.append(_worker(url, folder, calls))
    clean_ratio = statistics.median(run.per_s / floor.per_s for run, floor in zip(ours, floors, strict=True))
    faulty_ratio = statistics.median(
        run.per_s / floor.per_s for run, floor in zip(faulty, floors, strict=True)
    )
    floor_per_s = statistics.median(floor.per_s for floor in floors)
    yield Figure(
        "requests_per_s",
        clean_ratio * floor_per_s,
        floor_per_s,
        "at least 0.8 of a bare loop of the same SDK client",
        clean_ratio >= 0.8,
    )
    yield Figure(
        "requests_per_s_with_5_percent_429_and_1_percent_hangs",
        faulty_ratio * floor_per_s,
        floor_per_s,
        "at least 0.65 of it",
        faulty_ratio >= 0.65,
    )
    scores = calls * len(RUBRICS)
    yield Figure("scores_per_s", clean_ratio * floor_per_s * len(RUBRICS))
    floor_cpu_ms = statistics.median(floor.cpu_s for floor in floors) / scores * 1000
    yield Figure(
        "cpu_ms_per_score", statistics.median(run.cpu_s for run in ours) / scores * 1000, floor_cpu_ms
    )
    for name in ("lost", "twice"):
        n = sum(run.stats[name] for run in (*ours, *faulty))
        yield Figure(f"scores_{name}", n, None, f"nothing {name}", n == 0)
    yield Figure("requests_answered_twice", sum(run.stats["answered_twice"] for run in (*ours, *faulty)))


@contextmanager
def _provider(folder: Path, seed: int, *more: str) -> Iterator[str]:
    port_file = folder / f"port-{time.monotonic_ns()}"
    command = [sys.executable, "-m", "tests.bench.critic_provider", "--port-file", str(port_file)]
    process = subprocess.Popen([*command, "--seed", str(seed), *more])
    try:
        while not port_file.exists() or not port_file.read_text():
            assert process.poll() is None, "the provider ended"
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port_file.read_text()}/v1"
    finally:
        process.terminate()
        process.wait()


def _stats(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/stats") as response:
        return dict(json.load(response))


def _floor(url: str, folder: Path, calls: int) -> Run:
    command = [sys.executable, "-m", "tests.bench.critic_floor"]
    said = subprocess.run(
        [*command, "--url", url, "--rubrics", str(folder / "rubrics"), "--calls", str(calls)],
        check=True,
        capture_output=True,
        text=True,
    )
    stats = _stats(url)
    assert stats["answered"] == calls, stats
    return Run(_per_s(stats, calls), float(said.stdout), stats)


def _per_s(stats: dict[str, Any], calls: int) -> float:
    first, last = int(STEADY_FROM * calls), int(STEADY_TO * calls) - 1
    at_s = stats["answered_at_s"]
    return float((last - first) / (at_s[last] - at_s[first]))


def _settings(path: Path, url: str | None = None) -> Settings:
    return Settings(
        database_url=f"sqlite:///{path}",
        critic=CRITIC,
        egress="*",
        openai_api_key="sk-bench",
        openai_base_url=url,
        rubrics_dir=path.parent / "rubrics",
    )


def _taken(folder: Path, calls: int) -> None:
    """Put a database there whose calls have been taken; each turn judges a copy of it."""
    settings = _settings(folder / "taken.db")
    upgrade(settings.database_url)
    store = OpenStore(settings.database_url)
    try:
        _send(store, settings, calls)
        asyncio.run(_take(store, settings, calls))
    finally:
        store.close()


def _worker(url: str, folder: Path, calls: int) -> Run:
    """Let a real critic process judge calls that were taken before."""
    path = folder / "judged.db"
    _copy(folder / "taken.db", path)
    settings = _settings(path, url)
    store = OpenStore(settings.database_url)
    try:
        child = Child("critic", run_critic, settings, store)
        try:
            # From the first score on: starting an interpreter and importing the SDK is no part of a request.
            _wait(store, child, lambda connection: connection.scalar(_SCORED) is not None)
            process = child._process
            assert process is not None
            assert process.pid is not None
            began_cpu_s = _cpu_s(process.pid)
            _wait(store, child, lambda connection: connection.scalar(_WAITING) is None)
            cpu_s = _cpu_s(process.pid) - began_cpu_s
        finally:
            child.stop()
        stats = _stats(url)
        stats |= _kept(store, calls, stats)
    finally:
        store.close()
    return Run(_per_s(stats, calls), cpu_s, stats)


def _copy(taken: Path, path: Path) -> None:
    """Copy a database with what its log still holds, over one of an earlier turn."""
    path.with_name(f"{path.name}-wal").unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(taken)) as of, closing(sqlite3.connect(path)) as to:
        of.backup(to)


def _send(store: OpenStore, settings: Settings, calls: int) -> None:
    intake = Intake(store, settings)
    for first in range(0, calls, 500):
        sent = []
        for number in range(first, min(first + 500, calls)):
            asked, answered = text_of(number)
            sent.append({"id": f"call-{number}", "input": asked, "output": answered, "model": MODEL})
        receipt = intake.accept_calls(1, parse_calls(orjson.dumps({"calls": sent})))
        assert receipt.rejected == []


async def _take(store: OpenStore, settings: Settings, calls: int) -> None:
    """Take every call in, as the worker does beside judging, and fit the guard as is due by then."""
    plan = Plan(drivers.build(settings), load_rubrics(settings.rubrics_dir), settings.egress)
    work, local = Work(store, plan), LocalDriver(settings.base_rate)
    taking = Taking(work, local, poll_s=1.0)
    taken = 0
    while taken < calls:
        taken += await taking.take()
    refitting = Refitting(work, taking, local, settings.base_rate)
    await refitting.begin()
    await refitting.refit_if_due()


_SCORED = select(SCORE.c.seq).where(SCORE.c.status == "scored").limit(1)
_WAITING = select(SCORE.c.seq).where(SCORE.c.status == "pending").limit(1)


def _wait(store: OpenStore, child: Child, ended: Callable[[Connection], bool]) -> None:
    until = time.monotonic() + WAIT_S
    while True:
        process = child._process
        # It would be started again and again, and the bench wait for nothing.
        assert process is None or process.exitcode is None, "the critic's process ended; its log says why"
        with store.read() as connection:
            if ended(connection):
                return
        assert time.monotonic() < until, f"answers are missing after {WAIT_S} s"
        time.sleep(0.05)


def _kept(store: OpenStore, calls: int, stats: dict[str, Any]) -> dict[str, int]:
    """Return how many scores are lost, how many are there twice, and how many requests were answered twice.

    The last are answers that came after the time limit, so that they were asked for again.
    """
    with store.read() as connection:
        rows = connection.execute(select(SCORE.c.call_seq, SCORE.c.rubric, SCORE.c.status)).all()
    scored = Counter((row.call_seq, row.rubric) for row in rows if row.status == "scored")
    return {
        "lost": calls * len(RUBRICS) - len(scored),
        "twice": sum(scored.values()) - len(scored),
        "answered_twice": stats["answered"] - stats["cases"],
    }


def _cpu_s(process_id: int) -> float:
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _leasing(scores: int) -> Iterator[Figure]:
    """Lease calls of four rubrics, each lease a committed write: beside few and many scores kept, and beside
    as many that wait, as after a rescore of them all.
    """
    few = LEASES * LEASED_CALLS * len(RUBRICS)
    few_ms, few_cpu_ms = _leased(kept=10_000, waiting=few)
    many_ms, many_cpu_ms = _leased(kept=scores, waiting=few)
    backlog_ms, backlog_cpu_ms = _leased(kept=10_000, waiting=max(few, scores))
    yield Figure(
        f"lease_ms_per_call_at_{scores}_scores",
        many_ms,
        None,
        "under 1 ms a call, amortised over 100, flat",
        many_ms < 1.0 and many_ms < 2 * few_ms,
    )
    yield Figure("lease_ms_per_call_at_10000_scores", few_ms)
    yield Figure(f"lease_ms_per_call_with_{scores}_waiting", backlog_ms)
    yield Figure(f"lease_cpu_ms_per_call_at_{scores}_scores", many_cpu_ms)
    yield Figure("lease_cpu_ms_per_call_at_10000_scores", few_cpu_ms)
    yield Figure(f"lease_cpu_ms_per_call_with_{scores}_waiting", backlog_cpu_ms)


def _leased(*, kept: int, waiting: int) -> tuple[float, float]:
    """Return the median time and the mean CPU time of leasing 100 calls, per call, in milliseconds.

    CPU time is that of this whole process, the writer's thread in it.
    """
    with tempfile.TemporaryDirectory(prefix="lowlight-bench-") as name:
        path = Path(name) / "leasing.db"
        upgrade(f"sqlite:///{path}")
        store = OpenStore(f"sqlite:///{path}")
        took = []
        try:
            store.write(partial(_fill, kept=kept, waiting=waiting))
            cpu_began = time.process_time()
            for _ in range(LEASES):
                job = partial(queue.lease, critic=CRITIC, calls_max=LEASED_CALLS, now_ms=10, lease_ms=60_000)
                began = time.perf_counter()
                leased = store.write(job)
                took.append((time.perf_counter() - began) * 1000 / LEASED_CALLS)
                assert len({row.call_seq for row in leased}) == LEASED_CALLS
            cpu_ms = (time.process_time() - cpu_began) * 1000 / LEASES / LEASED_CALLS
        finally:
            store.close()
    return statistics.median(took), cpu_ms


def _fill(connection: Connection, *, kept: int, waiting: int) -> None:
    """Put scored rows and rows that wait there, four rubrics a call."""
    connection.execute(
        text(
            "with recursive n(i) as (select 0 union all select i + 1 from n where i + 1 < :rows) "
            "insert into score (call_seq, rubric, rubric_blob, view_blob, critic, occasion, status, p1, p2, "
            "p3, p4, p5, p6, p7, score, attempts, not_before_ms, created_at_ms, finished_at_ms, changed) "
            "select i / 4, 'r' || (i % 4), 'blob-' || (i % 4), 'view', :critic, '', "
            "case when i < :kept then 'scored' else 'pending' end, "
            "case when i < :kept then 0.0 end, case when i < :kept then 0.0 end, "
            "case when i < :kept then 0.0 end, case when i < :kept then 0.0 end, "
            "case when i < :kept then 1.0 end, case when i < :kept then 0.0 end, "
            "case when i < :kept then 0.0 end, case when i < :kept then 5.0 end, "
            "0, 1, 1, case when i < :kept then 1 end, case when i < :kept then i + 1 end from n"
        ),
        {"rows": kept + waiting, "kept": kept, "critic": CRITIC},
    )
    assert connection.scalar(select(func.count()).where(SCORE.c.status == "pending")) == waiting


if __name__ == "__main__":
    main()
