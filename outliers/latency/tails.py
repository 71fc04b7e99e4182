"""Tail latency: how slow the slow end is, by any field latencies are counted by, and which calls are in it.

Flow: `latency_count` rows (ingest.latency) -> `tails` -> the latency page; calls -> `slowest` -> its links.
Latencies are milliseconds; n counts calls that arrived, weight the calls they stand for (1 / sample_rate).

A failed call counts as slower than any, so a provider that errs does not look fast; `answered_p99` stands
beside it. An aborted call says only that its answer would have taken longer: it is censored at its time
(Kaplan and Meier 1958). Counts are by the hour: a window is widened to whole hours (UTC).

Calls that came when a project already had `ingest.latency.SLICES_MAX` combinations of fields are counted in
one slice whose every field reads "other": they are a group of their own, however calls are grouped.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, and_, case, cast, func, literal, select, text

from ingest.tables import Call, LatencyCount, Slice, columns
from outliers.errors import UnknownGrouping
from outliers.latency.quantiles import CurvePoint, Quantile, curve_of, distribution, quantile_of

#: The quantiles that pages show.
QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
MEASURES = ("total", "first_token", "per_output_token")
#: Fields that latencies are counted by.
FIELDS = ("provider", "model", "prompt", "prompt_version", "environment", "release")
#: What calls can be grouped by; "none" is all calls together. A prompt version is shown as "faq@v7". A
#: service is a model at a provider, "together llama-2-13b-chat": two providers of one model are two services.
#: An hour is shown as "2026-11-16T14:00Z". Several are joined by commas, "model,environment,hour"; the group
#: is then named "aurora-2 · production · 2026-11-16T14:00Z".
GROUPINGS = ("none", "service", *FIELDS, "hour")
BETWEEN = " · "

HOUR_MS = 3_600_000

#: Outcomes by their code in a packed cell, places of a bucket there, and what makes a bucket positive.
OUTCOMES = ("answered", "failed", "aborted")
BUCKETS, FROM_ZERO = 1 << 16, 1 << 15

_call, _slice, _count = columns(Call), columns(Slice), columns(LatencyCount)


@dataclass(frozen=True)
class Tail:
    """The latencies of one group.

    Attributes:
        group: the field's value; "" where calls did not give it, "all" without grouping.
        n: calls, of which n_answered, n_failed and n_aborted.
        weight: calls these stand for, by their sample rate.
        quantiles: one for each of `QUANTILES`; failed calls count as slower than any.
        answered_p99: the p99 of answered calls alone.
        curve: the share of answered calls slower than a latency, fastest first (aborted ones are censored,
            failed ones left out: their share would hide the tail); empty unless asked for.
    """

    group: str
    n: int
    n_answered: int
    n_failed: int
    n_aborted: int
    weight: float
    quantiles: tuple[Quantile, ...]
    answered_p99: Quantile
    curve: tuple[CurvePoint, ...] = ()


@dataclass(frozen=True)
class SlowCall:
    """One of the slowest calls; `value_ms` is the measure it was ranked by (milliseconds)."""

    id: str
    seq: int
    started_at_ms: int
    value_ms: float
    outcome: str
    provider: str
    model: str
    prompt: str
    prompt_version: str
    user_id: str | None
    input_tokens: int | None
    output_tokens: int | None
    slice_id: int


def tails(
    connection: Connection,
    project_id: int,
    since_ms: int,
    until_ms: int,
    *,
    group_by: str = "none",
    measure: str = "total",
    only: Mapping[str, str] | None = None,
    curves: bool = False,
) -> list[Tail]:
    """Return each group's quantiles with n and interval, the group with most calls first.

    Args:
        group_by: one of `GROUPINGS`, or several with commas between.
        measure: one of `MEASURES`.
        only: keep calls with these values of fields ({"environment": "production"}).
        curves: also return each group's tail curve.

    Raises:
        UnknownGrouping: no such field or measure.
    """
    _check(group_by, measure, only)
    named = group_namer(slices_of(connection, project_id), group_by)
    kept = slices_of(connection, project_id, only)
    hour = _count.c.hour if "hour" in group_by.split(",") else literal(0)
    counts: dict[str, dict[tuple[str, int], list[float]]] = defaultdict(lambda: defaultdict(lambda: [0, 0.0]))
    rows = connection.execute(
        select(
            packed(cast(_count.c.slice_id, BigInteger)).label("cell"),
            hour.label("at"),
            func.sum(_count.c.n),
            func.sum(_count.c.weight),
        )
        .where(
            _count.c.slice_id.in_(select(_slice.c.id).where(_slice.c.project_id == project_id)),
            _count.c.hour >= since_ms // HOUR_MS,
            _count.c.hour < -(-until_ms // HOUR_MS),
            _count.c.measure == measure,
        )
        .group_by(text("cell"), text("at"))
    )
    for told, at, n, weight in rows:
        rest, bucket = divmod(told, BUCKETS)
        slice_id, outcome = divmod(rest, len(OUTCOMES))
        if slice_id in kept:
            cell = counts[named(slice_id, at)][OUTCOMES[outcome], bucket - FROM_ZERO]
            cell[0] += n
            cell[1] += weight
    found = [_tail(group, cells, curves) for group, cells in counts.items()]
    return sorted(found, key=lambda tail: (-tail.weight, tail.group))


def slowest(
    connection: Connection,
    project_id: int,
    since_ms: int,
    until_ms: int,
    *,
    group_by: str = "none",
    group: str = "all",
    measure: str = "total",
    only: Mapping[str, str] | None = None,
    limit: int = 10,
) -> list[SlowCall]:
    """Return the slowest calls of a window and group that have this latency, slowest first.

    Args:
        group_by: as for `tails`, but not by hour: an hour is named by `since_ms` and `until_ms`.
        group: the group's name as `tails` gives it.
        limit: at most 1,000.

    Raises:
        UnknownGrouping: no such field or measure.
    """
    _check(group_by, measure, only)
    value = _measured(measure)
    window = [
        _call.c.project_id == project_id,
        _call.c.started_at_ms >= since_ms,
        _call.c.started_at_ms < until_ms,
        value.is_not(None),
    ]
    if "hour" in group_by.split(","):
        raise UnknownGrouping("The slowest of an hour: give its ends as the window, and group by the rest.")
    if group_by != "none" or only:
        named = group_namer(slices_of(connection, project_id), group_by)
        kept = slices_of(connection, project_id, only)
        window.append(_call.c.slice_id.in_([one for one in kept if named(one, 0) == group]))
    # First the keys alone: for whole answers of all calls the index has all that this takes.
    top = (
        select(_call.c.seq, value.label("value"))
        .where(*window)
        .order_by(value.desc(), _call.c.seq.desc())
        .limit(min(limit, 1000))
        .subquery()
    )
    rows = connection.execute(
        select(
            _call.c.id,
            _call.c.seq,
            _call.c.started_at_ms,
            top.c.value,
            _call.c.outcome,
            _slice.c.provider,
            _slice.c.model,
            _slice.c.prompt,
            _slice.c.prompt_version,
            _call.c.user_id,
            _call.c.input_tokens,
            _call.c.output_tokens,
            _call.c.slice_id,
        )
        .select_from(top.join(_call, _call.c.seq == top.c.seq).join(_slice, _slice.c.id == _call.c.slice_id))
        .order_by(top.c.value.desc(), _call.c.seq.desc())
    )
    return [SlowCall(*tuple(row)) for row in rows]


def packed(place: ColumnElement[int]) -> ColumnElement[int]:
    """Return a counted cell as one number: (place * 3 + outcome) * BUCKETS + bucket + FROM_ZERO.

    SQL groups by it in two thirds of the time that the three columns take, and the driver reads it sooner.
    """
    outcome = case({name: code for code, name in enumerate(OUTCOMES)}, value=_count.c.outcome)
    cell: ColumnElement[int] = (place * len(OUTCOMES) + outcome) * BUCKETS + (_count.c.bucket + FROM_ZERO)
    return cell


def slices_of(
    connection: Connection, project_id: int, only: Mapping[str, str] | None = None
) -> dict[int, dict[str, str]]:
    """Return a project's slices, id -> its fields; with `only`, those that have these values."""
    kept = and_(_slice.c.project_id == project_id, *(_slice.c[f] == v for f, v in (only or {}).items()))
    return {row["id"]: dict(row) for row in connection.execute(select(_slice).where(kept)).mappings()}


