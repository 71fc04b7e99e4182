"""Which critics are paused, until when and why: a bad key, a spent quota. Pages and /readyz read it too.

Flow: a driver raises CriticMisconfigured -> critic.working.lane -> `pause_critic` ->
critic.queue.lease hands out none of its rows, critic.queue.plan names the next critic. Plain
functions of a Connection; none commits.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select, update

from critic.tables import CriticState
from ingest.tables import columns

STATE = columns(CriticState)


def pause_critic(connection: Connection, critic: str, *, until_ms: int, reason: str, now_ms: int) -> None:
    """Stop handing out a critic's rows until `until_ms`, and say why."""
    _put_state(connection, critic, {"paused_until_ms": until_ms, "reason": reason, "seen_at_ms": now_ms})


def resume_critic(connection: Connection, critic: str, *, now_ms: int) -> None:
    """Hand out a critic's rows again; also marks it as configured and seen."""
    _put_state(connection, critic, {"paused_until_ms": None, "reason": None, "seen_at_ms": now_ms})


def paused(connection: Connection, now_ms: int) -> dict[str, str]:
    """Return the reason by critic that is paused now."""
    rows = connection.execute(select(STATE.c.critic, STATE.c.reason).where(STATE.c.paused_until_ms > now_ms))
    return {row.critic: row.reason or "paused" for row in rows}


def _put_state(connection: Connection, critic: str, values: Mapping[str, Any]) -> None:
    if not connection.execute(update(STATE).where(STATE.c.critic == critic).values(**values)).rowcount:
        connection.execute(STATE.insert().values(critic=critic, **values))
