"""One call's texts as the local critic reads them: bounded, split into words and sentences.

Flow: a `CallText` row -> input_text -> Texts -> critic.local.features. Nothing here knows a language.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

#: Characters read of an output, an input, and all source texts together; longer ones are read at head and
#: tail. They bound the time of one call (a source of this size takes about 10 ms).
OUTPUT_CHARS_MAX = 8_000
INPUT_CHARS_MAX = 8_000
SOURCE_CHARS_MAX = 24_000

#: An input of this many characters or more is taken as a question with its document.
DOCUMENT_CHARS_MIN = 800

#: Letters of scripts written without spaces become words of one letter each.
_UNSPACED = re.compile("([\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff])")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W\d_]+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’»)\]]*\s+|(?<=[。！？।؟])|\n+")


@dataclass(frozen=True)
class Texts:
    """What the local critic may read of one call.

    Attributes:
        input: the question as `input_text` gives it; a long one may hold its own document.
        output: the answer; None where its text was never sent.
        context: the retrieved passages sent with the call.
    """

    input: str
    output: str | None
    context: tuple[str, ...] = ()


def input_text(input: str, input_json: bool) -> str:
    """Return what the user asked: the text itself, or the last user message of a JSON list of messages.

    Falls back to the last message with text, and to the raw text where it is no list of messages.
    """
    if not input_json:
        return input
    try:
        messages = json.loads(input)
    except ValueError:
        return input
    if isinstance(messages, dict):
        messages = messages.get("messages", [messages])
    if not isinstance(messages, list):
        return input
    last = ""
    last_of_user = ""
    for message in messages:
        said = _content_text(message.get("content")) if isinstance(message, dict) else _content_text(message)
        if said.strip():
            last = said
            if isinstance(message, dict) and message.get("role") == "user":
                last_of_user = said
    return last_of_user or last or input


def _content_text(content: Any) -> str:
    """Return the text of a message's content: a string, or a list of parts of which some hold text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    found = []
    for part in content:
        if isinstance(part, str):
            found.append(part)
        elif isinstance(part, dict):
            piece = part.get("text", part.get("content"))
            if isinstance(piece, str):
                found.append(piece)
    return "\n".join(found)


def bounded(text: str, chars_max: int) -> str:
    """Return `text`, or its head (two thirds) and tail (one third) where it is longer than `chars_max`."""
    if len(text) <= chars_max:
        return text
    head = chars_max * 2 // 3
    return text[:head] + "\n…\n" + text[len(text) - (chars_max - head) :]


def source_of(call: Texts) -> str:
    """Return the text that the output should be faithful to, or '' where the call brought none.

    That is its `context`, else an input long enough to hold a document. Each passage of a context
    keeps its share of the bound, so that a long first one does not push out the rest.
    """
    passages = [passage for passage in call.context if passage.strip()]
    if passages:
        share = max(SOURCE_CHARS_MAX // len(passages), 200)
        return "\n".join(bounded(passage, share) for passage in passages)[:SOURCE_CHARS_MAX]
    if len(call.input) >= DOCUMENT_CHARS_MIN:
        return bounded(call.input, SOURCE_CHARS_MAX)
    return ""


def words_of(text: str) -> list[str]:
    """Return the words of `text` as written; digits count as words, unspaced scripts go letter by letter."""
    if not text.isascii() and _UNSPACED.search(text):
        text = _UNSPACED.sub(r" \1 ", text)
    return _WORD.findall(text)


def sentences_of(text: str) -> list[str]:
    """Return the non-empty sentences and lines of `text`."""
    return [piece for piece in (part.strip() for part in _SENTENCE_END.split(text)) if piece]


# A document's words come again and again; 20,000 of them are about 4 MB.
@lru_cache(maxsize=20_000)
def stem(word: str) -> str:
    """Return a lower-case prefix, so that 'nutritional' meets 'nutrition' in any language with endings."""
    word = word.lower()
    return word[:6] if len(word) > 6 else word.removesuffix("s") if len(word) > 3 else word


def ngrams(words: Sequence[str], n: int) -> Iterable[tuple[str, ...]]:
    """Return the runs of `n` neighbouring words."""
    return zip(*(words[start:] for start in range(n)), strict=False)
