"""`observe`: a function whose runs are calls, whatever kind of function it is.

Flow: the decorated function -> `_calls.OpenCall` -> arguments as input, result as output -> `Client.record`.
The function behaves as before: same results, same exceptions, same kind where a framework looks at it.
"""

import functools
import inspect
from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Dict, Generator, List, Optional, Tuple

from lowlight._calls import OpenCall
from lowlight._context import leave
from lowlight._held import AsText
from lowlight._responses import get
from lowlight._streams import CHARS_MAX, Gathered

if TYPE_CHECKING:
    from lowlight._client import Client

#: Yielded values kept that are neither texts nor a provider's events.
_ITEMS_MAX = 1_000
_PLAIN = (str, int, float, bool, list, tuple, dict, type(None))


def observed(client: "Client", target: Any, fields: Dict[str, Any]) -> Any:
    """Return `target`, each of its runs recorded by `client` with `fields`."""
    if isinstance(target, (staticmethod, classmethod)):
        return type(target)(observed(client, target.__func__, fields))
    if isinstance(target, type) or not callable(target):
        client.tally.warn(
            "observe",
            f"observe() cannot observe {target!r:.100}; it takes functions and methods. "
            "It was returned unchanged",
        )
        return target
    begin = functools.partial(_begin, client, _Arguments(target), fields)

    if inspect.iscoroutinefunction(target):

        @functools.wraps(target)
        async def arun(*args: Any, **named: Any) -> Any:
            return await _awaited(begin(args, named), target(*args, **named))

        return arun

    if inspect.isgeneratorfunction(target):

        @functools.wraps(target)
        def relay(*args: Any, **named: Any) -> Any:
            return (yield from _relayed(begin(args, named), target(*args, **named)))

        return relay

    if inspect.isasyncgenfunction(target):
        return functools.wraps(target)(
            _async_relay(lambda *args, **named: (begin(args, named), target(*args, **named)))
        )

    @functools.wraps(target)
    def run(*args: Any, **named: Any) -> Any:
        call = begin(args, named)
        token = call.step_in()
        try:
            result = target(*args, **named)
        except BaseException as error:
            call.close(error)
            raise
        finally:
            leave(token)
        # A plain function may hand out something that is still to run.
        if inspect.isgenerator(result):
            return _relayed(call, result)
        if inspect.isasyncgen(result):
            return _async_relay(lambda: (call, result))()
        if inspect.iscoroutine(result):
            return _awaited(call, result)
        if not _is_left_to_its_stream(call, result):
            _answer(call, result)
            call.close()
        return result

    return run


def _begin(
    client: "Client", arguments: "_Arguments", fields: Dict[str, Any], args: Any, named: Dict[str, Any]
) -> OpenCall:
    client.notice_fork()
    known = dict(fields)
    if known.get("input") is None:
        known["input"] = arguments.text(args, named)
    return OpenCall(client.record, known, is_named=False)


class _Arguments:
    """What a function was asked, read off its arguments."""

    def __init__(self, target: Any) -> None:
        try:
            self._signature: Optional[inspect.Signature] = inspect.signature(target)
        except (TypeError, ValueError):
            self._signature = None

    def text(self, args: Any, named: Dict[str, Any]) -> Any:
        """The one argument that is a value, or several as JSON; objects (self, a connection) are no text."""
        try:
            bound: Dict[str, Any] = dict(enumerate(args)) if self._signature is None else {}  # type: ignore[arg-type]
            if self._signature is not None:
                bound = dict(self._signature.bind(*args, **named).arguments)
            values = {
                name: value
                for name, value in bound.items()
                if name not in ("self", "cls") and isinstance(value, _PLAIN) and value not in ((), {})
            }
        except Exception:  # the function itself will say what is wrong with its arguments
            return None
        if not values:
            return None
        value = next(iter(values.values())) if len(values) == 1 else values
        is_messages = isinstance(value, list) and all(isinstance(item, dict) for item in value)
        return value if isinstance(value, str) or is_messages else AsText(value)


