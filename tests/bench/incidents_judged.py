"""Holds what the product found against what was planted.

Flow: findings of a week (first first) + Planted + Truth -> `judge` -> `Judged`, one a week -> figures.

A cohort finds an incident when at least half of the incident's calls are in it, and at least half of its own
calls are the incident's. Its condition is the planted one when both hold for nearly the same calls, or when
every part of it is on the same field with the same value: thresholds and stretches of time may be a little
off. An incident's size is the number of calls it spoiled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np

from outliers.cohorts.candidates import holds
from outliers.cohorts.findings import Finding
from outliers.conditions import Condition
from outliers.frame import Mask, WeekCalls
from tests.bench.incidents_kinds import Planted
from tests.bench.incidents_rows import Truth

SAME_CALLS = 0.9
SAME_THRESHOLD = 0.7
SAME_SPAN = 0.5


@dataclass(frozen=True)
class Found:
    """One planted incident and what came of it.

    Attributes:
        place: of the first cohort that found it, 0 is first; None where none did.
        precision, recall: of that cohort's calls.
    """

    kind: str
    calls: int
    spoiled: int
    place: int | None
    named: bool
    precision: float
    recall: float
    right: str
    said: str


@dataclass(frozen=True)
class Judged:
    """One week.

    Attributes:
        cohorts: how many the product listed.
        false: those that found no incident.
        false_said: their conditions.
    """

    found: tuple[Found, ...]
    cohorts: int
    false: int
    false_said: tuple[str, ...]


def judge(
    calls: WeekCalls, findings: Sequence[Finding], planted: Sequence[Planted], truth: Truth, zone: ZoneInfo
) -> Judged:
    """Match each incident to the first cohort that finds it."""
    order = np.argsort(truth.seq, kind="stable")
    at = order[np.searchsorted(truth.seq[order], calls.seq)]  # the frame is in order of time
    spoiled_by = truth.spoiled_by[at]
    masks = [holds(finding.condition, calls) for finding in findings]
    taken: set[int] = set()
    found = []
    for place, incident in enumerate(planted):
        exposed = incident.exposed[at]
        scores = [_overlap(mask, exposed) for mask in masks]
        first = next((i for i, (p, r) in enumerate(scores) if p >= 0.5 and r >= 0.5 and i not in taken), None)
        if first is not None:
            taken.add(first)
        precision, recall = scores[first] if first is not None else (0.0, 0.0)
        found.append(
            Found(
                kind=incident.kind,
                calls=int(exposed.sum()),
                spoiled=int((spoiled_by == place).sum()),
                place=first,
                named=first is not None
                and any(_same(findings[first].condition, right, calls) for right in incident.conditions),
                precision=precision,
                recall=recall,
                right=" or ".join(right.words(zone) for right in incident.conditions),
                said=findings[first].condition.words(zone) if first is not None else "",
            )
        )
    false = [i for i in range(len(findings)) if i not in taken]
    return Judged(
        tuple(found),
        len(findings),
        len(false),
        tuple(findings[i].condition.words(zone) for i in false),
    )


def _overlap(mask: Mask, exposed: Mask) -> tuple[float, float]:
    both = int((mask & exposed).sum())
    return both / max(1, int(mask.sum())), both / max(1, int(exposed.sum()))


def _same(said: Condition, right: Condition, calls: WeekCalls) -> bool:
    if _jaccard(holds(said, calls), holds(right, calls)) >= SAME_CALLS:
        return True
    left = list(right.parts)
    for part in said.parts:
        match = next((other for other in left if _same_part(part, other, calls)), None)
        if match is None:
            return False
        left.remove(match)
    return not left


def _same_part(said: Condition, right: Condition, calls: WeekCalls) -> bool:
    if (said.field, said.op, said.key) != (right.field, right.op, right.key):
        return False
    if isinstance(said.value, str):
        return said.value == right.value
    least = SAME_SPAN if said.op == "within" else SAME_THRESHOLD
    return _jaccard(holds(said, calls), holds(right, calls)) >= least


def _jaccard(one: Mask, other: Mask) -> float:
    return int((one & other).sum()) / max(1, int((one | other).sum()))
