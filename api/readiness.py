"""The truth about a running server, as /readyz and `lowlight doctor` say it.

Flow: store, children -> `readiness` -> JSON. Ready means: a call sent now would be kept.
"""

import logging
from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from ingest.store import OpenStore
from ingest.writer import WAITING_MAX

log = logging.getLogger(__name__)


def readiness(store: OpenStore, children: Mapping[str, Any]) -> dict[str, Any]:
    """Return what works and what does not.

    `ready` needs the database to answer and the writer to run with room in its queue. A critic or outlier
    process that is down is shown, and does not make the server unready: calls are kept and wait for it.
    """
    writer = store.writer
    state: dict[str, Any] = {
        "database": "ok",
        "writer": {"alive": writer.alive, "waiting": writer.waiting, "waiting_max": WAITING_MAX},
        "children": {name: "running" if child.alive else "down" for name, child in children.items()},
    }
    try:
        with store.read() as connection:
            connection.execute(text("select 1"))
    except SQLAlchemyError as error:
        log.warning("readiness: %s", error)
        state["database"] = str(getattr(error, "orig", None) or error)
    room = writer.alive and writer.waiting < WAITING_MAX
    return {"ready": state["database"] == "ok" and room, **state}