def _is_left_to_its_stream(call: OpenCall, result: Any) -> bool:
    """Whether the function has handed out a wrapped client's stream, whose end is the call's."""
    try:
        watch = getattr(getattr(result, "response", None), "_lowlight", None)
        if watch is None:
            return False
        watch.adopt(call.leave())
        return True
    except Exception:  # an object that cannot be looked at
        return False


def _answer(call: OpenCall, result: Any) -> None:
    """Take a function's result for the call's answer."""
    try:
        if isinstance(result, str):
            call.set(output=result)
        elif any(type(get(result, name)) is list for name in ("choices", "output", "content")):
            call.set(result)
        elif result is not None and not hasattr(result, "__next__") and not hasattr(result, "__anext__"):
            call.set(output=AsText(result))  # type: ignore[arg-type]
    except Exception:  # an object that cannot be looked at
        pass


async def _awaited(call: OpenCall, coroutine: Any) -> Any:
    token = call.step_in()
    try:
        result = await coroutine
    except BaseException as error:
        call.close(error)
        raise
    finally:
        leave(token)
    if not _is_left_to_its_stream(call, result):
        _answer(call, result)
        call.close()
    return result


def _relayed(call: OpenCall, inner: Any) -> Generator[Any, Any, Any]:
    """Hand on what a generator yields, what is sent into it and thrown, piece by piece."""
    said = _Said(call)
    step: Callable[[Any], Any] = inner.send
    value: Any = None
    try:
        while True:
            token = call.step_in()
            try:
                item = step(value)
            except StopIteration as stop:
                said.tell()
                return stop.value
            finally:
                leave(token)
            said.add(item)
            try:
                value = yield item
                step = inner.send
            except GeneratorExit:
                inner.close()
                raise
            except BaseException as error:
                step, value = inner.throw, error
    except BaseException as error:
        said.tell(error)
        raise


def _async_relay(start: Callable[..., Tuple[OpenCall, Any]]) -> Callable[..., AsyncIterator[Any]]:
    """Return an async generator function that hands on what the generator of `start` yields.

    A function and not a generator: frameworks (FastAPI's dependencies) look at which kind it is.
    """

    async def relay(*args: Any, **named: Any) -> AsyncIterator[Any]:
        call, inner = start(*args, **named)
        said = _Said(call)
        step: Callable[[Any], Any] = inner.asend
        value: Any = None
        try:
            while True:
                token = call.step_in()
                try:
                    item = await step(value)
                except StopAsyncIteration:
                    said.tell()
                    return
                finally:
                    leave(token)
                said.add(item)
                try:
                    value = yield item
                    step = inner.asend
                except GeneratorExit:
                    await inner.aclose()
                    raise
                except BaseException as error:
                    step, value = inner.athrow, error
        except BaseException as error:
            said.tell(error)
            raise

    return relay


class _Said:
    """What a generator has yielded so far, as the call's output."""

    def __init__(self, call: OpenCall) -> None:
        self._call = call
        self._texts: List[str] = []
        self._chars = 0
        self._others: List[Any] = []
        self._gathered = Gathered()

    def add(self, item: Any) -> None:
        """Take the next value."""
        try:
            self._call.first_token()
            if isinstance(item, str):
                self._chars += len(item)
                if self._chars <= CHARS_MAX:
                    self._texts.append(item)
            elif not self._gathered.add(item) and len(self._others) < _ITEMS_MAX:
                self._others.append(item)
        except Exception:  # an object that cannot be looked at
            pass

    def tell(self, error: Optional[BaseException] = None) -> None:
        """Record the call: at the end, or with what ended it."""
        response = self._gathered.response()
        if self._texts:
            self._call.set(output="".join(self._texts))
        elif response is not None:
            self._call.set(response)
        elif self._others:
            self._call.set(output=AsText(self._others))  # type: ignore[arg-type]
        self._call.close(error)
