"""The weights of experience, fitted to what users themselves said: their thumbs.

Flow: `thumbed` reads calls with their parts and thumbs -> `fit` -> `Fit` -> `keep_fit` (a write job) ->
`weights_in_use` -> outliers.experience.refresh ranks with them from then on. Run by `lowlight experience
fit`, in a process of its own: scikit-learn and scipy are imported where they are used.

A thumbs-down is taken for a bad experience. The chance of one is modelled as P(bad) itself,

    P(down) = 1 - (1 - leak) * product over critic, latency, error of (1 - w * b),

where `leak` is how often users are dissatisfied for reasons no part sees; it is fitted and not used. Signals
are left out, being what is predicted, and keep their weight. Who gives a thumb is no accident, so that each
one counts 1 / (how probable it was that this call gets one), by logistic regression on what is known of all
calls (inverse propensity: Robins, Rotnitzky and Zhao, JASA 89, 1994). Weights are drawn towards the shipped.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, insert, select

from ingest.tables import Call, Signal, columns
from outliers.errors import OutliersError
from outliers.experience.parts import CONVICTION_MAX, WEIGHTS
from outliers.frame import Floats, Ints
from outliers.tables import Experience, ExperienceFit

_call, _signal, _experience, _fit = (
    columns(Call),
    columns(Signal),
    columns(Experience),
    columns(ExperienceFit),
)

#: What is fitted; the signals part is what it is fitted to.
FITTED = ("critic", "latency", "error")
#: Newest calls read, those with a thumb and those without.
CALLS_MAX = 20_000
PAGE = 2_000
#: Below these nothing is fitted: three weights and a leak need some two hundred answers of some people.
THUMBS_MIN, DOWNS_MIN, PEOPLE_MIN = 200, 40, 30
FOLDS = 5
#: A thumb counts at most so many times as much as the median one.
WEIGHT_MAX = 5.0
#: As many thumbs as the shipped weights are worth.
PRIOR_THUMBS = 50.0
#: Standard errors by which the fit has to be better than the shipped weights on people it has not seen.
BETTER_BY = 1.645


class TooFewThumbs(OutliersError):
    """There are too few thumbs to fit anything; the message says how many of what are needed."""


@dataclass(frozen=True)
class Thumbed:
    """n calls, newest last.

    Attributes:
        b: how bad each fitted part was, shape (n, 3), in the order of `FITTED`.
        down: 1 for a thumbs-down, 0 for a thumbs-up, NaN where no thumb was given.
        people: whom it happened to, as a number.
        about: what else a thumb may depend on: log characters of input and output, hour; shape (n, k).
    """

    b: Floats
    down: Floats
    people: Ints
    about: Floats

    def __len__(self) -> int:
        return len(self.down)


@dataclass(frozen=True)
class Calibrated:
    """How well P(down) is predicted for people that were not fitted on.

    Attributes:
        auc: probability that a thumbs-down is ranked above a thumbs-up, each by its weight.
        log_loss: mean surprise in nats; lower is better.
        calibration: five groups of predictions, lowest first: (mean predicted, share of downs).
    """

    auc: float
    log_loss: float
    calibration: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Fit:
    """What was fitted, and whether it is better.

    Attributes:
        weights: of all four parts; signals as shipped.
        better: whether it predicts the thumbs of other people better than the shipped weights, by more than
            chance would.
        leak: how often a call nothing is wrong with gets a thumbs-down.
        thumbs, downs, people: that it was fitted on.
        answered: share of all calls that got a thumb.
        fitted, shipped: cross-validated over people; the leak is fitted for both.
        gain, gain_error: difference of their log losses, and its standard error between people.
    """

    weights: dict[str, float]
    better: bool
    leak: float
    thumbs: int
    downs: int
    people: int
    answered: float
    fitted: Calibrated
    shipped: Calibrated
    gain: float
    gain_error: float


def thumbed(connection: Connection, project_id: int) -> Thumbed:
    """Read the newest ranked calls with and without a thumb, at most 20,000 of each."""
    said: dict[int, float] = {}
    votes = connection.execute(
        select(_signal.c.call_seq, _signal.c.kind)
        .where(
            _signal.c.project_id == project_id,
            _signal.c.call_seq.is_not(None),
            _signal.c.kind.in_(("thumbs_up", "thumbs_down")),
        )
        .order_by(_signal.c.seq.desc())
        .limit(CALLS_MAX)
    )
    for seq, kind in votes:
        said[seq] = max(said.get(seq, 0.0), float(kind == "thumbs_down"))
    newest = connection.execute(
        select(_experience.c.call_seq)
        .where(_experience.c.project_id == project_id)
        .order_by(_experience.c.call_seq.desc())
        .limit(CALLS_MAX)
    ).scalars()
    wanted = sorted({*said, *newest})
    rows: list[Any] = []
    for start in range(0, len(wanted), PAGE):
        page = wanted[start : start + PAGE]
        rows += connection.execute(
            select(
                _call.c.seq,
                _call.c.id,
                _call.c.user_id,
                _call.c.session_id,
                _call.c.started_at_ms,
                _call.c.input_chars,
                _call.c.output_chars,
                _experience.c.parts,
            )
            .join(_experience, _experience.c.call_seq == _call.c.seq)
            .where(_call.c.seq.in_(page))
            .order_by(_call.c.seq)
        ).all()
    code: dict[str, int] = {}
    hours = np.array([row.started_at_ms // 3_600_000 % 24 for row in rows], dtype=np.float64)
    return Thumbed(
        b=np.array([[row.parts[name]["b"] for name in FITTED] for row in rows]).reshape(-1, len(FITTED)),
        down=np.array([said.get(row.seq, math.nan) for row in rows]),
        people=np.array(
            [code.setdefault(row.user_id or row.session_id or row.id, len(code)) for row in rows],
            dtype=np.int64,
        ),
        about=np.column_stack(
            [
                [math.log1p(row.input_chars or 0) for row in rows],
                [math.log1p(row.output_chars or 0) for row in rows],
                np.sin(hours * math.pi / 12),
                np.cos(hours * math.pi / 12),
            ]
        ).reshape(-1, 4),
    )


def fit(calls: Thumbed) -> Fit:
    """Fit the weights, and say whether they are better on people they were not fitted on.

    Raises:
        TooFewThumbs: see class.
    """
    answered = np.isfinite(calls.down)
    thumbs, downs = int(answered.sum()), int(np.nansum(calls.down))
    people = len(np.unique(calls.people[answered]))
    if thumbs < THUMBS_MIN or min(downs, thumbs - downs) < DOWNS_MIN or people < PEOPLE_MIN:
        raise TooFewThumbs(
            f"{thumbs:,} thumbs, {downs:,} of them down, by {people:,} people are too few to fit anything: "
            f"it takes {THUMBS_MIN} thumbs, {DOWNS_MIN} up and {DOWNS_MIN} down, by {PEOPLE_MIN} people. "
            "The shipped weights stay."
        )
    counts = _inverse_propensity(calls)[answered]
    b, down, who = calls.b[answered], calls.down[answered], calls.people[answered]
    fold = _folds(who)
    theirs, ours = np.empty(thumbs), np.empty(thumbs)
    for held_out in range(FOLDS):
        train, test = fold != held_out, fold == held_out
        weights, leak = _maximise(b[train], down[train], counts[train])
        theirs[test] = p_down(b[test], weights, leak)
        shipped = np.array([WEIGHTS[name] for name in FITTED])
        ours[test] = p_down(b[test], shipped, _leak(b[train], down[train], counts[train], shipped))
    loss_theirs, loss_ours = _losses(theirs, down), _losses(ours, down)
    gains = counts * (loss_ours - loss_theirs) / counts.sum()
    by_person = np.bincount(who, weights=gains)
    gain, error = float(gains.sum()), float(np.sqrt((by_person**2).sum()))
    weights, leak = _maximise(b, down, counts)
    fitted = _calibrated(theirs, down, counts)
    as_shipped = _calibrated(ours, down, counts)
    return Fit(
        weights={**WEIGHTS, **dict(zip(FITTED, (round(float(w), 3) for w in weights), strict=True))},
        better=gain > BETTER_BY * error and fitted.auc >= as_shipped.auc,
        leak=round(leak, 4),
        thumbs=thumbs,
        downs=downs,
        people=people,
        answered=thumbs / len(calls),
        fitted=fitted,
        shipped=as_shipped,
        gain=gain,
        gain_error=error,
    )


def p_down(b: Floats, weights: Floats, leak: float) -> Floats:
    """Return the modelled chance of a thumbs-down, shape (n,)."""
    kept = np.log1p(-np.minimum(CONVICTION_MAX, b * weights)).sum(axis=1)
    return np.asarray(1 - (1 - leak) * np.exp(kept))


def weights_in_use(connection: Connection, project_id: int) -> Mapping[str, float]:
    """Return the weights that calls are ranked with: the newest fit's, or the shipped ones."""
    kept = newest_fit(connection, project_id)
    return WEIGHTS if kept is None or kept["weights"] is None else {**WEIGHTS, **kept["weights"]}


