"""What a CPU can see in one call without a model: some fifty numbers about input, output and source.

Flow: Texts -> features_of -> critic.local.guard (planted failures) and critic.local.head (labels).
The order of `FEATURES` is the order of columns; a shipped or stored fit names its features, and one
fitted on other names is refused by its reader.
"""

import math
import re
import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from critic.local import markers
from critic.local.languages import (
    asks_for,
    asks_for_any,
    language_of,
    scripts_differ,
    stop_words_of,
    surely_differ,
)
from critic.local.overlaps import (
    SourceOverlap,
    against_source,
    content_stems,
    names_of,
    numbers_of,
    share_in,
)
from critic.local.texts import (
    INPUT_CHARS_MAX,
    OUTPUT_CHARS_MAX,
    Texts,
    bounded,
    ngrams,
    sentences_of,
    source_of,
    words_of,
)

#: Features of the output alone.
_OUTPUT = (
    "length", "sentence_length", "word_length", "capitals", "digits", "punctuation", "line_breaks",
    "compression", "distinct_words", "repeated_trigrams", "repeated_sentences", "most_repeated_run",
    "doubled_words", "open_end", "open_end_unlike_rest", "ends_in_stop_word", "ends_in_comma",
    "open_brackets", "open_fence", "last_line_short", "stop_words", "strange_characters",
    "language_unknown", "inability", "inability_at_start", "excuses", "refusal_and_short", "apology_first",
    "negations", "first_person", "talk_about_talk", "refusal_shape", "second_person", "insults",
    "rudest_sentence", "rude_sentences", "intruding_sentence", "exclamations", "questions",
)  # fmt: skip
#: Features of the output beside its input.
_INPUT = (
    "length_ratio", "language_differs", "input_stop_words_missing", "asks_for_language", "input_stems_met",
    "input_rare_stem_met", "stems_from_input", "input_cosine", "input_names_met", "input_numbers_met",
    "names_not_given", "numbers_not_given", "names", "numbers", "echo", "input_length",
)  # fmt: skip
#: Features of the output beside its source; all 0 without one.
_SOURCE = (
    "best_cosine", "worst_cosine", "lead_cosine", "lead_recall", "source_trigrams", "source_bigrams",
    "source_stems", "source_names", "source_numbers", "worst_sentence_stems", "source_ratio",
    "new_names", "new_numbers", "new_stems",
)  # fmt: skip
FEATURES: tuple[str, ...] = _OUTPUT + _INPUT + _SOURCE
#: Those that stay 0 without a source.
SOURCE_FEATURES: tuple[str, ...] = _SOURCE

_CLOSED = re.compile(r"[.!?…。！？।؟:;\"'”’»)\]}>*`|~\u263a-\u27bf\U0001f300-\U0001faff]\W*$")
_COMMA = re.compile(r"[,،、\-–—(/&]\s*$")
#: Sentences looked at for rudeness.
_SENTENCES_MAX = 200
_LINE = re.compile(r"\n+")
_FENCE = re.compile(r"```")
_APOLOGY = re.compile(
    r"^\W*(i'?m (very |so |truly |terribly )?sorry|sorry|i apologi[sz]e|my apologies|unfortunately|i regret|"
    r"es tut mir|tut mir|leider|désolé|malheureusement|lo siento|lamento|mi dispiace|purtroppo|desculp|"
    r"infelizmente|helaas|het spijt|tyvärr|desværre|beklager|dessverre|przepraszam|niestety|omlouv|bohužel|"
    r"üzgünüm|maalesef|îmi pare|sajn|извин|к сожалению|вибачте|на жаль|съжал|λυπάμαι|δυστυχώς|عذرا|آسف|"
    r"抱歉|对不起|申し訳|죄송|ขออภัย|क्षमा|माफ़)",
    re.IGNORECASE,
)


class Features:
    """The features of some calls, with what else their reading found.

    Attributes:
        values: shape (n, len(FEATURES)); finite.
        has_source: shape (n,), whether there was anything to be faithful to.
        input_languages, output_languages: ISO 639-1 or None, n of each.
        overlaps: n, None without a source.
    """

    def __init__(self, calls: Sequence[Texts]) -> None:
        read = [_features_of_one(call) for call in calls]
        self.values: NDArray[np.float64] = np.array([one[0] for one in read], dtype=np.float64).reshape(
            len(read), len(FEATURES)
        )
        self.overlaps: list[SourceOverlap | None] = [one[1] for one in read]
        self.input_languages: list[str | None] = [one[2] for one in read]
        self.output_languages: list[str | None] = [one[3] for one in read]
        self.has_source = np.array([one[1] is not None for one in read], dtype=bool)


