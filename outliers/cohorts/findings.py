"""Findings: what sets a week's bad calls, or its slow tail, apart from the rest.

Flow: outliers.cohorts.discovery -> `keep_findings` (a write job) -> `finding` rows -> `findings_of` -> pages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from ingest.tables import columns
from outliers import tables
from outliers.conditions import Condition

_finding = columns(tables.Finding)


@dataclass(frozen=True)
class Point:
    """One day or week of a cohort's trend.

    Attributes:
        since_ms: its first instant, milliseconds since 1970 (UTC).
        n: calls under the condition.
        bad: how many of them were bad, as a sum of P(bad); of a cohort by latency, how many were slow.
    """

    since_ms: int
    n: int
    bad: float


@dataclass(frozen=True)
class Finding:
    """One condition that sets a week's bad calls, or its slow tail, apart from the rest.

    Attributes:
        rank: 1 is first: the one that explains most.
        about: "bad" (by P(bad)) or "tail" (the slowest calls).
        condition: on a field known before the answer.
        sentence: "input_tokens > 9,800 holds for 71 % of the slowest 1 % and 2 % of the rest".
        n: calls of the week for which the condition holds.
        n_in: those of them that are bad (P(bad) >= .5), or in the tail.
        share_in: share of the bad (or slow) calls for which it holds, 0..1.
        share_out: share of the other calls for which it holds, 0..1.
        rate_in: share of the calls under the condition that are bad (or slow), 0..1.
        rate_low, rate_high: its 95 % interval, a user's calls counted once.
        rate_out: the same share among the other calls.
        lift: rate_in / rate_out.
        lift_low, lift_high: its 95 % interval, a user's calls counted once.
        users: distinct users with a bad (or slow) call under the condition.
        first_seen_at_ms: its first bad (or slow) call, milliseconds since 1970 (UTC).
        p_value: in the half of the users that did not find it.
        examples: ids of at most 10 calls: those that show `what_failed`, then others; each worst first.
        what_failed: what most of these calls have in common, "wrong_language"; "" where nothing stands out.
        n_what_failed: bad calls under the condition that failed so.
        severity: mean P(bad) of the calls under the condition.
        case_sentence: "Answers came in the wrong language for prompt faq@v7: 118 of 130 calls, 64 users,
            since Tue 14:00".
        measure: what set it apart: "p_bad", or "latency" (slower than its service and length explain; then
            n_in, rates and users count the calls that were slow for what they were).
        excess: calls that went wrong beyond what the 28 days before let expect; what cohorts are ranked by.
        share_of_traffic: share of the week's calls under the condition, 0..1.
        rate_before, n_before: the same rate over the 28 days before, and the calls it is from; None and 0
            where there were none.
        lasting: whether the rate was no lower in the 28 days before: no incident, and ranked after them.
        found_among: the half of the people that found it, so that it cannot prove it: "held_back", "others"
            or "both".
        failed_as: the one way to fail ("wrong_language", "error Timeout") that its rates, lift, users and
            n_in count alone; "" where they count every bad call.
        days: each day of the week.
        weeks_before: each of the four weeks before.
    """

    rank: int
    about: str
    condition: Condition
    sentence: str
    n: int
    n_in: int
    share_in: float
    share_out: float
    rate_in: float
    rate_low: float
    rate_high: float
    rate_out: float
    lift: float
    lift_low: float
    lift_high: float
    users: int
    first_seen_at_ms: int
    p_value: float
    examples: tuple[str, ...]
    what_failed: str
    n_what_failed: int
    severity: float
    case_sentence: str
    # What follows has defaults: rows that were kept before it was computed are still read.
    measure: str = "p_bad"
    excess: float = 0.0
    share_of_traffic: float = 0.0
    rate_before: float | None = None
    n_before: int = 0
    lasting: bool = False
    found_among: str = "others"
    failed_as: str = ""
    days: tuple[Point, ...] = ()
    weeks_before: tuple[Point, ...] = ()


def findings_of(
    connection: Connection, project_id: int, week_id: str, about: str, *, lasting: bool = False
) -> list[Finding]:
    """Return a week's findings, first first; empty where nothing stands apart, or nothing was computed yet.

    Args:
        about: "bad" (the week's cohorts, those by latency among them) or "tail" (its slowest calls).
        lasting: True for those that were there in the weeks before too, instead of the new ones.
    """
    rows = connection.execute(
        select(_finding)
        .where(_finding.c.project_id == project_id, _finding.c.week == week_id, _finding.c.about == about)
        .order_by(_finding.c.rank)
    ).mappings()
    found = [finding_from_row(dict(row)) for row in rows]
    return [finding for finding in found if finding.lasting == lasting]


def finding_from_row(row: Mapping[str, Any]) -> Finding:
    """Return a finding as the table `finding` keeps it."""
    figures = dict(row["figures"])
    figures["examples"] = tuple(figures["examples"])
    for trend in ("days", "weeks_before"):
        figures[trend] = tuple(Point(**point) for point in figures.get(trend, ()))
    return Finding(
        rank=row["rank"],
        about=row["about"],
        condition=Condition.from_json(row["condition"]),
        sentence=row["sentence"],
        **figures,
    )


def finding_as_row(project_id: int, week_id: str, finding: Finding) -> dict[str, Any]:
    """Return a row of the table `finding`."""
    figures = {
        name: value
        for name, value in asdict(finding).items()
        if name not in ("rank", "about", "condition", "sentence")
    }
    return {
        "project_id": project_id,
        "week": week_id,
        "about": finding.about,
        "rank": finding.rank,
        "condition": finding.condition.as_json(),
        "sentence": finding.sentence,
        "figures": figures | {"examples": list(finding.examples)},
    }


def keep_findings(
    connection: Connection, project_id: int, week_id: str, about: str, findings: Sequence[Finding]
) -> None:
    """Write job: replace a week's findings."""
    connection.execute(
        delete(_finding).where(
            _finding.c.project_id == project_id, _finding.c.week == week_id, _finding.c.about == about
        )
    )
    if findings:
        connection.execute(insert(_finding), [finding_as_row(project_id, week_id, f) for f in findings])
