"""What a case's page says of its state and next step, and how its trend is laid out."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.drawing.case_words import next_of, state_of, steps_of, verdict_explained, verdict_words
from dashboards.drawing.charts import trend
from dashboards.queries.cases import CaseShown, Cohort, EventShown, FixShown, PointShown, ProofShown

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
FIX = FixShown(at=NOW, release=None, prompt_version="v8", link=None, by="ada")


def _proof(verdict: str, **other: Any) -> ProofShown:
    known: dict[str, Any] = {
        "sentence": f"The verdict is {verdict}.",
        "before": 0.7,
        "after": 0.1,
        "after_low": 0.02,
        "after_high": 0.2,
        "rest_before": 0.05,
        "rest_after": 0.05,
        "n_before": 140,
        "n_after": 60,
        "people_before": 70,
        "people_after": 1,
        "calls_needed": None,
        "not_comparable": 0,
        "followed_by": (),
        "at": NOW,
    }
    return ProofShown(verdict=verdict, **known | other)


def _case(status: str, **other: Any) -> CaseShown:
    cohort = Cohort(**dict.fromkeys(Cohort.__dataclass_fields__))
    none = dict.fromkeys(("seed", "root_cause", "owner", "nominated_at", "fix", "proof", "closed_at"))
    known: dict[str, Any] = {**none, "history": ()}
    return CaseShown(week="2026-W46", status=status, sentence="S", cohort=cohort, **known | other)


@pytest.mark.parametrize(
    ("case", "state", "next_step", "at_work"),
    [
        (_case("so_far"), "the week still runs", "take it on", "nominate"),
        (_case("nominated"), "Nobody has taken it on", "take it on", "take on"),
        (
            _case("picked", history=(EventShown(NOW, "ada", "picked", ""),)),
            "Taken on by ada; why",
            "Find out why",
            "find the cause",
        ),
        (_case("root_cause", root_cause="R"), "cause is known", "Fix it", "fix"),
        (_case("fixed", root_cause="R", fix=FIX), "looked at within a day", "Wait for more calls", "prove"),
        (
            _case("fixed", root_cause="R", fix=FIX, proof=_proof("too_early", calls_needed=40)),
            "The verdict is too_early.",
            "Wait for more calls",
            "prove",
        ),
        (
            _case("fixed", root_cause="R", fix=FIX, proof=_proof("worse")),
            "The verdict is worse.",
            "did not help",
            "prove",
        ),
        (
            _case("fixed", root_cause="R", fix=FIX, proof=_proof("too_early")),
            "The verdict is too_early.",
            "close it by hand",
            "prove",
        ),
        (
            _case("verified", root_cause="R", fix=FIX, proof=_proof("fixed")),
            "Closed. The verdict is fixed.",
            "watches it for a year",
            None,
        ),
        (
            _case(
                "verified",
                fix=FIX,
                proof=_proof("no_change"),
                history=(EventShown(NOW, "bo", "verified", "Closed although no change is seen: it is rare"),),
            ),
            "it is rare",
            "watches it",
            None,
        ),
        (
            _case(
                "reopened",
                root_cause="R",
                proof=_proof("fixed"),
                history=(EventShown(NOW, "lowlight", "reopened", "The trouble is back."),),
            ),
            "Open again. The trouble is back.",
            "root cause is the right one",
            "fix",
        ),
    ],
)
def test_each_state_says_how_far_it_is_and_what_is_next(
    case: CaseShown, state: str, next_step: str, at_work: str | None
) -> None:
    assert state in state_of(case)
    assert next_step in next_of(case)
    steps = steps_of(case)
    assert [step.name for step in steps if step.state == "now"] == ([at_work] if at_work else [])


def test_a_proof_of_a_fix_that_is_gone_is_no_verdict() -> None:
    """A reopened case keeps its last proof for the record; it says nothing about the next fix."""
    proven = _case("verified", fix=FIX, proof=_proof("fixed"))
    assert verdict_words(proven) == "fixed"
    assert verdict_words(replace(proven, status="reopened", fix=None)) == ""
    assert verdict_words(replace(proven, status="fixed", proof=None)) == "too early"


def test_a_verdict_is_explained_in_whole_sentences() -> None:
    said = verdict_explained(
        _proof("too_early", calls_needed=1200, not_comparable=1, followed_by=("faq@v8", "faq@v9"))
    )
    assert "140 calls of 70 people" in said
    assert "60 calls of 1 person." in said
    assert "between 2 % and 20 %" in said
    assert "1 call since the fix was judged by other means, or not yet, and is left out." in said
    assert "faq@v8, faq@v9" in said
    assert "About 1\u202f200 more calls are needed." in said


_POINTS = st.lists(
    st.integers(0, 5000).flatmap(lambda n: st.tuples(st.just(n), st.floats(0, n))), min_size=0, max_size=7
)


@given(_POINTS, _POINTS)
def test_a_trend_fits_its_chart_whatever_it_shows(
    before: list[tuple[int, float]], days: list[tuple[int, float]]
) -> None:
    def _points(pairs: list[tuple[int, float]]) -> list[PointShown]:
        return [PointShown(NOW + timedelta(place), n, bad) for place, (n, bad) in enumerate(pairs)]

    bars = trend(_points(before), _points(days))
    assert [bar.before for bar in bars] == [True] * len(before) + [False] * len(days)
    for bar in bars:
        assert 0 <= bar.x < bar.x + bar.width <= 100.01
        assert 0 <= bar.height <= 1
        assert (bar.rate is None) == (bar.point.n == 0), "no calls are no share, and not 0 %"
    for one, other in pairwise(bars):
        assert one.x + one.width <= other.x
