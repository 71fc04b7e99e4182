"""Counts the phrases that refusals and rude answers are made of; the lists are `critic.local.lexicon`'s."""

from collections.abc import Sequence
from functools import cache
from operator import attrgetter

from critic.local.lexicon import Phrases, lexicons
from critic.local.texts import ngrams

#: Languages written without spaces: their phrases are looked for as written.
_UNSPACED = {"zh", "ja", "ko", "th"}
#: Words of the longest phrase.
_RUN_MAX = 4


@cache
def _listed(name: str, language: str | None) -> tuple[Phrases, ...]:
    """Return where to look: English and the text's language; every language's where it is not known."""
    read = attrgetter(name)
    if language is None:
        return (frozenset().union(*(read(lexicon) for lexicon in lexicons().values())),)
    codes = dict.fromkeys(("en", language))
    return tuple(read(lexicons()[code]) for code in codes if code in lexicons())


def runs_of(words: Sequence[str]) -> list[str]:
    """Return every run of one to four of the lower-case `words`, as phrases are written."""
    runs = list(words)
    for n in range(2, _RUN_MAX + 1):
        runs.extend(" ".join(run) for run in ngrams(words, n))
    return runs


def count(name: str, runs: Sequence[str], text: str, language: str | None) -> int:
    """Return how often a phrase of one list stands in a text.

    Args:
        name: one of `critic.local.lexicon.PHRASE_LISTS`.
        runs: `runs_of` its lower-case words.
        text: the text itself, for languages written without spaces.
        language: its language, None where not known.
    """
    listed = _listed(name, language)
    found = sum(1 for run in runs for phrases in listed if run in phrases)
    if language in _UNSPACED:
        found += sum(text.count(phrase) for phrase in getattr(lexicons()[language], name))
    return found
