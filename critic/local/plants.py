"""Plants failures in ordinary outputs, so that a guard can be fitted without a label.

A team's own recent outputs are mostly fine; each copy made here is broken in one known way. Flow:
ordinary Texts -> plant -> critic.local.guard.fit; the bench plants with other phrases to measure it.
A kind that is never planted is caught badly, so every kind that matters stands in `KINDS`.
"""

import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from random import Random

from critic.local.languages import language_of, stop_words_of, surely_differ
from critic.local.overlaps import content_stems, names_of, read_source
from critic.local.phrases import FITTING, Phrases
from critic.local.texts import DOCUMENT_CHARS_MIN, Texts, sentences_of, source_of, stem, words_of

#: The failures that are planted, and so can be seen; a rubric's `visible` names some of them.
KINDS = ("empty", "truncated", "off_topic", "wrong_language", "repeated", "refusal", "swapped", "rude")

#: Share of wrong-language plants that change the question and leave the answer.
_ASKED_ELSEWHERE = 0.5

_WORD_OR_REST = re.compile(r"[^\W_]+(?:['’][^\W\d_]+)*|[\W_]+")
_CLOSES = re.compile(r"[.!?…。！？]$")


@dataclass(frozen=True)
class Planted:
    """One broken copy: `call` failed in the way `kind` names; `origin` is the ordinary call's position."""

    call: Texts
    kind: str
    origin: int


