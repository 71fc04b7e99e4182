"""What was read since the last ranking is remembered: the tail of a window is the same until the next one.

Flow: latencies, costs, rankings by one thing -> `remembered` -> the value, read at most once per ranking
and key. A page says when calls were ranked last; these are then of that moment too, at most
`LOWLIGHT_REFRESH_S` old.
Bounded, of this process, and of one database; nothing is remembered before the first ranking.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from sqlalchemy import Connection

from outliers.freshness import ranked_at_ms

T = TypeVar("T")

#: Values kept: pages times groupings that a team looks at between two rankings.
KEPT_MAX = 64

_kept: OrderedDict[Hashable, tuple[int, Any]] = OrderedDict()
_turn = threading.Lock()


def remembered(connection: Connection, key: Hashable, read: Callable[[], T]) -> T:
    """Return what `read` returned for this key since the last ranking, or read it now.

    Args:
        key: everything that `read` depends on, the database and the ranking aside.
    """
    ranked = ranked_at_ms(connection)
    if ranked is None:
        return read()
    whole = (str(connection.engine.url), key)
    with _turn:
        held = _kept.get(whole)
    if held is not None and held[0] == ranked:
        return held[1]  # type: ignore[no-any-return]
    value = read()
    with _turn:
        _kept[whole] = (ranked, value)
        _kept.move_to_end(whole)
        while len(_kept) > KEPT_MAX:
            _kept.popitem(last=False)
    return value
