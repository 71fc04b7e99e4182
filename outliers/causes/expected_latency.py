"""What latency was to be expected of a call, from what it was: its service, tokens, cache use and hour.

Flow: outliers.frame.WeekCalls + `read_timings` -> `model_of` -> outliers.causes.tail_causes. Milliseconds.

    expected = (a + b * uncached input tokens + b' * cached ones + c * output tokens) * hour

for each service (a model at a provider), fitted by non-negative least squares on relative errors with Huber
weights on log(latency / expected) (Huber 1964), so that no call takes less time for being longer and the
tail does not fit itself. A service with few calls takes the curve of all calls, scaled to its own median.
`hour` is the median of what is left in that hour of the service, drawn towards 1 by the number of its calls.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy import select

from ingest.store import Store
from ingest.tables import Call, columns
from outliers.frame import PIECE_MS, Floats, Ints, Mask, Names, WeekCalls

_call = columns(Call)

HOUR_MS = 3_600_000
#: Answered calls from which a service has a curve of its own.
CALLS_OF_SERVICE = 60
#: Calls by which an hour, and a small service, is drawn towards what all do.
PRIOR_CALLS = 8.0
TURNS = 12
#: Of Huber's weights, in robust standard deviations.
HUBER = 1.345
#: Characters of a token, where only characters are known (English; it scales the coefficient alone).
CHARS_PER_TOKEN = 4.0


@dataclass(frozen=True)
class Model:
    """What was expected of n calls; arrays of shape (n,), NaN or -1 for calls that are not `known`.

    Attributes:
        known: answered calls with a latency.
        service: place in `services`.
        services: (provider, model).
        usual_ms: the expected latency of the service's ordinary call: median tokens, an ordinary hour.
        by_input_ms, by_output_ms: what its own length adds to that; negative for shorter calls.
        by_hour_ms: what its hour adds.
        expected_ms: the sum of these.
        first_token_ms: measured; NaN where unknown.
        first_expected_ms: the service's median time to the first token, plus what the input adds.
    """

    known: Mask
    service: Ints
    services: tuple[tuple[str, str], ...]
    usual_ms: Floats
    by_input_ms: Floats
    by_output_ms: Floats
    by_hour_ms: Floats
    expected_ms: Floats
    first_token_ms: Floats
    first_expected_ms: Floats


def with_timings(store: Store, project_id: int, calls: WeekCalls) -> WeekCalls:
    """Return the calls with three numbers more: first_token_ms, cached_input_tokens, output_chars."""
    names = ("first_token_ms", "cached_input_tokens", "output_chars")
    found = {name: np.full(len(calls), np.nan) for name in names}
    order = np.argsort(calls.seq, kind="stable")
    ordered = calls.seq[order]
    for since_ms in range(calls.week.since_ms, calls.week.until_ms, PIECE_MS):
        with store.read() as connection:
            rows = connection.execute(
                select(_call.c.seq, *(_call.c[name] for name in names)).where(
                    _call.c.project_id == project_id,
                    _call.c.started_at_ms >= since_ms,
                    _call.c.started_at_ms < min(since_ms + PIECE_MS, calls.week.until_ms),
                )
            ).all()
        seqs = np.array([row[0] for row in rows], dtype=np.int64)
        at = np.searchsorted(ordered, seqs)
        # a call that came since the columns were read is in none of them
        mine = np.isin(seqs, ordered)
        for i, name in enumerate(names, 1):
            values = np.array([row[i] for row in rows], dtype=np.float64)
            found[name][order[at[mine]]] = values[mine]
    return replace(calls, numbers=calls.numbers | found)


def model_of(calls: WeekCalls) -> Model:
    """Fit what the week's own answered calls let expect of each of them; needs `with_timings`."""
    known = calls.answered & (np.nan_to_num(calls.latency_ms) > 0)
    service, services = _services(calls, known)
    table, tokens_of = _table(calls, known)
    n = len(calls)
    curve, ordinary = np.full((n, 3), np.nan), np.full((n, 3), np.nan)
    base, scale = np.full(n, np.nan), np.ones(n)
    took = np.where(known, calls.latency_ms, 1.0)
    medians = {
        place: float(np.median(took[service == place])) for place in np.unique(service[known]).tolist()
    }
    relative = np.array([medians.get(place, 1.0) for place in service.tolist()])
    pooled = _fit(table[known], (took / relative)[known]) if known.any() else np.zeros(4)
    for place, median in medians.items():
        mine = known & (service == place)
        calls_n = int(mine.sum())
        line = _fit(table[mine], took[mine]) if calls_n >= CALLS_OF_SERVICE else pooled * median
        left = np.log(took[mine] / np.maximum(table[mine] @ line, 1e-9))
        line = line * np.exp(np.median(left) * calls_n / (calls_n + PRIOR_CALLS))
        base[mine], curve[mine] = line[0], line[1:]
        ordinary[mine] = np.median(tokens_of[mine], axis=0)
    at_rest = base + (curve * ordinary).sum(axis=1)
    by_length = curve * (tokens_of - ordinary)
    line_ms = np.maximum(at_rest + by_length.sum(axis=1), 1e-6)
    scale = _hour_factors(service, calls.started_at_ms, np.log(np.where(known, took / line_ms, 1.0)), known)
    by_input_ms = by_length[:, 0] + by_length[:, 1]
    first = calls.numbers["first_token_ms"]
    return Model(
        known=known,
        service=service,
        services=services,
        usual_ms=at_rest,
        by_input_ms=by_input_ms,
        by_output_ms=by_length[:, 2],
        by_hour_ms=line_ms * (scale - 1),
        expected_ms=line_ms * scale,
        first_token_ms=first,
        first_expected_ms=_first_expected(service, first, known) + np.maximum(0.0, by_input_ms),
    )


