"""People's labels against a critic's scores: the map learnt from them, and what it is worth unseen."""

from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sqlalchemy import Connection, insert

from critic.levels import of_draws
from critic.trust.agreement import Compared
from critic.trust.calibration import (
    ISOTONIC_FROM,
    OUTPUTS_MIN,
    PRIOR_OUTPUTS,
    Calibration,
    at_levels,
    calibrate,
    told,
)
from dashboards.drawing.render import Frame, render
from dashboards.filters import WindowQuery
from dashboards.pages import rubric as rubric_page
from dashboards.pages import score as score_page
from dashboards.queries.agreement import PeopleWouldSay
from ingest.settings import Settings
from ingest.store import OpenStore
from ingest.tables import Label, columns
from tests.rows import put_calls, put_score

NOW_MS = 1_790_000_000_000

#: Hundredths: scikit-learn takes scores that are nearer than floats can well tell for one.
LEVEL = st.integers(100, 700).map(lambda hundredths: hundredths / 100)
PAIRS = st.lists(st.tuples(LEVEL, st.integers(1, 7)), min_size=OUTPUTS_MIN, max_size=90)


def fitted(pairs: list[tuple[float, float]], *, draws: int = 0) -> Calibration:
    said, people = [score for score, _ in pairs], [[level] for _, level in pairs]
    found = calibrate(Compared(said, people, [f"call {i}" for i in range(len(pairs))]), draws=draws)
    assert found is not None
    return found


@given(PAIRS)
def test_whatever_people_say_the_map_rises_and_stays_within_1_and_7(pairs: list[tuple[float, int]]) -> None:
    levels = [fitted(list(pairs)).level(score) for score in np.linspace(1, 7, 25)]
    assert all(1 - 1e-9 <= level <= 7 + 1e-9 for level in levels)
    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(levels))


@given(st.lists(st.tuples(LEVEL, st.integers(1, 7)), min_size=ISOTONIC_FROM, max_size=90))
def test_from_fifty_outputs_on_it_is_isotonic_regression(pairs: list[tuple[float, int]]) -> None:
    said, people = np.array([a for a, _ in pairs]), np.array([b for _, b in pairs], dtype=float)
    found, known = fitted(list(pairs)), IsotonicRegression(out_of_bounds="clip").fit(said, people)
    assert found.kind == "curve"
    assert [found.level(score) for score in said] == pytest.approx(list(known.predict(said)), abs=1e-6)


def test_few_labels_move_a_critic_only_as_far_as_they_carry() -> None:
    """People say one level less, always: with 10 outputs half of it is believed, with 40 four fifths."""
    for n in (10, 40):
        pairs = [(3.0 + i % 3, 2.0 + i % 3) for i in range(n)]
        found = fitted(pairs)
        assert found.kind == "line"
        believed = n / (n + PRIOR_OUTPUTS)
        assert 4 - found.level(4.0) == pytest.approx(believed, abs=0.02)
        assert found.helps


def test_a_critic_that_people_agree_with_is_left_alone() -> None:
    found = fitted([(1.0 + i % 7, 1.0 + i % 7) for i in range(49)])
    assert at_levels(found) == pytest.approx(range(1, 8))
    assert not found.helps, "nothing is to be gained, so nothing is claimed"
    assert "no nearer" in told(found, "local")


def test_a_critic_whose_order_says_nothing_is_told_to_say_the_mean() -> None:
    random = np.random.default_rng(3)
    pairs = [(float(random.uniform(1, 7)), float(random.integers(3, 6))) for _ in range(300)]
    found = fitted(pairs, draws=100)
    low, high = at_levels(found)[0], at_levels(found)[-1]
    assert high - low < 1.5
    assert found.helps
    assert (found.gain.low or 0) > 0, "the interval of the gain is beyond chance"


def test_what_it_is_worth_is_measured_on_users_that_were_left_out() -> None:
    """Each user has a level of their own that their labels share: within a user it would look like skill."""
    random = np.random.default_rng(5)
    users = [f"user {i // 20}" for i in range(100)]
    said = list(random.normal(0, 0.05, 100) + np.repeat([1.5, 3.0, 4.0, 5.0, 6.5], 20))
    people = [[float(level)] for level in np.repeat([1, 1, 1, 7, 7], 20)]
    apart = calibrate(Compared(said, people, users))
    each_alone = calibrate(Compared(said, people, [str(i) for i in range(100)]))
    assert apart is not None
    assert each_alone is not None
    assert (each_alone.mae.value or 0) < 0.6 * (apart.mae.value or 0)


def test_below_ten_outputs_or_of_one_user_alone_nothing_is_claimed() -> None:
    few = [(2.0, 3.0)] * (OUTPUTS_MIN - 1)
    said, people = [a for a, _ in few], [[b] for _, b in few]
    assert calibrate(Compared(said, people, [str(i) for i in range(len(few))])) is None
    assert calibrate(Compared([2.0] * 20, [[3.0]] * 20, ["user 1"] * 20)) is None


def test_the_pages_show_what_people_would_give_and_leave_the_score_as_it_is(
    store: OpenStore, settings: Settings
) -> None:
    """People give two levels less than the critic, on 60 of 61 calls; the last one has no label."""

    def _fill(connection: Connection) -> None:
        calls = [{"started_at_ms": NOW_MS + i, "user_id": f"u{i}"} for i in range(61)]
        seqs = put_calls(connection, calls)
        labels = []
        for i, seq in enumerate(seqs):
            said = 4.0 + i % 3
            put_score(
                connection, seq, of_draws([said]), rubric="tone", blob="b1", critic="openai:m", changed=seq
            )
            about = {"project_id": 1, "rubric": "tone", "at_ms": NOW_MS, "labeller": "ann"}
            labels.append({**about, "call_id": f"call-{seq}", "level": int(said) - 2})
        connection.execute(insert(columns(Label)), labels[:-1])

    store.write(_fill)
    now = datetime.fromtimestamp(NOW_MS / 1000 + 60, UTC)
    with store.read() as connection:
        of_rubric = rubric_page.build(connection, settings, "tone", WindowQuery(), now)
        of_score = score_page.build(connection, settings, "call-61", "tone", now)
    assert of_rubric is not None
    assert of_rubric.people.data is not None
    (beside,) = of_rubric.people.data
    assert beside.calibration is not None
    assert beside.levels[3:6] == pytest.approx((2.0, 3.0, 4.0))
    assert beside.calibration.gain.value == pytest.approx(2.0, abs=0.05)
    assert of_score is not None
    assert of_score.people.data == PeopleWouldSay(pytest.approx(2.0), 60)
    assert of_score.score.score == pytest.approx(4.0), "the critic's own word stays"
    frame = Frame("rubrics", "http://h", "", ZoneInfo("UTC"))
    assert "What people would give" in render("rubric.html", of_rubric, frame)
    assert "People would give it 2.0" in render("score.html", of_score, frame)
