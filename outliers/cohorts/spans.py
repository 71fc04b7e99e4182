"""Spans of hours within a week: which are tried, and how many calls each holds.

Flow: outliers.cohorts.candidates -> `hours_of`, `windows`, `table_of_spans`. Spans of a few lengths at every
hour, and those that reach to the end of the week or from its beginning: an incident may go on, or have been
fixed.
"""

from collections.abc import Sequence

import numpy as np

from outliers.frame import Floats, Ints
from outliers.weeks import Week

HOUR_MS = 3_600_000
#: Lengths of an incident in time, hours.
LENGTHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 30, 36, 48, 60, 72)


def hours_of(started_at_ms: Ints, week: Week) -> tuple[Ints, int]:
    """Return the hour of the week of each instant, and how many hours the week has."""
    return (started_at_ms - week.since_ms) // HOUR_MS, -(-(week.until_ms - week.since_ms) // HOUR_MS)


def windows(hours: int) -> tuple[Ints, Ints]:
    """Return the first and the one past the last hour of each span that is tried."""
    found = {(start, start + length) for length in LENGTHS for start in range(0, max(0, hours - length + 1))}
    found |= {(start, hours) for start in range(1, hours)} | {(0, end) for end in range(1, hours)}
    ordered = np.array(sorted(found), dtype=np.int64).reshape(-1, 2)
    return ordered[:, 0], ordered[:, 1]


def table_of_spans(
    codes: Ints,
    hour: Ints,
    hours: int,
    size: int,
    values: Sequence[int],
    weights: Floats | None,
    start: Ints,
    end: Ints,
) -> Floats:
    """Return the sum of weights (calls where None) of each value in each span, shape (values, spans)."""
    table = np.bincount((codes + 1) * hours + hour, weights=weights, minlength=(size + 1) * hours)
    chosen = table.reshape(size + 1, hours)[1:][list(values)]
    summed = np.concatenate([np.zeros((len(values), 1)), np.cumsum(chosen, axis=1)], axis=1)
    return np.asarray(summed[:, end] - summed[:, start], dtype=np.float64)
