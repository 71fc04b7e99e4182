"""A label head: what level a person would give, learnt from a team's own labels.

A cumulative-logit model (proportional odds, McCullagh 1980) over the guard's features and, where there are
any, a big critic's scores of the call, under this rubric and the others: P(level <= k) =
logistic(cut_k - x . w), one weight a feature, strong L2. At every number of labels tried it did at least as
well as ridge, trees and boosting, and it is JSON.
Flow: labels + Features -> fit_label_head -> LabelHead.probabilities. Only fitting needs scipy.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Below this many labels a head is not shown: its level would be noise.
LABELS_MIN = 50
#: The seven levels of every rubric.
LEVELS = 7

#: L2 strength per weight, in units of labels: the features are many and near copies of each other.
_RIDGE = 30.0
#: The critic's score under the same rubric says more than all features, and its scores under the other
#: rubrics more than any one of them: both are held back less.
_RIDGE_CRITIC = 1.0
_RIDGE_CRITIC_ELSEWHERE = 10.0
_CLIP = 4.0

Floats = NDArray[np.float64]


class TooFewLabels(Exception):
    """A head was asked of fewer labels than make one; collect more.

    Attributes:
        labels: how many there are.
    """

    def __init__(self, labels: int) -> None:
        super().__init__(f"{labels} labels; a head needs {LABELS_MIN}")
        self.labels = labels


@dataclass(frozen=True)
class LabelHead:
    """A fitted head.

    Attributes:
        mean, scale, weights: shape (k,), by column; the last `critic` columns are the critic's scores.
        cuts: shape (LEVELS - 1,), ascending.
        critic: how many of a big critic's scores it wants; 0 for features alone.
        n: labels it was fitted on.
    """

    mean: Floats
    scale: Floats
    weights: Floats
    cuts: Floats
    critic: int
    n: int

    def latent(self, values: Floats, critic: Floats | None = None) -> Floats:
        """Return x . w, shape (n,): what outputs are ranked by."""
        columns = _columns(values, critic if self.critic else None)
        if columns.shape[1] != len(self.mean):
            raise ValueError(f"{columns.shape[1]} columns for a head of {len(self.mean)}")
        found: Floats = np.clip((columns - self.mean) / self.scale, -_CLIP, _CLIP) @ self.weights
        return found

    def probabilities(self, values: Floats, critic: Floats | None = None) -> Floats:
        """Return the probabilities of the levels 1..7, shape (n, 7); rows sum to 1.

        Args:
            values: features, shape (n, k).
            critic: a big critic's scores, shape (n, `critic`), where the head was fitted with them.
        """
        upto = _logistic(self.cuts - self.latent(values, critic)[:, None])
        edges = np.hstack([np.zeros((len(upto), 1)), upto, np.ones((len(upto), 1))])
        return np.diff(edges, axis=1)

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers, six significant digits."""
        rounded = {
            name: [float(f"{value:.6g}") for value in getattr(self, name)]
            for name in ("mean", "scale", "weights", "cuts")
        }
        return {**rounded, "critic": self.critic, "n": self.n}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "LabelHead":
        """Read `to_json`'s numbers."""
        mean, scale, weights, cuts = (
            np.array(stored[name], dtype=np.float64) for name in ("mean", "scale", "weights", "cuts")
        )
        return cls(mean, scale, weights, cuts, int(stored["critic"]), int(stored["n"]))


def fit_label_head(values: Floats, levels: Floats, critic: Floats | None = None) -> LabelHead:
    """Fit a head on labels.

    Args:
        values: features of the labelled calls, shape (n, k).
        levels: shape (n,), 1..7; a fractional level (the mean of several people) counts for its two
            neighbours in proportion.
        critic: a big critic's scores of the same calls, shape (n, c): the first column under the same rubric,
            the others under other rubrics, which see some of the same faults; None for features alone.

    Raises:
        TooFewLabels: fewer than `LABELS_MIN`.
    """
    from scipy.optimize import minimize

    n = len(levels)
    if n < LABELS_MIN:
        raise TooFewLabels(n)
    columns = _columns(values, critic)
    mean, scale = columns.mean(axis=0), columns.std(axis=0)
    scale = np.where(scale > 1e-6, scale, 1.0)
    standard = np.clip((columns - mean) / scale, -_CLIP, _CLIP)
    ridge = np.full(columns.shape[1], _RIDGE)
    scores = 0 if critic is None else critic.shape[1]
    if scores:
        ridge[-scores:] = [_RIDGE_CRITIC, *[_RIDGE_CRITIC_ELSEWHERE] * (scores - 1)]
    # One label's worth is spread over all levels, so that one nobody has given yet stays possible.
    target = _parted(levels) * n / (n + 1) + 1.0 / (LEVELS * (n + 1))
    k = columns.shape[1]

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights, cuts = flat[:k], _cuts(flat[k:])
        upto = _logistic(cuts - (standard @ weights)[:, None])
        edges = np.hstack([np.zeros((n, 1)), upto, np.ones((n, 1))])
        share = np.maximum(np.diff(edges, axis=1), 1e-12)
        value = -float((target * np.log(share)).sum()) + 0.5 * float((ridge * weights**2).sum())
        # d loss / d upto_j, then through the logistic's slope upto (1 - upto).
        pull = target / share
        by_cut = -(pull[:, :-1] - pull[:, 1:]) * upto * (1.0 - upto)
        slope = np.concatenate(
            [-standard.T @ by_cut.sum(axis=1) + ridge * weights, _cuts_slope(flat[k:], by_cut.sum(axis=0))]
        )
        return value, slope

    found = minimize(
        loss, np.concatenate([np.zeros(k), _first_cuts(target)]), jac=True, method="L-BFGS-B",
        options={"maxiter": 500},
    )  # fmt: skip
    return LabelHead(mean, scale, found.x[:k], _cuts(found.x[k:]), scores, n)


def _columns(values: Floats, critic: Floats | None) -> Floats:
    return values if critic is None else np.hstack([values, critic])


def _logistic(values: Floats) -> Floats:
    found: Floats = 1.0 / (1.0 + np.exp(-np.clip(values, -40, 40)))
    return found


def _parted(levels: Floats) -> Floats:
    """Return shape (n, 7): each level's mass, a fractional one split between its neighbours."""
    position = np.clip(levels, 1, LEVELS) - 1
    low = np.minimum(np.floor(position).astype(int), LEVELS - 2)
    target = np.zeros((len(levels), LEVELS))
    rows = np.arange(len(levels))
    target[rows, low] = 1.0 - (position - low)
    target[rows, low + 1] = position - low
    return target


def _cuts(free: Floats) -> Floats:
    """Return ascending cuts from free numbers: the first as it is, the rest as logs of the steps."""
    return np.cumsum(np.concatenate([free[:1], np.exp(np.clip(free[1:], -8, 5)) + 1e-3]))


def _cuts_slope(free: Floats, by_cut: Floats) -> Floats:
    """Carry a slope by cut back to the free numbers of `_cuts`."""
    later = np.cumsum(by_cut[::-1])[::-1]
    inside = (free[1:] > -8) & (free[1:] < 5)
    return np.concatenate([later[:1], later[1:] * np.exp(np.clip(free[1:], -8, 5)) * inside])


def _first_cuts(target: Floats) -> Floats:
    """Start at the levels' own shares, half a label added to each so that none is empty."""
    shares = target.sum(axis=0) + 0.5
    upto = np.cumsum(shares / shares.sum())[:-1]
    cuts = np.log(upto / (1.0 - upto))
    return np.concatenate([cuts[:1], np.log(np.maximum(np.diff(cuts), 1e-3))])
