"""What in a call's texts looks as if written for a critic: marked for people, never held against the call.

Flow: critic.working.taking -> `marks_of` -> `guard_reading.marks` -> a note on the call's page. A mark
changes no score: an honest text may quote an attack, and who learns what lowers a score has learned a lever.
What keeps a text from being obeyed are the fences (`rubrics.fences`); critic.trust.canary measures whether
they do.

Lexical and bounded: every pattern is linear in the text, and look-alike letters are folded before they match.
"""

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

#: Marks kept of one call, and characters kept of each.
MARKS_MAX, EXCERPT_CHARS = 10, 160
#: Characters of one text that are looked at: its head and its tail, half each.
SCAN_CHARS_MAX = 65_536
#: Base64 texts that are looked into, and characters of each.
BLOBS_MAX, BLOB_CHARS_MAX = 20, 8_192

KINDS = {
    "forged_verdict": "names a score of its own",
    "ignore_instructions": "tells its reader to ignore what it was told",
    "addressed_to_critic": "speaks to whoever judges it",
    "fake_fence": "imitates the marks around a call's text",
    "role_header": "imitates a system or assistant message",
    "invisible": "holds invisible or direction-changing characters",
    "encoded": "hides one of these in base64",
}


@dataclass(frozen=True)
class Mark:
    """One suspicious passage.

    Attributes:
        kind: one of `KINDS`.
        field: "input", "output" or "context".
        text: the passage, cut; hostile as the call's own texts, its invisible characters named.
    """

    kind: str
    field: str
    text: str


_VERDICT_WORD = r"(?:score|rating|grade|verdict|level|label|mark)"
#: A level that is no part of a longer number or of a result such as 23-7.
_LEVEL = r"(?<![-\d.,])[1-7]\b(?![-.,:]\d)"
_PATTERNS = {
    "forged_verdict": re.compile(
        rf"\b(?:final|overall|correct|true|expert|assigned)\s+{_VERDICT_WORD}\b.{{0,30}}?{_LEVEL}"
        rf"|\b(?:verdict|level|score|rating|grade)\W{{0,4}}(?:is|=|:|of)\W{{0,4}}{_LEVEL}"
        r"|\b(?:rate|give|award|assign|score|grade)\b.{0,40}?\b(?:[1-7]\s*(?:/|out of)\s*7|level\s*[1-7]\b"
        r"|a\s+(?:7|seven)\b)"
        r"|\b(?:rate|give|award|assign)\b.{0,40}?\b(?:perfect|highest|maximum|top)\s+(?:possible\s+)?"
        r"(?:score|rating|level|marks?|grade)\b",
        re.IGNORECASE,
    ),
    "ignore_instructions": re.compile(
        r"\b(?:ignore|disregard|forget|override|bypass|discard)\b.{0,60}?"
        r"\b(?:instructions?|rubrics?|above|previous|prior|earlier|criteria|system prompt|rules?|guidelines?"
        r"|levels)\b"
        r"|\b(?:ignoriere?|vergiss)\b.{0,40}?\b(?:anweisung|regel|rubrik)"
        r"|\b(?:ignore[zr]?|oublie[zr]?)\b.{0,40}?\b(?:les instructions|les consignes)"
        r"|\b(?:ignora|olvida|ignorar)\b.{0,40}?\b(?:las instrucciones|as instru)"
        r"|(?:忽略|无视).{0,20}?(?:指令|指示|说明|以上|规则)|игнорируй.{0,40}?(?:инструкц|правил)"
        r"|\bnew (?:instructions?|task|rubric)\s*:",
        re.IGNORECASE,
    ),
    "addressed_to_critic": re.compile(
        r"\b(?:dear|note to|attention|message (?:to|for)|hey|hello|you are|as)\s+(?:the\s+|an?\s+)?"
        r"(?:ai\s+|llm\s+)?(?:judge|grader|evaluator|critic|assessor|rater|scorer|auditor)\b"
        r"|\b(?:judges?|graders?|evaluators?|critics?|assessors?|raters?)\b[^.\n]{0,40}?"
        r"\b(?:must|should|has to|have to|will|please)\b[^.\n]{0,40}?"
        r"\b(?:score|rate|award|grade|give|level)\b",
        re.IGNORECASE,
    ),
    "fake_fence": re.compile(
        r"</?[a-z][a-z0-9 ]{0,30}\s+x?[0-9a-f]{8,64}>"
        r"|^\s*</(?:output|input|context|case|call|answer|data|document|text)>"
        r"|\bfence mark is\b|\bend of (?:the )?(?:call|case|data|answer to judge|untrusted|fenced)",
        re.IGNORECASE | re.MULTILINE,
    ),
    "role_header": re.compile(
        r"<\|(?:im_start|im_end|system|assistant|user|start_header_id|end_of_turn|eot_id)\b|\[/?INST\]|<</?SYS>>"
        r"|^[ \t]*(?:#{1,6}[ \t]*|\*\*|\[|<)?(?:system|developer)"
        r"(?:[ \t]+(?:message|prompt|note|override|update))?[ \t]*(?:\*\*|\]|>)?[ \t]*:"
        r"|^[ \t]*#{1,6}[ \t]*(?:system|developer|instructions?)\b[ \t]*$",
        re.IGNORECASE | re.MULTILINE,
    ),
}
#: One of these words stands in whatever the patterns find; most texts have none.
_ANY_WORD = re.compile(
    r"score|rating|grade|verdict|level|label|rate|ignor|disregard|forget|overrid|bypass|discard|vergiss|oubli"
    r"|olvida|忽略|无视|игнорируй|instruction|judge|evaluator|critic|assessor|scorer|auditor|</|fence|end of"
    r"|marks?\b|<[a-z0-9 ]{1,31} x?[0-9a-f]{8}|<\||\[/?inst|<<|system|developer|new task|new rubric"
    r"|award|assign|give",
    re.IGNORECASE,
)
# Tag characters say ASCII that no screen shows; overrides let a line be read backwards. The joiners of emoji
# and of Persian or Hindi words are ordinary, one at a time.
_INVISIBLE = re.compile(
    r"[\U000e0020-\U000e007f]{2,}|[\u202d\u202e]|[\u2066\u2067][^\u2069\n]{0,200}[\u202a-\u202e]"
    r"|[\U000e0100-\U000e01ef]{3,}|(?:[\u200b\u2060\ufeff\u200c\u200d\u00ad\u180e][^\w\s]{0,1}){3,}"
    r"|(?:\w[\u200b\u2060\ufeff\u00ad]){3,}"
)
#: The flags of England, Scotland and Wales are spelled in tag characters.
_FLAG = re.compile(r"\U0001f3f4[\U000e0061-\U000e007a]{2,6}\U000e007f")
_STRIPPED = dict.fromkeys(
    [*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF, 0x00AD, 0x180E]
)
#: Cyrillic and Greek letters that look like Latin ones, and the tag characters as the ASCII they say.
_LOOK_ALIKES = str.maketrans(
    "аеорсухіјѕһԁԛԝАВЕКМНОРСТХІЅοαρινκΑΒΕΗΙΚΜΝΟΡΤΧ", "aeopcyxijshdqwABEKMHOPCTXISoapivkABEHIKMNOPTX"
)
_TAGS = {point: point - 0xE0000 for point in range(0xE0020, 0xE007F)}
_BLOB = re.compile(r"[A-Za-z0-9+/_-]{24,}={0,2}")


