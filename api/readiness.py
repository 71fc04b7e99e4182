"""The truth about a running server, as /readyz and `lowlight doctor` say it.

Flow: store, children -> `readiness` -> JSON. Ready means: a call sent now would be kept.
"""

import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from sqlalchemy.exc import SQLAlchemyError

from api.drops import ClientDrops
from dashboards.queries.freshness import critic_work
from ingest.store import OpenStore
from ingest.tables import DEFAULT_PROJECT
from ingest.writer import WAITING_MAX
from outliers.freshness import freshness

log = logging.getLogger(__name__)


class Running(Protocol):
    """A child process, as far as /readyz needs to know it."""

    @property
    def alive(self) -> bool:
        """Whether it runs now."""


def readiness(store: OpenStore, children: Mapping[str, Running], drops: ClientDrops) -> dict[str, Any]:
    """Return what works and what does not.

    `ready` needs the database to answer and the writer to run with room in its queue. A critic or outlier
    process that is down or behind is shown, and does not make the server unready: calls wait for it.
    """
    writer = store.writer
    state: dict[str, Any] = {
        "database": "ok",
        "writer": {"alive": writer.alive, "waiting": writer.waiting, "waiting_max": WAITING_MAX},
        "children": {name: "running" if child.alive else "down" for name, child in children.items()},
        "dropped_by_clients": drops.counts(),
    }
    try:
        with store.read() as connection:
            work = critic_work(connection, time.time_ns() // 1_000_000)
            fresh = freshness(connection, DEFAULT_PROJECT)
    except SQLAlchemyError as error:
        log.warning("readiness: %s", error)
        state["database"] = str(getattr(error, "orig", None) or error)
    else:
        state["critic"] = {
            "calls_waiting": work.calls_waiting,
            "answers_waiting": work.answers_waiting,
            "at_least": work.at_least,
            "paused": {pause.critic: pause.reason for pause in work.pauses},
        }
        state["outliers"] = {
            "ran_at": _iso(fresh.ran_at_ms),
            "caught_up": fresh.caught_up,
            "calls_behind": fresh.calls_behind,
        }
    room = writer.alive and writer.waiting < WAITING_MAX
    return {"ready": state["database"] == "ok" and room, **state}


def _iso(at_ms: int | None) -> str | None:
    if at_ms is None:
        return None
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
