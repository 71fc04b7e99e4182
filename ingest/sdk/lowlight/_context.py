"""What the code around a call knows of it: user, session, prompt, tags; carried by context variables.

Flow: `with lowlight.context(...)` -> the current `Scope` -> whatever is recorded inside, by threads started
with the context and by asyncio tasks too. Inner contexts add to outer ones.
"""

import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Tuple

if TYPE_CHECKING:
    from contextvars import Token

    from lowlight._calls import OpenCall


class Scope(NamedTuple):
    """The fields that a call takes where it has none of its own, and the call that is open around it."""

    user_id: Any = None
    session_id: Any = None
    prompt: Any = None
    tags: Any = None
    context: Any = None
    environment: Any = None
    release: Any = None
    open_call: Optional["OpenCall"] = None

    def within(self, fields: Dict[str, Any]) -> "Scope":
        """Return the scope of a context inside this one."""
        said = {name: value for name, value in fields.items() if value is not None and name in _FIELDS}
        said["tags"] = both(self.tags, fields.get("tags"))
        return self._replace(**said)

    def fill(self, *given: Any) -> Tuple[Any, ...]:
        """Return user, session, prompt, tags, context, environment and release of a call made in here."""
        mine = self[:_OPEN_CALL]
        found = [own if said is None else said for own, said in zip(mine, given)]
        found[_TAGS] = both(self.tags, given[_TAGS])
        return tuple(found)


_OPEN_CALL = Scope._fields.index("open_call")
_TAGS = Scope._fields.index("tags")
_FIELDS = frozenset(Scope._fields) - {"open_call"}
_NOWHERE = Scope()
_current: "ContextVar[Scope]" = ContextVar("lowlight", default=_NOWHERE)

#: The scope of the code that runs now; falsy nowhere, compare with `NOWHERE`.
current = _current.get
NOWHERE = _NOWHERE


class Context:
    """What `lowlight.context` returns: enter it with `with`, as often as you like."""

    def __init__(self, fields: Dict[str, Any]) -> None:
        self._fields = fields
        self._tokens: List["Token[Scope]"] = []

    def __enter__(self) -> "Context":
        self._tokens.append(enter(_current.get().within(self._fields)))
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._tokens:
            leave(self._tokens.pop())


def enter(scope: Scope) -> "Token[Scope]":
    """Make a scope the current one until `leave`."""
    return _current.set(scope)


def leave(token: "Token[Scope]") -> None:
    """Go back to the scope before `enter`."""
    try:
        _current.reset(token)
    except (ValueError, RuntimeError):  # left in another task than it was entered in: that one's ends with it
        pass


def both(outer: Any, inner: Any) -> Any:
    """Return the tags of an outer and an inner place; the inner's win."""
    if outer is None or inner is None:
        return inner if outer is None else outer
    try:
        return {**outer, **inner}
    except Exception:  # one of them is no dict, which is named when the call is sent
        return inner


_loaded = sys.modules.get


def span_ids() -> Tuple[Optional[str], Optional[str]]:
    """Return the ids of the current OpenTelemetry span where the application uses OpenTelemetry."""
    trace = _loaded("opentelemetry.trace")
    if trace is None:
        return None, None
    try:
        span = trace.get_current_span().get_span_context()
        return (f"{span.trace_id:032x}", f"{span.span_id:016x}") if span.is_valid else (None, None)
    except Exception:  # half imported, or another version's
        return None, None