def marks_of(
    input_text: str | None, output_text: str | None, context: Sequence[str] = ()
) -> list[dict[str, str]] | None:
    """Return what is suspicious in a call's texts, as `guard_reading.marks` keeps it; None for nothing."""
    marks: list[Mark] = []
    for field, text in (
        ("output", output_text),
        ("input", input_text),
        *(("context", one) for one in context),
    ):
        for mark in _marks_in(text or "", field):
            if mark not in marks:
                marks.append(mark)
            if len(marks) >= MARKS_MAX:
                return [asdict(kept) for kept in marks]
    return [asdict(mark) for mark in marks] or None


def _marks_in(text: str, field: str) -> Iterator[Mark]:
    """Yield at most one mark a kind of one text."""
    if len(text) > SCAN_CHARS_MAX:
        half = SCAN_CHARS_MAX // 2
        text = f"{text[:half]}\n{text[-half:]}"
    ascii_only = text.isascii()
    if not ascii_only:
        text = _FLAG.sub("\U0001f3f4", text)
    if not ascii_only and (found := _INVISIBLE.search(text)):
        yield Mark("invisible", field, _excerpt(text, found))
    plain = text if ascii_only else folded(text)
    for kind, found in _found_in(plain):
        yield Mark(kind, field, _excerpt(plain, found))
    for blob in _decoded(plain):
        for _kind, found in _found_in(folded(blob)):
            yield Mark("encoded", field, _excerpt(blob, found))
            return


def _found_in(plain: str) -> Iterator[tuple[str, re.Match[str]]]:
    if _ANY_WORD.search(plain):
        for kind, pattern in _PATTERNS.items():
            if found := pattern.search(plain):
                yield kind, found


def folded(text: str) -> str:
    """Return a text as it is read: without invisible characters, look-alike letters as the Latin ones."""
    visible = text.translate(_STRIPPED).translate(_TAGS)
    return unicodedata.normalize("NFKC", visible).translate(_LOOK_ALIKES)


def _decoded(text: str) -> Iterator[str]:
    """Yield what the base64 in a text says, where it says text."""
    for n, blob in enumerate(_BLOB.finditer(text)):
        if n >= BLOBS_MAX:
            return
        letters = blob[0].rstrip("=")[:BLOB_CHARS_MAX].translate(str.maketrans("-_", "+/"))
        try:
            said = base64.b64decode(letters + "=" * (-len(letters) % 4), validate=True).decode()
        except (binascii.Error, ValueError):
            continue
        if sum(letter.isprintable() or letter.isspace() for letter in said) > 0.95 * len(said):
            yield said


def _excerpt(text: str, found: re.Match[str]) -> str:
    """Return the passage on one line with a little before it, what cannot be seen by its code point."""
    start = max(0, found.start() - 20)
    around = " ".join(text[start : found.start() + EXCERPT_CHARS].split())[:EXCERPT_CHARS]
    return "".join(
        letter if letter.isprintable() and unicodedata.category(letter) != "Mn" else f"[U+{ord(letter):04X}]"
        for letter in around
    )[:EXCERPT_CHARS]
