"""The end of a process and forks: what the clients with a thread must do then, and importing safely.

At the end of a process each client sends what it holds, within two seconds together. In a forked child
each begins anew.
"""

import atexit
import os
import sys
import threading
import time
from typing import Protocol, Set

EXIT_TIMEOUT_S = 2.0


#: Held by our threads while they import: a child forked meanwhile would find the module half imported, its
#: lock held for ever by a thread that the child does not have; its whole application would hang on it.
#: Modules that register fork hooks of their own (logging) are imported with the package: one that came
#: between the hooks before and after a fork would get only the latter.
importing = threading.RLock()


class Attended(Protocol):
    """A client, as far as this module needs one."""

    def stop(self) -> None:
        """Take nothing more."""

    def shutdown(self, timeout_s: float) -> bool:
        """Send what is left, then end the thread."""

    def restart(self) -> None:
        """Begin anew in a forked child."""


_attended: Set[Attended] = set()
_finalizer_pid = 0


def attend(client: Attended) -> None:
    """Look after a client whose thread has started.

    A child of multiprocessing (and of what is built on it) ends without running atexit, but runs its
    finalizers.
    """
    global _finalizer_pid
    _attended.add(client)
    util = sys.modules.get("multiprocessing.util")
    if util is not None and _finalizer_pid != os.getpid():
        _finalizer_pid = os.getpid()
        util.Finalize(None, _end, exitpriority=0)


def forget(client: Attended) -> None:
    """Look after it no more: its thread has ended, or is the parent's."""
    _attended.discard(client)


def _end() -> None:
    deadline_s = time.monotonic() + EXIT_TIMEOUT_S
    clients = list(_attended)
    for client in clients:  # all at once, so that they share the two seconds
        client.stop()
    for client in clients:
        client.shutdown(deadline_s - time.monotonic())


# At the import, so that what the application registers later, and may record in, runs before.
atexit.register(_end)


def _after_fork() -> None:
    for client in list(_attended):
        client.restart()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=importing.acquire, after_in_parent=importing.release, after_in_child=importing.release
    )
    os.register_at_fork(after_in_child=_after_fork)
