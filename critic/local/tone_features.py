"""Features of an output's tone: refusals, contempt, and a sentence that does not belong to the rest.

Phrases come from `critic.local.lexicon`; sentences are looked at one by one, since one rude line among
ten helpful ones is what has to be seen.
"""

import math
import re
from collections import Counter

from critic.local import markers
from critic.local.overlaps import content_stems
from critic.local.texts import sentences_of, words_of

NAMES = (
    "inability", "inability_at_start", "excuses", "refusal_and_short", "apology_first", "negations",
    "first_person", "talk_about_talk", "refusal_shape", "second_person", "insults", "rudest_sentence",
    "rude_sentences", "intruding_sentence",
)  # fmt: skip

#: How a refusal opens: so many words and characters.
_OPENING_WORDS = 40
_OPENING_CHARS = 200
#: Sentences looked at.
_SENTENCES_MAX = 200
_APOLOGY = re.compile(
    r"^\W*(i'?m (very |so |truly |terribly )?sorry|sorry|i apologi[sz]e|my apologies|unfortunately|i regret|"
    r"es tut mir|tut mir|leider|désolé|malheureusement|lo siento|lamento|mi dispiace|purtroppo|desculp|"
    r"infelizmente|helaas|het spijt|tyvärr|desværre|beklager|dessverre|przepraszam|niestety|omlouv|bohužel|"
    r"üzgünüm|maalesef|îmi pare|sajn|извин|к сожалению|вибачте|на жаль|съжал|λυπάμαι|δυστυχώς|عذرا|آسف|"
    r"抱歉|对不起|申し訳|죄송|ขออภัย|क्षमा|माफ़)",
    re.IGNORECASE,
)


def of_tone(output: str, lower: list[str], language: str | None) -> dict[str, float]:
    """Return the features `NAMES` of an output.

    Args:
        output: its text, stripped and bounded.
        lower: its words in lower case.
        language: its language, None where not known.
    """
    sentences = [[word.lower().replace("’", "'") for word in words_of(one)] for one in sentences_of(output)]
    sentences = [words for words in sentences if words][:_SENTENCES_MAX]
    return {
        **_of_refusal(output, lower, language),
        **_of_rudeness(sentences, language),
        "intruding_sentence": _intrusion(sentences, language),
    }


def _of_refusal(output: str, lower: list[str], language: str | None) -> dict[str, float]:
    """Return the signs of an answer that answers nothing: mostly in how it opens."""
    start, opening = output[:_OPENING_CHARS], lower[:_OPENING_WORDS]
    runs = markers.runs_of(opening)
    inability = markers.count("inability", markers.runs_of(lower), output, language)
    inability_first = markers.count("inability", runs, start, language)
    share = {
        name: markers.count(name, runs, start, language) / max(len(opening), 8)
        for name in ("negations", "first_person", "talk")
    }
    negations = min(share["negations"], 0.3)
    about_us = min(share["first_person"] + share["talk"], 0.5)
    return {
        "inability": math.log1p(inability),
        "inability_at_start": math.log1p(inability_first),
        "excuses": math.log1p(markers.count("excuses", runs, start, language)),
        "refusal_and_short": min(inability_first, 2) * math.exp(-len(lower) / 60),
        "apology_first": float(bool(_APOLOGY.match(output))),
        "negations": negations,
        "first_person": min(share["first_person"], 0.3),
        "talk_about_talk": min(share["talk"], 0.3),
        "refusal_shape": math.sqrt(negations * about_us) * math.exp(-len(lower) / 80),
    }


def _of_rudeness(sentences: list[list[str]], language: str | None) -> dict[str, float]:
    """Return the signs of contempt: a hard word counts by itself, a harsh one beside "you"."""
    spoken_to, insults, rudest, rude, n_words = 0, 0, 0.0, 0, 0
    for words in sentences:
        runs = markers.runs_of(words)
        written = "".join(words)
        you = markers.count("you", words, written, language)
        hard = markers.count("rude", runs, written, language)
        harsh = markers.count("harsh", runs, written, language)
        beside = min(you, 1)
        score = hard * (1.0 + 0.5 * beside) + harsh * (0.15 + 0.5 * beside) * (len(words) < 25)
        rudest, rude = max(rudest, score), rude + (score >= 1.0)
        spoken_to, insults, n_words = spoken_to + you, insults + hard, n_words + len(words)
    return {
        "second_person": min(spoken_to / max(n_words, 8), 0.2),
        "insults": math.log1p(insults),
        "rudest_sentence": min(rudest, 3.0),
        "rude_sentences": rude / max(len(sentences), 1),
    }


def _intrusion(sentences: list[list[str]], language: str | None) -> float:
    """Return how far one sentence speaks to somebody while it shares no word with the rest.

    Taken beside the other sentences: where every line says "you", one more is no stranger.
    """
    if len(sentences) < 2:
        return 0.0
    stems = [set(content_stems(words)) for words in sentences]
    everywhere = Counter(one for own in stems for one in own)
    strange = []
    for words, own in zip(sentences, stems, strict=True):
        alone = sum(everywhere[one] == 1 for one in own) / len(own) if own else 1.0
        personal = sum(markers.count(name, words, "", language) for name in ("you", "first_person"))
        strange.append(alone * min(personal / max(len(words), 5), 0.4))
    most = max(strange)
    return most - (sum(strange) - most) / (len(strange) - 1)
