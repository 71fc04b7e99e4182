"""The documents that bakers upload to have them summarised, of any length, and what a summary says.

Flow: texts/documents.toml -> `Upload` (clauses first, then a schedule of dated lines) -> questions and
answers. The contract stands in the clauses; the schedule makes a document long.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from api.demo.texts import sentence_case, written

MONTHS: tuple[str, ...] = ("January", "February", "March", "April", "May", "June")
MONTHS += ("July", "August", "September", "October", "November", "December")
SUPPLIERS: tuple[str, ...] = ("Mühlenwerk Tarn", "Halden Mill", "Corviston Ltd", "Ostrand & Lowe")
SUPPLIERS += ("Brightwell Partners", "the District Office", "Veritas Ovenworks", "Kestrel Mutual")
STREETS = ("Mill Lane 4", "Harbour Street 19", "Kirchgasse 7", "Rue des Tanneurs 12", "Market Row 2")
SIGNERS = ("R. Okafor", "J. Lindqvist", "M. Tran", "P. Ferreira", "S. Albers", "D. Novak", "T. Whelan")
REMARKS = ("no remarks", "no remarks", "in order", "one sack torn", "late by 20 minutes", "seal checked")

#: A dated line of a schedule, and the sentence that a summary makes of it.
Line = tuple[str, str]


@dataclass
class Upload:
    """One document and its questions."""

    text: str
    kind: str
    shop: str
    _source: random.Random
    _gists: dict[str, list[list[str]]]
    _openings: dict[str, str]
    _schedule: list[Line]
    _asked: set[str] = field(default_factory=set)

    def ask(self) -> tuple[str, str, str]:
        """Return the subject, the question, and the right answer. A document is asked each subject once."""
        ask = written("documents")["ask"]
        left = [one for one in ("all", *self._gists) if one not in self._asked] or ["all"]
        subject = "all" if not self._asked and self._source.random() < 0.6 else self._source.choice(left)
        self._asked.add(subject)
        slots = {"kind": self.kind, "shop": self.shop}
        question = self._source.choice(ask[subject]).format_map(slots)
        chosen = [self._source.choice(one) for one in self._relevant(subject)]
        opening = self._source.choice(ask["intro"])
        closing = self._source.choice(ask["outro"]).format_map(slots)
        return subject, question, sentence_case(f"{opening} {' '.join(chosen)}{closing}")

    def wrong_part(self) -> str:
        """Return what comes out when only the end of the document was read: the schedule, cut off."""
        at = self._source.randrange(max(1, len(self._schedule) - 40), len(self._schedule) - 20)
        chosen = [self._schedule[at + 5 * step][1] for step in range(self._source.randint(2, 4))]
        words = [
            *self._source.choice(written("documents")["ask"]["wrong"]).split(),
            *" ".join(chosen).split(),
        ]
        words = words[: -self._source.randint(2, 6)]
        while not words[-1].isalpha() or not words[-1].islower():
            words.pop()
        return sentence_case(" ".join(words))

    def _relevant(self, subject: str) -> list[list[str]]:
        if subject != "all":
            gists = self._gists[subject]
            return gists if len(gists) > 1 else [[self._openings[subject]], *gists]
        every = [one for gists in self._gists.values() for one in gists]
        return every if len(every) <= 4 else [one for one in every if one is not every[1]]


def upload(source: random.Random, shop: str, chars: int) -> Upload:
    """Return a document of about `chars` characters (at least its clauses, some 2,000)."""
    document = source.choice(written("documents")["document"])
    slots = _slots(source, shop)
    clauses = []
    gists: dict[str, list[list[str]]] = {}
    openings: dict[str, str] = {}
    for number, section in enumerate(document["sections"], start=1):
        clauses.append(f"{number}. {section['head']}\n{section['text'].format_map(slots)}")
        gists.setdefault(section["subject"], []).append([one.format_map(slots) for one in section["gist"]])
        openings.setdefault(section["subject"], section["text"].format_map(slots).split(". ")[0] + ".")
    head = "\n\n".join([document["title"].format_map(slots), *clauses])
    lines: list[Line] = []
    length = len(head)
    make = _SCHEDULES[document["schedule"]]
    while length < chars or len(lines) < 8:
        lines.append(make(source, _date(len(lines))))
        length += len(lines[-1][0]) + 1
    body = f"{head}\n\nSchedule: {document['schedule']}\n" + "\n".join(line for line, _gist in lines)
    return Upload(body, document["kind"], shop, source, gists, openings, lines)


def _slots(source: random.Random, shop: str) -> dict[str, Any]:
    month = source.randrange(12)
    return {
        "shop": shop,
        "supplier": source.choice(SUPPLIERS),
        "street": source.choice(STREETS),
        "staff": source.choice(written("names")["en"]["staff"]),
        "n": source.choice((28, 36, 40, 48, 60, 72, 85)),
        "amount": source.choice((180, 240, 310, 420, 560, 740, 1250)),
        "limit": source.choice((300, 450, 600, 800, 1200)),
        "premium": source.choice((185, 230, 275, 340, 415)),
        "pct": source.choice((4, 5, 6, 8, 10, 12)),
        "days": source.choice((8, 12, 15, 20)),
        "months": source.choice((12, 18, 24, 36, 60)),
        "date": f"{source.randint(1, 28)} {MONTHS[month]} 2027",
        "date2": f"{source.randint(1, 28)} {MONTHS[(month + 2) % 12]} 2027",
    }


def _date(number: int) -> str:
    return f"{number % 28 + 1} {MONTHS[(number // 28) % 12]}"


def _deliveries(source: random.Random, date: str) -> Line:
    wheat, rye, who = source.randint(6, 24), source.randint(1, 6), source.choice(SIGNERS)
    at = f"0{source.randint(4, 6)}:{source.randrange(0, 60, 5):02d}"
    remark = source.choice(REMARKS)
    return (
        f"{date}, {at}: {wheat} sacks wheat T65, {rye} sacks rye 1150, batch {source.randint(1000, 9999)}, "
        f"signed {who}, {remark}.",
        f"On {date} {wheat} sacks of wheat and {rye} of rye came at {at}, signed by {who}, {remark}.",
    )


def _inventory(source: random.Random, date: str) -> Line:
    thing = source.choice(("spiral mixer", "proofing basket", "deck oven stone", "shop lamp", "rack trolley"))
    number, value, room = (
        source.randint(1, 40),
        source.randint(12, 3900),
        source.choice(("cellar", "shop", "bakehouse")),
    )
    return (
        f"Item {source.randint(10000, 99999)}, entered {date}: {number} x {thing}, {room}, value {value} "
        f"euros, {source.choice(('good', 'fair', 'new', 'worn'))}, listed by {source.choice(SIGNERS)}.",
        f"The list of {date} has {number} pieces of {thing} in the {room}, worth {value} euros.",
    )


def _visits(source: random.Random, date: str) -> Line:
    part = source.choice(
        ("burner 1", "burner 2", "door seal", "mixer belt", "earthing", "steam valve", "thermostat")
    )
    minutes, who = source.randrange(10, 95, 5), source.choice(SIGNERS)
    return (
        f"{date}: {part} checked, {minutes} minutes, {source.randint(180, 245)} degrees reached, part number "
        f"{source.randint(100, 999)}-{source.randint(10, 99)}, {who}, {source.choice(REMARKS)}.",
        f"On {date} {who} checked the {part}, which took {minutes} minutes.",
    )


def _readings(source: random.Random, date: str) -> Line:
    cold, kwh = source.uniform(3.1, 7.4), source.randint(120, 480)
    return (
        f"{date}: cold room {cold:.1f} degrees at 05:00, shop counter {source.uniform(4, 8):.1f} degrees, "
        f"meter {source.randint(10000, 99999)} ({kwh} kWh), read by {source.choice(SIGNERS)}.",
        f"On {date} the cold room stood at {cold:.1f} degrees and the meter showed {kwh} kWh.",
    )


def _rota(source: random.Random, date: str) -> Line:
    early, late = source.sample(SIGNERS, 2)
    return (
        f"{date}: early shift {early} 02:30 to 10:30, late shift {late} 09:45 to 18:15, "
        f"break {source.choice((30, 45))} minutes, trained {source.choice(('nothing', 'till'))}.",
        f"On {date} {early} had the early shift and {late} the late one.",
    )


_SCHEDULES: dict[str, Callable[[random.Random, str], Line]] = {
    "deliveries": _deliveries,
    "inventory": _inventory,
    "visits": _visits,
    "readings": _readings,
    "rota": _rota,
}
