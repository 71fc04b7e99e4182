"""The guard: how likely an output failed in a way that can be seen, and in which.

Fitted on planted failures (`critic.local.plants`), so it needs no label: a multinomial logistic head
over standardised features, one for calls with a source and one for those without, as JSON numbers.
Flow: Features -> GuardModel.read -> critic.local.critic. Only `fit_head` needs scipy; reading is numpy.

Plants and ordinary outputs weigh the same in the fit, so its raw probability is no production probability:
`read` shifts the odds to the expected share of failures. A fit on a team's own traffic is drawn towards
the head it starts from (a Gaussian prior on the coefficients), so 50 outputs already help and 1,000 decide.
Own traffic holds the failures that a team really has. What the start is sure of is left out of the fit:
taken as ordinary, it would teach the guard to overlook just those.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critic.local.features import FEATURES, SOURCE_FEATURES, Features
from critic.local.plants import KINDS, plant
from critic.local.texts import Texts

#: Kinds the head learns; an empty output is known without one.
LEARNT = tuple(kind for kind in KINDS if kind != "empty")
#: What an output without a visible character is held to be, before the base rate: certain, nearly.
EMPTY_ODDS = 1e6

#: Strength of the prior, in units of rows: how many rows' evidence it weighs.
PRIOR = 3.0
#: Features that next to no ordinary output shows: their weight is held back this much less, so that one of
#: them alone can outweigh a low base rate.
_TELLING = {"language_differs": 0.05}
#: An own output that the start holds for failed with this probability, at a base rate of `_SUSPECT_RATE`, is
#: left out of a fit ...
_SUSPECT = 0.5
_SUSPECT_RATE = 0.02
#: ... unless this share and more of all outputs look failed in the same way: so this team answers.
_USUAL = 0.3
#: Standardised features are clipped here: one absurd text must not decide by one feature.
_CLIP = 4.0
#: Least ordinary outputs (of those with a source, or without) for a head of their own.
OWN_MIN = 50
#: Outputs a head is fitted on at most, the last ones given.
FIT_MAX = 1_500
#: How often the outputs are planted in: three different plants of each teach more than one (at 200 outputs
#: of open chat .5 points of AUROC, at 1,000 two points of what is caught), and plants at most, for time.
ROUNDS = 3
PLANTS_MAX = 2_000

Floats = NDArray[np.float64]


class BadFit(Exception):
    """A stored fit that this version cannot read, being another one's: fit again, or take the shipped one."""


