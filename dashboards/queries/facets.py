"""Facets: what a list of calls can be narrowed by, and how many calls each choice would leave.

Flow: the window's newest FACET_CALLS calls, those that match the filters -> `facets` -> the calls page.
Counting stops there, so that a page costs the same however many calls a window has; it says among how many
it counted.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from critic.tables import GuardReading, Score
from dashboards.filters import CallsQuery, Window
from dashboards.queries.calls import matching, newest_in
from ingest.tables import Call, Signal, Slice, columns
from outliers.frame import KIND_FROM

CALL, SLICE, SIGNAL = columns(Call), columns(Slice), columns(Signal)
GUARD, SCORE = columns(GuardReading), columns(Score)

#: Newest calls of the window that choices are counted among, and choices of one facet at most.
FACET_CALLS, CHOICES_MAX = 2_000, 8


@dataclass(frozen=True)
class Choice:
    """One value of a facet, and how many of the calls have it; `value` is as the filter takes it."""

    value: str
    n: int


@dataclass(frozen=True)
class Facet:
    """One filter with its choices, the most frequent first; `name` is the filter's in the address."""

    name: str
    choices: tuple[Choice, ...]
    n_choices: int


@dataclass(frozen=True)
class Facets:
    """The choices of a list.

    Attributes:
        n_read: newest calls of the window that were looked at; `n` of them match the filters.
        facets: those with something to choose.
    """

    n_read: int
    n: int
    facets: tuple[Facet, ...]


def facets(connection: Connection, project_id: int, window: Window, asked: CallsQuery) -> Facets:
    """Count the choices among the window's newest calls that match; a search's words are left aside."""
    newest = list(connection.execute(newest_in(project_id, window, FACET_CALLS)).scalars())
    if not newest:
        return Facets(0, 0, ())
    of_all = asked.model_copy(update={"cursor": None})
    rows = connection.execute(
        matching(connection, project_id, window, of_all, by_key=True)
        .where(CALL.c.seq.in_(newest))
        .with_only_columns(
            CALL.c.seq, CALL.c.slice_id, CALL.c.outcome, CALL.c.finish_reason, CALL.c.error_type
        )
        .order_by(None)
    ).all()
    seqs = [row.seq for row in rows]
    counts: dict[str, Counter[str]] = {
        "outcome": Counter(row.outcome for row in rows),
        "finish_reason": Counter(row.finish_reason for row in rows if row.finish_reason),
        "error": Counter(row.error_type for row in rows if row.error_type),
    }
    counts |= _by_slice(connection, Counter(row.slice_id for row in rows))
    counts |= _by_readings(connection, seqs)
    found = [
        Facet(
            name,
            tuple(Choice(value, n) for value, n in counted.most_common(CHOICES_MAX)),
            len(counted),
        )
        for name, counted in ((name, counts.get(name, Counter())) for name in FACETS)
        if len(counted) > 1 or (counted and (name in TELLING or getattr(asked, name) is not None))
    ]
    return Facets(len(newest), len(rows), tuple(found))


#: Shown also with a single choice: not every call has one.
TELLING = ("signal", "error", "finish_reason", "guard", "status")
#: In the order of the page.
FACETS = (
    "outcome",
    "error",
    "finish_reason",
    "signal",
    "guard",
    "status",
    "prompt",
    "version",
    "provider",
    "model",
    "environment",
    "release",
    "language",
)


def _by_slice(connection: Connection, by_id: Counter[int]) -> dict[str, Counter[str]]:
    slices = connection.execute(select(SLICE).where(SLICE.c.id.in_(list(by_id)))).all()
    names = {"version": "prompt_version"}
    counts: dict[str, Counter[str]] = {}
    for facet in ("prompt", "version", "provider", "model", "environment", "release"):
        counted: Counter[str] = Counter()
        for row in slices:
            value = getattr(row, names.get(facet, facet))
            if value:
                counted[value] += by_id[row.id]
        counts[facet] = counted
    return counts


def _by_readings(connection: Connection, seqs: Sequence[int]) -> dict[str, Counter[str]]:
    """Count what users did, what the guard saw and what critics answered; a call once for each value."""
    signals = connection.execute(
        select(SIGNAL.c.call_seq, SIGNAL.c.kind).where(SIGNAL.c.call_seq.in_(seqs)).distinct()
    )
    guard = connection.execute(
        select(GUARD.c.kind, GUARD.c.p_fail, GUARD.c.input_language).where(GUARD.c.call_seq.in_(seqs))
    ).all()
    statuses = connection.execute(
        select(SCORE.c.call_seq, SCORE.c.status)
        .where(SCORE.c.call_seq.in_(seqs), SCORE.c.occasion == "")
        .distinct()
    )
    return {
        "signal": Counter(kind for _seq, kind in signals),
        "guard": Counter(row.kind for row in guard if row.kind and (row.p_fail or 0) >= KIND_FROM),
        "language": Counter(row.input_language for row in guard if row.input_language),
        "status": Counter(status for _seq, status in statuses),
    }
