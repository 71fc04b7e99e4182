"""The label head on labels made here: a known order must come back, and too few labels none."""

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from critic.local.head import LABELS_MIN, LabelHead, TooFewLabels, fit_label_head

Floats = NDArray[np.float64]


def labelled(n: int, seed: int) -> tuple[Floats, Floats]:
    """Return eight features, of which the first sets the level and the others are noise."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(n, 8))
    return values, np.clip(np.round(4 + 1.2 * values[:, 0] + random.normal(scale=0.5, size=n)), 1, 7)


def test_a_head_learns_what_sets_the_level() -> None:
    """200 labels find the feature that matters; its levels beat the constant answer on new calls."""
    head = fit_label_head(*labelled(200, 1))
    values, levels = labelled(300, 2)
    given = head.probabilities(values) @ np.arange(1, 8)
    assert np.argmax(np.abs(head.weights)) == 0
    assert np.corrcoef(given, levels)[0, 1] > 0.85
    assert np.abs(given - levels).mean() < 0.75 * np.abs(np.median(levels) - levels).mean()


def test_its_answers_are_distributions_over_seven_levels() -> None:
    """Levels that no label had stay possible, and nothing is below zero, however far a call lies out."""
    values, levels = labelled(60, 3)
    head = fit_label_head(values, np.clip(levels, 3, 5))
    shares = head.probabilities(np.vstack([values, np.full((1, 8), 1e9), np.full((1, 8), -1e9)]))
    assert shares.shape == (62, 7)
    assert np.allclose(shares.sum(axis=1), 1.0)
    assert (shares > 0).all()
    assert np.all(np.diff(head.cuts) > 0)


def test_a_big_critics_score_is_used_where_it_says_more() -> None:
    """With its score the head follows the critic, and corrects that it is two levels too high."""
    _, levels = labelled(200, 4)
    noise = np.random.default_rng(5).normal(size=(200, 8))
    said = np.clip(levels + 2, 1, 7)[:, None]
    head = fit_label_head(noise, levels, said)
    given = head.probabilities(noise, said) @ np.arange(1, 8)
    assert np.corrcoef(given, levels)[0, 1] > 0.8
    assert abs(float(given.mean() - levels.mean())) < 0.2


def test_a_critics_scores_under_other_rubrics_help_where_they_see_the_same() -> None:
    """Four noisy views of one fault say more than one: better ranks on calls that no label was given for."""
    random = np.random.default_rng(9)
    _, levels = labelled(500, 10)
    said = levels[:, None] + random.normal(scale=2.0, size=(500, 4))
    noise = random.normal(size=(500, 8))

    def rank(columns: int) -> float:
        head = fit_label_head(noise[:200], levels[:200], said[:200, :columns])
        given = head.probabilities(noise[200:], said[200:, :columns]) @ np.arange(1, 8)
        return float(np.corrcoef(given, levels[200:])[0, 1])

    assert rank(4) > rank(1) + 0.1


def test_a_mean_of_several_people_counts_for_both_neighbours() -> None:
    """Level 4.5 of everybody lies half on 4 and half on 5."""
    values, _ = labelled(80, 6)
    shares = fit_label_head(values, np.full(80, 4.5)).probabilities(values).mean(axis=0)
    assert shares[3] == pytest.approx(shares[4], abs=0.05)
    assert shares[3] + shares[4] > 0.9


def test_below_fifty_labels_there_is_no_head() -> None:
    """A level learnt from a handful of labels would be noise that looks like a number."""
    values, levels = labelled(LABELS_MIN - 1, 7)
    with pytest.raises(TooFewLabels, match="49 labels; a head needs 50") as refused:
        fit_label_head(values, levels)
    assert refused.value.labels == 49


def test_a_head_survives_json() -> None:
    """Stored as numbers, it answers the same."""
    values, levels = labelled(120, 8)
    head = fit_label_head(values, levels)
    again = LabelHead.from_json(json.loads(json.dumps(head.to_json())))
    assert np.allclose(head.probabilities(values), again.probabilities(values), atol=1e-4)
    with pytest.raises(ValueError, match="9 columns for a head of 8"):
        again.latent(np.zeros((1, 9)))
