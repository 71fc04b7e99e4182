"""How long pages take at 1,000,000 calls of a quarter, and the weekly computation: `make bench BENCH=pages`.

Flow: `pages_rows.fill` in bulk, then the real ranking of the newest two weeks -> a real server -> each
address over HTTP, one after another, with other filters each time -> p95 beside that of /healthz, the floor:
the same client, server and socket without a page. Then `pages_weekly` computes the last ended week in a
process of its own, while calls are posted to the server.
"""

import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path
from urllib.parse import quote

import httpx2 as httpx

from api.schema import upgrade
from api.serving import background
from dashboards.panels import PANEL_TIME_LIMIT_S
from ingest.settings import Settings
from ingest.store import OpenStore
from outliers.process import run_once
from outliers.weeks import last_ended
from tests.bench.figures import Figure, options, report
from tests.bench.pages_rows import MODELS, PROMPTS, WORDS, call_id, copy_history, fill, session_id, users_of
from tests.bench.pages_weekly import Weekly, compute_last_week

GOAL = "every page and JSON twin at 1,000,000 calls of one quarter, warm, p95 under 150 ms on two cores"
GOAL_WEEKLY = "the weekly computation under 60 s and 500 MB"
GOAL_RECEIPT = "p99 of a receipt under 200 ms while it runs"
GOAL_ALIKE = "answered within a second with 1,000,000 calls kept"
GOAL_ALIKE_MS = 1_000.0
GOAL_MS, GOAL_WEEKLY_S, GOAL_WEEKLY_MB, GOAL_RECEIPT_MS = 150.0, 60.0, 500.0, 200.0
GOAL_CALLS = 1_000_000
WARM_UP = 3
#: Calls of a batch posted while the week is computed, and how long to wait between two.
BATCH, PAUSE_S = 20, 0.05

#: Name of the figure -> the address of the i-th request; the twin has ".json" after the path.
Address = Callable[[random.Random, int], tuple[str, str]]


def _some_call(source: random.Random, calls: int) -> str:
    return f"/calls/{quote(call_id(source.randrange(calls)))}"


PAGES: dict[str, Address] = {
    "this_week": lambda _source, _calls: ("/", ""),
    "cases": lambda _source, _calls: ("/cases", ""),
    "case": lambda _source, _calls: (f"/cases/{_last_week()}", ""),
    "cohorts": lambda _source, _calls: ("/cohorts", ""),
    "worst_calls": lambda _source, _calls: ("/worst", ""),
    "worst_users": lambda _source, _calls: ("/worst", "per=user"),
    "worst_sessions": lambda _source, _calls: ("/worst", "per=session"),
    "worst_calls_by_score": lambda _source, _calls: ("/worst", "by=score"),
    "worst_users_by_signal": lambda _source, _calls: ("/worst", "by=signal&per=user"),
    "worst_sessions_by_latency": lambda _source, _calls: ("/worst", "by=latency&per=session"),
    "changes": lambda _source, _calls: ("/changes", ""),
    "user": lambda source, calls: (f"/users/u{source.randrange(users_of(calls))}", ""),
    "session": lambda source, calls: (f"/sessions/{session_id(source.randrange(calls), calls)}", ""),
    "calls": lambda _source, _calls: ("/calls", ""),
    "calls_of_prompt_and_model": lambda source, _calls: (
        "/calls",
        f"prompt={source.choice(PROMPTS)}&model={source.choice(MODELS)}",
    ),
    "calls_with_thumbs_down": lambda _source, _calls: ("/calls", "signal=thumbs_down"),
    "calls_of_a_user": lambda source, calls: ("/calls", f"user=u{source.randrange(users_of(calls))}"),
    "calls_that_took_long": lambda _source, _calls: ("/calls", "min_latency_ms=20000"),
    "calls_that_failed": lambda _source, _calls: ("/calls", "outcome=failed"),
    "calls_no_critic_answered": lambda _source, _calls: ("/calls", "status=refused"),
    "calls_found_by_a_word": lambda source, _calls: ("/calls", f"q={source.choice(WORDS)}"),
    "calls_found_by_an_unheard_word": lambda _source, _calls: ("/calls", "q=unheard-of"),
    "call": lambda source, calls: (_some_call(source, calls), ""),
    "alike": lambda _source, calls: (f"/calls/{quote(call_id(calls - calls // 10))}/alike", ""),
    "latency_by_service": lambda _source, _calls: ("/latency", ""),
    "latency_by_prompt_version": lambda _source, _calls: ("/latency", "group_by=prompt_version"),
    "latency_by_hour": lambda _source, _calls: ("/latency", "group_by=hour"),
    "costs": lambda _source, _calls: ("/costs", ""),
    "costs_by_prompt_version": lambda _source, _calls: ("/costs", "by=prompt_version"),
    "rubrics": lambda _source, _calls: ("/rubrics", ""),
    "rubric": lambda _source, _calls: ("/rubrics/tone", ""),
    "critic": lambda _source, _calls: ("/critic", ""),
}


def main() -> None:
    """Fill, serve, measure, print."""
    parser = options(__doc__ or "")
    parser.add_argument("--calls", type=int, default=GOAL_CALLS, help="calls kept (default 1,000,000)")
    parser.add_argument("--requests", type=int, default=40, help="requests per address (default 40)")
    parser.add_argument("--database", type=Path, help="a file that an earlier run left; filled where missing")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lowlight-bench-") as folder:
        path = asked.database or Path(folder) / "pages.db"
        settings = Settings(database_url=f"sqlite:///{path}", port=0, critic="none", refresh_s=3600)
        if not path.exists():
            _prepare(settings, asked.calls, asked.seed)
        with background(settings) as url:
            figures = _pages(url, asked.calls, asked.requests, asked.seed)
            figures += _alike(url, asked.calls, asked.requests, asked.seed)
            figures += _weekly(url, settings, held_to=asked.calls == GOAL_CALLS)
    report("pages", figures)


