"""Forms that a question asks for and an output has: verse, code, a list, hashtags, a letter, a calculation.

An answer about something else usually has another form too. A form counts as asked for where a word
of it stands in the question, in one of a few languages; the output's forms show in its lines and signs.
"""

import re

_ASKED: dict[str, re.Pattern[str]] = {
    name: re.compile(rf"\b(?:{words})", re.IGNORECASE)
    for name, words in {
        "verse": r"poem|poetry|haiku|limerick|rhym|song|lyric|verse|sonnet|rap\b|jingle|stanza|gedicht|reim|"
        r"poème|poema|poesía|poesia|canción|chanson|lied\b",
        "code": r"code|python|javascript|html|css\b|sql|java\b|program|function|script|algorithm|regex|query|"
        r"c\+\+|api\b|skript|funktion|fonction|función|código|codice|função|json|yaml",
        "list": r"list|three|four|five|six|seven|eight|ten\b|examples|ingredient|steps|ways|tips|items|ideas|"
        r"suggestions|recipe|reasons|benefits|features|names of|outline|plan|liste|schritte|zutaten|étapes|"
        r"lista|pasos|passos|rezept|recette|receta|\b\d+ [a-z]+s\b",
        "tags": r"tweet|twitter|hashtag|instagram|social media|post\b|caption|bio\b",
        "letter": r"e-?mail|letter|message to|invitation|cover|brief\b|lettre|carta|lettera|correo",
        "sum": r"calculat|equation|sum\b|solve|evaluate|multipl|divid|average|percent|how many|how much|area|"
        r"probability|simplify|berechne|calcul|calcol|square|root|formula|number",
    }.items()
}
_CODE = re.compile(
    r"```|</\w+>|\bdef \w+\(|\breturn\b.*[;\n]|[;{}]\s*\n|\bimport \w+|SELECT .* FROM|console\.log|print\("
)
_ITEM = re.compile(r"^\s*(?:[-*•]|\(?\d{1,2}[.):]|[a-z]\))\s+", re.MULTILINE)
_LETTER = re.compile(
    r"\b(?:Dear|Subject:|Sincerely|Regards|Hi \w+,|Hello \w+,|Sehr geehrte|Liebe|Cher|"
    r"Chère|Estimad|Gentile)\b"
)
_SUM = re.compile(r"\d\s*[=+*/×÷^]\s*-?\(?\d|=\s*-?\d|\d\s*%")


def forms_asked(asked: str) -> set[str]:
    """Return the forms that a question names."""
    return {name for name, pattern in _ASKED.items() if pattern.search(asked[:2_000])}


def forms_of(output: str) -> set[str]:
    """Return the forms that an output has."""
    found = set()
    lines = [line for line in output.split("\n") if line.strip()]
    items = len(_ITEM.findall(output))
    if _CODE.search(output):
        found.add("code")
    if items >= 2:
        found.add("list")
    elif len(lines) >= 4 and sum(map(len, lines)) / len(lines) < 60 and "code" not in found:
        found.add("verse")
    if "#" in output and re.search(r"(?:^|\s)#[A-Za-z]\w+", output):
        found.add("tags")
    if _LETTER.search(output[:600]) or _LETTER.search(output[-300:]):
        found.add("letter")
    if _SUM.search(output):
        found.add("sum")
    return found
