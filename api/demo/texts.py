"""What the people of the demo say and read: the written texts of `texts/`, put together and filled in.

Flow: texts/*.toml -> `Writer` (one seeded random source) -> `Turn`s, which `api.demo.traffic` turns into
calls. Crumbline, the product, and everything in these texts are invented for this project.
"""

import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "texts"
LANGUAGES = ("en", "de", "es", "fr")

#: Words long enough to tell topics apart, slots left out.
_WORD = re.compile(r"(?<![{\w])[^\W\d_]{5,}(?![}\w])")
_SLOT = re.compile(r"{(\w+)}")
_CAPITAL = re.compile(r"^([a-zà-ÿ])|(?<=[.!?] )([a-zà-ÿ])")


@dataclass(frozen=True)
class Turn:
    """One exchange: what was asked, the right answer, and what it rests on.

    Attributes:
        about: the topic's id.
        wrong_language: the same answer in English, where the person does not write English.
    """

    about: str
    message: str
    answer: str
    context: tuple[str, ...] = ()
    wrong_language: str = ""


def _stems(text: str) -> set[str]:
    return {word[:5] for word in _WORD.findall(text.lower())}


@cache
def written(name: str) -> dict[str, Any]:
    """Return one file of texts as it was written."""
    return tomllib.loads((FOLDER / f"{name}.toml").read_text("utf-8"))


def sentence_case(text: str) -> str:
    """Return the text with a capital letter at the start of each sentence: slots may stand there."""
    return _CAPITAL.sub(lambda found: found.group().upper(), text.strip())