def codes_of(names: Names | None, n: int) -> tuple[Ints, Sequence[str]]:
    """Return a column's codes with unknown ones as the last name, ""."""
    if names is None:
        return np.zeros(n, dtype=np.int64), ("",)
    return np.where(names.codes < 0, len(names.names), names.codes), (*names.names, "")


def _services(calls: WeekCalls, known: Mask) -> tuple[Ints, tuple[tuple[str, str], ...]]:
    provider, providers = codes_of(calls.named.get(("provider", "")), len(calls))
    model, models = codes_of(calls.named.get(("model", "")), len(calls))
    pairs, service = np.unique(provider * len(models) + model, return_inverse=True)
    names = tuple((providers[one // len(models)], models[one % len(models)]) for one in pairs.tolist())
    return np.where(known, service, -1), names


def _table(calls: WeekCalls, known: Mask) -> tuple[Floats, Floats]:
    """Return columns 1, uncached input, cached input and output tokens, and the last three alone."""
    numbers = calls.numbers
    tokens = []
    for name, chars in (("input_tokens", "input_chars"), ("output_tokens", "output_chars")):
        values = numbers[name]
        values = np.where(np.isfinite(values), values, numbers[chars] / CHARS_PER_TOKEN)
        told = values[known & np.isfinite(values)]
        tokens.append(np.where(np.isfinite(values), values, np.median(told) if len(told) else 0.0))
    cached = np.clip(np.nan_to_num(numbers["cached_input_tokens"]), 0, tokens[0])
    lengths = np.column_stack([tokens[0] - cached, cached, tokens[1]])
    return np.column_stack([np.ones(len(calls)), lengths]), lengths


def _fit(table: Floats, took: Floats) -> Floats:
    """Return the four coefficients, none negative."""
    from scipy.optimize import nnls

    widths = np.maximum(np.abs(table).max(axis=0), 1.0)
    guess = np.full(len(took), float(np.median(took)))
    line = np.zeros(table.shape[1])
    for _turn in range(TURNS):
        off = np.log(took / guess)
        spread = max(1.4826 * float(np.median(np.abs(off - np.median(off)))), 1e-3)
        weight = np.sqrt(np.minimum(1.0, HUBER * spread / np.maximum(np.abs(off), 1e-9))) / guess
        line = nnls(table / widths * weight[:, None], took * weight)[0] / widths
        guess = np.maximum(table @ line, 0.05 * float(np.median(took)))
    return line if line.any() else np.array([float(np.median(took)), *np.zeros(table.shape[1] - 1)])


def _hour_factors(service: Ints, started_at_ms: Ints, left: Floats, known: Mask) -> Floats:
    """Return exp(median of what is left in a service's hour), drawn towards 1."""
    factors = np.ones(len(service))
    at = np.nonzero(known)[0]
    cells, place = np.unique(service[at] * (1 << 40) + started_at_ms[at] // HOUR_MS, return_inverse=True)
    order = np.argsort(place, kind="stable")
    edges = np.searchsorted(place[order], np.arange(len(cells) + 1))
    for first, last in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        mine = at[order[first:last]]
        n = last - first
        factors[mine] = np.exp(float(np.median(left[mine])) * n / (n + PRIOR_CALLS)) if n > 2 else 1.0
    return factors


def _first_expected(service: Ints, first: Floats, known: Mask) -> Floats:
    expected = np.full(len(service), np.nan)
    for place in np.unique(service[known]).tolist():
        mine = service == place
        told = first[mine & np.isfinite(first)]
        if len(told):
            expected[mine] = np.median(told)
    return expected
