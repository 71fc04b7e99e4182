"""A critic beside people: the figures against their definitions and against scikit-learn and SciPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score
from sqlalchemy import Connection, insert

from critic.levels import of_draws, stretched
from critic.trust.agreement import Agreement, Compared, agreement, labelled
from ingest.store import OpenStore
from ingest.tables import Label, columns
from tests.rows import put_calls, put_score

NOW = 1_790_000_000_000


def _whole(said: list[int], people: list[int]) -> Agreement:
    return agreement(
        Compared(said, [[level] for level in people], [str(i) for i in range(len(said))]), draws=0
    )


@given(st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), min_size=2, max_size=60))
def test_figures_are_those_of_the_libraries(pairs: list[tuple[int, int]]) -> None:
    said, people = [a for a, _ in pairs], [b for _, b in pairs]
    found = _whole(said, people)
    a, b = np.array(said), np.array(people)
    assert found.mae.value == pytest.approx(np.abs(a - b).mean())
    assert found.constant_mae.value == pytest.approx(np.abs(b - np.median(b)).mean())
    assert found.bias.value == pytest.approx((a - b).mean())
    assert found.within_one.value == pytest.approx((np.abs(a - b) <= 1).mean())
    if len(set(said)) > 1 and len(set(people)) > 1:
        assert found.rho.value == pytest.approx(spearmanr(a, b).statistic)
        kappa = cohen_kappa_score(a, b, labels=range(1, 8), weights="quadratic")
        assert found.qwk.value == pytest.approx(kappa)
    else:
        assert found.rho.value is None, "nothing to rank: unknown, not zero"


def test_the_ceiling_is_one_person_beside_the_others() -> None:
    found = agreement(Compared([4.0, 4.0], [[1, 3], [7, 7, 4]], ["a", "b"]), draws=0)
    each = [abs(1 - 3), abs(3 - 1), abs(7 - 5.5), abs(7 - 5.5), abs(4 - 7)]
    assert found.ceiling_mae.value == pytest.approx(np.mean(each))
    alone = agreement(Compared([4.0], [[1]], ["a"]), draws=0)
    assert alone.ceiling_mae.value is None, "nobody rated together: unknown"


def test_intervals_cover_the_truth_and_widen_with_groups_that_stick_together() -> None:
    random = np.random.default_rng(1)
    by_group = random.normal(0, 0.8, 60).repeat(10)
    people = np.clip(4 + random.normal(0, 1.2, 600), 1, 7)
    said = np.clip(people + by_group + random.normal(0, 0.5, 600), 1, 7)
    levels = [[float(level)] for level in people]
    clustered = agreement(Compared(list(said), levels, [str(i // 10) for i in range(600)]))
    each_alone = agreement(Compared(list(said), levels, [str(i) for i in range(600)]))

    def width(found: Agreement) -> float:
        assert found.bias.low is not None
        assert found.bias.high is not None
        return found.bias.high - found.bias.low

    assert width(clustered) > 2 * width(each_alone), "ten rows of a group are not ten groups"
    assert (clustered.bias.low or 0) < 0 < (clustered.bias.high or 0), "the critic is not biased"


def test_few_groups_have_no_interval() -> None:
    found = agreement(Compared([1.0, 2.0, 3.0], [[1], [3], [3]], ["a", "b", "b"]))
    assert (found.groups, found.mae.low, found.mae.high) == (2, None, None)


def test_labels_meet_the_scores_of_the_newest_version_only(store: OpenStore) -> None:
    def fill(connection: Connection) -> None:
        seqs = put_calls(connection, [{"started_at_ms": NOW + i, "user_id": f"u{i % 2}"} for i in range(4)])
        put_score(connection, seqs[0], of_draws([2.0]), rubric="tone", blob="b2", critic="openai:m")
        put_score(connection, seqs[1], of_draws([2.0]), rubric="tone", blob="b1", critic="openai:m")
        label = {"project_id": 1, "rubric": "tone", "at_ms": NOW}
        connection.execute(
            insert(columns(Label)),
            [
                {**label, "call_id": f"call-{seqs[i]}", "level": level, "labeller": who}
                for i, level, who in ((0, 1, "ann"), (0, 3, "bo"), (1, 5, "ann"), (2, 6, "ann"))
            ],
        )

    store.write(fill)
    with store.read() as connection:
        compared = labelled(connection, 1, "tone", "openai:m")
        assert labelled(connection, 1, "tone", "local").said == []
    assert (compared.said, compared.people, compared.groups) == ([2.0], [[1.0, 3.0]], ["user u0"])


@given(st.lists(st.floats(1, 7), min_size=1, max_size=9))
def test_draws_keep_their_mean(levels: list[float]) -> None:
    probabilities = of_draws(levels)
    assert len(probabilities) == 7
    assert min(probabilities) >= 0
    assert sum(probabilities) == pytest.approx(1)
    mean = sum(level * p for level, p in enumerate(probabilities, start=1))
    assert mean == pytest.approx(sum(levels) / len(levels))


@pytest.mark.parametrize("levels", [[], [0.5], [8.0], [float("nan")]])
def test_what_is_no_level_is_no_probability(levels: list[float]) -> None:
    with pytest.raises(ValueError, match="level"):
        of_draws(levels)


def test_a_rating_of_another_scale_keeps_its_ends() -> None:
    assert [stretched(value, 1, 5) for value in (1, 3, 5)] == [1, 4, 7]
    assert [stretched(value, 0, 1) for value in (0, 0.5, 1)] == [1, 4, 7]
