"""Grounding: how closely an output keeps to its source, as a quantile of a team's own traffic.

Four signals, each turned into its quantile among ordinary calls, then averaged: the best-sentence
cosine, the cosine with the source's start, how much of that start the output takes up, and the share
of its word triples that stand in the source. Label-free; it ranks, it does not say what is true.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critic.local.overlaps import SourceOverlap

#: The signals, in the order of a table's rows.
SIGNALS = ("best_cosine", "lead_cosine", "lead_recall", "trigrams")
#: Points of a quantile table.
POINTS = 33

Floats = NDArray[np.float64]


def signals_of(overlaps: Sequence[SourceOverlap]) -> Floats:
    """Return the four signals, shape (n, 4)."""
    return np.array([[getattr(one, name) for name in SIGNALS] for one in overlaps], dtype=np.float64)


@dataclass(frozen=True)
class GroundingTable:
    """Quantiles of the four signals, and of their mean quantile, in some traffic.

    Attributes:
        signals: shape (4, POINTS), ascending along each row.
        score: shape (POINTS,), ascending: the mean of the four quantiles.
        n: outputs with a source that it was made from.
    """

    signals: Floats
    score: Floats
    n: int

    @classmethod
    def of(cls, values: Floats) -> "GroundingTable":
        """Make a table of `signals_of` some ordinary outputs, shape (n, 4), n >= 1."""
        at = np.linspace(0, 1, POINTS)
        table = cls(np.quantile(values, at, axis=0).T, np.zeros(POINTS), len(values))
        return cls(table.signals, np.quantile(table.scores(values), at), len(values))

    def scores(self, values: Floats) -> Floats:
        """Return the mean of the four signals' quantiles, shape (n,), 0..1."""
        found = [_quantile(row, values[:, at]) for at, row in enumerate(self.signals)]
        mean: Floats = np.mean(found, axis=0)
        return mean

    def quantiles(self, values: Floats) -> Floats:
        """Return the quantile of each output's score in the table's traffic, shape (n,), 0..1."""
        return _quantile(self.score, self.scores(values))

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers."""
        return {
            "n": self.n,
            "signals": {
                name: [round(float(value), 5) for value in row]
                for name, row in zip(SIGNALS, self.signals, strict=True)
            },
            "score": [round(float(value), 5) for value in self.score],
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "GroundingTable":
        """Read `to_json`'s numbers."""
        return cls(
            np.array([stored["signals"][name] for name in SIGNALS], dtype=np.float64),
            np.array(stored["score"], dtype=np.float64),
            int(stored["n"]),
        )


def _quantile(points: Floats, values: Floats) -> Floats:
    """Return where `values` fall among ascending `points`, 0..1; the middle of a run of equal points.

    Half of a table may be one value (1.0 where outputs copy their source), so both ends of the run count.
    """
    grid = np.linspace(0, 1, len(points))
    steps = np.arange(len(points)) * 1e-9
    low = np.interp(values, points + steps, grid)
    high = 1.0 - np.interp(-values, -points[::-1] + steps, grid)
    middle: Floats = (low + high) / 2
    return middle