class Writer:
    """Puts texts together for one person, always the same for the same seed."""

    def __init__(self, source: random.Random, language: str, shop: str) -> None:
        self._source = source
        self._names = written("names")
        self._language = language
        self._shop = shop
        #: slots that the person has mentioned
        self._spoken_of: set[str] = set()

    def support(self, turns: int) -> list[Turn]:
        """Return a conversation with the help assistant: a question, then follow-ups or other questions."""
        topics = written(f"support.{self._language}")["topic"]
        slots = self._slots()
        topic = self._pick(topics)
        conversation = [self._question(topic, topics, slots)]
        waiting = list(topic.get("follow", ()))
        while len(conversation) < turns:
            if waiting:
                conversation.append(self._follow_up(topic, waiting.pop(0), slots))
            else:
                topic = self._pick([other for other in topics if other is not topic])
                conversation.append(self._question(topic, topics, slots))
                waiting = list(topic.get("follow", ()))
        return conversation

    def reply(self) -> Turn:
        """Return a customer's message with the baker's notes, and the letter drafted from them."""
        letters = written("reply")
        case = self._pick(letters["case"])
        slots = self._slots()
        opening = self._fill(self._pick(letters["greetings"]), slots)
        body = sentence_case(self._fill(" ".join(self._pick(choices) for choices in case["draft"]), slots))
        closing = self._fill(self._pick(letters["closings"]), slots)
        message = sentence_case(self._fill(self._pick(case["message"]), slots))
        notes = self._fill(self._pick(case["notes"]), slots)
        return Turn(
            case["id"],
            f"Message from {slots['guest']}:\n{message}\n\nMy notes: {notes}\n\nWrite the reply.",
            f"{opening}\n\n{body}\n\n{closing}",
            (self._fill(case["facts"] + " Signed by: {baker}, {shop}.", slots),),
        )

    def welcome(self, turns: int, *, first_day: bool) -> list[Turn]:
        """Return a chat of somebody's first days; on the first one it starts with an opening question."""
        guide = written("welcome")
        slots = self._slots()
        exchanges = [one for one in guide["exchange"] if not one.get("open")]
        order = self._source.sample(exchanges, min(turns, len(exchanges)))
        if first_day:
            order[0] = self._pick([one for one in guide["exchange"] if one.get("open")])
        chat = []
        for one in order:
            asked = self._pick(one["message"])
            self._spoken_of |= set(_SLOT.findall(asked))
            reply = self._framed(self._sentences(one["reply"], slots, asked), self._names["welcome"], asked)
            chat.append(Turn(one["id"], sentence_case(self._fill(asked, slots)), reply, (guide["guide"],)))
        return chat

    def rude(self) -> str:
        """Return what nobody should be told on their first day."""
        rude = written("welcome")["rude"]
        slots = self._slots()
        parts = [rude["first"], rude["body"], rude["last"]]
        if self._source.random() < 0.25:
            parts.pop(self._source.choice((0, 2)))
        return sentence_case(self._fill(" ".join(self._pick(part) for part in parts), slots))

    def comment(self, kind: str) -> str:
        """Return the words that go with a thumb: bad, good, rude, wrong_language, long_document."""
        return str(self._pick(self._names["feedback"][kind]))

    def _question(self, topic: Mapping[str, Any], topics: Sequence[Any], slots: Mapping[str, str]) -> Turn:
        names = self._names[self._language]
        asked = self._pick(topic["questions"])
        self._spoken_of |= set(_SLOT.findall(asked))
        question = sentence_case(self._pick(names["hello"]) + self._fill(asked, slots))
        thanks = self._pick(names["thanks"])
        if thanks and question[-1] not in ".!?":
            question += "."
        other = self._pick([one for one in topics if one is not topic])
        passages = [f"{one['title']}\n{one['passage']}" for one in (topic, other)]
        return Turn(
            topic["id"],
            question + thanks,
            self._framed(self._sentences(topic["answer"], slots, asked), names, asked),
            tuple(passages),
            self._in_english(topic["id"], slots),
        )

    def _follow_up(self, topic: Mapping[str, Any], follow: Any, slots: Mapping[str, str]) -> Turn:
        asked = self._pick(follow["q"])
        self._spoken_of |= set(_SLOT.findall(asked))
        return Turn(
            topic["id"],
            sentence_case(self._fill(asked, slots)),
            self._framed(self._sentences(follow["a"], slots), self._names[self._language], asked),
            (f"{topic['title']}\n{topic['passage']}",),
            self._in_english(topic["id"], slots, is_follow_up=True),
        )

    def _in_english(self, topic_id: str, slots: Mapping[str, str], *, is_follow_up: bool = False) -> str:
        if self._language == "en":
            return ""
        topic = next(one for one in written("support.en")["topic"] if one["id"] == topic_id)
        # The names stay as the person wrote them, as a model would leave them.
        choices = topic["follow"][0]["a"] if is_follow_up else topic["answer"]
        return self._sentences(choices, slots, language="en")

    def _sentences(
        self,
        choices: Sequence[Sequence[str]],
        slots: Mapping[str, str],
        asked: str = "",
        *,
        language: str | None = None,
    ) -> str:
        """Return one sentence of each list: where some speak of what was asked, one of those.

        A name or product that nobody has spoken of becomes "the customer", "the products".
        """
        stems = _stems(asked)
        said = []
        for each in choices:
            fitting = [one for one in each if set(_SLOT.findall(one)) <= self._spoken_of] or each
            shared = [len(stems & _stems(one)) for one in fitting]
            said.append(self._pick([one for one, n in zip(fitting, shared, strict=True) if n == max(shared)]))
        unspoken = {
            slot: word
            for slot, word in self._names[language or self._language]["unspoken"].items()
            if slot not in self._spoken_of
        }
        return sentence_case(self._fill(" ".join(said), {**slots, **unspoken}))

    def _framed(self, answer: str, names: Mapping[str, Any], asked: str) -> str:
        """Return the answer between the small words around it; "Good question" only follows a question."""
        lead, close = self._pick(names["lead"]), self._pick(names["close"])
        return f"{lead if '?' in asked else ''}{answer}{close}"

    def _slots(self) -> dict[str, str]:
        names = self._names[self._language]
        product, product2 = self._source.sample(names["products"], 2)
        baker, staff = self._source.sample(names["staff"], 2)
        pieces = self._source.randint(8, 90)
        return {
            "customer": self._pick(names["customers"]),
            "product": product,
            "product2": product2,
            "staff": staff,
            "baker": baker,
            "driver": self._pick(names["drivers"]),
            "day": self._pick(names["days"]),
            "guest": self._pick(self._names["people"]["guests"]),
            "shop": self._shop,
            "n": str(pieces),
            "order": str(self._source.randint(3100, 9900)),
            "amount": f"{pieces * self._source.choice((1.7, 1.95, 2.4, 3.2)):.2f}",
        }

    def _fill(self, text: str, slots: Mapping[str, str]) -> str:
        return text.format_map(slots)

    def _pick(self, choices: Sequence[Any]) -> Any:
        return self._source.choice(choices)
