"""What was read since the last ranking is remembered: the tail of a window is the same until the next one.

Flow: latencies, costs, rankings by one thing -> `remembered` -> the value, read at most once per ranking
and key. A page says when calls were ranked last; these are then of that moment too, at most
`LOWLIGHT_REFRESH_S` old. What depends on a window's calls alone is remembered through rankings while no call
of it came or went, as in a week that is over.
Bounded, of this process, and of one database; nothing is remembered before the first ranking.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sqlalchemy import Connection, func, select

from dashboards.filters import Window
from ingest.tables import Call, columns
from outliers.freshness import ranked_at_ms
from outliers.latency.tails import HOUR_MS

CALL = columns(Call)

T = TypeVar("T")

#: Values kept: pages times groupings that a team looks at between two rankings.
KEPT_MAX = 64
#: A call whose latency or cost comes late is in no count of calls: what is older is read again in any case.
UNCHANGED_MAX_S = 600.0


@dataclass(frozen=True)
class _Held:
    """A value, the ranking it is of, what its window's calls were, and when it was read (monotonic)."""

    value: Any
    ranked_ms: int
    calls: tuple[int, int | None] | None
    read_at: float


_kept: OrderedDict[Hashable, _Held] = OrderedDict()
_turn = threading.Lock()


def remembered(
    connection: Connection,
    key: Hashable,
    read: Callable[[], T],
    *,
    of_calls: tuple[int, Window] | None = None,
) -> T:
    """Return what `read` returned for this key since the last ranking, or read it now.

    Args:
        key: everything that `read` depends on, the database and the ranking aside.
        of_calls: project and window whose calls are all that it depends on; a window that nobody asked for
            ends now, and is another one after each ranking.
    """
    ranked_ms = ranked_at_ms(connection)
    if ranked_ms is None:
        return read()
    whole = (str(connection.engine.url), key)
    with _turn:
        held = _kept.get(whole)
    if held is not None and held.ranked_ms == ranked_ms:
        return held.value  # type: ignore[no-any-return]
    # Counted before it is read: a call that comes meanwhile changes the count that the next reader finds.
    calls = _calls(connection, *of_calls) if of_calls is not None and of_calls[1].asked else None
    now = time.monotonic()
    if (
        calls is not None
        and held is not None
        and held.calls == calls
        and now - held.read_at < UNCHANGED_MAX_S
    ):
        held = replace(held, ranked_ms=ranked_ms)
    else:
        held = _Held(read(), ranked_ms, calls, now)
    with _turn:
        _kept[whole] = held
        _kept.move_to_end(whole)
        while len(_kept) > KEPT_MAX:
            _kept.popitem(last=False)
    return held.value  # type: ignore[no-any-return]


def _calls(connection: Connection, project_id: int, window: Window) -> tuple[int, int | None]:
    """Return how many calls the whole hours of a window have, and the newest of them; by an index alone."""
    row = connection.execute(
        select(func.count(), func.max(CALL.c.seq)).where(
            CALL.c.project_id == project_id,
            CALL.c.started_at_ms >= window.since_ms // HOUR_MS * HOUR_MS,
            CALL.c.started_at_ms < -(-window.until_ms // HOUR_MS) * HOUR_MS,
        )
    ).one()
    return row[0], row[1]
