"""Why a call was bad, in words and as shares: the parts of its experience as lists and charts show them."""

from collections.abc import Sequence

from dashboards.queries.critic import CriticCoverage
from dashboards.queries.rubrics import RubricUse
from dashboards.queries.slow_causes import WeekTails
from dashboards.words import share
from outliers.causes.tail_causes import LABELS
from outliers.experience.parts import Part

#: A part is named as a reason from this share on.
NAMED_FROM = 0.15


def why(parts: Sequence[Part]) -> str:
    """Say what made a call bad: the parts with the largest shares, each with what it saw."""
    seen = [part for part in parts if part.known and part.share >= NAMED_FROM]
    return ", ".join(_seen(part) for part in seen[:3])


def shares_of(parts: Sequence[Part]) -> list[tuple[str, float]]:
    """Return (class of the chart, share) for each part; one whose value is not known counts as "unknown"."""
    return [(part.name if part.known else "unknown", part.share) for part in parts]


def shares_in_words(parts: Sequence[Part]) -> str:
    """The same for those who do not see the chart: "critic 80 %, latency 20 % (unknown)"."""
    said = [
        f"{part.name} {share(part.share)}{'' if part.known else ' (unknown)'}" for part in parts if part.share
    ]
    return "Parts of it: " + (", ".join(said) or "none")


def statuses_in_words(use: RubricUse | CriticCoverage) -> str:
    """What became of a rubric's or a critic's questions: "scored 80 %, ungraded 20 %"."""
    return ", ".join(f"{status} {share(n / use.n)}" for status, n in use.by_status.items() if n)


def slow_because(weeks: Sequence[WeekTails]) -> dict[str, str]:
    """Say why each of the slowest calls was slow, by its id: what has most of the time beyond usual."""
    return {
        call.id: LABELS[call.label]
        for week in weeks
        for call in (week.tails[0].slowest if week.tails else ())
        if call.label in LABELS and call.label != "unexplained"
    }


def _seen(part: Part) -> str:
    detail = part.detail.replace("_", " ").replace(" x ", "× ")
    return detail if detail and part.name != "latency" else f"{part.name} {detail}".strip()
