"""Whether a call's input has one of some words: the one condition that calls' columns know nothing of.

Flow: a condition on `input_text` -> `add_words` reads the texts of a frame's calls once -> a column of the
frame, so that `outliers.cohorts.candidates.holds` answers for texts as for any other field.

Looked at are the last `CHARS` characters of an input: the question stands at its end. A word is a run of at
least three letters or digits, whatever its case.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, case, func, or_, select

from ingest.store import Store
from ingest.tables import Call, CallText, columns
from outliers.conditions import Condition
from outliers.frame import PIECE_MS, Names, WeekCalls

_call, _text = columns(Call), columns(CallText)

FIELD = "input_text"
CHARS = 4_000
_WORD = re.compile(r"\w{3,}")
_ASCII = re.compile(r"[a-z0-9_]{3,}")


def words_of(text: str | None) -> frozenset[str]:
    """Return the words of a text, in lower case."""
    return frozenset(_WORD.findall(text.lower())) if text else frozenset()


def looked_at() -> ColumnElement[str]:
    """Return the part of an input that is looked at, the same in any SQL."""
    length = func.length(_text.c.input)
    return func.substr(_text.c.input, case((length > CHARS, length - CHARS + 1), else_=1), CHARS)


def condition_on(words: Sequence[str]) -> Condition:
    """Return the condition that an input has at least one of these words."""
    return Condition(FIELD, "has", " ".join(words))


def add_words(store: Store, project_id: int, calls: WeekCalls, condition: Condition) -> None:
    """Give a frame the columns that a condition on texts needs; nothing for other conditions.

    The database looks for the words first, so that few texts leave it; six hours of calls at a time.
    """
    for part in condition.parts:
        if part.field != FIELD or (FIELD, str(part.value)) in calls.named:
            continue
        wanted = frozenset(str(part.value).split())
        found: list[int] = []
        for since_ms in range(calls.week.since_ms, calls.week.until_ms, PIECE_MS):
            with store.read() as connection:
                rows = connection.execute(
                    select(_call.c.seq, looked_at())
                    .join(_text, _text.c.call_seq == _call.c.seq)
                    .where(
                        _call.c.project_id == project_id,
                        _call.c.started_at_ms >= since_ms,
                        _call.c.started_at_ms < min(since_ms + PIECE_MS, calls.week.until_ms),
                        _maybe(wanted),
                    )
                )
                found += [seq for seq, text in rows if wanted & words_of(text)]
        has = np.isin(calls.seq, found)
        calls.named[FIELD, str(part.value)] = Names(np.where(has, 0, -1), (str(part.value),))


def _maybe(words: frozenset[str]) -> Any:
    """Return what the database can tell: SQLite knows the case of ASCII letters alone."""
    plain = [max(_ASCII.findall(word), key=len, default="") for word in words]
    if not all(plain):
        return _text.c.input.is_not(None)
    return or_(*(_text.c.input.icontains(part, autoescape=True) for part in plain))
