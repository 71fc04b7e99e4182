"""The background thread: takes entries, makes batches, sends them until each item's fate is known.

Flow: `_queue.Outbox.take` -> `_wire.encode_*` -> bodies of at most 500 items and 4 MiB -> `_transport` ->
receipt -> `_tally`. Calls go before signals. What happens to a batch:

- 200 with a receipt: counted; rejected items are counted and logged with field and error.
- No answer, 408, 429, 502, 503, 504: sent again until it is answered. The server's Retry-After is obeyed;
  else the wait doubles from 0.5 s to 30 s, with jitter. Meanwhile the queue bounds what is held.
- Another 5xx: five tries, for a batch that the server cannot digest must not block all others.
- 413: halved until it fits. Any other 4xx, and a redirect, is final: counted and logged with the server's
  error.
"""

import os
from typing import Any, Callable, List, Optional, Tuple

from lowlight._config import Config
from lowlight._queue import BATCH_BYTES_MAX, Entry, Outbox
from lowlight._tally import Tally
from lowlight._transport import Answer, BadAddress, Transport, Unreachable
from lowlight._wire import Encoded, encode_call, encode_signal

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
#: Of one batch, where the server fails in a way that says nothing of a better moment.
FAILED_TRIES_MAX = 5
_WRONG_SERVER = "does LOWLIGHT_URL name a Lowlight server?"
_COME_BACK = (408, 429, 502, 503, 504)


class Sender:
    """One client's sending, run by its thread."""

    def __init__(self, outbox: Outbox, tally: Tally, config: Config) -> None:
        self._outbox = outbox
        self._tally = tally
        self._config = config
        self._transport: Optional[Transport] = None

    def run(self) -> None:
        """Send until the outbox is stopped and empty. No exception ends it early."""
        while True:
            entries = self._outbox.take()
            if entries is None:
                break
            try:
                self._send(entries)
            except Exception as problem:
                self._drop(
                    "sdk_error", len(entries), f"{type(problem).__name__}: {problem}; please report it"
                )
            finally:
                self._outbox.settle(entries)
        if self._transport is not None:
            self._transport.close()

    def let_go(self) -> None:
        """Give up the copy of the parent's connection, in a forked child."""
        if self._transport is not None:
            self._transport.let_go()

    def _send(self, entries: List[Entry]) -> None:
        if self._transport is None:
            try:
                self._transport = Transport(self._config.url, self._config.key, self._config.timeout_s)
            except BadAddress as problem:
                self._drop("bad_address", len(entries), str(problem))
                return
        for kind, encode in (("calls", self._encode_call), ("signals", _encode_signal)):
            bodies = [
                body for body in (self._encoded(entry, kind, encode) for entry in entries) if body is not None
            ]
            for batch in _batches(bodies):
                self._post(self._transport, kind, batch)

    def _encode_call(self, fields: Any, size: int) -> Encoded:
        return encode_call(fields, size, self._config.environment, self._config.release)

    def _encoded(self, entry: Entry, kind: str, encode: Callable[[Any, int], Encoded]) -> Optional[bytes]:
        if entry[0] != kind:
            return None
        try:
            encoded = encode(entry[1], entry[2])
        except Exception as error:
            self._drop("unreadable", 1, f"{kind[:-1]}: {type(error).__name__}: {error}")
            return None
        for field, problem in encoded.problems.items():
            self._tally.warn(f"{kind}:{field}", problem)
        return encoded.body

    def _post(self, transport: Transport, kind: str, bodies: List[bytes]) -> None:
        """Send one batch until its fate is known."""
        whole = b'{"%s":[' % kind.encode() + b",".join(bodies) + b"]}"
        tries = 0
        failures = 0
        while not self._outbox.abandoned:
            tries += 1
            dropped = self._tally.dropped_header()
            try:
                answer = transport.post(f"/v1/{kind}", whole, dropped)
            except Unreachable as problem:
                self._tally.warn(
                    "unreachable", f"{problem}; trying again, up to {self._outbox.items_max} items wait"
                )
                self._wait(tries, None)
                continue
            if answer.status == 200:
                self._receive(answer, kind, len(bodies), dropped)
                return
            if answer.status == 413 and len(bodies) > 1:
                half = len(bodies) // 2
                self._post(transport, kind, bodies[:half])
                self._post(transport, kind, bodies[half:])
                return
            failures += answer.status >= 500 and answer.status not in _COME_BACK
            if answer.status in _COME_BACK or (answer.status >= 500 and failures < FAILED_TRIES_MAX):
                self._tally.warn(f"status:{answer.status}", f"{_said(transport, answer)}; trying again")
                self._wait(tries, answer.retry_after_s)
                continue
            self._drop(
                _reason(answer.status), len(bodies), f"{_said(transport, answer)}{_remedy(answer.status)}"
            )
            return

    def _wait(self, tries: int, retry_after_s: Optional[float]) -> None:
        self._tally.count("retries")
        # Of the operating system: the application's own random sequence stays as it seeded it.
        jitter = 0.5 + int.from_bytes(os.urandom(2), "big") / 131_072
        backoff_s = min(BACKOFF_FIRST_S * 2 ** min(tries - 1, 10), BACKOFF_MAX_S) * jitter
        self._outbox.pause(max(backoff_s, retry_after_s or 0.0), may_hurry=retry_after_s is None)

    def _receive(self, answer: Answer, kind: str, n: int, dropped: str) -> None:
        """Count what a receipt says."""
        if self._outbox.abandoned:
            return
        receipt = answer.body
        if type(receipt.get("accepted")) is not int:
            self._drop(
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

    def _drop(self, reason: str, n: int, message: str) -> None:
        if not self._outbox.abandoned:  # what was given up is counted as such
            self._tally.drop(reason, n, message)


def _encode_signal(fields: Any, _size: int) -> Encoded:
    return encode_signal(fields)


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
