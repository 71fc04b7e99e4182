"""Ordinary support traffic written by us, which the shipped guard is fitted with beside the public sets.

Those hold few polite short replies, few e-mails and hardly a language but English; without such texts a
guard takes "you" for rude. Flow: topics with slots -> support_calls -> tests.bench.fit_shipped_guard.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from critic.local import Texts


@dataclass(frozen=True)
class _Topic:
    question: str
    article: str
    answer: str


@cache
def _topics() -> dict[str, tuple[_Topic, ...]]:
    """Return the topics of `support_topics.toml` by language."""
    lists = tomllib.loads(Path(__file__).with_name("support_topics.toml").read_text("utf-8"))
    return {code: tuple(_Topic(**topic) for topic in topics) for code, topics in lists.items()}


_THINGS = ("kettle", "lamp", "router", "drill", "bicycle", "heater", "printer", "camera", "oven", "tent")
_NAMES = ("Ms Okafor", "Mr Lind", "Dana", "Tomas Reyes", "Ines", "Dr Patel", "Jonas Weber", "Aiko")
_DAYS = {
    "en": ("Monday", "Tuesday", "Friday"), "de": ("Montag", "Dienstag", "Freitag"),
}  # fmt: skip
_OPENINGS = {
    "en": ("", "", "Happy to help. ", "Thanks for asking. ", "Hi! ", "Good question. ", "Of course. "),
    "de": ("", "", "Gerne. ", "Kein Problem. ", "Vielen Dank für Ihre Frage. "),
    "fr": ("", "", "Avec plaisir. ", "Bonjour ! ", "Merci pour votre question. "),
    "es": ("", "", "Con mucho gusto. ", "¡Hola! "),
}
_CLOSINGS = {
    "en": ("", "", " Tell me if you get stuck.", " Anything else I can do for you?", " I hope this helps!",
           " Just write to us if it does not work."),
    "de": ("", "", " Kann ich sonst noch etwas für Sie tun?", " Melden Sie sich gerne wieder."),
    "fr": ("", "", " Puis-je vous aider pour autre chose ?", " Cela devrait suffire."),
    "es": ("", "", " ¿Puedo ayudarle en algo más?", " Quedo a su disposición."),
}  # fmt: skip


def support_calls(n: int, *, with_source: bool, seed: int) -> list[Texts]:
    """Return `n` ordinary calls: half of them English, each other language as often as it has topics."""
    random = Random(seed)
    by_language = _topics()
    others = [code for code, topics in by_language.items() for _ in topics if code != "en"]
    calls = []
    for _ in range(n):
        code = "en" if random.random() < 0.5 else random.choice(others)
        topic, other = random.choice(by_language[code]), random.choice(by_language[code])
        slots = {
            "thing": random.choice(_THINGS),
            "name": random.choice(_NAMES),
            "day": random.choice(_DAYS.get(code, _DAYS["en"])),
            "n": random.randrange(2, 31),
            "m": random.randrange(2, 31),
            "big": random.randrange(40, 9_000),
        }
        answer = topic.answer.format(**slots)
        opening = random.choice(_OPENINGS.get(code, ("",)))
        answer = opening + answer + random.choice(_CLOSINGS.get(code, ("",)))
        if code == "en" and random.random() < 0.25:
            regards = random.choice(("Kind regards,", "Best wishes,", "Yours,"))
            sender = random.choice(("Mara", "The support team", "Leo, Northside Tools"))
            answer = f"Dear {slots['name']},\n\n{answer}\n\n{regards}\n{sender}"
        articles = [topic.article.format(**slots), other.article.format(**slots)]
        random.shuffle(articles)
        calls.append(Texts(topic.question.format(**slots), answer, tuple(articles) if with_source else ()))
    return calls
