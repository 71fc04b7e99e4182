"""Nothing is ever raised into the application: the guard around every public method."""

import functools
from typing import Any, Callable, Dict, TypeVar, cast

Method = TypeVar("Method", bound=Callable[..., Any])


def never_raises(otherwise: Callable[[Dict[str, Any]], Any]) -> Callable[[Method], Method]:
    """Guard a method of an object with `tally`: what it raises is logged and counted as `errors`, not raised.

    Arguments it does not know are left out (and named in the log) rather than costing the call. Where even
    that fails, the answer is `otherwise(keyword arguments)`.
    """

    def guard(method: Method) -> Method:
        code = method.__code__
        positional_max = code.co_argcount
        known = frozenset(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])

        @functools.wraps(method)
        def guarded(self: Any, *args: Any, **named: Any) -> Any:
            try:
                return method(self, *args, **named)
            except Exception as problem:
                try:
                    self.tally.count("errors")
                    self.tally.warn(
                        f"error:{method.__name__}",
                        f"{method.__name__}(): {type(problem).__name__}: {problem}",
                    )
                    if isinstance(problem, TypeError):
                        kept = {name: value for name, value in named.items() if name in known}
                        if len(kept) < len(named) or len(args) >= positional_max:
                            return method(self, *args[: positional_max - 1], **kept)
                except Exception:
                    pass
                return otherwise(named)

        return cast(Method, guarded)

    return guard