def group_namer(slices: Mapping[int, Mapping[str, Any]], group_by: str) -> Callable[[int, int], str]:
    """Return what names the group of a slice of a project in an hour (hours since 1970, UTC).

    A service goes by its model alone where the project has one provider.
    """
    fields = group_by.split(",")
    many_providers = len({slice_["provider"] for slice_ in slices.values()}) > 1

    def _named(slice_: Mapping[str, Any], field: str) -> str:
        if field == "none":
            return "all"
        if field == "prompt_version":
            return versioned(slice_["prompt"], slice_["prompt_version"])
        if field == "service":
            provider = slice_["provider"] if many_providers else ""
            return f"{provider} {slice_['model']}".strip()
        return str(slice_[field])

    names = {
        slice_id: [_named(slice_, field) if field != "hour" else "" for field in fields]
        for slice_id, slice_ in slices.items()
    }
    if "hour" not in fields:
        joined = {slice_id: BETWEEN.join(parts) for slice_id, parts in names.items()}
        return lambda slice_id, _hour: joined[slice_id]
    place = fields.index("hour")

    @cache  # rows of one slice and hour are many, and formatting a time is slow
    def _in_hour(slice_id: int, hour: int) -> str:
        parts = list(names[slice_id])
        parts[place] = datetime.fromtimestamp(hour * 3600, UTC).strftime("%Y-%m-%dT%H:00Z")
        return BETWEEN.join(parts)

    return _in_hour


