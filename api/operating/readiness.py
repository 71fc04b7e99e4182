"""The truth about a running server, as /readyz and `lowlight doctor` say it.

Flow: store, its probe, children -> `readiness` -> JSON. Ready means: a call sent now would be kept.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from sqlalchemy.exc import SQLAlchemyError

from api.door.drops import ClientDrops
from dashboards.queries.freshness import CriticWork, critic_work
from ingest.disk import Disk, disk_of, in_words
from ingest.probe import WriteProbe
from ingest.reader.process import Reader
from ingest.store import OpenStore, sqlite_path
from ingest.tables import DEFAULT_PROJECT
from ingest.writer import WAITING_MAX
from outliers.freshness import Freshness, freshness

log = logging.getLogger(__name__)

#: About a week of a busy team's calls; below it somebody should look, long before the disk is full.
FREE_BYTES_LOW = 1 << 30
#: A write-ahead log is folded back at 16 MiB; one that is so much larger is held open by somebody's read.
WAL_BYTES_HIGH = 1 << 30


class Running(Protocol):
    """A child process, as far as /readyz needs to know it."""

    @property
    def alive(self) -> bool:
        """Whether it runs now."""


def readiness(
    store: OpenStore,
    children: Mapping[str, Running],
    drops: ClientDrops,
    probe: WriteProbe | None = None,
    reader: Reader | None = None,
) -> dict[str, Any]:
    """Return what works and what does not.

    `ready` needs a database that answers and takes what is written: `problems` says what keeps it from that
    and what to do. `warnings` are what needs somebody and keeps no call out: a critic that is paused,
    has spent its budget or whose process is down, a disk that fills up.

    Args:
        probe: the server's own; a new one unless given.
        reader: the server's reading process; None where it may have none.
    """
    writer = store.writer
    problems = []
    trouble = (probe or WriteProbe(store)).trouble()
    if trouble is not None:
        problems.append(trouble)
    failure = writer.last_failure
    state: dict[str, Any] = {
        "database": "ok",
        "writer": {
            "alive": writer.alive,
            "waiting": writer.waiting,
            "waiting_max": WAITING_MAX,
            "in_hand_s": round(writer.in_hand_s, 3),
            "last_failure": None if failure is None else {"at": _iso(failure.at_ms), "error": failure.error},
        },
        "children": {name: "running" if child.alive else "down" for name, child in children.items()},
        "reader": "off" if reader is None else "running" if reader.running else "resting",
        "dropped_by_clients": drops.counts(),
    }
    work = fresh = None
    try:
        with store.read() as connection:
            work = critic_work(connection, time.time_ns() // 1_000_000)
            fresh = freshness(connection, DEFAULT_PROJECT)
    except SQLAlchemyError as error:
        said = str(getattr(error, "orig", None) or error)
        log.warning("readiness: %s", said)
        state["database"] = said
        problems.append(f"The database cannot be read: {said}. `lowlight doctor` looks at it closely.")
    else:
        state |= _progress(work, fresh)
    path = sqlite_path(store.database_url)
    disk = _disk(path) if path is not None else None
    if disk is not None:
        state["disk"] = disk._asdict()
    warnings = list(_warnings(state["children"], work, disk))
    return {"ready": not problems, "problems": problems, "warnings": warnings, **state}


def _progress(work: CriticWork, fresh: Freshness) -> dict[str, Any]:
    return {
        "critic": {
            "calls_waiting": work.calls_waiting,
            "answers_waiting": work.answers_waiting,
            "at_least": work.at_least,
            "paused": {pause.critic: pause.reason for pause in work.pauses},
            "out_of_money": list(work.out_of_money),
        },
        "outliers": {
            "ran_at": _iso(fresh.ran_at_ms),
            "caught_up": fresh.caught_up,
            "calls_behind": fresh.calls_behind,
        },
    }


def _warnings(children: Mapping[str, str], work: CriticWork | None, disk: Disk | None) -> Iterator[str]:
    for name, how in children.items():
        if how != "running":
            yield f"The {name} process is down and is started again; calls wait for it. The log says why."
    for pause in work.pauses if work is not None else ():
        until = f" until {pause.until:%Y-%m-%d %H:%M} UTC" if pause.until is not None else ""
        yield f"The critic {pause.critic} takes no work{until}: {pause.reason or 'no reason was given'}."
    for critic in work.out_of_money if work is not None else ():
        yield (
            f"The budget of {critic} is spent for today (UTC): calls are put off until tomorrow. "
            "LOWLIGHT_CRITIC_BUDGET_USD raises it."
        )
    if disk is not None and disk.free_bytes < FREE_BYTES_LOW:
        yield f"Only {in_words(disk.free_bytes)} of the disk is free; make room before it is full."
    if disk is not None and disk.wal_bytes > WAL_BYTES_HIGH:
        yield (
            f"The write-ahead log has grown to {in_words(disk.wal_bytes)}: some program has been reading the "
            "database for long. Close it, and the log is folded back."
        )


def _disk(path: Any) -> Disk | None:
    try:
        return disk_of(path)
    except OSError:
        return None


def _iso(at_ms: int | None) -> str | None:
    if at_ms is None:
        return None
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
