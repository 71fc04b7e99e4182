"""From drawn levels to seven probabilities, for critics that give one level at a time.

Flow: levels drawn by a driver, or recorded by somebody else -> `of_draws` -> `critic.queue.finish`.
"""

import math
from collections.abc import Sequence

LEVELS = 7


def of_draws(levels: Sequence[float]) -> tuple[float, ...]:
    """Return the probabilities of the levels 1..7 that these draws make, each draw weighing the same.

    A fractional level is split between its two neighbours so that the mean holds: 4.25 is three quarters
    of a 4 and a quarter of a 5.

    Raises:
        ValueError: no draw, or one that is no number in 1..7.
    """
    if not levels:
        raise ValueError("no level was drawn")
    probabilities = [0.0] * LEVELS
    for level in levels:
        if not 1 <= level <= LEVELS:
            raise ValueError(f"{level!r} is no level of 1 to {LEVELS}")
        low = math.floor(level)
        above = level - low
        probabilities[low - 1] += (1 - above) / len(levels)
        if above:
            probabilities[low] += above / len(levels)
    return tuple(probabilities)


def stretched(value: float, low: float, high: float) -> float:
    """Return a rating of another scale on 1..7: its ends go to the ends, the rest in proportion."""
    return 1 + (value - low) * (LEVELS - 1) / (high - low)
