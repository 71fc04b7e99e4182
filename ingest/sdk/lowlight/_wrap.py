"""`wrap`: an openai or anthropic client whose responses are recorded, its requests unchanged.

Flow: `client.post`, which every method of these packages goes through (`create`, `parse`, `stream`, and the
same under `with_raw_response`) -> `Watch` -> the response, or the bytes of a stream as they are read ->
`record`.

Only two public things of the packages are leant on: that resources send by `client.post(path, body=...)`, and
that bodies are read by the HTTP response's `iter_bytes`. Nothing is added to the request, not even
`stream_options`: tokens of a stream are known where the application or the provider asks for them.
"""

import inspect
from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Dict, Iterator, List, Optional

from lowlight._calls import Clock, ended_by, told_inside
from lowlight._context import current, span_ids
from lowlight._held import RawBody
from lowlight._streams import Events, Gathered

if TYPE_CHECKING:
    from lowlight._client import Client

#: Of a body that is read as bytes and not streamed as events; more is not kept.
BODY_BYTES_MAX = 8 * 1024 * 1024
_PATHS = frozenset(("/chat/completions", "/completions", "/responses", "/v1/messages", "/messages"))


def wrapped(client: "Client", provider_client: Any, provider: Optional[str]) -> Any:
    """Return `provider_client`, its responses recorded by `client` from now on."""
    original = getattr(provider_client, "post", None)
    if not callable(original) or not hasattr(provider_client, "with_options"):
        client.tally.warn(
            "wrap",
            f"wrap() cannot wrap a {type(provider_client).__name__}; it takes clients of openai and "
            "anthropic. It was returned unchanged",
        )
        return provider_client
    if hasattr(original, "_lowlight"):
        return provider_client
    package = type(provider_client).__module__.partition(".")[0]
    watching = _Watching(client, provider or package)
    post: Any = (
        watching.async_post(original) if inspect.iscoroutinefunction(original) else watching.post(original)
    )
    post._lowlight = True
    provider_client.post = post
    _pass_on(provider_client, provider_client, post)
    for name in ("copy", "with_options"):
        copy = getattr(provider_client, name, None)
        if callable(copy):
            setattr(
                provider_client, name, lambda *a, _copy=copy, **n: wrapped(client, _copy(*a, **n), provider)
            )
    return provider_client


def _pass_on(owner: Any, provider_client: Any, post: Any) -> None:
    """Hand the new `post` to the resources that exist already: they took the old one when they were made."""
    for resource in list(vars(owner).values()):
        if hasattr(resource, "_post") and getattr(resource, "_client", None) is provider_client:
            resource._post = post
            _pass_on(resource, provider_client, post)


