"""Critics that are chat models: one digit with its log-probabilities, or three drawn objects."""

from collections.abc import Iterator

import pytest

from critic.drivers.base import Answer, CriticMisconfigured, CriticUnavailable, Refused, Unusable
from ingest.settings import Settings
from tests.providers import chat
from tests.providers.cases import RUBRICS, case_of, rubric
from tests.providers.kinds import KINDS, Asked, run
from tests.providers.loopback import Fault, running


@pytest.fixture
def chats(settings: Settings) -> Iterator[Asked]:
    provider = chat.ChatProvider()
    with running(provider):
        yield Asked(next(kind for kind in KINDS if kind.name == "chat-logprobs"), provider, settings)


def test_digits_spelled_in_several_ways_add_up_and_the_rest_is_kept(chats: Asked) -> None:
    chats.provider.tokens = [{" 2": 0.3, "2": 0.3, "\u01205": 0.1, "\u25816": 0.1, "The": 0.15, "8": 0.05}]
    (answer,) = chats.judge(case_of((rubric("tone"),)))
    assert isinstance(answer, Answer)
    assert answer.label_mass == pytest.approx(0.2, abs=1e-6)
    assert answer.probabilities == pytest.approx((0, 0.75, 0, 0, 0.125, 0.125, 0))
    assert answer.draws is None
    assert answer.cached_input_tokens is not None


def test_white_space_before_the_digit_is_passed_over(chats: Asked) -> None:
    chats.provider.tokens = [{"\n": 0.9, "7": 0.1}, {"3": 1.0}]
    (answer,) = chats.judge(case_of((rubric("tone"),)))
    assert isinstance(answer, Answer)
    assert answer.probabilities[2] == 1.0


@pytest.mark.parametrize(
    "tokens", [{"I": 0.9, "3": 0.1}, {"35": 1.0}, {"Level": 1.0}, {"\uff13": 1.0}, {"": 1.0}]
)
def test_an_answer_that_is_no_digit_is_no_score(chats: Asked, tokens: dict[str, float]) -> None:
    chats.provider.tokens = [tokens]
    (verdict,) = chats.judge(case_of((rubric("tone"),)))
    assert isinstance(verdict, Unusable)


def test_a_server_without_log_probabilities_is_named_with_the_remedy(chats: Asked) -> None:
    chats.provider.knows_logprobs = False
    with pytest.raises(CriticMisconfigured, match="chat-draws:http"):
        chats.judge()


def test_a_server_that_allows_fewer_alternatives_is_asked_for_fewer(chats: Asked) -> None:
    chats.provider.top_logprobs_max = 5
    driver = chats.driver()

    async def _twice() -> None:
        for _time in range(2):
            (answer,) = await driver.judge(case_of((rubric("tone"),)))
            assert isinstance(answer, Answer)
        await driver.close()

    run(_twice())
    assert [request.top_logprobs for request in chats.provider.requests] == [20, 8, 5, 5], "it is remembered"


def test_one_request_asks_for_one_digit_only(chats: Asked) -> None:
    chats.judge()
    assert len(chats.provider.requests) == len(RUBRICS)
    assert {request.messages[0].content.count("Question ") for request in chats.provider.requests} == {1}


def test_three_drawn_objects_become_shares(chats: Asked) -> None:
    draws = Asked(next(kind for kind in KINDS if kind.name == "chat-draws"), chats.provider, chats.settings)
    levels = iter([2, 3, 3])
    chats.provider.judge = lambda _sent, name: next(levels) if name == "accuracy" else 7
    accuracy, tone = draws.judge()
    assert isinstance(accuracy, Answer)
    assert isinstance(tone, Answer)
    assert accuracy.probabilities == pytest.approx((0, 1 / 3, 2 / 3, 0, 0, 0, 0))
    assert (tone.probabilities[6], tone.draws, len(chats.provider.requests)) == (1.0, 3, 3)


@pytest.mark.parametrize(
    "text", ["I give it a 6.", "6", "[6]", '{"accuracy": "6"}', '{"accuracy": 8}', "{}", ""]
)
def test_no_number_is_taken_out_of_prose(chats: Asked, text: str) -> None:
    draws = Asked(next(kind for kind in KINDS if kind.name == "chat-draws"), chats.provider, chats.settings)
    chats.provider.text = text
    assert [type(verdict) for verdict in draws.judge()] == [Unusable, Unusable]


def test_a_refusal_and_an_answer_cut_by_its_length_are_told_apart(chats: Asked) -> None:
    draws = Asked(next(kind for kind in KINDS if kind.name == "chat-draws"), chats.provider, chats.settings)
    chats.provider.finish_reason = "length"
    assert [type(verdict) for verdict in draws.judge()] == [Unusable, Unusable]
    chats.provider.refuses = True
    refused = draws.judge()
    assert [type(verdict) for verdict in refused] == [Refused, Refused]
    used = len(chats.provider.requests[-1].messages[0].content + chats.provider.requests[-1].case) // 4
    total = sum(verdict.input_tokens or 0 for verdict in refused if isinstance(verdict, Refused))
    assert total == pytest.approx(3 * used, abs=9), "three refused draws are charged three times"
    assert [type(verdict) for verdict in chats.judge()] == [Refused, Refused]


def test_what_two_draws_cost_is_known_where_the_third_did_not_come(chats: Asked) -> None:
    draws = Asked(next(kind for kind in KINDS if kind.name == "chat-draws"), chats.provider, chats.settings)
    chats.provider.faults.append(Fault(429))
    with pytest.raises(CriticUnavailable) as caught:
        draws.judge()
    assert len(caught.value.paid) == 2
    assert all(came.input_tokens for came in caught.value.paid)
