"""How an output leans on its input and its source: shared words, names, numbers, and nearest sentences.

Vectors are TF-IDF over word stems, the sentences of the source being the documents; nothing is learned.
Every figure lies in 0..1. Flow: critic.local.features and critic.local.grounding call `against_source`.
"""

import re
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from critic.local.languages import stop_words_of
from critic.local.texts import ngrams, sentences_of, stem, words_of

_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")

#: Sentences compared at most, of an output and of a source.
OUTPUT_SENTENCES_MAX = 40
SOURCE_SENTENCES_MAX = 400
#: The source's first words, which the lead signals read.
LEAD_WORDS = 100


@cache
def _stop_words() -> frozenset[str]:
    """Return the stop words of the languages most traffic is in, all together."""
    return frozenset().union(*(stop_words_of(code) for code in ("en", "de", "fr", "es", "it", "pt", "nl")))


def content_stems(words: Sequence[str]) -> list[str]:
    """Return the stems of the words that carry meaning: no stop words, no single letters but of CJK."""
    stops = _stop_words()
    return [
        stem(word)
        for word in words
        if word.lower() not in stops and (len(word) > 1 or word.isdigit() or ord(word) > 0x2E7F)
    ]


def names_of(words: Sequence[str], known: Set[str] = frozenset()) -> set[str]:
    """Return the stems of names: words with a capital, and words whose stem is a `known` name.

    A capital at the head of a sentence is no proof, so a capitalised stop word is never a name; a
    language that capitalises every noun (German) gives its nouns, which serves as well.
    """
    stops = _stop_words()
    return {
        stem(word)
        for word in words
        if (len(word) > 1 and word[0].isupper() and word.lower() not in stops) or stem(word) in known
    }


def numbers_of(text: str) -> set[str]:
    """Return the numbers of `text` as written, commas of thousands aside."""
    return {number.replace(",", "") for number in _NUMBER.findall(text)}


def share_in(part: Set[object], whole: Set[object], empty: float = 1.0) -> float:
    """Return the share of `part` that is in `whole`; `empty` where there is no part."""
    return len(part & whole) / len(part) if part else empty


@dataclass(frozen=True)
class SourceOverlap:
    """How one output leans on one source; each figure in 0..1.

    Attributes:
        best_cosine: mean over the output's sentences of the cosine with their nearest source sentence.
        worst_cosine: the least of these.
        lead_cosine: cosine of the whole output with the source's first `LEAD_WORDS` words.
        lead_recall: share of the source's lead stems that the output takes up.
        trigrams, bigrams, stems: share of the output's that stand in the source.
        names, numbers: the same of names and numbers; 1 where there are none.
        worst_stems: the least share of stems in the source over the output's sentences.
        new_names, new_numbers, new_stems: how many of the output's do not stand in the source.
    """

    best_cosine: float
    worst_cosine: float
    lead_cosine: float
    lead_recall: float
    trigrams: float
    bigrams: float
    stems: float
    names: float
    numbers: float
    worst_stems: float
    new_names: int
    new_numbers: int
    new_stems: int


@dataclass(frozen=True)
class Source:
    """What is computed once of a source, however many outputs lean on it."""

    #: content stems by sentence
    sentences: list[list[str]]
    stems: frozenset[str]
    names: frozenset[str]
    numbers: frozenset[str]
    lead: list[str]
    bigrams: frozenset[tuple[str, ...]]
    trigrams: frozenset[tuple[str, ...]]


# Calls of one document, and the plants in one output, come one after another; an entry is about 100 KB.
@lru_cache(maxsize=32)
def read_source(source: str) -> Source:
    """Return what is known of a source, already bounded; '' has nothing in it."""
    split = [words_of(sentence) for sentence in sentences_of(source)[:SOURCE_SENTENCES_MAX]]
    words = [word for sentence in split for word in sentence]
    lower = [word.lower() for word in words]
    sentences = [content_stems(sentence) for sentence in split]
    return Source(
        sentences,
        frozenset(one for stems in sentences for one in stems),
        frozenset(names_of(words)),
        frozenset(numbers_of(source)),
        content_stems(words[:LEAD_WORDS]),
        frozenset(ngrams(lower, 2)),
        frozenset(ngrams(lower, 3)),
    )


def against_source(output: str, output_words: Sequence[str], source_text: str) -> SourceOverlap:
    """Compare an output with its source; both bounded by the caller."""
    source = read_source(source_text)
    split = [content_stems(words_of(one)) for one in sentences_of(output)[:OUTPUT_SENTENCES_MAX]]
    split = [stems for stems in split if stems] or [content_stems(output_words)]
    stems = {one for sentence in split for one in sentence}
    names, numbers = names_of(output_words, source.names), numbers_of(output)
    nearest, lead_cosine = _cosines(split, source.sentences, source.lead)
    lower = [word.lower() for word in output_words]
    return SourceOverlap(
        best_cosine=float(nearest.mean()),
        worst_cosine=float(nearest.min()),
        lead_cosine=lead_cosine,
        lead_recall=share_in(set(source.lead), stems, 0.0),
        trigrams=share_in(set(ngrams(lower, 3)), source.trigrams, 0.0),
        bigrams=share_in(set(ngrams(lower, 2)), source.bigrams, 0.0),
        stems=share_in(stems, source.stems, 0.0),
        names=share_in(names, source.stems),
        numbers=share_in(numbers, source.numbers),
        worst_stems=min(share_in(set(sentence), source.stems, 1.0) for sentence in split),
        new_names=len(names - source.stems),
        new_numbers=len(numbers - source.numbers),
        new_stems=len(stems - source.stems),
    )


def _cosines(
    output_split: list[list[str]], source_split: list[list[str]], lead: list[str]
) -> tuple[NDArray[np.float64], float]:
    """Return the cosine of each output sentence with its nearest source sentence, and the lead's."""
    frequency = Counter(one for stems in source_split for one in set(stems))
    total = len(source_split) + 1
    columns: dict[str, int] = {}
    for stems in output_split:
        for one in stems:
            columns.setdefault(one, len(columns))
    if not columns or not source_split:
        return np.zeros(max(len(output_split), 1)), 0.0
    weight = {one: float(np.log1p(total / (1 + frequency.get(one, 0)))) for one in columns | frequency}
    ours = np.zeros((len(output_split), len(columns)))
    for row, stems in enumerate(output_split):
        for one in stems:
            ours[row, columns[one]] += weight[one]
    theirs = np.zeros((len(source_split) + 1, len(columns)))
    lengths = np.zeros(len(source_split) + 1)
    for row, stems in enumerate([*source_split, lead]):
        for one, times in Counter(stems).items():
            value = times * weight[one]
            lengths[row] += value * value
            column = columns.get(one)
            if column is not None:
                theirs[row, column] = value
    theirs /= np.sqrt(np.maximum(lengths, 1e-12))[:, None]
    whole = ours.sum(axis=0)
    lead_cosine = float(theirs[-1] @ whole / max(float(np.linalg.norm(whole)), 1e-12))
    ours /= np.maximum(np.linalg.norm(ours, axis=1, keepdims=True), 1e-12)
    return (ours @ theirs[:-1].T).max(axis=1), lead_cosine
