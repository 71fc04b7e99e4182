"""How long each page and its JSON twin take at 100,000 calls: `make bench BENCH=pages`.

Flow: `pages_rows.fill` (Core inserts, then the real ranking) -> a real server -> each address over HTTP, one
after another, with other filters each time -> p95 beside that of /healthz, which is the floor: the same
client, server and socket without a page.
"""

import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import httpx2 as httpx

from api.schema import upgrade
from api.serving import background
from ingest.settings import Settings
from ingest.store import OpenStore
from outliers.process import run_once
from tests.bench.figures import Figure, options, report
from tests.bench.pages_rows import MODELS, PROMPTS, WORDS, call_id, fill

GOAL = "p95 of each page at 100,000 calls under 150 ms"
GOAL_MS = 150.0
GOAL_CALLS = 100_000
WARM_UP = 3

#: Name of the figure -> the address of the i-th request; the twin has ".json" after the path.
Address = Callable[[random.Random, int], tuple[str, str]]
PAGES: dict[str, Address] = {
    "this_week": lambda _source, _calls: ("/", ""),
    "worst_calls": lambda _source, _calls: ("/worst", ""),
    "worst_users": lambda _source, _calls: ("/worst", "per=user"),
    "worst_sessions": lambda _source, _calls: ("/worst", "per=session"),
    "calls": lambda _source, _calls: ("/calls", ""),
    "calls_of_prompt_and_model": lambda source, _calls: (
        "/calls",
        f"prompt={source.choice(PROMPTS)}&model={source.choice(MODELS)}",
    ),
    "calls_with_thumbs_down": lambda _source, _calls: ("/calls", "signal=thumbs_down"),
    "calls_of_a_user": lambda source, calls: ("/calls", f"user=u{source.randrange(calls // 20)}"),
    "calls_that_took_long": lambda _source, _calls: ("/calls", "min_latency_ms=20000"),
    "calls_found_by_a_word": lambda source, _calls: ("/calls", f"q={source.choice(WORDS)}"),
    "calls_found_by_an_unheard_word": lambda _source, _calls: ("/calls", "q=unheard-of"),
    "call": lambda source, calls: (f"/calls/{quote(call_id(source.randrange(calls)))}", ""),
    "latency_by_service": lambda _source, _calls: ("/latency", ""),
    "latency_by_prompt_version": lambda _source, _calls: ("/latency", "group_by=prompt_version"),
    "rubrics": lambda _source, _calls: ("/rubrics", ""),
    "rubric": lambda _source, _calls: ("/rubrics/tone", ""),
}


def main() -> None:
    """Fill, serve, measure, print."""
    parser = options(__doc__ or "")
    parser.add_argument("--calls", type=int, default=GOAL_CALLS, help="calls kept (default 100,000)")
    parser.add_argument("--requests", type=int, default=40, help="requests per address (default 40)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lowlight-bench-") as folder:
        settings = Settings(
            database_url=f"sqlite:///{Path(folder) / 'pages.db'}", port=0, critic="none", refresh_s=3600
        )
        _prepare(settings, asked.calls, asked.seed)
        with background(settings) as url:
            figures = _measure(url, asked.calls, asked.requests, asked.seed)
    report("pages", figures)


def _prepare(settings: Settings, calls: int, seed: int) -> None:
    started = time.perf_counter()
    upgrade(settings.database_url)
    store = OpenStore(settings.database_url)
    fill(store, settings.zone, calls, seed)
    print(f"{calls:,} calls kept in {time.perf_counter() - started:.1f} s; ranking them ...", flush=True)
    started = time.perf_counter()
    run_once(settings, store)
    print(f"ranked in {time.perf_counter() - started:.1f} s", flush=True)
    store.close()


def _measure(url: str, calls: int, requests: int, seed: int) -> list[Figure]:
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


def _took_ms(client: httpx.Client, address: str) -> float:
    started = time.perf_counter()
    answer = client.get(address)
    took_ms = (time.perf_counter() - started) * 1000
    answer.raise_for_status()
    if 'class="wrong"' in answer.text:
        raise RuntimeError(f"{address}: a panel failed, so its time says nothing")
    return took_ms


def _p95_ms(took_ms: list[float]) -> float:
    """Nearest rank."""
    return sorted(took_ms)[-(-95 * len(took_ms) // 100) - 1]


if __name__ == "__main__":
    main()
