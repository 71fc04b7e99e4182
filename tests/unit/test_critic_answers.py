"""What comes back from a critic: whatever it is, it becomes seven sound probabilities or a reason."""

import contextlib
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from critic.drivers import build
from critic.drivers.base import Answer, MalformedAnswer, in_parts, score_of, seven
from critic.drivers.openai_decisions import verdicts_of
from critic.drivers.waits import WAIT_MAX_S, retry_after_s
from critic.working.pace import LIMIT_AT_FIRST, ROUNDS_IN_VAIN_MAX, Pace
from critic.working.pace import WAIT_MAX_S as BACKOFF_MAX_S
from ingest.errors import BadSettings
from ingest.settings import Settings
from rubrics import rubric_of

SHIPPED = Settings().rubrics_dir
RUBRICS = [rubric_of(name, (Path(SHIPPED) / f"{name}.jinja").read_text()) for name in ("accuracy", "tone")]

finite = st.floats(min_value=0, max_value=1e6, allow_nan=False)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(finite, min_size=7, max_size=7).filter(lambda shares: sum(shares) > 1e-3))
def test_seven_shares_become_probabilities_and_a_score_within_1_and_7(shares: list[float]) -> None:
    total = math.fsum(shares)
    probabilities = seven([share / total for share in shares])
    assert math.isclose(math.fsum(probabilities), 1.0, abs_tol=1e-12)
    assert 1.0 <= score_of(probabilities) <= 7.0
    heaviest = max(range(7), key=lambda at: shares[at])
    assert probabilities[heaviest] == max(probabilities), "each probability stays with its level"


@given(st.lists(anything, max_size=9))
def test_anything_else_is_refused(values: list[Any]) -> None:
    with contextlib.suppress(MalformedAnswer):
        probabilities = seven(values)
        assert len(probabilities) == 7
        assert all(0 <= p <= 1 for p in probabilities)


@pytest.mark.parametrize("level", range(1, 8))
def test_a_certain_level_is_its_own_score(level: int) -> None:
    assert score_of([float(at == level) for at in range(1, 8)]) == level


def loosely(value: Any) -> Any:
    """Return JSON as the SDK's unvalidated models look: attributes instead of keys."""
    return json.loads(json.dumps(value), object_hook=lambda kept: SimpleNamespace(**kept))


answer_like = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["score", "refusal", "predicate"]) | anything,
        "name": st.sampled_from(["accuracy", "tone", None]) | anything,
        "confidence": anything,
        "probabilities": st.lists(
            st.fixed_dictionaries({"label": st.sampled_from("12345678") | anything, "probability": anything}),
            max_size=8,
        )
        | anything,
    },
)


@given(st.fixed_dictionaries({"answers": st.lists(answer_like, max_size=3) | anything, "usage": anything}))
def test_whatever_a_provider_sends_each_rubric_gets_one_verdict(sent: dict[str, Any]) -> None:
    verdicts = verdicts_of(loosely(sent), RUBRICS)
    assert len(verdicts) == len(RUBRICS)
    for verdict in verdicts:
        if isinstance(verdict, Answer):
            assert math.isclose(sum(verdict.probabilities), 1.0, abs_tol=1e-9)
        else:
            assert verdict.reason


@given(st.integers(min_value=0, max_value=10**7), st.integers(min_value=1, max_value=50))
def test_a_requests_tokens_are_split_without_loss(total: int, parts: int) -> None:
    split = in_parts(total, parts)
    assert sum(part or 0 for part in split) == total
    assert max(split, key=lambda part: part or 0) - min(split, key=lambda part: part or 0) <= 1  # type: ignore[operator]
    assert in_parts(None, parts) == [None] * parts


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "never"}, None),
        ({"retry-after": "1e300"}, WAIT_MAX_S),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 9015 07:28:00 GMT"}, WAIT_MAX_S),
    ],
)
def test_a_providers_own_wait_is_read(headers: dict[str, str], wait_s: float | None) -> None:
    assert retry_after_s(headers) == wait_s


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_limit_grows_with_answers_and_falls_once_a_round() -> None:
    clock = Clock()
    pace = Pace(32, 1.0, clock=clock)
    assert pace.limit == LIMIT_AT_FIRST
    for _answer in range(50):
        pace.answered(0.2)
    assert pace.limit == 32
    clock.now += 1
    sent_at = clock.now
    clock.now += 1
    for _refused in range(20):
        pace.not_answered(sent_at)
    assert pace.limit == 22, "twenty refusals of the same moment count once"
    clock.now += 1
    pace.not_answered(clock.now)
    assert pace.limit == 15
    for _round in range(9):
        clock.now += 1
        pace.not_answered(clock.now)
    assert pace.limit == 1, "never nothing: else it would never rise again"
    pace.answered(0.2)
    assert pace.limit == 2


def test_rounds_in_vain_hold_back_everything_for_a_while() -> None:
    clock = Clock()
    pace = Pace(8, 1.0, clock=clock)
    for _round in range(ROUNDS_IN_VAIN_MAX - 1):
        clock.now += 1
        pace.not_answered(clock.now)
    assert pace.held_s() == 0
    clock.now += 1
    pace.not_answered(clock.now)
    assert pace.held_s() == 1.0
    pace.answered(0.2)
    assert pace.held_s() == 0


@given(st.integers(min_value=1, max_value=10_000), st.none() | st.floats(min_value=0, max_value=1e5))
def test_a_wait_is_never_shorter_than_asked_for_nor_the_backoff_longer_than_five_minutes(
    attempts: int, asked_s: float | None
) -> None:
    wait_s = Pace(8, 2.0).wait_s(attempts, asked_s)
    assert wait_s >= (asked_s or 0.0)
    assert wait_s >= min(2.0 * 2.0 ** min(attempts - 1, 30), BACKOFF_MAX_S) / 2
    assert wait_s <= max(BACKOFF_MAX_S, asked_s or 0.0)


@pytest.mark.parametrize(
    ("critic", "names"),
    [
        ("openai:gpt-6-luna", ["OPENAI_API_KEY", "openai:gpt-6-luna"]),
        ("local,anthropic:some-model", ["ANTHROPIC_API_KEY", "anthropic:some-model"]),
        ("openai", ["LOWLIGHT_CRITIC", "'openai'"]),
        ("gpt-5", ["LOWLIGHT_CRITIC", "'gpt-5'", "openai:MODEL"]),
        ("local,local", ["LOWLIGHT_CRITIC", "twice"]),
        ("local,none", ["LOWLIGHT_CRITIC", "'none'"]),
    ],
)
def test_a_critic_that_cannot_be_built_names_its_variable(critic: str, names: list[str]) -> None:
    with pytest.raises(BadSettings) as raised:
        build(Settings(critic=critic, openai_api_key=None, anthropic_api_key=None))
    assert all(name in str(raised.value) for name in names)


def test_no_critic_can_be_wanted() -> None:
    assert build(Settings(critic="none")) == []