def _features_of_one(call: Texts) -> tuple[list[float], SourceOverlap | None, str | None, str | None]:
    output = bounded(call.output or "", OUTPUT_CHARS_MAX).strip()
    asked = bounded(call.input, INPUT_CHARS_MAX)
    words, input_words = words_of(output), words_of(asked)
    input_language = language_of(asked, input_words)
    output_language = language_of(output, words)
    source = source_of(call) if words else ""
    overlap = against_source(output, words, source) if source else None
    values = [
        *_of_output(output, words, output_language),
        *_beside_input(output, words, asked, input_words, source, (input_language, output_language)),
        *_beside_source(output, overlap, source),
    ]
    return values, overlap, input_language, output_language


def _of_output(output: str, words: list[str], language: str | None) -> list[float]:
    n_chars, n_words = max(len(output), 1), max(len(words), 1)
    lower = [word.lower().replace("’", "'") for word in words]
    sentences = sentences_of(output)
    lines = [line.strip() for line in _LINE.split(output) if line.strip()]
    letters = max(sum(map(str.isalpha, output)), 1)
    trigrams = Counter(ngrams(lower, 3))
    n_trigrams = max(sum(trigrams.values()), 1)
    plain_sentences = [sentence.lower() for sentence in sentences if len(sentence) > 3]
    stop_words = stop_words_of(language)
    raw = output.encode("utf-8", "replace")
    return [
        math.log1p(len(output)),
        math.log1p(n_words / max(len(sentences), 1)),
        min(letters / n_words, 12.0),
        sum(map(str.isupper, output)) / letters,
        sum(map(str.isdigit, output)) / n_chars,
        sum(1 for one in output if not one.isalnum() and not one.isspace()) / n_chars,
        (len(lines) - 1) / max(len(sentences), 1) if lines else 0.0,
        # zlib's own frame is 8 bytes and more; short texts do not compress, long ones do by themselves.
        (len(zlib.compress(raw, 6)) - 8) / max(len(raw), 1) + 0.09 * math.log1p(len(raw)),
        len(set(lower)) / n_words**0.85,
        1.0 - len(trigrams) / n_trigrams if len(words) > 3 else 0.0,
        1.0 - len(set(plain_sentences)) / len(plain_sentences) if plain_sentences else 0.0,
        math.log(max(trigrams.values(), default=1)),
        sum(map(str.__eq__, lower, lower[1:])) / n_words,
        *_of_ending(output, lines, lower, language),
        sum(word in stop_words for word in lower) / n_words if stop_words else 0.3,
        min(sum(output.count(one) for one in ("\ufffd", "\x00", "â€", "Ã")) / n_chars * 50, 1.0),
        float(language is None),
        *_of_refusal(output, lower, language),
        *_of_rudeness(sentences, language),
        _of_intruders(sentences, language),
        min(output.count("!") / max(len(sentences), 1), 2.0),
        min(sum(output.count(one) for one in "?？؟") / max(len(sentences), 1), 2.0),
    ]


def _of_refusal(output: str, lower: list[str], language: str | None) -> list[float]:
    """Return the signs of an answer that answers nothing: mostly in how it opens."""
    n_words = max(len(lower), 1)
    start, opening = output[:200], lower[:40]
    runs = markers.runs_of(opening)
    n_opening = max(len(opening), 8)
    inability = markers.count("inability", markers.runs_of(lower), output, language)
    inability_first = markers.count("inability", runs, start, language)
    excuses = markers.count("excuses", runs, start, language)
    negations, first_person, talk = (
        markers.count(name, runs, start, language) / n_opening
        for name in ("negations", "first_person", "talk")
    )
    return [
        math.log1p(inability),
        math.log1p(inability_first),
        math.log1p(excuses),
        min(inability_first, 2) * math.exp(-n_words / 60),
        float(bool(_APOLOGY.match(output))),
        min(negations, 0.3),
        min(first_person, 0.3),
        min(talk, 0.3),
        math.sqrt(min(negations, 0.3) * min(first_person + talk, 0.5)) * math.exp(-n_words / 80),
    ]


def _of_rudeness(sentences: list[str], language: str | None) -> list[float]:
    """Return the signs of contempt: a hard word counts by itself, a harsh one beside "you"."""
    spoken_to, insults, rudest, rude, n_words = 0, 0, 0.0, 0, 0
    for sentence in sentences[:_SENTENCES_MAX]:
        words = [word.lower().replace("’", "'") for word in words_of(sentence)]
        runs = markers.runs_of(words)
        you = markers.count("you", words, sentence, language)
        hard = markers.count("rude", runs, sentence, language)
        harsh = markers.count("harsh", runs, sentence, language)
        score = hard * (1.0 + 0.5 * min(you, 1)) + harsh * (0.15 + 0.5 * min(you, 1)) * (len(words) < 25)
        rudest, rude = max(rudest, score), rude + (score >= 1.0)
        spoken_to, insults, n_words = spoken_to + you, insults + hard, n_words + len(words)
    return [
        min(spoken_to / max(n_words, 8), 0.2),
        math.log1p(insults),
        min(rudest, 3.0),
        rude / max(len(sentences[:_SENTENCES_MAX]), 1),
    ]


