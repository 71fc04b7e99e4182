"""The background thread: takes entries, makes batches, sends them until each item's fate is known.

Flow: `_queue.Outbox.take` -> `_wire.encode_*` -> bodies of at most 500 items and 4 MiB -> `_transport` ->
receipt -> `_tally`. Calls go before signals. What happens to a batch:

- 200 with a receipt: counted; rejected items are counted and logged with field and error.
- No answer, 408, 429, 502, 503, 504: sent again until it is answered. The server's Retry-After is obeyed;
  else the wait doubles from 0.5 s to 30 s, with jitter. Meanwhile the queue bounds what is held.
- Another 5xx: five tries, for a batch that the server cannot digest must not block all others.
- 413: halved until it fits. Any other 4xx, and a redirect, is final: counted and logged with the server's
  error.

With a spool, a batch that is to be sent again goes to the disk instead of waiting here, and everything after
it follows, so that the order stays; once the server answers, the disk is emptied oldest first. There, what a
wrong address or key would have us drop is kept too, until somebody has set it right.
"""

import os
import time
from typing import Dict, List, Optional, Tuple

from lowlight._config import Config
from lowlight._ids import stock_up
from lowlight._queue import BATCH_BYTES_MAX, BATCH_ITEMS_MAX, Entry, Outbox
from lowlight._signals import SaysNothing, encode_signal
from lowlight._spool import Spool
from lowlight._tally import Tally
from lowlight._transport import Answer, BadAddress, Transport, Unreachable
from lowlight._wire import encode_call

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
#: Of one batch, where the server fails in a way that says nothing of a better moment.
FAILED_TRIES_MAX = 5
#: Between two looks into a spool that was empty: another process may have died and left something.
SPOOL_LOOK_S = 10.0
#: Between two looks while another process is sending what lies there.
SPOOL_TURN_S = 0.25
#: Calls encoded between two naps, and how long a nap is: the application's threads come first, and one that
#: wants the interpreter's lock while we hold it would wait for up to 5 ms. Each waking may push such a thread
#: off its processor: on two busy ones 20 to 30 us in one `record()` of 200 with naps of 50 us, of 400 with
#: these.
ENCODED_AT_ONCE = 4
NAP_S = 0.0005
_WRONG_SERVER = "does LOWLIGHT_URL name a Lowlight server?"
_COME_BACK = (408, 429, 502, 503, 504)
#: What a server says to a wrong key, and another server than Lowlight to a batch.
_SET_UP_WRONG = (301, 302, 303, 307, 308, 401, 403, 404, 405)


class Again(Exception):
    """A batch must be sent again later.

    Attributes:
        retry_after_s: the server's own wait; None where it named none.
        is_failure: whether the server failed at this batch, and may do so for ever.
    """

    def __init__(self, retry_after_s: Optional[float] = None, *, is_failure: bool = False) -> None:
        self.retry_after_s = retry_after_s
        self.is_failure = is_failure


