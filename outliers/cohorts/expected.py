"""What the weeks before let expect of each call of this week: how bad, and how slow.

Flow: outliers.frame (this week, the 28 days before) -> `expected_rates`, `slowness` ->
outliers.cohorts.discovery. What a prompt, a model, a tenant or an hour of the day has always done is expected
of it, and so is no incident.

Rates are a product of factors, one for each value of each field (a log-linear model of main effects, fitted
by iterative proportional scaling: Deming and Stephan 1940), each drawn towards 1 as if it had been seen in
`PRIOR` expected bad calls more. Latencies are a service's own line over input and output tokens (fitted with
relative errors), times a factor for each value of the other fields. What a cache saves and what retries cost
is not expected: a cache gone cold is an incident.
"""

from collections.abc import Sequence

import numpy as np

from outliers.cohorts.axes import Axis, coarse
from outliers.frame import Codes, Floats, Ints, Mask, WeekCalls

HOUR_MS = 3_600_000
#: Expected bad calls that each factor is drawn towards 1 by, and sweeps over all fields.
PRIOR = 8.0
SWEEPS = 4
RATE_MIN, RATE_MAX = 1e-3, 0.97
#: Calls that a factor on latency is drawn towards 1 by.
PRIOR_CALLS = 20.0
#: Answered calls from which a service's own line is fitted, and how far one call can pull at it.
CALLS_OF_SERVICE = 50
PULL_MAX = 3.0
#: A call is slow for what it is when it took at least this much longer than expected ...
SLOW_FROM = 1.5
#: ... and longer than this share of its service's calls did, against what was expected of them.
SLOW_SHARE = 0.9


def expected_rates(
    axes: Sequence[Axis], calls: WeekCalls, before: WeekCalls, y_before: Floats, among: Mask
) -> tuple[Floats, Floats]:
    """Return the rate expected of each call this week, shape (n,), and of each before, shape (m,).

    Args:
        y_before: how bad each call before was, 0..1.
        among: which of these are known.
    """
    base = float(y_before[among].mean()) if among.any() else RATE_MIN
    now, then = np.full(len(calls), base), np.full(len(before), base)
    columns: list[tuple[Codes | Ints, Codes | Ints, int, bool]] = [
        (axis.codes, axis.before, axis.size, axis.field == "input_language")
        for axis in (coarse(one) for one in _lasting(axes))
    ]
    columns.append((_hour(calls), _hour(before), 24, False))
    for _sweep in range(SWEEPS):
        for codes, old, size, telling in columns:
            seen = np.bincount(old[among] + 1, weights=y_before[among], minlength=size + 1)
            thought = np.bincount(old[among] + 1, weights=then[among], minlength=size + 1)
            factor = (seen + PRIOR) / (thought + PRIOR)
            if telling:  # a language is unknown where a call failed: its absence is no cause
                factor[0] = 1.0
            now *= factor[codes + 1]
            then *= factor[old + 1]
    return np.clip(now, RATE_MIN, RATE_MAX), np.clip(then, RATE_MIN, RATE_MAX)


def slowness(
    axes: Sequence[Axis], calls: WeekCalls, before: WeekCalls | None, *, for_its_answer: bool
) -> tuple[Floats, Floats]:
    """Return log(latency / expected latency) of each answered call, this week and before; NaN where unknown.

    Without calls before, this week's own are what is expected.

    Args:
        for_its_answer: whether a long answer may take longer; else answers that grew long are slow too.
    """
    lengths = ("input_tokens", "output_tokens") if for_its_answer else ("input_tokens",)
    services = _services(axes)
    if services is None:
        services = (np.zeros(len(calls), np.int64), np.zeros(0 if before is None else len(before), np.int64))
    now, then = services
    own = before is None
    lines: dict[int, tuple[Floats, Floats]] = {}
    for service in np.unique(now).tolist():
        frame, at = (calls, now == service) if own or before is None else (before, then == service)
        fit = _line(frame, at, lengths)
        if fit is None and not own:
            fit = _line(calls, now == service, lengths)  # a new service is measured against itself
        if fit is not None:
            lines[service] = fit
    ratio = _against(calls, now, lines, lengths)
    ratio_before = np.empty(0) if before is None else _against(before, then, lines, lengths)
    fitted = ratio if own else ratio_before
    clipped = np.clip(fitted, -1.5, 1.5)
    known = np.isfinite(clipped)
    columns = [
        (axis.codes, axis.codes if own else axis.before, axis.size)
        for axis in (coarse(one) for one in _lasting(axes))
    ]
    hours = now * 24 + _hour(calls)
    columns.append(
        (
            hours,
            hours if before is None else then * 24 + _hour(before),
            24 * (int(max(now.max(initial=0), then.max(initial=0))) + 1),
        )
    )
    shift, shift_fitted = np.zeros(len(calls)), np.zeros(len(fitted))
    for _sweep in range(SWEEPS):
        for codes, old, size in columns:
            codes_known = old[known] + 1
            n = np.bincount(codes_known, minlength=size + 1)
            left = np.bincount(codes_known, weights=(clipped - shift_fitted)[known], minlength=size + 1)
            step = left / (n + PRIOR_CALLS)
            shift += step[codes + 1]
            shift_fitted += step[old + 1]
    return ratio - shift, (np.empty(0) if before is None else ratio_before - shift_fitted)


