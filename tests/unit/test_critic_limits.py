"""Limits out of any headers, errors out of any body, and answers of providers that check nothing."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from critic.drivers.base import Answer
from critic.drivers.chat import Choice, choice_of
from critic.drivers.chat_draws import draw_of
from critic.drivers.chat_logprobs import verdict_of
from critic.drivers.draws import Draw, verdicts_of
from critic.drivers.limits import limits_of, span_s
from critic.drivers.openai_errors import failure_of
from critic.drivers.systemone import verdicts_of as systemone_verdicts
from tests.providers.cases import RUBRICS

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("120ms", 0.12),
        ("1h2m3.5s", 3723.5),
        ("1d", 86400.0),
        ("1.5", 1.5),
        ("1970-01-01T00:01:00Z", 60.0),
        ("1969-12-31T23:59:00Z", 0.0),
        ("soon", None),
        ("-3", None),
        ("nan", None),
        ("s", None),
        ("", None),
        (None, None),
    ],
)
def test_a_reset_is_read_in_any_of_its_spellings(said: str | None, seconds: float | None) -> None:
    assert span_s(said, now_s=0.0) == (None if seconds is None else pytest.approx(seconds))


def test_the_tightest_of_several_token_limits_counts() -> None:
    limits = limits_of(
        {
            "anthropic-ratelimit-requests-limit": "50",
            "anthropic-ratelimit-requests-remaining": "49",
            "anthropic-ratelimit-requests-reset": "1970-01-01T00:00:01Z",
            "anthropic-ratelimit-input-tokens-remaining": "9000",
            "anthropic-ratelimit-output-tokens-remaining": "0",
            "anthropic-ratelimit-output-tokens-reset": "1970-01-01T00:00:40Z",
        },
        now_s=0.0,
    )
    assert limits is not None
    assert (limits.requests_left, limits.requests_max, limits.tokens_left, limits.spent) == (49, 50, 0, True)
    assert limits.resets_in_s == 40.0, "of what is used up, not of what is nearest"


def test_headers_without_limits_say_nothing() -> None:
    assert limits_of({"content-type": "application/json"}) is None
    assert limits_of({"x-ratelimit-remaining-requests": "many"}) is None


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "x-ratelimit-limit-requests",
                "x-ratelimit-remaining-requests",
                "x-ratelimit-remaining-tokens",
                "x-ratelimit-reset-requests",
                "x-ratelimit-reset-tokens",
                "anthropic-ratelimit-tokens-reset",
            ]
        ),
        st.text(max_size=20) | st.integers().map(str) | st.floats().map(str),
    )
)
def test_no_header_breaks_the_reading(headers: dict[str, str]) -> None:
    limits = limits_of(headers)
    if limits is not None:
        assert (limits.requests_left or 0) >= 0
        assert limits.resets_in_s is None or limits.resets_in_s >= 0


@given(st.sampled_from([400, 401, 404, 429, 500]), anything)
def test_any_error_body_has_a_meaning(status: int, body: Any) -> None:
    failure = failure_of("c", status, body, {}, key_variable="K")
    assert failure.message


@pytest.mark.parametrize(
    ("status", "body", "what"),
    [
        (
            400,
            {"detail": {"error_type": "invalid_request", "message": "Unknown model: jev-9"}},
            "wrong_model",
        ),
        (400, {"error": {"message": "bad", "param": "model"}}, "wrong_model"),
        (404, {"object": "error", "message": "The model `x` does not exist.", "code": 404}, None),
        (429, {"error": {"code": "insufficient_quota", "message": "You exceeded"}}, "quota_spent"),
        (400, {"error": {"message": "This model's maximum context length is 8192 tokens"}}, "too_long"),
        (400, {"error": {"code": 400, "type": "exceed_context_size_error", "message": "n"}}, "too_long"),
        (500, {"error": {"message": "context length"}}, None),
        (400, {"error": {"code": "content_policy_violation", "message": "no"}}, "declined"),
        (422, {"detail": [{"loc": ["body", "state"], "msg": "Field required"}]}, None),
        (400, "plain words", None),
    ],
)
def test_errors_are_told_apart_as_each_server_words_them(status: int, body: Any, what: str | None) -> None:
    failure = failure_of("c", status, body, {}, key_variable="K")
    told = [name for name in ("wrong_model", "quota_spent", "too_long", "declined") if getattr(failure, name)]
    assert told == ([what] if what else [])


def sound(verdict: object) -> None:
    if isinstance(verdict, Answer):
        assert math.isclose(math.fsum(verdict.probabilities), 1.0, abs_tol=1e-9)
        assert all(0 <= share <= 1 for share in verdict.probabilities)
    else:
        assert getattr(verdict, "reason", None)


systemone_answer = st.fixed_dictionaries(
    {"type": st.sampled_from(["score", "choice"]) | anything},
    optional={
        "probabilities": st.dictionaries(
            st.sampled_from("0123456789"), st.floats(0, 1) | anything, max_size=8
        ),
        "confidence": anything,
    },
)


@given(
    st.fixed_dictionaries(
        {
            "answers": st.dictionaries(st.sampled_from(["accuracy", "tone"]), systemone_answer | anything)
            | anything
        }
    )
)
def test_whatever_a_systemone_server_sends_each_rubric_gets_one_verdict(sent: dict[str, Any]) -> None:
    verdicts = systemone_verdicts(sent, RUBRICS)
    assert len(verdicts) == len(RUBRICS)
    for verdict in verdicts:
        sound(verdict)


token = st.fixed_dictionaries(
    {"token": st.sampled_from(["1", " 2", "7", "8", "12", "\n", "The", ""]) | anything},
    optional={"logprob": st.floats(-20, 0) | anything},
)
place = st.fixed_dictionaries(
    {"token": st.sampled_from(["1", " 2", "\n", "The"]) | anything, "logprob": st.floats(-20, 0) | anything},
    optional={"top_logprobs": st.lists(token | anything, max_size=8) | anything},
)


@given(st.lists(place | anything, max_size=3))
def test_whatever_log_probabilities_come_they_are_a_distribution_or_a_reason(tokens: list[Any]) -> None:
    sound(verdict_of(Choice("7", "stop", tokens, {})))


@given(st.dictionaries(st.sampled_from(["choices", "usage", "model"]), anything), st.text(max_size=30))
def test_whatever_a_chat_server_sends_is_read_without_a_crash(sent: dict[str, Any], content: str) -> None:
    came = choice_of(sent)
    assert isinstance(came, Choice) or came.reason  # type: ignore[union-attr]
    message = {"choices": [{"message": {"content": content}, "finish_reason": "stop"}]}
    drawn = draw_of(message)
    if isinstance(drawn, Draw):
        assert isinstance(json.loads(content), dict), "only a text that is the whole object"
    for verdict in verdicts_of([drawn], [rubric.name for rubric in RUBRICS]):
        sound(verdict)
