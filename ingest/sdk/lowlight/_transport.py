"""HTTP to the server: one kept-alive connection, used by the sending thread alone.

Flow: `_sender` -> `Transport.post` -> the server's answer, or `Unreachable`. http.client, ssl and gzip are
imported when the first batch is sent: together they take longer than all the rest of the SDK.
"""

import json
import os
import time
from typing import Any, Callable, Dict, Optional

from lowlight._process import importing

USER_AGENT = "lowlight-python/0.1.0"
#: Smaller bodies gain nothing that a packet more would cost.
GZIP_FROM_BYTES = 16 * 1024
#: Read of an answer; a receipt that rejects 500 items is about 60 kB.
ANSWER_BYTES_MAX = 4 * 1024 * 1024
#: The longest wait that a server may ask for.
RETRY_AFTER_MAX_S = 3600.0


class Unreachable(Exception):
    """No answer: refused, timed out, cut off. Worth another try; the message says where and what."""


class BadAddress(ValueError):
    """The URL or key cannot be used at all; the message names the variable and what it takes."""


class Answer:
    """What the server said.

    Attributes:
        status: HTTP status.
        retry_after_s: its own wait in seconds; None where it named none.
        body: the JSON object it sent; empty where it sent none.
        text: the start of a body that is no JSON object, or the error in one that is.
    """

    def __init__(self, status: int, retry_after_s: Optional[float], body: bytes) -> None:
        self.status = status
        self.retry_after_s = retry_after_s
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            found = None
        self.body: Dict[str, Any] = found if type(found) is dict else {}
        self.text = _error_text(self.body.get("error")) or body[:500].decode("utf-8", "replace")


class Transport:
    """See the module.

    Raises:
        BadAddress: see there.
    """

    def __init__(self, url: str, key: str, timeout_s: float) -> None:
        with importing:
            import email.utils
            import encodings.idna  # noqa: F401 - which the first look-up of a host would import
            import gzip
            import http.client
            from urllib.parse import urlsplit

            self._http = http.client
            self._gzip = gzip
            self._parse_date = email.utils.parsedate_to_datetime
            try:
                parts = urlsplit(url)
                port = parts.port
            except ValueError as problem:
                raise BadAddress(f"LOWLIGHT_URL: {url!r} is no address ({problem})") from None
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise BadAddress(
                    f"LOWLIGHT_URL: {url!r} is no address; it takes http://HOST:PORT or https://HOST"
                )
            if parts.scheme == "https":
                import ssl

                self._tls: Any = ssl.create_default_context()
            else:
                self._tls = None
        if not (parts.hostname + parts.path).isascii() or " " in parts.hostname + parts.path:
            raise BadAddress(f"LOWLIGHT_URL: {url!r} holds characters that no address has")
        if not key.isascii() or not key.isprintable():
            raise BadAddress("LOWLIGHT_KEY: the key holds characters that no key has; copy it again")
        self.url = url
        self._host = parts.hostname
        self._port = port
        self._path = parts.path.rstrip("/")
        self._key = key
        self._timeout_s = timeout_s
        self._connection: Any = None

    def post(self, path: str, body: bytes, dropped: str) -> Answer:
        """Send a JSON body and return the answer.

        Args:
            path: "/v1/calls" or "/v1/signals".
            dropped: what `X-Lowlight-Dropped` shall say; '' for no such header.

        Raises:
            Unreachable: see there.
        """
        headers = {"Content-Type": "application/json", "User-Agent": USER_AGENT}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        if dropped:
            headers["X-Lowlight-Dropped"] = dropped
        if len(body) >= GZIP_FROM_BYTES:
            body = self._gzip.compress(body, 1)
            headers["Content-Encoding"] = "gzip"
        reused = self._connection is not None
        try:
            return self._exchange(path, body, headers)
        except (OSError, self._http.HTTPException) as problem:
            self.close()
            if not reused or isinstance(problem, TimeoutError):
                raise Unreachable(f"{self.url} did not answer ({_said(problem)})") from None
        # A kept-alive connection that the server has closed meanwhile says nothing about the server. Sending
        # again is safe in any case: every item has an id, and the server keeps it once.
        try:
            return self._exchange(path, body, headers)
        except (OSError, self._http.HTTPException) as problem:
            self.close()
            raise Unreachable(f"{self.url} did not answer ({_said(problem)})") from None

    def close(self) -> None:
        """Close the connection; the next `post` opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except Exception:
                pass

    def let_go(self) -> None:
        """Give a forked child's copy of the connection back, without the parent's noticing.

        Only its file descriptor: closing an answer that the parent's thread was reading at the fork would
        wait for ever for that thread's lock on it.
        """
        connection, self._connection = self._connection, None
        try:
            os.close(connection.sock.detach())
        except Exception:  # there was none, or none any more
            pass

    def _exchange(self, path: str, body: bytes, headers: Dict[str, str]) -> Answer:
        if self._connection is None:
            if self._tls is not None:
                self._connection = self._http.HTTPSConnection(
                    self._host, self._port, timeout=self._timeout_s, context=self._tls
                )
            else:
                self._connection = self._http.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        try:
            self._connection.request("POST", self._path + path, body, headers)
        except (BrokenPipeError, ConnectionResetError):
            # Cut off while sending: a proxy that finds the body too large answers before it has read it all.
            if self._connection.sock is None:
                raise
        response = self._connection.getresponse()
        content = response.read(ANSWER_BYTES_MAX)
        if not response.isclosed():
            self.close()
            if len(content) < ANSWER_BYTES_MAX:  # http.client says nothing of a body that ends too soon
                raise self._http.IncompleteRead(content, response.length)
        return Answer(
            response.status, _retry_after_s(response.headers.get("Retry-After"), self._parse_date), content
        )


def _retry_after_s(value: Optional[str], parse_date: Callable[[str], Any]) -> Optional[float]:
    """Seconds of a Retry-After header, which is seconds or an HTTP date (RFC 9110, 10.2.3)."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parse_date(value).timestamp() - time.time()
        except (TypeError, ValueError, IndexError, OverflowError):
            return None
    if seconds != seconds:
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_MAX_S)


def _error_text(error: Any) -> str:
    """The server's error, {"code", "message", "field"}, as one line; '' where it sent none."""
    if type(error) is not dict:
        return str(error)[:500] if error else ""
    parts = [str(error[name]) for name in ("field", "message") if error.get(name)]
    return ": ".join(parts)[:500] or str(error)[:500]


def _said(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {problem}" if str(problem) else type(problem).__name__
