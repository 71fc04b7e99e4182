"""Running the critic's worker in a test: real intake, real database, real drivers, loopback providers."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import text

from critic import drivers, queue
from critic.batching.lane import Waits
from critic.drivers.base import Driver
from critic.drivers.local import LocalDriver
from critic.queue.plan import Plan
from critic.queue.work import Work, now_ms
from critic.spending.money import money_for
from critic.working.worker import Worker
from ingest.intake import Intake
from ingest.settings import Settings
from ingest.store import OpenStore
from ingest.wire import parse_calls, parse_signals
from rubrics import load_rubrics
from tests.providers.openai_decisions import KEY, MODEL, DecisionsProvider

OPENAI = f"openai:{MODEL}"
WAIT_S = 60.0

RUBRIC = """{% set question = "QUESTION" %}
{% set levels = ["situation 1", "situation 2", "situation 3", "situation 4", "situation 5", "situation 6",
  "situation 7"] %}
SETTINGS
VIEW
"""


def write_rubric(folder: Path, name: str, *, question: str = "", view: str = "", more: str = "") -> None:
    """Put a rubric file there; rubrics written with the same view share a request."""
    folder.mkdir(exist_ok=True)
    filled = RUBRIC.replace("QUESTION", question or f"How is its {name}?").replace("SETTINGS", more)
    view = view or "Asked:\n{{ input }}\n\nAnswered:\n{{ output }}"
    (folder / f"{name}.jinja").write_text(filled.replace("VIEW", view))


def with_critics(
    settings: Settings, rubrics_dir: Path, provider: DecisionsProvider | None, **more: Any
) -> Settings:
    """Return settings whose first critic is the loopback provider (the local one without it)."""
    changed: dict[str, Any] = {"rubrics_dir": rubrics_dir, "critic": "local", "critic_retry_s": 0.02}
    if provider is not None:
        changed |= {"critic": OPENAI, "egress": "*", "openai_api_key": KEY, "openai_base_url": provider.url}
    return Settings(**{**settings.model_dump(exclude={"openai_api_key"}), **changed, **more})


def send(store: OpenStore, settings: Settings, *calls: Mapping[str, Any]) -> None:
    """Take calls in as the HTTP route does."""
    defaults = {"input": "Where is my parcel?", "output": "It arrives tomorrow."}
    sent = [{"id": f"call-{i}", **defaults, **call} for i, call in enumerate(calls)]
    receipt = Intake(store, settings).accept_calls(1, parse_calls(orjson.dumps({"calls": sent})))
    assert receipt.rejected == []


def send_signal(store: OpenStore, settings: Settings, **signal: Any) -> None:
    """Take one signal in as the HTTP route does."""
    Intake(store, settings).accept_signals(1, parse_signals(orjson.dumps({"signals": [signal]})))


def judge(
    settings: Settings,
    store: OpenStore,
    *,
    configured: Sequence[Driver] | None = None,
    until: Callable[[queue.Backlog], bool] | None = None,
    pause_ms: int = 60_000,
    clock_ms: Callable[[], int] = now_ms,
    batch_waits: Waits | None = None,
) -> queue.Backlog:
    """Run a worker until nothing waits (or `until` says so), stop it, and return what is left."""
    ended = until or (lambda backlog: backlog.todo == 0 and backlog.pending == 0)

    async def _run() -> None:
        made = list(configured if configured is not None else drivers.build(settings))
        local = [driver for driver in made if isinstance(driver, LocalDriver)]
        work = Work(
            store,
            Plan(made, load_rubrics(settings.rubrics_dir), settings.egress),
            money=money_for(settings, made, clock_ms()),
            clock_ms=clock_ms,
        )
        reader = local[0] if local else LocalDriver(settings.base_rate)
        worker = Worker(settings, work, made, reader, pause_ms=pause_ms, batch_waits=batch_waits)
        stop = asyncio.Event()
        running = asyncio.create_task(worker.run(stop))
        until_s = time.monotonic() + WAIT_S
        while not running.done() and not ended(await asyncio.to_thread(left, store)):
            assert time.monotonic() < until_s, f"after {WAIT_S} s there is still {left(store)}"
            await asyncio.sleep(0.01)
        stop.set()
        await running

    asyncio.run(_run())
    return left(store)


def left(store: OpenStore) -> queue.Backlog:
    """Return the backlog now."""
    with store.read() as connection:
        return queue.backlog(connection, time.time_ns() // 1_000_000)


def scores(store: OpenStore) -> list[Mapping[str, Any]]:
    """Return every score row with its call's id, in the order made."""
    whole = text(
        "select call.id as call_id, score.* from score join call on call.seq = call_seq order by score.seq"
    )
    with store.read() as connection:
        return [dict(row) for row in connection.execute(whole).mappings()]


def summary(store: OpenStore) -> list[tuple[Any, ...]]:
    """Return (call, rubric, critic, status) of every score row, in the order made."""
    return [(row["call_id"], row["rubric"], row["critic"], row["status"]) for row in scores(store)]
