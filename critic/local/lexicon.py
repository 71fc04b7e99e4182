"""What is known of each language, read from `lexicons/<ISO 639-1>.toml`. Adding a language is adding a file.

stop_words  its commonest words; without them the script must tell the language
letters     letters that nearly no other of these languages writes
names       how people call it when they ask for an answer in it
negations   not, never, without
first_person, you   who speaks, and who is spoken to
talk        words about the talk itself: question, answer, topic, rules, help
inability   what a refusal says: "i cannot", one to four words
excuses     what surrounds one: regret, policy, being a machine
rude        insults and contempt
harsh       what is rude beside "you" and ordinary elsewhere: lazy, obviously, nonsense

Phrases are lower-case, with `'` for every apostrophe, parted by `|`. A list is never complete: what is said
in none of these words is not seen, and the bench's test phrases measure how often.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

Phrases = frozenset[str]

#: The lists of phrases of a file, in the order of `Lexicon`'s fields.
PHRASE_LISTS = ("negations", "first_person", "you", "talk", "inability", "excuses", "rude", "harsh")


@dataclass(frozen=True)
class Lexicon:
    """One language's lists; an empty one says that the file has none."""

    code: str
    stop_words: Phrases
    letters: str
    names: Phrases
    negations: Phrases
    first_person: Phrases
    you: Phrases
    talk: Phrases
    inability: Phrases
    excuses: Phrases
    rude: Phrases
    harsh: Phrases


@cache
def lexicons() -> dict[str, Lexicon]:
    """Return every language's lexicon by code; read once."""
    found = {}
    for file in resources.files("critic.local").joinpath("lexicons").iterdir():
        if not file.name.endswith(".toml"):
            continue
        code = file.name.removesuffix(".toml")
        lists = tomllib.loads(file.read_text("utf-8"))
        found[code] = Lexicon(
            code,
            frozenset(lists.get("stop_words", "").split()),
            lists.get("letters", ""),
            frozenset(lists.get("names", "").split()),
            *(_phrases(lists.get(name, "")) for name in PHRASE_LISTS),
        )
    return dict(sorted(found.items()))


def _phrases(text: str) -> Phrases:
    return frozenset(" ".join(phrase.split()) for phrase in text.split("|") if phrase.strip())