def newest_fit(connection: Connection, project_id: int) -> dict[str, Any] | None:
    """Return version, fitted_at_ms, weights and figures of the newest fit; None before any."""
    row = (
        connection.execute(
            select(_fit.c.seq.label("version"), _fit.c.fitted_at_ms, _fit.c.weights, _fit.c.figures)
            .where(_fit.c.project_id == project_id)
            .order_by(_fit.c.seq.desc())
            .limit(1)
        )
        .mappings()
        .one_or_none()
    )
    return None if row is None else dict(row)


def keep_fit(connection: Connection, project_id: int, found: Fit, now_ms: int) -> int:
    """Write job: use these weights for calls that are ranked from now on; return their version."""
    figures = asdict(found)
    weights = figures.pop("weights")
    row = {"project_id": project_id, "fitted_at_ms": now_ms, "weights": weights, "figures": figures}
    return int(connection.execute(insert(_fit).values(row).returning(_fit.c.seq)).scalar_one())


def reset_fit(connection: Connection, project_id: int, now_ms: int) -> int | None:
    """Write job: go back to the shipped weights; return the version that says so, None where in use."""
    kept = newest_fit(connection, project_id)
    if kept is None or kept["weights"] is None:
        return None
    row = {"project_id": project_id, "fitted_at_ms": now_ms, "weights": None, "figures": None}
    return int(connection.execute(insert(_fit).values(row).returning(_fit.c.seq)).scalar_one())


