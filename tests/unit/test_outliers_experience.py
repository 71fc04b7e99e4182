"""P(bad) of one call: what each part does, and what it must never do."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outliers.experience.parts import (
    BAD_FROM,
    PARTS,
    POLARITY,
    PRAISED_ODDS,
    WEIGHTS,
    Evidence,
    Graded,
    Part,
    Ranked,
    SignalSeen,
    SliceMeans,
    parts_as_json,
    parts_from_json,
    polarity_of,
    praise_of,
    rank,
    see,
)

unit = st.floats(0, 1)
signals = st.lists(
    st.builds(SignalSeen, st.sampled_from([*POLARITY, "rating", "own"]), st.floats(1, 5)), max_size=4
).map(tuple)
evidences = st.builds(
    Evidence,
    outcome=st.sampled_from(["answered", "failed", "aborted"]),
    latency_ms=st.none() | st.floats(0, 1e6),
    latency_p95_ms=st.none() | st.floats(1, 1e5),
    graded=st.lists(
        st.builds(Graded, st.sampled_from("abc"), st.sampled_from(["local", "x"]), unit), max_size=3
    ).map(tuple),
    guard_p_fail=st.none() | unit,
    signals=signals,
)


def ranked(evidence: Evidence, means: SliceMeans | None = None, **polarity: float) -> Ranked:
    """Rank one call of slice 1."""
    seen = see(evidence, {}, polarity)
    return rank(seen, praise_of(evidence.signals, polarity), 1, means or SliceMeans(0.0))


def part(result: Ranked, name: str) -> Part:
    return next(part for part in result.parts if part.name == name)


@given(evidences)
def test_it_is_a_probability_whose_shares_sum_to_one(evidence: Evidence) -> None:
    result = ranked(evidence)
    assert 0 <= result.p_bad <= 1
    assert [part.name for part in result.parts] == list(PARTS)
    shares = sum(part.share for part in result.parts)
    assert shares == pytest.approx(1, abs=1e-3) or shares == 0 == result.p_bad
    product = math.prod(1 - min(0.99, part.weight * part.b) for part in result.parts)
    factor = PRAISED_ODDS ** praise_of(evidence.signals, {})
    assert result.p_bad == pytest.approx(
        (1 - product) * factor / (product + (1 - product) * factor), abs=1e-3
    )
    assert set(parts_from_json(parts_as_json(result.parts))) == set(result.parts)


@given(evidences, unit)
def test_a_worse_reading_never_makes_it_better(evidence: Evidence, more: float) -> None:
    low, high = sorted([evidence.guard_p_fail or 0.0, more])
    fields = {**evidence.__dict__}
    before = ranked(Evidence(**{**fields, "guard_p_fail": low}))
    after = ranked(Evidence(**{**fields, "guard_p_fail": high}))
    assert after.p_bad >= before.p_bad - 1e-12


def test_rubrics_that_see_the_same_fault_count_once() -> None:
    one = Evidence("answered", graded=(Graded("tone", "x", 0.6),))
    six = Evidence("answered", graded=tuple(Graded(f"r{i}", "x", 0.6) for i in range(6)))
    assert ranked(six).p_bad == ranked(one).p_bad == pytest.approx(0.6 * WEIGHTS["critic"])


def test_a_rubric_of_little_weight_says_less() -> None:
    graded = (Graded("tone", "x", 0.9), Graded("faithfulness", "x", 0.5))
    seen = see(Evidence("answered", graded=graded), {"tone": 0.2}, {})
    assert (seen["critic"].b, seen["critic"].detail) == (0.5, "faithfulness")


def test_the_guard_speaks_where_the_rubrics_are_ungraded() -> None:
    alone = see(Evidence("answered", guard_p_fail=0.8, guard_kind="rude"), {}, {})["critic"]
    assert (alone.b, alone.detail) == (0.8, "rude")
    by_local = (Graded("tone", "local", 0.3),)
    beside = see(Evidence("answered", graded=by_local, guard_p_fail=0.8, guard_kind="rude"), {}, {})["critic"]
    assert (beside.b, beside.detail) == (0.8, "rude")
    by_other = (Graded("tone", "openai:gpt-6-luna", 0.3),)
    under = see(Evidence("answered", graded=by_other, guard_p_fail=0.8, guard_kind="rude"), {}, {})["critic"]
    assert (under.b, under.detail) == (0.3, "tone"), "a critic that read the text knows better"


def test_latency_counts_from_the_slices_p95_and_is_full_at_four_times() -> None:
    def b(latency_ms: float) -> float | None:
        return see(Evidence("answered", latency_ms=latency_ms, latency_p95_ms=1000.0), {}, {})["latency"].b

    assert [b(900), b(1000), b(2000), b(4000), b(9e6)] == [0, 0, 0.5, 1, 1]
    assert see(Evidence("answered", latency_ms=900.0), {}, {})["latency"].b is None


def test_an_unknown_part_takes_its_slices_mean_and_says_so() -> None:
    means = SliceMeans(base_rate=0.02)
    for _ in range(30):
        means.add(1, "critic", 0.3)
    means.add(2, "critic", 0.9)
    critic = part(ranked(Evidence("answered"), means), "critic")
    assert (critic.known, critic.b, critic.detail) == (False, 0.3, "")
    few = rank(see(Evidence("answered"), {}, {}), 0.0, 2, means)
    assert part(few, "critic").b == pytest.approx((30 * 0.3 + 0.9) / 31, abs=1e-3), "too few: the mean of all"
    assert part(ranked(Evidence("answered"), SliceMeans(0.02)), "critic").b == 0.02


def test_a_thumbs_up_lowers_and_never_clears() -> None:
    bad = Evidence("answered", guard_p_fail=0.9)
    praised = Evidence("answered", guard_p_fail=0.9, signals=(SignalSeen("thumbs_up"),))
    before, after = ranked(bad).p_bad, ranked(praised).p_bad
    assert after / (1 - after) == pytest.approx(PRAISED_ODDS * before / (1 - before))


def test_what_a_critic_is_certain_of_stands_above_a_thumb_alone() -> None:
    """Users err too: praise for an answer that is surely bad must not hide it behind one that is disliked."""
    proven = Evidence("answered", graded=(Graded("tone", "x", 1.0),), signals=(SignalSeen("thumbs_up"),))
    disliked = Evidence("answered", graded=(Graded("tone", "x", 0.0),), signals=(SignalSeen("thumbs_down"),))
    assert ranked(proven).p_bad > ranked(disliked).p_bad >= BAD_FROM


def test_a_failed_call_is_bad_whatever_else_is_unknown() -> None:
    failed = ranked(Evidence("failed", error_type="Timeout"))
    assert failed.p_bad >= 0.9
    assert part(failed, "error").detail == "Timeout"


@pytest.mark.parametrize(
    ("signal", "own", "expected"),
    [
        (SignalSeen("thumbs_down"), {}, -1),
        (SignalSeen("rating", 1.0), {}, -1),
        (SignalSeen("rating", 3.0), {}, 0),
        (SignalSeen("rating", 10.0, 0.0, 10.0), {}, 1),
        (SignalSeen("rating", 2.0, 3.0, 3.0), {}, 0),
        (SignalSeen("refund"), {}, 0),
        (SignalSeen("refund"), {"refund": -0.7}, -0.7),
        (SignalSeen("copy"), {"copy": -1.0}, -1),
    ],
)
def test_polarity(signal: SignalSeen, own: dict[str, float], expected: float) -> None:
    assert polarity_of(signal, own) == expected


def test_what_a_biased_sample_saw_does_not_move_a_slices_mean() -> None:
    """A critic with a budget judges all 10 bad calls of 110 and a tenth of the 100 good ones."""
    means = SliceMeans(base_rate=0.02)
    judged = [(0.9, 1.0)] * 10 + [(0.0, 0.1)] * 10
    for p_low, inclusion in judged:
        seen = see(Evidence("answered", graded=(Graded("tone", "openai:m", p_low, inclusion),)), {}, {})
        critic = seen["critic"]
        means.add(1, "critic", critic.b or 0.0, stands_for=critic.stands_for)
    for _ in range(90):
        # The guard read what the sample left out; the sampled ones stand for it already.
        left_out = see(Evidence("answered", guard_p_fail=0.5, left_out=True), {}, {})["critic"]
        means.add(1, "critic", left_out.b or 0.0, stands_for=left_out.stands_for)
    assert means.mean(1, "critic") == pytest.approx(10 * 0.9 / 110)


def test_a_call_taken_out_of_a_mean_leaves_what_the_others_said() -> None:
    means = SliceMeans(base_rate=0.02)
    for b in (0.2, 0.4):
        means.add(1, "critic", b, stands_for=5.0)
    means.add(1, "critic", 0.4, stands_for=5.0, n=-1)
    assert means.mean(1, "critic") == pytest.approx(0.2)
    means.add(1, "critic", 0.2, stands_for=5.0, n=-1)
    assert means.mean(1, "critic") == 0.02, "nothing is known any more"
