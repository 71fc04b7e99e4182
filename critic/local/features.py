"""What a CPU can see in one call without a model: some seventy numbers about input, output and source.

Flow: Texts -> Features -> critic.local.guard (planted failures) and critic.local.head (labels).
The order of `FEATURES` is the order of columns; a shipped or stored fit names its features, and one
fitted on other names is refused by its reader.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from critic.local import input_features, output_features, tone_features
from critic.local.languages import language_of
from critic.local.overlaps import SourceOverlap, against_source
from critic.local.texts import INPUT_CHARS_MAX, OUTPUT_CHARS_MAX, Texts, bounded, source_of, words_of

#: Features of the output beside its source; all 0 without one.
SOURCE_FEATURES = (
    "best_cosine", "worst_cosine", "lead_cosine", "lead_recall", "source_trigrams", "source_bigrams",
    "source_stems", "source_names", "source_numbers", "worst_sentence_stems", "source_ratio",
    "new_names", "new_numbers", "new_stems",
)  # fmt: skip
FEATURES: tuple[str, ...] = (
    *output_features.NAMES,
    *tone_features.NAMES,
    *input_features.NAMES,
    *SOURCE_FEATURES,
)


@dataclass(frozen=True)
class _Read:
    values: list[float]
    overlap: SourceOverlap | None
    input_language: str | None
    output_language: str | None


class Features:
    """The features of some calls, with what else their reading found.

    Attributes:
        values: shape (n, len(FEATURES)); finite.
        has_source: shape (n,), whether there was anything to be faithful to.
        overlaps: n, None without a source.
        input_languages, output_languages: ISO 639-1 or None, n of each.
    """

    def __init__(self, calls: Sequence[Texts]) -> None:
        read = [_read(call) for call in calls]
        self.values: NDArray[np.float64] = np.array([one.values for one in read], dtype=np.float64).reshape(
            len(read), len(FEATURES)
        )
        self.overlaps = [one.overlap for one in read]
        self.has_source = np.array([one.overlap is not None for one in read], dtype=bool)
        self.input_languages = [one.input_language for one in read]
        self.output_languages = [one.output_language for one in read]


def _read(call: Texts) -> _Read:
    output = bounded(call.output or "", OUTPUT_CHARS_MAX).strip()
    asked = bounded(call.input, INPUT_CHARS_MAX)
    words = words_of(output)
    lower = [word.lower().replace("’", "'") for word in words]
    languages = language_of(asked), language_of(output, words)
    source = source_of(call) if words else ""
    overlap = against_source(output, words, source) if source else None
    found = {
        **output_features.of_shape(output, lower, languages[1]),
        **tone_features.of_tone(output, lower, languages[1]),
        **input_features.beside_input(output, words, asked, source, languages),
        **_beside_source(output, source, overlap),
    }
    return _Read([float(found[name]) for name in FEATURES], overlap, *languages)


def _beside_source(output: str, source: str, overlap: SourceOverlap | None) -> dict[str, float]:
    if overlap is None:
        return dict.fromkeys(SOURCE_FEATURES, 0.0)
    return {
        "best_cosine": overlap.best_cosine,
        "worst_cosine": overlap.worst_cosine,
        "lead_cosine": overlap.lead_cosine,
        "lead_recall": overlap.lead_recall,
        "source_trigrams": overlap.trigrams,
        "source_bigrams": overlap.bigrams,
        "source_stems": overlap.stems,
        "source_names": overlap.names,
        "source_numbers": overlap.numbers,
        "worst_sentence_stems": overlap.worst_stems,
        "source_ratio": math.log((len(output) + 10) / (len(source) + 10)),
        "new_names": math.log1p(overlap.new_names),
        "new_numbers": math.log1p(overlap.new_numbers),
        "new_stems": math.log1p(overlap.new_stems),
    }