@dataclass(frozen=True)
class Head:
    """A multinomial logistic head: ordinary (class 0) and the learnt kinds.

    Attributes:
        mean, scale: shape (k,), the ordinary outputs' centre and spread of each used feature.
        weights: shape (k, 1 + len(LEARNT)), over standardised features.
        intercepts: shape (1 + len(LEARNT),).
        n: ordinary outputs it was fitted on.
    """

    mean: Floats
    scale: Floats
    weights: Floats
    intercepts: Floats
    n: int

    def standardised(self, values: Floats) -> Floats:
        """Return `values`, shape (n, k), centred, scaled and clipped."""
        return np.clip((values - self.mean) / self.scale, -_CLIP, _CLIP)

    def probabilities(self, values: Floats) -> Floats:
        """Return shape (n, 1 + len(LEARNT)): ordinary first; rows sum to 1, at even prior odds."""
        logits = self.standardised(values) @ self.weights + self.intercepts
        logits -= logits.max(axis=1, keepdims=True)
        raised = np.exp(logits)
        shares: Floats = raised / raised.sum(axis=1, keepdims=True)
        return shares

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers, six significant digits."""
        return {
            "n": self.n,
            "mean": _rounded(self.mean),
            "scale": _rounded(self.scale),
            "weights": [_rounded(row) for row in self.weights],
            "intercepts": _rounded(self.intercepts),
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any], k: int) -> "Head":
        """Read `to_json`'s numbers.

        Raises:
            BadFit: they are not for `k` features and the kinds of today.
        """
        try:
            head = cls(
                np.array(stored["mean"], dtype=np.float64),
                np.array(stored["scale"], dtype=np.float64),
                np.array(stored["weights"], dtype=np.float64),
                np.array(stored["intercepts"], dtype=np.float64),
                int(stored["n"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BadFit(f"the stored guard cannot be read ({error}); fit it again") from None
        if head.mean.shape != (k,) or head.weights.shape != (k, 1 + len(LEARNT)):
            raise BadFit("the stored guard was fitted on other features or kinds; fit it again")
        return head


def _rounded(values: Floats) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def columns_for(with_source: bool) -> NDArray[np.intp]:
    """Return the columns of `FEATURES` that a head reads; without a source its features say nothing."""
    return np.flatnonzero([with_source or name not in SOURCE_FEATURES for name in FEATURES])


class GuardModel:
    """Both heads, `with_source` and `without_source`."""

    def __init__(self, with_source: Head, without_source: Head) -> None:
        self.heads = {True: with_source, False: without_source}

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {
            "features": list(FEATURES),
            "kinds": list(LEARNT),
            "with_source": self.heads[True].to_json(),
            "without_source": self.heads[False].to_json(),
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "GuardModel":
        """Read a stored guard.

        Raises:
            BadFit: it was fitted on other features or kinds than this version's.
        """
        if stored.get("features") != list(FEATURES) or stored.get("kinds") != list(LEARNT):
            raise BadFit("the stored guard was fitted by another version of the features; fit it again")
        return cls(
            Head.from_json(stored["with_source"], len(columns_for(True))),
            Head.from_json(stored["without_source"], len(columns_for(False))),
        )

    def kinds(self, features: Features, empty: NDArray[np.bool_], base_rate: float) -> Floats:
        """Return the probability of each kind of `KINDS`, shape (n, len(KINDS)), at `base_rate`.

        Args:
            features: of n calls.
            empty: shape (n,), whether the output shows no character at all.
            base_rate: expected share of outputs with a visible failure.
        """
        raw = np.zeros((len(empty), len(LEARNT)))
        for with_source, head in self.heads.items():
            rows = np.flatnonzero(features.has_source == with_source)
            if len(rows):
                raw[rows] = head.probabilities(features.values[np.ix_(rows, columns_for(with_source))])[:, 1:]
        shifted = _shifted(raw, base_rate)
        full = np.zeros((len(empty), len(KINDS)))
        full[:, [KINDS.index(kind) for kind in LEARNT]] = shifted
        sure = EMPTY_ODDS * base_rate / (1.0 - base_rate)
        full[empty] = 0.0
        full[empty, KINDS.index("empty")] = sure / (1.0 + sure)
        return full

    def why(self, features: Features, row: int, kind: str, most: int = 6) -> dict[str, float]:
        """Return which features spoke for `kind` and against ordinary: shares of all that did, largest first.

        A feature's part is its standardised value times the difference of its two weights; those that
        spoke for ordinary are left out, so the shares say what raised the probability.
        """
        if kind == "empty":
            return {"empty": 1.0}
        with_source = bool(features.has_source[row])
        head, used = self.heads[with_source], columns_for(with_source)
        standard = head.standardised(features.values[row : row + 1, used])[0]
        at = 1 + LEARNT.index(kind)
        parts = standard * (head.weights[:, at] - head.weights[:, 0])
        total = float(parts[parts > 0].sum())
        ranked = sorted(zip(parts, used, strict=True), key=lambda pair: -pair[0])[:most]
        return {
            FEATURES[column]: round(float(part) / total, 4)
            for part, column in ranked
            if total > 0 and part > 0.01 * total
        }


def _shifted(raw: Floats, base_rate: float) -> Floats:
    """Return kinds at `base_rate` from kinds at even odds (Saerens et al. 2002, eq. 4); shape (n, k)."""
    failed = np.clip(raw.sum(axis=1), 1e-12, 1 - 1e-9)
    odds = failed / (1.0 - failed) * base_rate / (1.0 - base_rate)
    shifted: Floats = raw * (odds / (1.0 + odds) / failed)[:, None]
    return shifted


def _trusted(values: Floats, head: Head) -> NDArray[np.bool_]:
    """Return which outputs may stand for ordinary ones: those that `head` does not surely hold for failed.

    Args:
        values: shape (n, k), unstandardised.
    """
    kinds = _shifted(head.probabilities(values)[:, 1:], _SUSPECT_RATE)
    suspect: NDArray[np.bool_] = kinds.sum(axis=1) >= _SUSPECT
    likeliest = kinds.argmax(axis=1)
    for kind in range(len(LEARNT)):
        alike = suspect & (likeliest == kind)
        if alike.mean() >= _USUAL:
            suspect &= ~alike
    return np.logical_not(suspect)


def fit_guard_model(own: Sequence[Texts], start: GuardModel | None, *, seed: int) -> GuardModel:
    """Fit both heads on plants in `own` outputs, drawn towards `start`; those it suspects are left out.

    A head with fewer than `OWN_MIN` outputs of its sort stays as it starts; without a start it needs them.

    Raises:
        ValueError: there is no start and too few outputs with, or without, a source.
    """
    heads: dict[bool, Head] = {}
    usable = [call for call in own if (call.output or "").strip()]
    ordinary = Features(usable)
    for with_source in (True, False):
        rows = np.flatnonzero(ordinary.has_source == with_source)[-FIT_MAX:]
        used = columns_for(with_source)
        before = start.heads[with_source] if start is not None else None
        if before is not None and len(rows):
            rows = rows[_trusted(ordinary.values[np.ix_(rows, used)], before)]
        if len(rows) < OWN_MIN:
            if before is None:
                raise ValueError(f"{len(rows)} outputs {'with' if with_source else 'without'} a source")
            heads[with_source] = before
            continue
        calls = [usable[row] for row in rows]
        rounds = max(1, min(ROUNDS, PLANTS_MAX // len(calls)))
        planted = [
            one
            for turn in range(rounds)
            for one in plant(calls, seed=seed * ROUNDS + turn)
            if one.kind != "empty"
        ]
        # Plants in one output side by side: their source is read once.
        planted.sort(key=lambda one: one.origin)
        broken = Features([one.call for one in planted])
        values = np.vstack([ordinary.values[np.ix_(rows, used)], broken.values[:, used]])
        classes = np.array([0] * len(rows) + [1 + LEARNT.index(one.kind) for one in planted])
        held_back = np.array([_TELLING.get(FEATURES[column], 1.0) for column in used])
        heads[with_source] = fit_head(values, classes, before, PRIOR * held_back)
    return GuardModel(heads[True], heads[False])


def fit_head(values: Floats, classes: NDArray[np.int_], before: Head | None, strength: Floats) -> Head:
    """Fit one multinomial head: mean log loss plus strength / (2 n) * |weights - prior's|^2, by L-BFGS.

    Args:
        values: shape (n, k), unstandardised.
        classes: shape (n,), 0 for ordinary, else 1 + position in LEARNT.
        before: the head whose weights are the prior's mean (carried over to this standardisation);
            None for a prior around zero.
        strength: shape (k,), of the prior on each feature's weights, in rows.
    """
    from scipy.optimize import minimize

    ordinary = values[classes == 0]
    # The spread is taken over everything, so that a feature which never moves in ordinary outputs
    # (rudeness) is not blown up; the centre is the ordinary outputs'.
    mean, scale = ordinary.mean(axis=0), values.std(axis=0)
    prior = np.zeros((values.shape[1], 1 + len(LEARNT)))
    if before is None:
        scale = np.where(scale > 1e-6, scale, 1.0)
    else:
        # Nearly constant features keep the scale that their weight was learnt at.
        scale = np.where(scale > 0.1 * before.scale, scale, before.scale)
        prior = before.weights * (scale / before.scale)[:, None]
    standard = np.clip((values - mean) / scale, -_CLIP, _CLIP)
    n, k, m = len(values), values.shape[1], prior.shape[1]
    pull = strength[:, None] / n
    one_hot = np.eye(m)[classes]
    counts = np.maximum(one_hot.sum(axis=0), 1.0)
    # Ordinary and failed weigh the same in total, and so do the kinds among the failed.
    weight = np.where(classes == 0, 0.5, 0.5 / len(LEARNT))[:, None] / counts[classes][:, None]

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights, intercepts = flat[: k * m].reshape(k, m), flat[k * m :]
        logits = standard @ weights + intercepts
        logits -= logits.max(axis=1, keepdims=True)
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        moved = weights - prior
        value = -float((weight * one_hot * logs).sum()) + float((pull * moved**2).sum()) / 2
        error = weight * (np.exp(logs) - one_hot)
        slope = standard.T @ error + pull * moved
        return value, np.concatenate([slope.ravel(), error.sum(axis=0)])

    first = np.concatenate([prior.ravel(), before.intercepts if before is not None else np.zeros(m)])
    found = minimize(loss, first, jac=True, method="L-BFGS-B", options={"maxiter": 300})
    weights, intercepts = found.x[: k * m].reshape(k, m), found.x[k * m :]
    assert math.isfinite(float(found.fun))
    return Head(mean, scale, weights, intercepts, int((classes == 0).sum()))