def versioned(prompt: str, version: str) -> str:
    """Return a prompt with its version as people write it: "faq@v7"; "faq" where no version is given."""
    return f"{prompt}@{version}" if version else prompt


def _check(group_by: str, measure: str, only: Mapping[str, str] | None) -> None:
    if measure not in MEASURES:
        raise UnknownGrouping(f"No measure {measure!r}; take one of {', '.join(MEASURES)}.")
    for field in group_by.split(","):
        if field not in GROUPINGS:
            raise UnknownGrouping(f"No grouping {field!r}; take some of {', '.join(GROUPINGS)}.")
    for field in only or {}:
        if field not in FIELDS:
            raise UnknownGrouping(f"Latencies are not counted by {field!r}; take one of {', '.join(FIELDS)}.")


def _measured(measure: str) -> Any:
    if measure == "total":
        return _call.c.latency_ms
    if measure == "first_token":
        return _call.c.first_token_ms
    # as ingest.latency.per_output_token_ms, which counts the buckets
    return (_call.c.latency_ms - _call.c.first_token_ms) / func.nullif(
        # one token has no time between two; 0 would divide
        func.coalesce(_call.c.output_tokens, 1) - 1,
        0,
    )


def _tail(group: str, cells: Mapping[tuple[str, int], list[float]], curves: bool) -> Tail:
    n = dict.fromkeys(("answered", "failed", "aborted"), 0)
    for (outcome, _bucket), (count, _weight) in cells.items():
        n[outcome] += int(count)
    answered = {key: cell for key, cell in cells.items() if key[0] == "answered"}
    weight = sum(cell[1] for cell in cells.values())
    steps = distribution(cells, weight)
    return Tail(
        group=group,
        n=sum(n.values()),
        n_answered=n["answered"],
        n_failed=n["failed"],
        n_aborted=n["aborted"],
        weight=weight,
        quantiles=tuple(quantile_of(cells, q, steps) for q in QUANTILES),
        answered_p99=quantile_of(answered, 0.99),
        curve=curve_of(cells) if curves else (),
    )
