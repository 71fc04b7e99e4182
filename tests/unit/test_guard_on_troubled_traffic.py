"""A guard fitted on a team's own traffic keeps seeing the failures which that traffic already holds.

Own traffic is never clean: what is fitted as ordinary here holds rude, wrong-language and cut-off answers.
"""

from collections.abc import Callable
from random import Random

import pytest

from critic.local import LocalCritic, Texts, fit_guard
from critic.local.languages import language_of
from tests.bench.plant_phrases import TESTING
from tests.bench.support_replies import support_calls

BASE_RATE = 0.02
#: What a page calls a failure.
SEEN = 0.5

ENGLISH_REPLIES = (
    "You can change that under Settings. It takes effect at once, and nobody is charged twice.",
    "We have sent the parcel again today. It should be with you by the end of the week.",
    "Open the invoice and press Download, then choose the month that you need.",
    "Yes, that works on every plan. Ask your team's owner to switch it on for you.",
)


def rude(call: Texts, random: Random) -> Texts:
    """The right answer behind a line of contempt, or the line alone."""
    line = random.choice(TESTING.rude["en"][:12])
    return Texts(call.input, f"{line} {call.output}" if random.random() < 0.7 else line, call.context)


def wrong_language(call: Texts, random: Random) -> Texts:
    """An English answer to somebody who wrote in another language."""
    return Texts(call.input, random.choice(ENGLISH_REPLIES), call.context)


def truncated(call: Texts, random: Random) -> Texts:
    """The answer without its end."""
    words = (call.output or "").split()
    kept = words[: random.randrange(8, max(9, len(words) - 4))]
    return Texts(call.input, " ".join(kept).rstrip(".,:;!?"), call.context)


TROUBLES = {"rude": rude, "wrong_language": wrong_language, "truncated": truncated}


def troubled(seed: int, each: int) -> dict[str, list[Texts]]:
    """Return `each` calls of every trouble."""
    random = Random(seed)
    calls = support_calls(20 * each, with_source=True, seed=seed)
    english = [call for call in calls if language_of(call.output or "") == "en"]
    foreign = [call for call in calls if language_of(call.input) in ("de", "fr", "es")]

    def broken(how: Callable[[Texts, Random], Texts], among: list[Texts]) -> list[Texts]:
        return [how(call, random) for call in random.sample(among, each)]

    return {
        name: broken(how, foreign if name == "wrong_language" else english) for name, how in TROUBLES.items()
    }


@pytest.fixture(scope="module")
def own_critic() -> LocalCritic:
    """A critic refitted on 200 outputs of which 8 % are rude, 8 % in the wrong language and 8 % cut off."""
    own = support_calls(152, with_source=True, seed=11)
    own += [call for calls in troubled(12, 16).values() for call in calls]
    Random(13).shuffle(own)
    return LocalCritic(BASE_RATE, fit_guard(own))


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_trouble_in_the_own_traffic_stays_seen(own_critic: LocalCritic, trouble: str) -> None:
    """At least nine in ten of what the shipped guard catches, and called by its name."""
    calls = troubled(14, 40)[trouble]
    shipped, own = (
        [reading for reading in critic.read(calls) if (reading.p_fail or 0.0) >= SEEN]
        for critic in (LocalCritic(BASE_RATE), own_critic)
    )
    assert len(shipped) >= 15
    assert len(own) >= 0.9 * len(shipped)
    assert sum(reading.kind == trouble for reading in own) >= 0.8 * len(own)


def test_ordinary_answers_stay_unsuspected(own_critic: LocalCritic) -> None:
    """Leaving suspects out of a fit must not make it jumpy."""
    readings = own_critic.read(support_calls(300, with_source=True, seed=15))
    assert sum((reading.p_fail or 0.0) >= SEEN for reading in readings) <= 3


def test_what_most_answers_look_like_is_no_failure() -> None:
    """A team whose product answers every German question in English on purpose is not told so each time."""
    german = [
        call for call in support_calls(1_600, with_source=False, seed=16) if language_of(call.input) == "de"
    ]
    random = Random(17)
    answered = [wrong_language(call, random) for call in german]
    before, after = LocalCritic(BASE_RATE), LocalCritic(BASE_RATE, fit_guard(answered[:80]))

    def suspected(critic: LocalCritic) -> float:
        readings = critic.read(answered[80:])
        return sum((reading.p_fail or 0.0) >= SEEN for reading in readings) / len(readings)

    assert suspected(before) > 0.8
    assert suspected(after) < 0.1


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("Wie setze ich eine neue PIN?", "PINs have 4 digits and are set under Team by the owner."),
        ("Peut-on enlever la limite de 11 heures ?", "No, less than 11 hours between two shifts is refused."),
        ("¿Dónde veo los pedidos de mañana?", "Open Production and choose the day, they are there."),
        ("Как мне вернуть деньги за заказ?", "Open your order and press Refund."),
    ],
)  # fmt: skip
def test_a_short_question_shows_its_language(asked: str, answered: str) -> None:
    """Five words of a question and ten of an answer do, whatever else the answer is like."""
    reading = LocalCritic(BASE_RATE).read([Texts(asked, answered)])[0]
    assert reading.kind == "wrong_language"
    assert (reading.p_fail or 0.0) > SEEN


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("Übersetze bitte: Wir haben heute leider geschlossen.", "We are unfortunately closed today."),
        ("Antworte mir bitte auf Englisch: wie lange habt ihr heute offen?", "We are open until six today."),
        (
            "Schreib mir bitte eine Funktion, die zwei Zahlen addiert.",
            "```python\ndef add(a, b):\n    # this is the sum of both, as you asked\n    return a + b\n```",
        ),
        (
            "Напиши функцию, которая складывает два числа.",
            "```python\ndef add(a, b):\n    return a + b\n```",
        ),
        (
            "Please summarise this review for me.\nDas Hotel war sehr schön, aber das Frühstück hat uns "
            "nicht geschmeckt und wir mussten lange auf das Zimmer warten.",
            "The guest liked the hotel, but not the breakfast, and had to wait for the room.",
        ),
        ("azure automation auto start stop tag vm", "You can tag the machines and run a schedule for them."),
        ("iphone 13 pro max", "Das iPhone 13 Pro Max ist ab morgen wieder bei uns auf Lager."),
        ("Какой телефон лучше?", "iPhone 15"),
    ],
)  # fmt: skip
def test_another_language_on_purpose_is_no_failure(asked: str, answered: str) -> None:
    """Translations, code, quoted texts and names: nobody got the wrong language."""
    reading = LocalCritic(BASE_RATE).read([Texts(asked, answered)])[0]
    assert (reading.kinds or {})["wrong_language"] < 0.1