def _of_intruders(sentences: list[str], language: str | None) -> float:
    """Return how far one sentence speaks to somebody and shares no word with the rest: put there by mood."""
    split = [words_of(sentence) for sentence in sentences[:_SENTENCES_MAX]]
    stems = [set(content_stems(words)) for words in split]
    everywhere = Counter(one for own in stems for one in own)
    strangest = 0.0
    for words, own in zip(split, stems, strict=True):
        alone = sum(everywhere[one] == 1 for one in own) / len(own) if own else 1.0
        personal = markers.count("you", list(map(str.lower, words)), "", language) + markers.count(
            "first_person", list(map(str.lower, words)), "", language
        )
        strangest = max(strangest, alone * min(personal / max(len(words), 5), 0.4))
    return strangest if len(split) > 1 else 0.0


def _of_ending(output: str, lines: list[str], lower: list[str], language: str | None) -> list[float]:
    """Return how the output ends: the signs of having been cut in mid-sentence."""
    closed = bool(_CLOSED.search(output)) or not lower
    # A list or a poem ends its lines without a full stop; then the last one may do so too.
    before = lines[:-1]
    closed_before = sum(bool(_CLOSED.search(line)) for line in before) / len(before) if before else 1.0
    inner = output.count(". ") + output.count("! ") + output.count("? ") + output.count("。")
    expected = closed_before if len(before) >= 2 else (1.0 if inner else 0.7)
    stops = stop_words_of(language)
    last = lower[-1] if lower else ""
    opened = sum(output.count(one) for one in "([{“«") - sum(output.count(one) for one in ")]}”»")
    length = sum(map(len, before)) / len(before) if before else 0.0
    return [
        float(not closed),
        (1.0 - closed) * expected,
        float(not closed and last in stops),
        float(bool(_COMMA.search(output))),
        float(min(max(opened, 0), 2)),
        float(len(_FENCE.findall(output)) % 2),
        float(not closed and bool(before) and len(lines[-1]) < 0.5 * length),
    ]


def _beside_input(
    output: str,
    words: list[str],
    asked: str,
    input_words: list[str],
    source: str,
    languages: tuple[str | None, str | None],
) -> list[float]:
    input_language, output_language = languages
    named = output_language is not None and asks_for(input_words, output_language)
    differs = surely_differ(input_language, output_language) and not _speaks(asked, output_language)
    differs = (differs or scripts_differ(asked, output)) and not named
    lower = [word.lower() for word in words]
    input_stops = stop_words_of(input_language)
    stop_share = sum(word in input_stops for word in lower) / max(len(lower), 1) if input_stops else 0.3
    stems, input_stems = set(content_stems(words)), set(content_stems(input_words))
    # Long stems carry the topic: 'nutrition' says more than 'make'.
    weight = {one: len(one) - 2.5 for one in input_stems if len(one) > 3}
    met = sum(value for one, value in weight.items() if one in stems)
    input_names = names_of(input_words)
    given = input_stems | set(content_stems(words_of(source))) if source else input_stems
    names = names_of(words)
    numbers, input_numbers = numbers_of(output), numbers_of(asked)
    given_numbers = input_numbers | numbers_of(source) if source else input_numbers
    common = len(stems & input_stems)
    return [
        math.log((len(output) + 10) / (len(asked) + 10)),
        float(differs),
        max(0.0, 0.3 - stop_share) * float(input_language is not None and not named and len(words) > 3),
        float(asks_for_any(input_words)),
        met / sum(weight.values()) if weight else 0.5,
        float(any(one in stems for one in weight if len(one) >= 6)) if weight else 0.5,
        common / max(len(stems), 1),
        common / math.sqrt(max(len(stems), 1) * max(len(input_stems), 1)),
        share_in({one for one in input_names if one in input_stems}, stems, 0.5),
        share_in(input_numbers, numbers, 0.5),
        1.0 - share_in(names, given),
        1.0 - share_in(numbers, given_numbers),
        math.log1p(len(names)),
        math.log1p(len(numbers)),
        share_in(set(ngrams(lower, 4)), set(ngrams([word.lower() for word in input_words], 4)), 0.0),
        math.log1p(len(asked)),
    ]


def _speaks(asked: str, language: str | None) -> bool:
    """Return whether a part of the input is written in `language`: the question below a foreign document."""
    if len(asked) < 160:
        return False
    return any(
        language_of(part) == language for part in (asked[:200], asked[-200:], *asked.split("\n\n")[:6])
    )


def _beside_source(output: str, overlap: SourceOverlap | None, source: str) -> list[float]:
    if overlap is None:
        return [0.0] * len(_SOURCE)
    return [
        overlap.best_cosine,
        overlap.worst_cosine,
        overlap.lead_cosine,
        overlap.lead_recall,
        overlap.trigrams,
        overlap.bigrams,
        overlap.stems,
        overlap.names,
        overlap.numbers,
        overlap.worst_stems,
        math.log((len(output) + 10) / (len(source) + 10)),
        math.log1p(overlap.new_names),
        math.log1p(overlap.new_numbers),
        math.log1p(overlap.new_stems),
    ]