class Sender:
    """One client's sending, run by its thread."""

    def __init__(self, outbox: Outbox, tally: Tally, config: Config) -> None:
        self._outbox = outbox
        self._tally = tally
        self._config = config
        self._transport: Optional[Transport] = None
        self._spool = self._open_spool()
        #: When the spool is next looked at, whether a flush may do so earlier, and how often its oldest batch
        #: was tried and failed.
        self._due_s = 0.0
        self._may_hurry = True
        self._tries = 0
        self._failures: Dict[str, int] = {}

    def run(self) -> None:
        """Send until the outbox is stopped and empty. No exception ends it early."""
        while True:
            entries = self._outbox.take(self._patience_s)
            if entries is None:
                break
            try:
                if entries:
                    self._send(entries)
            except BaseException as problem:  # an object of the application's may raise even SystemExit
                self._drop(
                    "sdk_error", len(entries), f"{type(problem).__name__}: {problem}; please report it"
                )
            finally:
                self._outbox.settle(entries)
            stock_up()
            self._replay_if_due()
        while not self._outbox.abandoned and self._replay_if_due():
            pass
        if self._spool is not None:
            self._spool.end_turn()
        if self._transport is not None:
            self._transport.close()

    def let_go(self) -> None:
        """Give up the copies of the parent's connection and lock, in a forked child."""
        if self._transport is not None:
            self._transport.let_go()
        if self._spool is not None:
            self._spool.end_turn()

    def put_aside(self, entries: List[Entry]) -> int:
        """Write what is left at the end to the spool; return how many entries, from the first, are there."""
        n = 0
        for first in range(0, len(entries), BATCH_ITEMS_MAX):
            some = entries[first : first + BATCH_ITEMS_MAX]
            for kind, bodies in self._encoded(some, in_haste=True):
                if not self._spooled(kind, bodies):
                    return n
            n += len(some)
        return n

    def _send(self, entries: List[Entry]) -> None:
        for kind, bodies in self._encoded(entries, in_haste=False):
            if self._outbox.has_backlog and self._spooled(kind, bodies):
                continue
            self._post(kind, bodies)

    def _encoded(self, entries: List[Entry], *, in_haste: bool) -> List[Tuple[str, List[bytes]]]:
        """The entries as batches of bodies, calls before signals."""
        batches = []
        n = 0
        for kind, encode in (("calls", self._encode_call), ("signals", self._encode_signal)):
            bodies = []
            for entry in entries:
                if entry[0] != kind:
                    continue
                try:
                    bodies.append(encode(entry))
                except SaysNothing as problem:
                    self._drop("unusable", 1, f"a signal {problem}")
                except BaseException as error:  # see `run`
                    self._drop("unreadable", 1, f"{kind[:-1]}: {type(error).__name__}: {error}")
                n += 1
                if n % ENCODED_AT_ONCE == 0 and not in_haste and self._outbox.has_time():
                    time.sleep(NAP_S)
            batches += [(kind, batch) for batch in _batches(bodies)]
        return batches

    def _encode_call(self, entry: Entry) -> bytes:
        encoded = encode_call(entry, self._config)
        for field, problem in encoded.problems.items():
            self._tally.warn(f"calls:{field}", problem)
        return encoded.body

    def _encode_signal(self, entry: Entry) -> bytes:
        encoded = encode_signal(entry, self._config)
        for field, problem in encoded.problems.items():
            self._tally.warn(f"signals:{field}", problem)
        return encoded.body

    def _post(self, kind: str, bodies: List[bytes]) -> None:
        """Send one batch until its fate is known, or write it to the spool."""
        tries = 0
        failures = 0
        while not self._outbox.abandoned:
            tries += 1
            try:
                self._try(kind, bodies, is_last_try=failures + 1 >= FAILED_TRIES_MAX)
                return
            except Again as again:
                failures += again.is_failure
                if not self._outbox.abandoned and self._spooled(kind, bodies):
                    self._come_back(again)
                    return
                self._tally.count("retries")
                self._outbox.pause(_wait_s(tries, again.retry_after_s), may_hurry=again.retry_after_s is None)

    def _try(self, kind: str, bodies: List[bytes], *, is_last_try: bool) -> None:
        """Send one batch once.

        Raises:
            Again: its fate is not known yet.
        """
        if self._transport is None:
            try:
                self._transport = Transport(self._config.url, self._config.key, self._config.timeout_s)
            except BadAddress as problem:
                self._keep_or_drop("bad_address", len(bodies), str(problem))
                return
        whole = b'{"%s":[' % kind.encode() + b",".join(bodies) + b"]}"
        dropped = self._tally.dropped_header()
        try:
            answer = self._transport.post(f"/v1/{kind}", whole, dropped)
        except Unreachable as problem:
            self._tally.warn("unreachable", f"{problem}; trying again, {self._where_they_wait()}")
            raise Again() from None
        if answer.status == 200:
            self._receive(answer, kind, len(bodies), dropped)
        elif answer.status == 413 and len(bodies) > 1:
            half = len(bodies) // 2
            self._post(kind, bodies[:half])
            self._post(kind, bodies[half:])
        elif answer.status in _COME_BACK or (answer.status >= 500 and not is_last_try):
            self._tally.warn(f"status:{answer.status}", f"{_said(self._transport, answer)}; trying again")
            raise Again(answer.retry_after_s, is_failure=answer.status not in _COME_BACK)
        else:
            end = self._keep_or_drop if answer.status in _SET_UP_WRONG else self._drop
            end(
                _reason(answer.status),
                len(bodies),
                f"{_said(self._transport, answer)}{_remedy(answer.status)}",
            )

    def _receive(self, answer: Answer, kind: str, n: int, dropped: str) -> None:
        """Count what a receipt says."""
        if self._outbox.abandoned:
            return
        receipt = answer.body
        if type(receipt.get("accepted")) is not int:
            self._keep_or_drop(
                "no_receipt",
                n,
                f"{self._config.url} answered 200 without a receipt; {_WRONG_SERVER}",
            )
            return
        self._tally.reported(dropped)
        self._tally.count("accepted", receipt["accepted"])
        duplicates = receipt.get("duplicates")
        self._tally.count("duplicates", duplicates if type(duplicates) is int else 0)
        rejected = receipt.get("rejected")
        for item in rejected if type(rejected) is list else ():
            field = item.get("field") if type(item) is dict else None
            error = item.get("error") if type(item) is dict else item
            self._tally.count("rejected")
            self._tally.warn(
                f"rejected:{kind}:{str(field).partition('.')[0]}",
                f"the server rejected a {kind[:-1]}: {field}: {error}",
            )

    # The spool.

    def _open_spool(self) -> Optional[Spool]:
        folder = self._config.spool
        if folder is None:
            return None
        try:
            spool = Spool(folder, self._config.key, self._config.spool_bytes_max)
            self._outbox.note_backlog(not spool.is_empty())
            return spool
        except OSError as problem:
            self._tally.warn("spool", f"LOWLIGHT_SPOOL: {folder!r} cannot be used ({problem})")
            self._outbox.note_backlog(False)
            return None

    def _spooled(self, kind: str, bodies: List[bytes]) -> bool:
        """Write a batch to the spool; False where there is none, or no room in it."""
        if self._spool is None:
            return False
        try:
            if not self._spool.write(kind, bodies):
                self._tally.warn(
                    "spool", f"the spool {self._spool.folder!r} is full; what follows waits here"
                )
                return False
        except OSError as problem:
            self._tally.warn("spool", f"the spool {self._spool.folder!r} cannot be written ({problem})")
            return False
        self._tally.count("spooled", len(bodies))
        self._outbox.note_backlog(True)
        return True

    def _patience_s(self) -> float:
        """How long the thread may sleep where nothing is recorded."""
        if self._spool is None:
            return 3600.0
        if self._may_hurry and self._outbox.is_hurried():
            self._due_s = 0.0
        return self._due_s - time.monotonic()

    def _replay_if_due(self) -> bool:
        """Send the oldest batch of the spool, where it is time to; return whether one was sent."""
        if self._spool is None or self._patience_s() > 0:
            return False
        try:
            if not self._spool.take_turn():
                self._outbox.note_backlog(not self._spool.is_empty())
                self._due_s = time.monotonic() + SPOOL_TURN_S
                return False
            batch = self._spool.oldest()
            self._outbox.note_backlog(batch is not None)
            if batch is None:
                self._spool.end_turn()
                self._due_s = time.monotonic() + SPOOL_LOOK_S
                return False
            failures = self._failures.get(batch.name, 0)
            try:
                if batch.bodies:
                    self._try(batch.kind, batch.bodies, is_last_try=failures + 1 >= FAILED_TRIES_MAX)
            except Again as again:
                self._failures = {batch.name: failures + again.is_failure}
                self._tally.count("retries")
                self._come_back(again)
                self._spool.end_turn()
                return False
            if (
                self._outbox.abandoned
            ):  # and with it perhaps a half of what was too large: rather send it twice
                return False
            self._spool.remove(batch)
            if batch.broken_n:
                self._drop("broken", batch.broken_n, f"{batch.name} in {self._spool.folder} was damaged")
            self._tally.count("replayed", len(batch.bodies))
            self._failures = {}
            self._tries = 0
            self._may_hurry = True
            self._due_s = 0.0
            return True
        except Exception as problem:  # the disk's, in all likelihood; the thread must live on in any case
            self._tally.warn("spool", f"the spool {self._spool.folder!r} cannot be read ({problem})")
            self._outbox.note_backlog(False)
            self._due_s = time.monotonic() + SPOOL_LOOK_S
            return False

    def _come_back(self, again: Again) -> None:
        self._tries += 1
        self._may_hurry = again.retry_after_s is None
        self._due_s = time.monotonic() + _wait_s(self._tries, again.retry_after_s)

    def _where_they_wait(self) -> str:
        if self._spool is not None:
            return f"meanwhile they wait in {self._spool.folder}"
        return f"up to {self._outbox.items_max} items wait"

    def _keep_or_drop(self, reason: str, n: int, message: str) -> None:
        """Give up a batch for a mistake in the settings; with a spool it can wait until that is mended.

        Raises:
            Again: it can.
        """
        if self._spool is None:
            self._drop(reason, n, message)
        else:
            self._tally.warn(reason, f"{message}; {self._where_they_wait()}")
            raise Again()

    def _drop(self, reason: str, n: int, message: str) -> None:
        if not self._outbox.abandoned:  # what was given up is counted as such
            self._tally.drop(reason, n, message)


