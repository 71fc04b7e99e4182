"""What level people would give where a critic says a score: learnt from their labels, kept beside the score.

Flow: critic.trust.agreement.labelled -> `calibrate` -> the rubric's page (what each level means, and whether
that is nearer to people) and the score's page. The seven probabilities, the score and every average stay as
the critic gave them: a map that is learnt anew with each label would move old scores under people's eyes.

With few labels the map is a line that starts as "as the critic says" and leaves that only as far as the
labels carry it (ridge towards the identity); from `ISOTONIC_FROM` outputs on it is any rising curve (isotonic
regression by pooling adjacent violators: Ayer et al. 1955, Barlow et al. 1972). How much nearer it is to
people is measured on labels that it was not fitted on, whole groups at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from critic.levels import LEVELS
from critic.trust.agreement import Bootstrap, Compared, Estimate

Floats = NDArray[np.float64]

#: Labelled outputs below which nothing is claimed, and from which the curve may bend.
OUTPUTS_MIN, ISOTONIC_FROM = 10, 50
#: The identity weighs as much as so many labels: at 30 labels a line goes three quarters of its way.
PRIOR_OUTPUTS = 10.0
FOLDS = 5

Kind = Literal["line", "curve"]


@dataclass(frozen=True)
class Calibration:
    """A map from a critic's scores to people's levels, both 1..7, rising or level everywhere.

    Attributes:
        kind: "line" below `ISOTONIC_FROM` outputs, "curve" from there on.
        n: labelled outputs it is fitted on.
        knots: (score, level) by score; between them it is straight, beyond them level.
        raw_mae, mae: distance of the score, and of what the map makes of it, from people's mean level, on
            outputs that the map was not fitted on.
        gain: `raw_mae` less `mae`; above 0 the map is nearer to people than the critic's own words.
    """

    kind: Kind
    n: int
    knots: tuple[tuple[float, float], ...]
    raw_mae: Estimate
    mae: Estimate
    gain: Estimate

    @property
    def helps(self) -> bool:
        """Whether it was nearer to people on outputs it had not seen; elsewhere it is not to be used."""
        return self.gain.value is not None and self.gain.value > 0

    def level(self, score: float) -> float:
        """Return the level that people would give, 1..7."""
        scores, levels = zip(*self.knots, strict=True)
        return float(np.interp(score, scores, levels))


def calibrate(compared: Compared, *, draws: int = 0, seed: int = 0) -> Calibration | None:
    """Fit a map to labels; None where fewer than `OUTPUTS_MIN` outputs, or only one group, are labelled.

    Args:
        draws: bootstrap draws of the intervals; 0 for none.
    """
    said = np.asarray(compared.said, dtype=np.float64)
    people = np.array([float(np.mean(levels)) for levels in compared.people])
    names, codes = np.unique(np.asarray(compared.groups, dtype=str), return_inverse=True)
    if len(said) < OUTPUTS_MIN or len(names) < 2:
        return None
    kind: Kind = "curve" if len(said) >= ISOTONIC_FROM else "line"
    unseen = _unseen(kind, said, people, names, codes)
    raw, mapped = np.abs(said - people), np.abs(unseen - people)
    by_group = Bootstrap(codes, len(names), draws, seed)
    return Calibration(
        kind=kind,
        n=len(said),
        knots=_fit(kind, said, people),
        raw_mae=by_group.of(lambda one, _other: float(np.mean(one)), raw, mapped),
        mae=by_group.of(lambda _one, other: float(np.mean(other)), raw, mapped),
        gain=by_group.of(lambda one, other: float(np.mean(one - other)), raw, mapped),
    )


def _unseen(
    kind: Kind, said: Floats, people: Floats, names: NDArray[np.str_], codes: NDArray[np.int_]
) -> Floats:
    """Return what each output is mapped to by a map of the other folds. A group is in one fold."""
    # By name, so that a new label moves no other group to another fold.
    order = sorted(range(len(names)), key=lambda code: blake2b(str(names[code]).encode()).digest())
    fold_of = np.empty(len(names), dtype=int)
    fold_of[order] = np.arange(len(names)) % FOLDS
    folds = fold_of[codes]
    mapped = said.copy()
    for fold in np.unique(folds):
        held = folds == fold
        scores, levels = zip(*_fit(kind, said[~held], people[~held]), strict=True)
        mapped[held] = np.interp(said[held], scores, levels)
    return mapped


def _fit(kind: Kind, said: Floats, people: Floats) -> tuple[tuple[float, float], ...]:
    return _curve(said, people) if kind == "curve" else _line(said, people)


def _line(said: Floats, people: Floats) -> tuple[tuple[float, float], ...]:
    """Return the line nearest to the labels and, by `PRIOR_OUTPUTS`, to the identity; cut at 1 and 7.

    The correction a + b * (score - mean score) is ridge regression of people's level less the score, a and b
    both drawn to 0. A line that would fall is level instead: then the critic's order says nothing.
    """
    center = float(np.mean(said))
    away = people - said
    shift = float(np.sum(away)) / (len(said) + PRIOR_OUTPUTS)
    spread = said - center
    tilt = float(np.sum(spread * (away - shift))) / (float(np.sum(spread**2)) + PRIOR_OUTPUTS)
    slope = max(0.0, 1.0 + tilt)
    at = {score: center + shift + slope * (score - center) for score in (1.0, float(LEVELS))}
    # Where the line leaves 1..7 a knot stands, so that what is straight between knots is the cut line.
    for edge in (1.0, float(LEVELS)):
        if slope and 1.0 < (score := center + (edge - center - shift) / slope) < LEVELS:
            at[score] = edge
    return tuple((score, min(float(LEVELS), max(1.0, level))) for score, level in sorted(at.items()))


def _curve(said: Floats, people: Floats) -> tuple[tuple[float, float], ...]:
    """Return isotonic regression: equal scores pooled, then neighbours as long as a later level is lower."""
    scores, places, counts = np.unique(said, return_inverse=True, return_counts=True)
    sums = np.bincount(places, weights=people)
    blocks: list[list[float]] = []  # [sum of levels, outputs, first score, last score]
    for score, total, n in zip(scores, sums, counts, strict=True):
        blocks.append([float(total), float(n), float(score), float(score)])
        while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] >= blocks[-1][0] * blocks[-2][1]:
            total_, n_, _first, last = blocks.pop()
            blocks[-1] = [blocks[-1][0] + total_, blocks[-1][1] + n_, blocks[-1][2], last]
    knots: list[tuple[float, float]] = []
    for total, n, first, last in blocks:
        knots += [(score, total / n) for score in dict.fromkeys((first, last))]
    return tuple(knots)


def told(calibration: Calibration, critic: str) -> str:
    """Return in one sentence whether people would give other levels, and how sure that is."""
    raw, mapped = calibration.raw_mae.value or 0.0, calibration.mae.value or 0.0
    off = f"off by {mapped:.2f} levels instead of {raw:.2f} on outputs that were left out of the fit"
    if not calibration.helps:
        return f"{calibration.n} labelled outputs bring {critic} no nearer to people: {off}."
    return f"{calibration.n} labelled outputs say what people would give for {critic}'s levels: {off}."


def at_levels(calibration: Calibration) -> Sequence[float]:
    """Return what people would give where the critic says 1, 2, .. 7."""
    return [calibration.level(float(level)) for level in range(1, LEVELS + 1)]