def _maximise(b: Floats, down: Floats, counts: Floats) -> tuple[Floats, float]:
    """Return the weights and leak that make these thumbs most probable, drawn towards the shipped weights."""
    from scipy.optimize import minimize

    shipped = np.array([WEIGHTS[name] for name in FITTED])
    scale = len(down) / counts.sum()  # a weighted thumb is one thumb on average

    def _surprise(at: Floats) -> float:
        loss = float((counts * _losses(p_down(b, at[:-1], float(at[-1])), down)).sum()) * scale
        prior: float = np.square(at[:-1] - shipped).sum()
        return float(loss + PRIOR_THUMBS * prior)

    start = np.append(shipped, min(0.9, max(0.01, float(np.average(down, weights=counts)) / 2)))
    bounds = [(0.0, CONVICTION_MAX)] * len(FITTED) + [(0.0, 0.99)]
    found = minimize(_surprise, start, method="L-BFGS-B", bounds=bounds)
    return np.asarray(found.x[:-1]), float(found.x[-1])


def _leak(b: Floats, down: Floats, counts: Floats, weights: Floats) -> float:
    """Return the leak that makes these thumbs most probable under given weights."""
    leaks = np.linspace(0.0, 0.99, 199)
    losses = [float((counts * _losses(p_down(b, weights, leak), down)).sum()) for leak in leaks]
    return float(leaks[int(np.argmin(losses))])


def _losses(p: Floats, down: Floats) -> Floats:
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return np.asarray(-(down * np.log(p) + (1 - down) * np.log1p(-p)))


def _inverse_propensity(calls: Thumbed) -> Floats:
    """Return how much each call's thumb counts: 1 / (how probable it was), bounded, shape (n,)."""
    answered = np.isfinite(calls.down)
    if answered.all():
        return np.ones(len(calls))
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known = np.hstack([calls.b, calls.about])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=500))
    p = model.fit(known, answered).predict_proba(known)[:, 1]
    inverse = 1 / np.maximum(p, 1e-3)
    return np.asarray(np.minimum(inverse, WEIGHT_MAX * np.median(inverse[answered])))


def _folds(who: Ints) -> Ints:
    """Return a fold for each thumb, the same for all of one person's: scattered, the same in every run."""
    return np.asarray((who * 2654435761 % 2**32) * FOLDS // 2**32)


def _calibrated(p: Floats, down: Floats, counts: Floats) -> Calibrated:
    order = np.argsort(p, kind="stable")
    fifths = [part for part in np.array_split(order, 5) if len(part)]
    return Calibrated(
        auc=auc(p, down, counts),
        log_loss=float(np.average(_losses(p, down), weights=counts)),
        calibration=tuple(
            (float(np.average(p[at], weights=counts[at])), float(np.average(down[at], weights=counts[at])))
            for at in fifths
        ),
    )


def auc(p: Floats, down: Floats, counts: Floats) -> float:
    """Return the weighted probability that a thumbs-down is ranked above a thumbs-up, ties half."""
    values, place = np.unique(p, return_inverse=True)
    bad = np.bincount(place, weights=counts * down, minlength=len(values))
    good = np.bincount(place, weights=counts * (1 - down), minlength=len(values))
    below = np.concatenate([[0.0], np.cumsum(good)[:-1]])
    pairs = float(bad.sum() * good.sum())
    return float((bad * (below + good / 2)).sum()) / pairs if pairs else math.nan