def _wait_s(tries: int, retry_after_s: Optional[float]) -> float:
    # Of the operating system: the application's own random sequence stays as it seeded it.
    jitter = 0.5 + int.from_bytes(os.urandom(2), "big") / 131_072
    backoff_s: float = min(BACKOFF_FIRST_S * 2 ** min(tries - 1, 10), BACKOFF_MAX_S) * jitter
    return backoff_s if retry_after_s is None else max(backoff_s, retry_after_s)


def _batches(bodies: List[bytes]) -> List[List[bytes]]:
    """Cut into batches of at most BATCH_BYTES_MAX; an item above that is a batch of its own."""
    batches: List[List[bytes]] = []
    size = 0
    for body in bodies:
        if not batches or size + len(body) > BATCH_BYTES_MAX:
            batches.append([])
            size = 0
        batches[-1].append(body)
        size += len(body) + 1
    return batches


def _said(transport: Transport, answer: Answer) -> str:
    return f"{transport.url} answered {answer.status}: {answer.text}"


def _reason(status: int) -> str:
    """What such drops are counted as; letters alone, for the server reads them in a header."""
    if status >= 500:
        return "server_error"
    return {401: "unauthorised", 403: "unauthorised", 413: "too_large"}.get(status, "refused")


def _remedy(status: int) -> str:
    hints: Tuple[Tuple[Tuple[int, ...], str], ...] = (
        ((401, 403), "; check LOWLIGHT_KEY"),
        ((301, 302, 303, 307, 308), "; redirects are not followed, set LOWLIGHT_URL to the final address"),
        ((404, 405), f"; {_WRONG_SERVER}"),
    )
    return next((hint for statuses, hint in hints if status in statuses), "")
