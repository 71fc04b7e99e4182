"""A client's life: its settings, its queue, its thread, and the end of both.

Flow: `Client.record` -> `_queue.Outbox` -> the thread of `_sender.Sender` -> the server. A client
opens (reads its settings, starts its thread) at its first use, so that importing and making one does nothing.
"""

import os
import threading
from typing import TYPE_CHECKING, Any, Dict, Optional, Union

from lowlight._config import Config, Given, Redact, read_config
from lowlight._ids import begin_anew
from lowlight._never import never_raises
from lowlight._process import EXIT_TIMEOUT_S, attend, forget, importing
from lowlight._queue import BYTES_MAX, ITEMS_MAX, Entry, Outbox
from lowlight._tally import Tally

if TYPE_CHECKING:
    from lowlight._sender import Sender

#: The part of a shutdown's time that is for sending; the rest is for writing what is left to the spool.
_SENDING_SHARE = 0.6


class Delivery:
    """What a client is apart from what it takes; see `lowlight.Client`."""

    def __init__(
        self,
        url: Optional[str] = None,
        key: Optional[str] = None,
        *,
        enabled: Optional[bool] = None,
        environment: Optional[str] = None,
        release: Optional[str] = None,
        sample: Optional[float] = None,
        capture_content: Optional[bool] = None,
        redact: Optional[Redact] = None,
        spool: Union[str, "os.PathLike[str]", None] = None,
        spool_bytes_max: Optional[int] = None,
        timeout_s: float = 10.0,
        linger_s: float = 0.5,
        items_max: int = ITEMS_MAX,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        self.tally = Tally()
        self._given = Given(
            *(url, key, enabled, environment, release, sample, capture_content, redact),
            *(spool, spool_bytes_max, timeout_s),
        )
        self._bounds = (items_max, bytes_max, linger_s)
        self._opening = threading.RLock()
        self._config: Optional[Config] = None
        self._outbox = Outbox(*self._bounds)
        self._sender: Optional["Sender"] = None  # made by its own thread
        self._thread: Optional[threading.Thread] = None
        #: Whether the settings are read and the thread runs, and whether only a part is sent.
        self._is_open = False
        self._samples = False

    @never_raises(lambda _named: None)
    def init(
        self,
        url: Optional[str] = None,
        key: Optional[str] = None,
        *,
        enabled: Optional[bool] = None,
        environment: Optional[str] = None,
        release: Optional[str] = None,
        sample: Optional[float] = None,
        capture_content: Optional[bool] = None,
        redact: Optional[Redact] = None,
        spool: Union[str, "os.PathLike[str]", None] = None,
        spool_bytes_max: Optional[int] = None,
        timeout_s: float = 10.0,
    ) -> None:
        """Set the client up by hand; optional, for the environment says the same.

        What was recorded before is sent first, under the old settings (two seconds at most). An argument that
        is left out comes from its environment variable; see `Client` for them.

            lowlight.init(url="https://lowlight.example.com", key="...", environment="production")
        """
        self._reopen(
            Given(
                *(url, key, enabled, environment, release, sample, capture_content, redact),
                *(spool, spool_bytes_max, timeout_s),
            )
        )
        self._start_for_spool()

    @never_raises(lambda _named: False)
    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until everything recorded so far was answered by the server (kept or refused) or dropped.

        With a spool, what lies there counts too, whichever process put it there.

        Returns:
            False where that took longer than `timeout_s` seconds; it goes on in the background then.
        """
        self._start_for_spool()
        return self._outbox.flush(timeout_s)

    async def aflush(self, timeout_s: float = 10.0) -> bool:
        """Do the same as `flush` in asyncio code, without holding its event loop up."""
        try:
            import asyncio
            import time

            self._start_for_spool()
            outbox = self._outbox
            target = outbox.hurry()
            until_s = time.monotonic() + timeout_s
            pause_s = 0.001
            while not outbox.is_settled(target):
                left_s = until_s - time.monotonic()
                if left_s <= 0:
                    return False
                await asyncio.sleep(min(pause_s, left_s))
                pause_s = min(pause_s * 2, 0.05)
            return True
        except Exception as problem:
            self._failed("aflush", problem)
            return False

    @never_raises(lambda _named: False)
    def shutdown(self, timeout_s: float = EXIT_TIMEOUT_S) -> bool:
        """Send what is left within `timeout_s` seconds, then end the thread; later calls are dropped.

        Runs by itself when the process ends. What could not be sent goes to the spool; without one it is
        counted as dropped and logged.

        Returns:
            Whether everything was sent.
        """
        self.notice_fork()
        self._outbox.stop()
        config = self._config
        spools = config is not None and config.spool is not None
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(timeout_s * (_SENDING_SHARE if spools else 1.0), 0.0))
        forget(self)
        left = self._outbox.abandon()
        sent = not left and not self._outbox.has_backlog
        if left and config is not None and spools:
            from lowlight._sender import Sender

            aside = Sender(Outbox(*self._bounds), self.tally, config)
            left = left[aside.put_aside(left) :]
        if left:
            url = config.url if config is not None else "the server"
            self.tally.drop(
                "shutdown",
                len(left),
                f"{url} had not taken them after {timeout_s:.1f} s, when the client ended",
            )
        return sent

    @never_raises(lambda _named: {})
    def stats(self) -> Dict[str, Any]:
        """Return what became of everything recorded in this process.

        Keys: recorded, accepted, duplicates, rejected (counted by the server's receipts), retries, errors,
        sampled_out (never queued), spooled (written to the spool) and replayed (sent from it, by whichever
        process put it there), queued, queued_bytes, and dropped by reason: {"queue_full": n, ...}.
        """
        queued, queued_bytes = self._outbox.held()
        found = self.tally.stats()
        found["recorded"] += self._outbox.put_n
        return {**found, "queued": queued, "queued_bytes": queued_bytes}

    def notice_fork(self) -> None:
        """Begin anew in a child that was forked without Python's hooks, as uWSGI does."""
        if self._outbox.pid != os.getpid():
            self.restart()

    def restart(self) -> None:
        """Begin anew in a forked child: empty, with new locks, a new connection, at need a new thread."""
        begin_anew()
        self._opening = threading.RLock()
        self.tally.restart()
        self._outbox.restart()
        if self._sender is not None:
            self._sender.let_go()
        self._sender = None
        self._thread = None
        self._is_open = False
        forget(self)

    def stop(self) -> None:
        """Take nothing more, for `_process`; what is held is still being sent."""
        self._outbox.stop()

    def is_enabled(self) -> bool:
        """Whether anything is to be recorded at all."""
        return (self._config or self._settings()).enabled

    def _failed(self, method: str, problem: Exception) -> None:
        """Count and log what went wrong in here instead of raising it."""
        try:
            self.tally.count("errors")
            self.tally.warn(f"error:{method}", f"{method}(): {type(problem).__name__}: {problem}")
        except Exception:  # an exception that cannot tell its message
            pass

    def _open(self) -> bool:
        """Read the settings and start the thread at the first use; False where nothing is to be recorded."""
        config = self._config or self._settings()
        if not config.enabled:
            return False
        if not self._outbox.stopping:
            self._start()
        return True

    def _put(self, entry: Entry) -> None:
        """Queue an entry, or count it as dropped."""
        dropped = self._outbox.put(entry)
        if not self._is_open:  # closed by `init` since the caller looked
            self._open()
        if dropped:
            config = self._config or self._settings()
            self.tally.drop(dropped, 1, _DROPPED[dropped].format(config=config, outbox=self._outbox))

    def _sampled(self, response: Any, given: Any, *ids: Any) -> Optional[float]:
        """Return the rate that a call without an error of its own is sent with; 0 where it is not sent.

        Args:
            response: may tell of an error.
            given: what the application has sampled by already; None where it has not.
            ids: of the session, the trace and the call; the first that there is decides.
        """
        from lowlight._sampling import combined, has_failed, is_kept, unit_of

        if has_failed(response):
            found: Optional[float] = given
            return found
        rate = (self._config or self._settings()).sample
        if is_kept(unit_of(ids), rate):
            return combined(given, rate)
        self.tally.count("sampled_out")
        return 0.0

    def _settings(self) -> Config:
        """The settings, read at the first use: arguments first, then the environment."""
        with self._opening:
            if self._config is None:
                config = read_config(self._given, self.tally.warn)
                self._samples = config.sample < 1.0
                if self._samples:
                    with importing:
                        from lowlight import _sampling  # noqa: F401 - now, and not in the first record()
                self._config = config
            return self._config

    def _start_for_spool(self) -> None:
        """Start the thread before the first record: an earlier process may have left something."""
        self.notice_fork()
        config = self._config or self._settings()
        if config.spool is not None and config.enabled and self._thread is None and not self._outbox.stopping:
            self._outbox.note_backlog(True)  # until the thread has looked
            self._start()

    def _start(self) -> None:
        with self._opening:
            if self._thread is not None or self._config is None:
                return
            attend(self)
            try:
                thread = threading.Thread(
                    target=self._run, args=(self._outbox, self._config), name="lowlight", daemon=True
                )
                thread.start()
            except RuntimeError as problem:
                self.tally.warn(
                    "thread", f"no thread could be started ({problem}); calls wait until one can be"
                )
                return
            self._thread = thread
            self._is_open = True

    def _run(self, outbox: Outbox, config: Config) -> None:
        with importing:
            from lowlight._sender import Sender  # and with it json, datetime and more: half the import's time

        self._sender = sender = Sender(outbox, self.tally, config)
        sender.run()

    def _reopen(self, given: Given) -> None:
        """Take other settings: send what is left under the old ones, then open again at the next use."""
        self.shutdown()
        with self._opening:
            self._given = given
            self.tally.count("recorded", self._outbox.put_n)
            self._outbox = Outbox(*self._bounds)
            self._sender = None
            self._thread = None
            self._is_open = False
            self._config = None


_DROPPED = {
    "queue_full": "{outbox.items_max:,} items or {outbox.bytes_max:,} bytes wait already; "
    "is {config.url} reachable?",
    "closed": "recorded after shutdown()",
}