def slow_calls(axes: Sequence[Axis], late: Floats, late_before: Floats) -> tuple[Floats, Floats]:
    """Return whether each call is slow for what it is (0 or 1), this week and before; see SLOW_FROM."""
    services = _services(axes)
    if services is None:
        services = (np.zeros(len(late), np.int64), np.zeros(len(late_before), np.int64))
    now, then = services
    own = not len(late_before)
    at_least = np.full(int(max(now.max(initial=0), then.max(initial=0))) + 1, np.log(SLOW_FROM))
    for service in np.unique(now).tolist():
        fitted = late[now == service] if own else late_before[then == service]
        fitted = fitted[np.isfinite(fitted)]
        if len(fitted) >= CALLS_OF_SERVICE:
            at_least[service] = max(at_least[service], float(np.quantile(fitted, SLOW_SHARE)))
    return (late > at_least[now]).astype(np.float64), (
        np.empty(0) if own else (late_before > at_least[then]).astype(np.float64)
    )


def _lasting(axes: Sequence[Axis]) -> list[Axis]:
    """Return the fields that lasting differences hang on, the wider one of two first.

    A prompt stands before its version: what every version did is then expected of a new one too.
    """
    wider = ("prompt", "provider", "model")
    first = [axis for name in wider for axis in axes if axis.field == name]
    return first + [axis for axis in axes if axis.field not in (*wider, "release", "retries")]


def _hour(calls: WeekCalls) -> Ints:
    return (calls.started_at_ms // HOUR_MS) % 24


def _services(axes: Sequence[Axis]) -> tuple[Ints, Ints] | None:
    """Return each call's model at its provider, as a number."""
    found = {axis.field: axis for axis in axes if axis.field in ("provider", "model")}
    if len(found) < 2:
        return None
    provider, model = found["provider"], found["model"]
    size = model.size + 1
    return (
        (provider.codes + 1) * size + model.codes + 1,
        (provider.before + 1) * size + model.before + 1,
    )


def _tokens(calls: WeekCalls, lengths: Sequence[str], at: Mask | None = None) -> Floats:
    """Return a column of ones and one for each length; what is unknown takes the median."""
    columns = [np.ones(len(calls))]
    for name in lengths:
        values = calls.numbers[name]
        known = values[np.isfinite(values)]
        columns.append(np.where(np.isfinite(values), values, np.median(known) if len(known) else 0.0))
    table = np.column_stack(columns)
    return table if at is None else table[at]


def _line(calls: WeekCalls, at: Mask, lengths: Sequence[str]) -> tuple[Floats, Floats] | None:
    """Fit latency = a + b * input + c * output with relative errors; (coefficients, [median]) or None."""
    at = at & calls.answered & (np.nan_to_num(calls.latency_ms) > 0)
    if at.sum() < CALLS_OF_SERVICE:
        return None
    took, table = calls.latency_ms[at], _tokens(calls, lengths, at)
    median = float(np.median(took))
    guess = np.full(len(took), median)
    line = np.array([median, *(0.0 for _ in lengths)])
    for _turn in range(6):
        weight = 1 / guess * np.sqrt(np.minimum(1.0, PULL_MAX * guess / took))
        line = np.linalg.lstsq(table * weight[:, None], took * weight, rcond=None)[0]
        for place in range(len(line)):  # no call takes less time for being longer
            if line[place] < 0:
                others = [i for i in range(len(line)) if i != place]
                line[place] = 0.0
                line[others] = np.maximum(
                    0.0,
                    np.linalg.lstsq(table[:, others] * weight[:, None], took * weight, rcond=None)[0],
                )
        guess = np.maximum(table @ line, 0.1 * median)
    return line, np.array([median])


def _against(
    calls: WeekCalls, services: Ints, lines: dict[int, tuple[Floats, Floats]], lengths: Sequence[str]
) -> Floats:
    ratio = np.full(len(calls), np.nan)
    table = _tokens(calls, lengths)
    usable = calls.answered & (np.nan_to_num(calls.latency_ms) > 0)
    for service, (line, median) in lines.items():
        at = usable & (services == service)
        ratio[at] = np.log(calls.latency_ms[at] / np.maximum(table[at] @ line, 0.1 * median[0]))
    return ratio
