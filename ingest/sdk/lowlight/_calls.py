"""A call that is open: from its start to its answer, and what happens to it on the way.

Flow: `with lowlight.call(...)` or `@lowlight.observe` -> `OpenCall` -> `Client.record` at its end.

One response is one call: where a wrapped client makes the only response inside an open call, the two are told
as one, with the open call's texts and the response's model, tokens and ids. Where it makes several, each is a
call of its own, and the open call is the answer that the user got out of them.
"""

import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional

from lowlight._context import Scope, current, enter, leave, span_ids
from lowlight._ids import given_id, new_id

if TYPE_CHECKING:
    from contextvars import Token

    from typing_extensions import Unpack

    from lowlight._fields import AnswerFields

Record = Callable[..., str]


class Clock:
    """Milliseconds since a call began."""

    def __init__(self) -> None:
        self._began_s = time.perf_counter()

    def ms(self) -> float:
        """Return how many have passed."""
        return (time.perf_counter() - self._began_s) * 1000


class OpenCall:
    """What `lowlight.call` gives the block.

    Attributes:
        id: the call's id, to send signals about it.
    """

    def __init__(self, record: Record, fields: Dict[str, Any], *, is_named: bool = True) -> None:
        """Begin now.

        Args:
            record: of the client that is to have it.
            fields: arguments of `record` that are known already.
            is_named: whether the application gets to know its id; a call it cannot name may become one with
                the call around it.
        """
        given = fields.get("id")
        self.id = new_id() if given is None else given_id(given)
        self._record = record
        self._fields = {**fields, "id": self.id}
        self._is_named = is_named
        self._lock = threading.RLock()  # a finaliser may end a stream while its own thread is in here
        self._held: Optional[Dict[str, Any]] = None
        self._held_scope: Optional[Scope] = None
        self._takes_one = True
        self._closed = False
        self._token: Optional["Token[Scope]"] = None
        self._begin()

    def _begin(self) -> None:
        self._clock = Clock()
        self._outer = current()
        self._scope = self._outer._replace(open_call=self)
        self._span = span_ids()

    def set(self, response: Any = None, **fields: "Unpack[AnswerFields]") -> None:
        """Add what is known by now: the provider's response, or any argument of `record`."""
        if response is not None:
            self._fields["response"] = response
        self._fields.update(fields)

    def first_token(self) -> None:
        """Note that the user has just seen the answer's first token. Only the first time counts."""
        self._fields.setdefault("first_token_ms", self._clock.ms())

    def __enter__(self) -> "OpenCall":
        self._begin()
        self._token = enter(self._scope)
        return self

    def __exit__(self, _kind: object, error: Optional[BaseException], _traceback: object) -> None:
        if self._token is not None:
            leave(self._token)
        self.close(error)

    async def __aenter__(self) -> "OpenCall":
        return self.__enter__()

    async def __aexit__(self, kind: object, error: Optional[BaseException], traceback: object) -> None:
        self.__exit__(kind, error, traceback)

    def step_in(self) -> "Token[Scope]":
        """Make this the call around the code that runs next; for generators, which run piece by piece."""
        return enter(current()._replace(open_call=self))

    def close(self, error: Optional[BaseException] = None) -> None:
        """Record it. Only the first time counts."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            held, self._held = self._held, None
        fields = self._fields
        fields.setdefault("latency_ms", self._clock.ms())
        if error is not None:
            fields = {**ended_by(error), **fields}
        if held is not None:
            if held.get("error") is not None and held["error"] is not error:
                self._tell(held, self._held_scope)  # the answer came another way: two calls
            else:
                fields = merged(fields, held)
        if fields.get("trace_id") is None and fields.get("span_id") is None:
            fields["trace_id"], fields["span_id"] = self._span
        if self._is_named:
            tell(self._record, fields, self._outer)
        else:
            told_inside(self._record, fields, self._outer)

    def leave(self) -> Dict[str, Any]:
        """End it without recording it; return what is known of it, for a stream that outlives it."""
        with self._lock:
            self._closed = True
        return {name: value for name, value in self._fields.items() if value is not None}

    def holds(self, fields: Dict[str, Any], scope: Scope) -> bool:
        """Keep a response made inside until it is known to be the only one; False to record it now."""
        with self._lock:
            if self._closed or not self._takes_one:
                return False
            if self._held is None:
                self._held, self._held_scope = fields, scope
                return True
            self._takes_one = False
            first, first_scope = self._held, self._held_scope
            self._held = None
        self._tell(first, first_scope)
        return False

    def _tell(self, fields: Dict[str, Any], scope: Optional[Scope]) -> None:
        tell(self._record, fields, scope or self._outer)


def tell(record: Record, fields: Dict[str, Any], scope: Scope) -> None:
    """Record a call in the scope that it began in."""
    token = enter(scope._replace(open_call=None))
    try:
        record(**fields)
    finally:
        leave(token)


def told_inside(record: Record, fields: Dict[str, Any], scope: Scope) -> None:
    """Record a wrapped client's response, or leave it to the call that is open around it."""
    if scope.open_call is None or not scope.open_call.holds(fields, scope):
        tell(record, fields, scope)


def merged(outer: Dict[str, Any], inner: Dict[str, Any]) -> Dict[str, Any]:
    """Return one call of an open call and of the only response made inside it."""
    both = {**inner, **{name: value for name, value in outer.items() if value is not None}}
    if outer.get("output") is not None and outer.get("response") is None and "response" in inner:
        both["response"] = inner["response"]  # its model and tokens; the output that is named wins
    return both


def ended_by(error: BaseException) -> Dict[str, Any]:
    """Return the fields of a call that an exception ended: failed, or aborted where somebody stopped it."""
    return {"finish_reason": "aborted"} if is_abort(error) else {"error": error}


def is_abort(error: BaseException) -> bool:
    """Whether an exception means that the answer was no longer wanted."""
    if isinstance(error, (GeneratorExit, KeyboardInterrupt, SystemExit)):
        return True
    for module, name in (("asyncio", "CancelledError"), ("trio", "Cancelled")):
        kind = getattr(sys.modules.get(module), name, None)
        if isinstance(kind, type) and isinstance(error, kind):
            return True
    return False
