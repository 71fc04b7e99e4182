"""Features of an output beside its input: the same language, the same topic, the form asked for."""

import math
import re
from collections.abc import Sequence, Set

from critic.local.forms import forms_asked, forms_of
from critic.local.languages import (
    asks_for,
    asks_for_any,
    asks_to_translate,
    language_of,
    scripts_differ,
    stop_words_of,
    surely_differ,
)
from critic.local.overlaps import content_stems, names_of, numbers_of, read_source, share_in
from critic.local.texts import ngrams, sentences_of, words_of

NAMES = (
    "length_ratio", "language_differs", "input_stop_words_missing", "asks_for_language", "input_stems_met",
    "input_rare_stem_met", "stems_from_input", "input_cosine", "input_names_met", "input_numbers_met",
    "names_not_given", "numbers_not_given", "names", "numbers", "echo", "input_length", "forms_missing",
    "forms_unasked",
)  # fmt: skip

#: Fewer words than this in another script are a name or a number, no answer in another language.
_WORDS_MIN = 4
#: Sentences and lines of an input that are looked at one by one.
_PARTS_MAX = 8

_FENCED = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)


def beside_input(
    output: str, words: Sequence[str], asked: str, source: str, languages: tuple[str | None, str | None]
) -> dict[str, float]:
    """Return the features `NAMES`.

    Args:
        output: its text, stripped and bounded.
        words: its words as written.
        asked: the input, bounded.
        source: what the output should be faithful to; '' for none.
        languages: of input and output, None where not known.
    """
    input_words = words_of(asked)
    wanted, shown = forms_asked(asked), forms_of(output)
    return {
        "length_ratio": math.log((len(output) + 10) / (len(asked) + 10)),
        "input_length": math.log1p(len(asked)),
        "asks_for_language": float(asks_for_any(input_words)),
        "forms_missing": len(wanted - shown) / max(len(wanted), 1),
        "forms_unasked": float(len(shown - wanted - {"list"})),
        **_of_language(output, words, asked, input_words, languages, "code" in shown),
        **_of_topic(words, input_words),
        **_of_facts(output, words, asked, input_words, source),
    }


def _of_language(
    output: str,
    words: Sequence[str],
    asked: str,
    input_words: Sequence[str],
    languages: tuple[str | None, str | None],
    is_code: bool,
) -> dict[str, float]:
    """Return whether the answer is in another language than the question, none being asked for.

    Code is in no language: of an answer with code, only what stands beside its fences is looked at.
    """
    of_input, of_output = languages
    prose, n_words = output, len(words)
    if is_code:
        prose = _FENCED.sub(" ", output) if "```" in output else ""
        n_words, of_output = len(words_of(prose)), language_of(prose)
    named = asks_to_translate(input_words) or (of_output is not None and asks_for(input_words, of_output))
    differs = surely_differ(of_input, of_output) and not _speaks(asked, of_output)
    differs = differs or (n_words >= _WORDS_MIN and scripts_differ(asked, prose))
    stops = stop_words_of(of_input)
    share = sum(word.lower() in stops for word in words) / max(len(words), 1) if stops else 0.3
    return {
        "language_differs": float(differs and not named),
        "input_stop_words_missing": max(0.0, 0.3 - share) * (not named and not is_code and len(words) > 3),
    }


def _speaks(asked: str, language: str | None) -> bool:
    """Return whether a part of the input is written in `language`: the question beside a foreign text."""
    parts = (asked[:200], asked[-200:], *asked.split("\n\n")[:6], *sentences_of(asked)[:_PARTS_MAX])
    return any(language_of(part) == language for part in parts)


def _of_topic(words: Sequence[str], input_words: Sequence[str]) -> dict[str, float]:
    stems, asked_stems = set(content_stems(words)), set(content_stems(input_words))
    # Long stems carry the topic: 'nutrition' says more than 'make'.
    weight = {one: len(one) - 2.5 for one in asked_stems if len(one) > 3}
    met = sum(value for one, value in weight.items() if one in stems)
    common = len(stems & asked_stems)
    lower, asked_lower = [word.lower() for word in words], [word.lower() for word in input_words]
    return {
        "input_stems_met": met / sum(weight.values()) if weight else 0.5,
        "input_rare_stem_met": float(any(len(one) >= 6 and one in stems for one in weight))
        if weight
        else 0.5,
        "stems_from_input": common / max(len(stems), 1),
        "input_cosine": common / math.sqrt(max(len(stems), 1) * max(len(asked_stems), 1)),
        "echo": share_in(set(ngrams(lower, 4)), set(ngrams(asked_lower, 4)), 0.0),
    }


def _of_facts(
    output: str, words: Sequence[str], asked: str, input_words: Sequence[str], source: str
) -> dict[str, float]:
    """Return how the names and numbers of the output stand to those that were given."""
    stems: Set[str] = set(content_stems(words))
    known = read_source(source)
    given = known.stems.union(content_stems(input_words))
    names, asked_names = names_of(words), names_of(input_words)
    numbers, asked_numbers = numbers_of(output), numbers_of(asked)
    return {
        "input_names_met": share_in(asked_names, stems, 0.5),
        "input_numbers_met": share_in(asked_numbers, numbers, 0.5),
        "names_not_given": 1.0 - share_in(names, given),
        "numbers_not_given": 1.0 - share_in(numbers, asked_numbers | known.numbers),
        "names": math.log1p(len(names)),
        "numbers": math.log1p(len(numbers)),
    }
