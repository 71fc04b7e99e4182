"""Counts the phrases that refusals and rude answers are made of; the lists are `critic.local.lexicon`'s."""

from collections.abc import Sequence
from functools import cache

from critic.local.lexicon import Phrases, lexicons
from critic.local.texts import ngrams

#: Languages written without spaces: their phrases are looked for as written.
_UNSPACED = {"zh", "ja", "ko", "th"}
#: Words of the longest phrase.
_RUN_MAX = 4


@cache
def _listed(name: str, language: str | None) -> Phrases:
    """Return what to look for: English and the text's language; every language where it is not known."""
    codes = lexicons() if language is None else {"en", language} & lexicons().keys()
    return frozenset().union(*(getattr(lexicons()[code], name) for code in codes))


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
    found = sum(map(_listed(name, language).__contains__, runs))
    if language in _UNSPACED:
        found += sum(map(text.count, getattr(lexicons()[language], name)))
    return found