def plant(
    ordinary: Sequence[Texts], *, seed: int, phrases: Phrases = FITTING, each: int | None = None
) -> list[Planted]:
    """Return broken copies of `ordinary` outputs, as even over the kinds as they allow.

    Args:
        ordinary: calls with an output; those without are passed over.
        seed: the same calls and seed give the same plants.
        each: plants of each kind at most; None for as many in all as there are ordinary outputs.

    A kind that an output does not allow (no name or number to swap, no other topic to take) goes to the
    next output. Empty outputs are all alike, so they are a fourth of another kind's number.
    """
    random = Random(seed)  # noqa: S311 - reproducible plants, no secret
    usable = [index for index, call in enumerate(ordinary) if (call.output or "").strip()]
    wanted = each if each is not None else max(1, round(len(usable) / (len(KINDS) - 0.75)))
    planter = _Planter(ordinary, usable, phrases, random)
    planted = []
    for kind in KINDS:
        order = random.sample(usable, len(usable))
        left = max(1, wanted // 4) if kind == "empty" and each is None else wanted
        for index in order:
            if left == 0:
                break
            broken = planter.broken(kind, index)
            if broken is not None and broken != ordinary[index]:
                planted.append(Planted(broken, kind, index))
                left -= 1
    return planted


class _Planter:
    """Breaks one output at a time; holds what the breaking draws on."""

    def __init__(
        self, ordinary: Sequence[Texts], usable: Sequence[int], phrases: Phrases, random: Random
    ) -> None:
        self._ordinary = ordinary
        self._usable = usable
        self._phrases = phrases
        self._random = random
        self._break: dict[str, Callable[[Texts, str], str | None]] = {
            "empty": lambda _call, _output: self._empty(),
            "truncated": lambda _call, output: self._truncated(output),
            "off_topic": self._off_topic,
            "wrong_language": self._wrong_language,
            "repeated": lambda _call, output: self._repeated(output),
            "refusal": self._refusal,
            "swapped": self._swapped,
            "rude": self._rude,
        }

    def broken(self, kind: str, index: int) -> Texts | None:
        """Return call `index` broken in the way of `kind`, or None where that cannot be."""
        call = self._ordinary[index]
        if kind == "wrong_language" and self._random.random() < _ASKED_ELSEWHERE:
            return self._asked_elsewhere(call)
        output = self._break[kind](call, (call.output or "").strip())
        return None if output is None else replace(call, output=output)

    def _asked_elsewhere(self, call: Texts) -> Texts | None:
        """Let somebody ask in another language: the answer stays right in all but its language."""
        spoken = language_of(call.output or "")
        others = [code for code in self._phrases.questions if surely_differ(code, spoken)]
        if not others or len(call.input) > DOCUMENT_CHARS_MIN:
            return None
        return replace(call, input=self._random.choice(self._phrases.questions[self._random.choice(others)]))

    def _empty(self) -> str:
        return self._random.choice(("", "", " ", "\n", "\n\n"))

    def _truncated(self, output: str) -> str | None:
        """Cut at a third to nine tenths of the output, inside a sentence, now and then inside a word."""
        pieces = list(_WORD_OR_REST.finditer(output))
        if len(pieces) < 12:
            return None
        for _ in range(8):
            piece = pieces[self._random.randrange(len(pieces) // 3, len(pieces) * 9 // 10)]
            inside = self._random.random() < 0.3 and len(piece.group()) > 3
            end = piece.start() + self._random.randrange(2, len(piece.group())) if inside else piece.end()
            cut = output[:end].rstrip()
            following = output[end:].lstrip(" ")
            if following and not _CLOSES.search(cut) and following[0] not in ".!?…。！？\n":
                return cut
        return None

    def _off_topic(self, call: Texts, output: str) -> str | None:
        """Take the output of a call that shares next to nothing of its input and source, in its language."""
        ours, spoken = self._topic(call), language_of(output)
        for _ in range(8):
            other = self._ordinary[self._random.choice(self._usable)]
            theirs = self._topic(other)
            near = len(ours & theirs) > 0.5 * min(len(ours), len(theirs))
            same = (other.output or "").strip() == output or other.context == call.context != ()
            if not (same or near or surely_differ(language_of(other.output or ""), spoken)):
                return other.output
        return None

    def _topic(self, call: Texts) -> Set[str]:
        return read_source(source_of(call)).stems.union(content_stems(words_of(call.input)))

    def _wrong_language(self, call: Texts, output: str) -> str | None:
        """Answer in another language, about as long, at times with the output's own names and numbers."""
        spoken = language_of(output) or language_of(call.input) or "en"
        others = [code for code in self._phrases.replies if surely_differ(code, spoken)]
        sentences = list(self._phrases.replies[self._random.choice(others)])
        self._random.shuffle(sentences)
        said = []
        for sentence in sentences:
            said.append(sentence)
            if len(" ".join(said)) > len(output):
                break
        kept = [word for word in words_of(output) if word[0].isupper() or word.isdigit()]
        if kept and self._random.random() < 0.5:
            said[-1] += f" ({', '.join(self._random.sample(kept, min(3, len(kept))))})"
        return " ".join(said)

    def _repeated(self, output: str) -> str | None:
        """Say a sentence, a phrase, a word or everything again and again."""
        sentences, words = sentences_of(output), output.split()
        if len(words) < 4:
            return None
        way = self._random.random()
        times = self._random.randrange(3, 9)
        if way < 0.4:
            sentence = self._random.choice(sentences)
            kept = output[: output.index(sentence) + len(sentence)]
            return kept + (self._random.choice(("\n", " ")) + sentence) * times
        if way < 0.6:
            return "\n\n".join([output] * self._random.randrange(2, 5))
        start = self._random.randrange(len(words))
        phrase = " ".join(words[start : start + self._random.randrange(1, 7)])
        head = " ".join(words[: start + 1])
        return f"{head} " + " ".join([phrase] * (times * 2))

    def _refusal(self, call: Texts, output: str) -> str | None:
        lines = self._spoken(self._phrases.refusals, call, output)
        said = self._random.choice(lines)
        way = self._random.random()
        if way < 0.3 and len(lines) > 1:
            said = f"{said} {self._random.choice([line for line in lines if line != said])}"
        elif way < 0.45:
            said = f"{said} {sentences_of(output)[0]}"
        return said

    def _rude(self, call: Texts, output: str) -> str | None:
        lines = self._spoken(self._phrases.rude, call, output)
        said = " ".join(self._random.sample(lines, min(len(lines), self._random.choice((1, 1, 2)))))
        way = self._random.random()
        if way < 0.35:
            return f"{said} {output}"
        if way < 0.6:
            return f"{output} {said}"
        if way < 0.8:
            at = output.index(self._random.choice(sentences_of(output)))
            return f"{output[:at]}{said} {output[at:]}"
        return said

    def _spoken(
        self, by_language: Mapping[str, tuple[str, ...]], call: Texts, output: str
    ) -> tuple[str, ...]:
        """Return the lines in the call's language, English ones where there are none."""
        language = language_of(output) or language_of(call.input) or "en"
        return by_language.get(language, by_language["en"])

    def _swapped(self, call: Texts, output: str) -> str | None:
        """Put other names and other numbers in the place of most that stand there."""
        given = words_of(f"{call.input}\n{source_of(call)}")
        # A word that also stands in lower case is no name: 'The', 'Police'.
        known = names_of(given) - {stem(word) for word in given if word[0].islower()}
        renamed: dict[str, str] = {}
        pieces = _WORD_OR_REST.findall(output)
        done = 0
        after_stop = True
        for at, piece in enumerate(pieces):
            if piece.isdecimal() and piece.isascii():
                if self._random.random() < 0.8:
                    pieces[at] = self._other_number(piece)
                    done += 1
            elif piece[0].isalnum():
                named = stem(piece) in known or (piece[0].isupper() and not after_stop and len(piece) > 2)
                if named and not _is_stop(piece):
                    if piece not in renamed:
                        keep = self._random.random() > 0.85
                        other = self._random.choice(self._phrases.names)
                        renamed[piece] = piece if keep else other if piece[0].isupper() else other.lower()
                    pieces[at] = renamed[piece]
                    done += renamed[piece] != piece
            after_stop = bool(re.search(r"[.!?:\n\"“]", piece)) if not piece[0].isalnum() else False
        return "".join(pieces) if done else None

    def _other_number(self, number: str) -> str:
        value = int(number[:12])
        other = value
        while other == value:
            if len(number) == 4 and 1800 <= value <= 2100:
                other = value + self._random.choice((-1, 1)) * self._random.randrange(1, 40)
            else:
                other = self._random.randrange(10 ** (len(number[:12]) - 1), 10 ** len(number[:12]) + 1)
        return str(other)


def _is_stop(word: str) -> bool:
    return any(word.lower() in stop_words_of(code) for code in ("en", "de", "fr"))
