"""Which language a text is written in, from its script and its commonest words. No model.

Stop words are counted, each worth less the more languages share it; a few letters that one language
alone writes help. A text too short or too mixed to tell answers None: "ok, danke" may be anything.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache

from critic.local.lexicon import Phrases, lexicons
from critic.local.texts import words_of

#: Scripts that name their language; the first that a third of all letters belong to wins.
_SCRIPTS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("ja", re.compile("[\u3040-\u30ff]")),
    ("ko", re.compile("[\uac00-\ud7af]")),
    ("zh", re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")),
    ("th", re.compile("[\u0e00-\u0e7f]")),
    ("hi", re.compile("[\u0900-\u097f]")),
    ("el", re.compile("[\u0370-\u03ff]")),
    ("he", re.compile("[\u0590-\u05ff]")),
    ("ar", re.compile("[\u0600-\u06ff]")),
)
_PERSIAN = re.compile("[پچژگ]")
_NOT_LATIN = re.compile("[\u0370-\u1fff\u3040-\uffdc]")
_LATIN = re.compile("[a-zA-Z]")

#: Pairs whose everyday words are nearly the same: one is never held against the other.
_TWINS = {frozenset(pair) for pair in (("da", "no"), ("da", "sv"), ("no", "sv"), ("ru", "bg"), ("ru", "uk"))}

#: Characters and words read at most; a language shows itself early.
_CHARS_MAX = 4_000
_WORDS_MAX = 400
#: Least words that make an answer.
_WORDS_MIN = 4
#: Least different words of a language: one alone may be a name, or anything ("vs", "pro", "stop").
_DIFFERENT_MIN = 2
#: An answer needs this much weighted evidence, and the first language this lead over the second:
#: little evidence does where nothing speaks for another language.
_ENOUGH = ((1.5, 1.4), (0.8, 3.0))


@cache
def _worth() -> dict[str, dict[str, float]]:
    """Return what each stop word says for each language: one, parted among the languages that have it."""
    shared = Counter(word for lexicon in lexicons().values() for word in lexicon.stop_words)
    worth: dict[str, dict[str, float]] = {}
    for code, lexicon in lexicons().items():
        for word in lexicon.stop_words:
            worth.setdefault(word, {})[code] = 1.0 / shared[word]
    return worth


@cache
def _letters() -> dict[str, str]:
    return {letter: code for code, lexicon in lexicons().items() for letter in lexicon.letters}


@cache
def _named() -> dict[str, str]:
    return {name: code for code, lexicon in lexicons().items() for name in lexicon.names}


def stop_words_of(language: str | None) -> Phrases:
    """Return a language's commonest words; none where it is not known or has no list."""
    lexicon = lexicons().get(language or "")
    return lexicon.stop_words if lexicon is not None else frozenset()


def language_of(text: str, words: Sequence[str] | None = None) -> str | None:
    """Return the ISO 639-1 code of the language `text` is written in, or None where it cannot be told.

    Args:
        text: any text; only its first 4,000 characters and 400 words are read.
        words: its words, where the caller has split it already.
    """
    text = text[:_CHARS_MAX]
    if not text.isascii():
        by_script = _by_script(text)
        if by_script is not None:
            return by_script
    if words is None:
        words = words_of(text)
    if len(words) < _WORDS_MIN:
        return None
    worth, listed = dict[str, float](), _worth()
    different: dict[str, set[str]] = {}
    for word in words[:_WORDS_MAX]:
        plain = word.lower().replace("’", "'")
        # French and Italian join small words on: l'ancienne, dell'ordine.
        found = listed.get(plain) or listed.get(plain.partition("'")[0] + "'", {})
        for code, value in found.items():
            worth[code] = worth.get(code, 0.0) + value
            different.setdefault(code, set()).add(plain)
    if not text.isascii():
        for letter, code in _letters().items():
            seen = text.count(letter)
            if seen:
                worth[code] = worth.get(code, 0.0) + min(seen, 4)
                different.setdefault(code, set()).add(letter)
    ranked = sorted(worth.items(), key=lambda item: -item[1])
    # Running text is a third stop words; a list of names, or code, is not, and stays untold.
    if not ranked or ranked[0][1] < 0.03 * min(len(words), _WORDS_MAX):
        return None
    if len(different[ranked[0][0]]) < _DIFFERENT_MIN:
        return None
    (first, most), (second, next_most), (_, third_most) = [*ranked, ("", 0.0), ("", 0.0)][:3]
    rival = third_most if frozenset((first, second)) in _TWINS else next_most
    return first if any(most >= least and most >= lead * rival for least, lead in _ENOUGH) else None


def _by_script(text: str) -> str | None:
    letters = sum(map(str.isalpha, text))
    if letters < 4:
        return None
    for code, pattern in _SCRIPTS:
        seen = len(pattern.findall(text))
        # Kana beside Han is Japanese even where it is the smaller part.
        if seen * (10 if code == "ja" else 3) >= letters:
            return "fa" if code == "ar" and len(_PERSIAN.findall(text)) * 50 >= letters else code
    return None


def asks_for(words: Sequence[str], language: str) -> bool:
    """Return whether a question names `language` ("translate into French"): an answer in it is right."""
    named = _named()
    return any(named.get(word.lower()) == language for word in words[:_WORDS_MAX])


def asks_to_translate(words: Sequence[str]) -> bool:
    """Return whether a question speaks of translating: then an answer in any language may be right."""
    return any(map(_translates, map(str.lower, words[:_WORDS_MAX])))


def _translates(word: str) -> bool:
    return word.startswith(("translat", "übersetz", "tradu", "переве", "перевод", "翻"))


def asks_for_any(words: Sequence[str]) -> bool:
    """Return whether a question names any language, or speaks of translating."""
    named = _named()
    return any(word in named or _translates(word) for word in map(str.lower, words[:_WORDS_MAX]))


def surely_differ(one: str | None, other: str | None) -> bool:
    """Return whether both languages are known and surely not the same."""
    return one is not None and other is not None and one != other and frozenset((one, other)) not in _TWINS


def scripts_differ(asked: str, output: str) -> bool:
    """Return whether one text is all but Latin and the other mostly so: told even where both are short."""
    return _mostly_latin(asked) == -_mostly_latin(output) != 0


def _mostly_latin(text: str) -> int:
    """Return 1 for Latin script, -1 for another, 0 for too little or a mixture."""
    latin, other = len(_LATIN.findall(text[:_CHARS_MAX])), len(_NOT_LATIN.findall(text[:_CHARS_MAX]))
    if latin + other < 4:
        return 0
    return 1 if other * 20 <= latin else -1 if latin * 3 <= other else 0
