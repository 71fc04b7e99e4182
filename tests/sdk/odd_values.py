"""Values that no argument of `record()` or `signal()` is meant for, as hypothesis strategies.

`ANYTHING` is what may be handed to any argument by mistake; `RECORDED` and `SIGNALLED` hold, per argument,
what looks right for it and is not: ids of no or 5,000 characters, times that are no date, rates of 1e-300.
"""

import dataclasses
import datetime
import decimal
import enum
import math
import reprlib
from collections import namedtuple
from typing import Any

import numpy as np
from hypothesis import strategies as st
from pydantic import BaseModel


class Hostile:
    """Raises wherever it is touched; its repr alone is left, for hypothesis to tell what failed."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"do not touch {name}")

    def __repr__(self) -> str:
        return "Hostile()"

    def _refuse(self, *_args: object) -> Any:
        raise RuntimeError("no")

    __str__ = __bool__ = __len__ = __iter__ = __eq__ = __hash__ = __float__ = __index__ = _refuse


class HostileError(Exception):
    """An exception that cannot tell its message."""

    def __str__(self) -> str:
        raise RuntimeError("no")


class Silent:
    """Its text is empty."""

    def __str__(self) -> str:
        return ""


class Shouting(str):
    """A text that says something else of itself than it holds, as translation proxies do."""

    def __str__(self) -> str:
        return Shouting(self.upper())

    def __bool__(self) -> bool:
        return True


class Colour(enum.Enum):
    RED = "red"


class Word(str, enum.Enum):  # noqa: UP042 - as most applications write it
    YES = "yes"
    NOTHING = ""


class Model(BaseModel):
    name: str
    at: datetime.date


@dataclasses.dataclass
class Point:
    x: int
    tags: set[str]


Pair = namedtuple("Pair", "left right")
CYCLE: list[Any] = [1]
CYCLE.append(CYCLE)


class Named(dict[str, Any]):
    """Arguments by name; hypothesis cannot show what lies 900 levels deep."""

    def __repr__(self) -> str:
        return reprlib.repr(dict(self))


class Unnamed(list[Any]):
    """Arguments by place; see `Named`."""

    def __repr__(self) -> str:
        return reprlib.repr(list(self))


def nested(levels: int) -> Any:
    """A list in a list in a list ..."""
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


DEEP = nested(5_000)
WIDE: Any = ["x"]
for _ in range(40):
    WIDE = [WIDE, WIDE]

#: Drawn by number: neither hypothesis nor pytest can look at some of these.
ODD_VALUES: list[Any] = [
    Hostile(),
    Hostile,
    HostileError(),
    ValueError("\ud800"),
    object(),
    len,
    iter([1]),
    Colour.RED,
    CYCLE,
    10**100,
    float("nan"),
    -math.inf,
    decimal.Decimal("NaN"),
    datetime.datetime.max,  # noqa: DTZ901
    datetime.timedelta(days=-1),
    b"\xff\x00",
    bytearray(b"x"),
    Model.model_construct(name=Hostile()),
    np.zeros(3),
    {1: {2: 3}, None: {"a": {Colour.RED}}, Hostile: Hostile()},
    {"choices": [{"message": {"content": Hostile()}}], "usage": {"prompt_tokens": "x"}},
    {"choices": [Hostile()]},
    {"output": [{"type": "message", "content": 7}]},
    {"content": [{"type": "tool_use"}, None, 7], "usage": 5, "error": Hostile()},
]
_NAMES: list[Any] = [
    *("", " ", "\n", "\x00", "\ud800", "a" * 128, "b" * 129, "c" * 256, "d" * 257, "e" * 5_000),
    *(
        b"",
        b" ",
        b"\xff\xfe",
        bytearray(),
        memoryview(b""),
        bytes(16),
        np.str_(""),
        np.str_("x"),
        np.int64(7),
    ),
    *(Silent(), Shouting(""), Shouting("x"), Shouting("s" * 300), Word.NOTHING, Word.YES, Hostile()),
    *(float("nan"), np.float64("nan"), decimal.Decimal("NaN"), 10**5_000, True, [], {}, [""], b"x" * 300),
]
_DEPTHS = (3, 24, 25, 100, 199, 200, 240, 249, 250, 251, 252, 253, 254, 300, 900, 5_000)
_ANY_TEXT = st.text(alphabet=st.characters(blacklist_categories=()), max_size=20)

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | _ANY_TEXT
    | st.binary(max_size=20)
    | st.datetimes()
    | st.decimals()
    | st.uuids()
    | st.integers(0, len(ODD_VALUES) - 1).map(lambda i: ODD_VALUES[i]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=8) | st.integers() | st.none(), inner, max_size=4)
    ),
    max_leaves=12,
)
NAME = ANYTHING | st.integers(0, len(_NAMES) - 1).map(lambda i: _NAMES[i])
NUMBER = (
    ANYTHING
    | st.floats(allow_nan=True)
    | st.floats(-1, 1)
    | st.integers(-1, 2**33)
    | st.sampled_from([1e-6, 1e-7, 5e-324, 604_800_000.0, 604_800_000.1, 1e6, 1_000_000.01, 2**31, 2**31 - 1])
    | st.decimals().map(str)
    | st.timedeltas()
)
TIME = (
    ANYTHING
    | NUMBER
    | st.from_regex(r"\A\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?\Z")
    | st.from_regex(
        r"\A(2\d{3}|9999)-(0[1-9]|1[0-2])-[0-3][0-9]"
        r"([T ][0-2][0-9]:[0-6][0-9](:[0-6][0-9](\.[0-9]+)?)?(Z|[+-][0-2][0-9]:?[0-6][0-9])?)?\Z"
    )
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.dates()
    | st.integers(0, 4_000_000_000)
    | st.integers(900_000_000_000, 30_000_000_000_000)
)
_CONTENT = st.sampled_from(_DEPTHS).map(nested) | ANYTHING
MESSAGES = (
    ANYTHING
    | st.lists(
        st.fixed_dictionaries({}, optional={"role": NAME, "content": _CONTENT, "tool_calls": _CONTENT})
        | ANYTHING,
        max_size=3,
    )
    | _CONTENT
)
_KEY = st.text(max_size=8) | st.text("k", min_size=250, max_size=260) | st.integers(0, 300)
TAGS = (
    ANYTHING
    | st.dictionaries(_KEY, NAME, max_size=5)
    | st.integers(60, 70).map(lambda n: {f"tag {i}": i for i in range(n)})
    | st.lists(NAME, max_size=5)
    | st.sets(_KEY, max_size=5)
)
TOOLS = (
    ANYTHING
    | st.lists(NAME, max_size=5)
    | st.integers(120, 140).map(lambda n: [f"tool {i}" for i in range(n)])
    | st.lists(st.fixed_dictionaries({"function": st.fixed_dictionaries({"name": NAME})}), max_size=3)
)
USAGE = ANYTHING | st.dictionaries(
    st.sampled_from(
        [
            *("input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens", "prompt_tokens"),
            *("completion_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
        ]
    ),
    NUMBER,
    max_size=4,
)
_CALLED = st.lists(
    st.fixed_dictionaries(
        {"id": NAME, "function": st.fixed_dictionaries({"name": NAME, "arguments": _CONTENT})}
    ),
    max_size=3,
) | st.integers(120, 140).map(lambda n: [{"function": {"name": f"tool {i}"}} for i in range(n)])
_ANSWERED = st.fixed_dictionaries({"content": _CONTENT}, optional={"tool_calls": _CALLED, "refusal": NAME})
_TOLD: dict[Any, Any] = {"model": NAME, "id": NAME, "usage": USAGE, "error": ANYTHING}
RESPONSE = (
    ANYTHING
    | st.fixed_dictionaries(
        {
            "choices": st.lists(
                st.fixed_dictionaries({"message": _ANSWERED, "finish_reason": NAME}), min_size=1, max_size=1
            )
        },
        optional=_TOLD,
    )
    | st.fixed_dictionaries(
        {
            "content": st.lists(
                st.fixed_dictionaries(
                    {"type": st.sampled_from(["text", "tool_use"])},
                    optional={"text": NAME, "name": NAME, "input": _CONTENT, "id": NAME},
                ),
                max_size=3,
            )
        },
        optional={**_TOLD, "stop_reason": NAME},
    )
    | st.fixed_dictionaries(
        {
            "output": st.lists(
                st.fixed_dictionaries(
                    {"type": st.sampled_from(["message", "function_call", "mcp_call", "z" * 300 + "_call"])},
                    optional={"content": _CONTENT, "name": NAME, "arguments": _CONTENT, "id": NAME},
                ),
                max_size=3,
            )
        },
        optional={**_TOLD, "status": NAME},
    )
)
ERROR = ANYTHING | st.fixed_dictionaries({}, optional={"type": NAME, "message": NAME})
PROMPT = (
    ANYTHING
    | NAME
    | st.tuples(NAME, NAME)
    | st.fixed_dictionaries({}, optional={"name": NAME, "version": NAME})
)
CONTEXT = ANYTHING | st.lists(NAME, max_size=3) | _CONTENT | st.integers(990, 1010).map(lambda n: ["d"] * n)

#: What is handed to each argument of `record()`.
RECORDED: dict[str, Any] = {
    **dict.fromkeys(("model", "provider", "environment", "release", "finish_reason"), NAME),
    **dict.fromkeys(("id", "user_id", "session_id", "trace_id", "span_id", "response_id"), NAME),
    **dict.fromkeys(("latency_ms", "first_token_ms", "cost_usd", "retries", "sample_rate"), NUMBER),
    **{"started_at": TIME, "prompt": PROMPT, "tags": TAGS, "tools": TOOLS, "usage": USAGE, "error": ERROR},
    **{"response": RESPONSE, "input": MESSAGES, "output": MESSAGES, "context": CONTEXT},
    "no_such_argument": ANYTHING,
}
_KIND = st.sampled_from(
    [
        *("thumbs_up", "rating", "rating", "Thumbs Up", "\U0001f44d", "7 stars", "", " ", "x" * 65, "kind\n"),
        *("_kind", "höflich", "a b  c"),
    ]
)
#: What is handed to each argument of `signal()`.
SIGNALLED: dict[str, Any] = {
    "kind": _KIND | NAME,
    **dict.fromkeys(("call_id", "response_id", "trace_id", "span_id", "session_id", "id"), NAME),
    **dict.fromkeys(("value", "value_min", "value_max"), NUMBER | st.integers(-6, 11)),
    **{"comment": NAME, "at": TIME, "no_such_argument": ANYTHING},
}


def any_of(arguments: dict[str, Any]) -> Any:
    """Some of these arguments."""
    return st.fixed_dictionaries({}, optional=arguments).map(Named)


#: Arguments without a name.
UNNAMED = st.lists(ANYTHING, max_size=2).map(Unnamed)