class _Watching:
    """What takes the place of a client's `post`."""

    def __init__(self, client: "Client", provider: str) -> None:
        self._client = client
        self._provider = provider

    def post(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def post(path: str, *args: Any, **named: Any) -> Any:
            watch = self._begin(path, named)
            if watch is None:
                return original(path, *args, **named)
            try:
                result = original(path, *args, **named)
            except BaseException as error:
                watch.failed(error)
                raise
            watch.came(result)
            return result

        return post

    def async_post(self, original: Callable[..., Any]) -> Callable[..., Any]:
        async def post(path: str, *args: Any, **named: Any) -> Any:
            watch = self._begin(path, named)
            if watch is None:
                return await original(path, *args, **named)
            try:
                result = await original(path, *args, **named)
            except BaseException as error:
                watch.failed(error)
                raise
            watch.came(result)
            return result

        return post

    def _begin(self, path: Any, named: Dict[str, Any]) -> Optional["Watch"]:
        """A watch on a request that asks a model to answer; None on any other."""
        try:
            if str(path).partition("?")[0].rstrip("/") not in _PATHS or not self._client.is_enabled():
                return None
            watch = Watch(self._client, self._provider, named.get("body"))
            options = named.get("options")
            if isinstance(options, dict) and callable(options.get("post_parser")):
                named["options"] = {**options, "post_parser": watch.before(options["post_parser"])}
            return watch
        except Exception as problem:
            _failed_at(self._client, problem)
            return None


class Watch:
    """One request, from its start to the end of its answer, which is recorded once."""

    def __init__(self, client: "Client", provider: str, body: Any) -> None:
        self._client = client
        self._clock = Clock()
        self._scope = current()
        self._fields: Dict[str, Any] = {"provider": provider, "input": _asked(body)}
        self._fields["trace_id"], self._fields["span_id"] = span_ids()
        self._model = body.get("model") if isinstance(body, dict) else None
        stored = body.get("prompt") if isinstance(body, dict) else None
        if self._scope.prompt is None and isinstance(stored, dict) and stored.get("id"):
            self._fields["prompt"] = (stored["id"], stored.get("version"))
        self._is_over = False
        self._is_reading = False
        self._has_come = False
        self._last_ms = 0.0
        self._events: Optional[Events] = None
        self._gathered = Gathered()
        self._body: List[bytes] = []
        self._body_bytes = 0
        self._parsed: Any = None

    def before(self, parser: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Look at the response before `parse` makes the application's objects of it, which may fail."""

        def parse(response: Any) -> Any:
            self._parsed = response
            return parser(response)

        return parse

    def adopt(self, fields: Dict[str, Any]) -> None:
        """Be the call of an observed function that has handed out the stream."""
        self._fields = {**self._fields, **fields}

    def failed(self, error: BaseException) -> None:
        """There is no answer, or no more of it."""
        self._tell(self._clock.ms(), **{**self._come_by_now(), **ended_by(error)})

    def came(self, result: Any) -> None:
        """The method has its result: a response, or one whose body is still to be read."""
        try:
            http = getattr(result, "http_response", None)
            if http is None and not hasattr(result, "choices"):
                http = getattr(result, "response", None)
            if http is None or not hasattr(http, "iter_bytes"):
                self._tell(self._clock.ms(), response=result)
                return
            self._fields["retries"] = _retries(result)
            body = _read_already(http)
            if body is not None:
                self._tell(self._clock.ms(), response=RawBody(body))
            else:
                self._last_ms = self._clock.ms()
                if "event-stream" in http.headers.get("content-type", ""):
                    self._events = Events()
                http._lowlight = self
                http.__class__ = _watched_kind(type(http))
        except Exception as problem:
            _failed_at(self._client, problem)

    def read(self, parts: Iterator[bytes]) -> Iterator[bytes]:
        """Hand the body on as it is read, and look at it."""
        try:
            while True:
                self._is_reading = True
                try:
                    part = next(parts)
                except StopIteration:
                    break
                finally:
                    self._is_reading = False
                self._take(part)
                yield part
        except GeneratorExit:
            self.closed()
            raise
        except BaseException as error:
            self.failed(error)
            raise
        self._ended()

    async def aread(self, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Do the same as `read`."""
        try:
            while True:
                self._is_reading = True
                try:
                    part = await parts.__anext__()
                except StopAsyncIteration:
                    break
                finally:
                    self._is_reading = False
                self._take(part)
                yield part
        except GeneratorExit:
            self.closed()
            raise
        except BaseException as error:
            self.failed(error)
            raise
        self._ended()

    def _take(self, part: bytes) -> None:
        try:
            self._last_ms = self._clock.ms()
            self._has_come = True
            if self._events is None:
                self._body_bytes += len(part)
                if self._body_bytes <= BODY_BYTES_MAX:
                    self._body.append(part)
                return
            for event in self._events.of(part):
                self._gathered.add(event)
            if self._gathered.has_begun and "first_token_ms" not in self._fields:
                self._fields["first_token_ms"] = self._last_ms
        except Exception as problem:
            _failed_at(self._client, problem)

    def _ended(self) -> None:
        """The body was read to its end."""
        self._tell(self._last_ms, **self._come_by_now())

    def closed(self, *, is_read_elsewhere: bool = False) -> None:
        """The body was closed: by the package after its end, or because nobody wants the rest.

        Args:
            is_read_elsewhere: whether the application has read it, perhaps past us.
        """
        if self._is_over or self._is_reading:  # the HTTP client closes at the end of the body, while it reads
            return
        if self._gathered.is_complete or (is_read_elsewhere and not self._has_come):
            self._ended()
        else:
            found = self._come_by_now() if self._events is not None else {}  # half a JSON says nothing
            self._tell(self._clock.ms(), **{**found, "finish_reason": "aborted"})

    def __del__(self) -> None:
        # A stream that was dropped. The moment at which the garbage collector found it means nothing.
        try:
            if not self._is_over and self._last_ms:
                self._tell(self._last_ms, **{**self._come_by_now(), "finish_reason": "aborted"})
        except Exception:
            pass

    def _come_by_now(self) -> Dict[str, Any]:
        """What is known of the answer."""
        found: Dict[str, Any] = {}
        response = self._parsed if self._parsed is not None else self._gathered.response()
        if response is None and self._body:
            response = RawBody(b"".join(self._body))
        if response is not None:
            found["response"] = response
        if self._gathered.error is not None:
            found["error"] = self._gathered.error
        return found

    def _tell(self, latency_ms: float, **found: Any) -> None:
        if self._is_over:
            return
        self._is_over = True
        try:
            fields = {**self._fields, "latency_ms": latency_ms, **found}
            response = fields.get("response")
            if response is None:
                fields["model"] = self._model
            elif type(response) is dict and not response.get("model"):
                fields["response"] = {**response, "model": self._model}
            told_inside(self._client.record, fields, self._scope)
        except Exception as problem:
            _failed_at(self._client, problem)


_watched_kinds: Dict[type, type] = {}


def _watched_kind(kind: Any) -> type:
    """A class of HTTP response like `kind`, whose watch sees the body while the application reads it.

    A class, and not methods put onto the one response: those would hold it in a cycle, and a stream that the
    application drops would stay open until the garbage collector comes by.
    """
    if kind in _watched_kinds:
        return _watched_kinds[kind]

    class Watched(kind):  # type: ignore[misc]
        def iter_bytes(self, *args: Any, **named: Any) -> Iterator[bytes]:
            watch: Watch = self._lowlight
            return watch.read(super().iter_bytes(*args, **named))

        def aiter_bytes(self, *args: Any, **named: Any) -> AsyncIterator[bytes]:
            watch: Watch = self._lowlight
            return watch.aread(super().aiter_bytes(*args, **named))

        def close(self) -> None:
            try:
                super().close()
            finally:
                self._lowlight.closed(is_read_elsewhere=self.is_stream_consumed)

        async def aclose(self) -> None:
            try:
                await super().aclose()
            finally:
                self._lowlight.closed(is_read_elsewhere=self.is_stream_consumed)

    Watched.__name__, Watched.__qualname__, Watched.__module__ = (
        kind.__name__,
        kind.__qualname__,
        kind.__module__,
    )
    _watched_kinds[kind] = Watched
    return Watched


def _asked(body: Any) -> Any:
    """The input of a request's body, its system prompt first; None where it is in no known place."""
    if not isinstance(body, dict):
        return None
    asked = body.get("messages", body.get("input"))
    if asked is None and not isinstance(body.get("prompt"), dict):
        asked = body.get("prompt")
    if isinstance(asked, tuple):
        asked = list(asked)
    if not isinstance(asked, (str, list)):
        return None
    system = body.get("system") or body.get("instructions")
    if not system:
        return asked
    rest = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    return [{"role": "system", "content": system}, *rest]


def _read_already(http: Any) -> Optional[bytes]:
    try:
        return bytes(http.content)
    except Exception:  # it is still to be read
        return None


def _retries(result: Any) -> Optional[int]:
    """How often the package sent the request again, where it tells."""
    retries = getattr(result, "retries_taken", None)
    return retries if isinstance(retries, int) and retries > 0 else None


def _failed_at(client: "Client", problem: Exception) -> None:
    client.tally.count("errors")
    client.tally.warn("error:wrap", f"wrap(): {type(problem).__name__}: {problem}; please report it")
