"""The critic's queue: which calls need which score rows; how rows are leased, rendered, put off, closed.

Its verbs stand here, so that another store of facts can be put behind them without touching their callers;
they are written in `critic.queue.leasing` and `critic.queue.returning`. Imported by whoever judges, and by
api; imports critic.drivers and critic.spending. Data comes from `todo` rows and texts and goes to score rows.
"""

from critic.queue.leasing import (
    ATTEMPTS_MAX,
    KEYS_MAX,
    SCORE,
    Backlog,
    add_scores,
    backlog,
    bound_waits,
    follow_clock_back,
    lease,
    next_changed,
    release_leases,
    take_todo,
)
from critic.queue.returning import finish, hand_over, retry_later, settle

__all__ = [
    "ATTEMPTS_MAX",
    "KEYS_MAX",
    "SCORE",
    "Backlog",
    "add_scores",
    "backlog",
    "bound_waits",
    "finish",
    "follow_clock_back",
    "hand_over",
    "lease",
    "next_changed",
    "release_leases",
    "retry_later",
    "settle",
    "take_todo",
]