def _last_week() -> str:
    return last_ended(round(time.time() * 1000), Settings().zone).id


def _prepare(settings: Settings, calls: int, seed: int) -> None:
    started = time.perf_counter()
    upgrade(settings.database_url)
    store = OpenStore(settings.database_url)
    fill(store, settings.zone, calls, seed)
    print(f"{calls:,} calls kept in {time.perf_counter() - started:.1f} s; ranking ...", flush=True)
    started = time.perf_counter()
    ranked = run_once(settings, store)
    copy_history(store, settings.zone)
    print(f"{ranked:,} ranked and their weeks computed in {time.perf_counter() - started:.1f} s", flush=True)
    store.close()


def _pages(url: str, calls: int, requests: int, seed: int) -> list[Figure]:
    held_to = calls == GOAL_CALLS
    with httpx.Client(base_url=url, timeout=60) as client:
        floor_ms = _p95_ms([_took_ms(client, "/healthz") for _ in range(requests)])
        figures = []
        for name, address in PAGES.items():
            for twin in (False, True):
                source = random.Random(f"{seed}:{name}")
                took_ms = []
                for i in range(WARM_UP + requests):
                    path, query = address(source, calls)
                    path = f"{path}.json" if twin else path
                    ms = _took_ms(client, f"{path}?{query}" if query else path)
                    if i >= WARM_UP:
                        took_ms.append(ms)
                p95_ms = _p95_ms(took_ms)
                figures.append(
                    Figure(
                        f"{name}{'_json' if twin else ''}_p95_ms",
                        round(p95_ms, 1),
                        floor=round(floor_ms, 2),
                        goal=GOAL if held_to else None,
                        holds=p95_ms < GOAL_MS if held_to else True,
                    )
                )
    return figures


def _alike(url: str, calls: int, requests: int, seed: int) -> list[Figure]:
    """Ask of calls that nobody asked of before: what the page above remembers is computed here."""
    source = random.Random(seed)
    with httpx.Client(base_url=url, timeout=60) as client:
        took_ms = [_took_ms(client, f"{_some_call(source, calls)}/alike") for _ in range(requests)]
    held_to = calls == GOAL_CALLS
    p95_ms = _p95_ms(took_ms)
    goal = GOAL_ALIKE if held_to else None
    holds = not held_to or p95_ms < GOAL_ALIKE_MS
    return [Figure("alike_of_another_call_p95_ms", round(p95_ms, 1), goal=goal, holds=holds)]


def _weekly(url: str, settings: Settings, *, held_to: bool) -> list[Figure]:
    """Compute the last ended week beside the server, and post calls to it meanwhile."""
    context = multiprocessing.get_context("spawn")
    done, answer = context.Event(), context.SimpleQueue()
    child = context.Process(target=compute_last_week, args=(settings.database_url, done, answer))
    child.start()
    receipts_ms = _post_until(url, done)
    weekly: Weekly = answer.get()
    child.join()
    receipt_ms = sorted(receipts_ms)[-(-99 * len(receipts_ms) // 100) - 1]
    print(
        f"the week has {weekly.calls:,} calls, {weekly.before:,} before it; "
        f"{len(receipts_ms):,} receipts while it was computed",
        flush=True,
    )

    def _held(name: str, value: float, goal: str, limit: float) -> Figure:
        return Figure(
            name, round(value, 1), goal=goal if held_to else None, holds=not held_to or value < limit
        )

    return [
        _held("weekly_computation_s", weekly.took_s, GOAL_WEEKLY, GOAL_WEEKLY_S),
        Figure("weekly_computation_cpu_s", round(weekly.cpu_s, 1)),
        _held("weekly_computation_peak_mb", weekly.peak_mb, GOAL_WEEKLY, GOAL_WEEKLY_MB),
        _held("receipt_p99_ms_while_it_runs", receipt_ms, GOAL_RECEIPT, GOAL_RECEIPT_MS),
    ]


def _post_until(url: str, done: Event) -> list[float]:
    """Post a batch of calls now and then until the event is set; return how long each receipt took."""
    took_ms = []
    with httpx.Client(base_url=url, timeout=60) as client:
        while not done.is_set() or len(took_ms) < 1:
            at = len(took_ms)
            calls = [
                {"id": f"meanwhile-{time.time_ns()}-{i}", "model": MODELS[0], "input": "How long do I wait?",
                 "output": "Not long.", "latency_ms": 800, "user_id": f"u{at}"}
                for i in range(BATCH)
            ]  # fmt: skip
            started = time.perf_counter()
            receipt = client.post("/v1/calls", json={"calls": calls})
            took_ms.append((time.perf_counter() - started) * 1000)
            if receipt.json()["accepted"] != BATCH:
                raise RuntimeError(f"not all calls were taken: {receipt.text[:200]}")
            done.wait(PAUSE_S)
    return took_ms


def _took_ms(client: httpx.Client, address: str) -> float:
    started = time.perf_counter()
    answer = client.get(address)
    took_ms = (time.perf_counter() - started) * 1000
    answer.raise_for_status()
    if 'class="wrong"' in answer.text:
        print(f"{address}: a panel failed, so it counts as {PANEL_TIME_LIMIT_S:g} s", flush=True)
        return max(took_ms, PANEL_TIME_LIMIT_S * 1000)
    return took_ms


def _p95_ms(took_ms: list[float]) -> float:
    """Nearest rank."""
    return sorted(took_ms)[-(-95 * len(took_ms) // 100) - 1]


if __name__ == "__main__":
    main()
