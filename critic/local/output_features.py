"""Features of an output's shape: lengths, repetition, how it ends. A dictionary of names to numbers."""

import math
import re
import zlib
from collections import Counter

from critic.local.languages import stop_words_of
from critic.local.texts import ngrams, sentences_of

NAMES = (
    "length", "sentence_length", "word_length", "capitals", "digits", "punctuation", "line_breaks",
    "compression", "distinct_words", "repeated_trigrams", "repeated_sentences", "most_repeated_run",
    "doubled_words", "stop_words", "strange_characters", "language_unknown", "exclamations", "questions",
    "open_end", "open_end_unlike_rest", "open_prose", "open_line_length", "ends_in_stop_word",
    "ends_in_comma", "open_brackets", "open_fence", "last_line_short",
)  # fmt: skip

_CLOSED = re.compile(r"[.!?…。！？।؟:;\"'”’»)\]}>*`|~\u263a-\u27bf\U0001f300-\U0001faff]\W*$")
#: Ends that need no full stop: a hashtag, an address, a formula, an amount.
_LOOSE = re.compile(r"^(?:[#@]\w+|https?://\S+|www\.\S+|\S+@\S+\.\w+|\S*[\d=^]\S*)$")
_INNER_END = re.compile(r"[.!?]\s+\S|[。！？]\S")
_COMMA = re.compile(r"[,،、\-–—(/&]\s*$")
_LINE = re.compile(r"\n+")
#: What wrong decodings leave behind.
_STRANGE = ("\ufffd", "\x00", "â€", "Ã")


def of_shape(output: str, lower: list[str], language: str | None) -> dict[str, float]:
    """Return the features `NAMES` of an output.

    Args:
        output: its text, stripped and bounded.
        lower: its words in lower case.
        language: its language, None where not known.
    """
    n_chars, n_words = max(len(output), 1), max(len(lower), 1)
    sentences = sentences_of(output)
    n_sentences = max(len(sentences), 1)
    lines = [line.strip() for line in _LINE.split(output) if line.strip()]
    letters = max(sum(map(str.isalpha, output)), 1)
    trigrams = Counter(ngrams(lower, 3))
    n_trigrams = max(sum(trigrams.values()), 1)
    plain = [sentence.lower() for sentence in sentences if len(sentence) > 3]
    stops = stop_words_of(language)
    raw = output.encode("utf-8", "replace")
    return {
        "length": math.log1p(len(output)),
        "sentence_length": math.log1p(n_words / n_sentences),
        "word_length": min(letters / n_words, 12.0),
        "capitals": sum(map(str.isupper, output)) / letters,
        "digits": sum(map(str.isdigit, output)) / n_chars,
        "punctuation": sum(1 for one in output if not one.isalnum() and not one.isspace()) / n_chars,
        "line_breaks": (len(lines) - 1) / n_sentences if lines else 0.0,
        # zlib's own frame is 8 bytes and more; long texts compress better by themselves.
        "compression": (len(zlib.compress(raw, 6)) - 8) / max(len(raw), 1) + 0.09 * math.log1p(len(raw)),
        "distinct_words": len(set(lower)) / n_words**0.85,
        "repeated_trigrams": 1.0 - len(trigrams) / n_trigrams if len(lower) > 3 else 0.0,
        "repeated_sentences": 1.0 - len(set(plain)) / len(plain) if plain else 0.0,
        "most_repeated_run": math.log(max(trigrams.values(), default=1)),
        "doubled_words": sum(map(str.__eq__, lower, lower[1:])) / n_words,
        "stop_words": sum(word in stops for word in lower) / n_words if stops else 0.3,
        "strange_characters": min(sum(map(output.count, _STRANGE)) / n_chars * 50, 1.0),
        "language_unknown": float(language is None),
        "exclamations": min(output.count("!") / n_sentences, 2.0),
        "questions": min(sum(map(output.count, "?？؟")) / n_sentences, 2.0),
        **_of_ending(output, lines, lower, language),
    }


def _of_ending(output: str, lines: list[str], lower: list[str], language: str | None) -> dict[str, float]:
    """Return how the output ends: the signs of having been cut in mid-sentence."""
    last_line, before = (lines[-1], lines[:-1]) if lines else ("", [])
    loose = bool(_LOOSE.match(last_line.split()[-1])) if last_line else False
    is_open = float(bool(lower) and not loose and not _CLOSED.search(output))
    # A list or a poem ends its lines without a full stop; then the last one may do so too.
    closed_before = sum(bool(_CLOSED.search(line)) for line in before) / len(before) if before else 1.0
    inner = any(end in output for end in (". ", "! ", "? ", "。"))
    expected = closed_before if len(before) >= 2 else 1.0 if inner else 0.7
    unclosed = sum(map(output.count, "([{“«")) - sum(map(output.count, ")]}”»"))
    usual = sum(map(len, before)) / len(before) if before else 0.0
    return {
        "open_end": is_open,
        "open_end_unlike_rest": is_open * expected,
        "open_prose": is_open * bool(_INNER_END.search(last_line)),
        "open_line_length": is_open * math.log1p(len(last_line.split())),
        "ends_in_stop_word": is_open * (bool(lower) and lower[-1] in stop_words_of(language)),
        "ends_in_comma": float(bool(_COMMA.search(output))),
        "open_brackets": float(min(max(unclosed, 0), 2)),
        "open_fence": float(output.count("```") % 2),
        "last_line_short": is_open * (len(last_line) < 0.5 * usual),
    }
