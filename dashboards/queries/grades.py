"""Which of a call's answers counts, and the one line that lists show of it.

Averages and rankings use the newest version of each rubric and the first critic in configured order that
scored; versions are never mixed. "Ungraded" is an answer of its own and never a number.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from critic.tables import RubricVersion, Score
from dashboards.queries import AnyRow
from ingest.tables import columns

SCORE, RUBRIC = columns(Score), columns(RubricVersion)


@dataclass(frozen=True)
class Grade:
    """The worst that a rubric said about a call.

    Attributes:
        status: "scored" where any rubric is; otherwise the commonest other status.
        rubric: the rubric with the lowest score; None unless scored.
        score: that score, 1..7; None unless scored.
        local: True where no model read the text.
    """

    status: str
    rubric: str | None
    score: float | None
    local: bool


def is_local(critic: str) -> bool:
    """Whether a critic of this name works from features, so that no model reads the text."""
    return critic.partition(":")[0] == "local"


def preference(row: AnyRow, critics: Sequence[str]) -> tuple[int, bool, int]:
    """Sort key of one rubric's answers: newest version, then scored ones, then the first critic."""
    order = critics.index(row.critic) if row.critic in critics else len(critics)
    return -(row.first_used_at_ms or 0), row.status != "scored", order


def grades_of(connection: Connection, seqs: Sequence[int], critics: list[str]) -> dict[int, Grade]:
    """The worst that was said about each of these calls, by key; calls without an answer are left out."""
    rows = connection.execute(
        select(
            SCORE.c.call_seq,
            SCORE.c.rubric,
            SCORE.c.critic,
            SCORE.c.status,
            SCORE.c.score,
            RUBRIC.c.first_used_at_ms,
        )
        .outerjoin(RUBRIC, RUBRIC.c.blob == SCORE.c.rubric_blob)
        .where(SCORE.c.call_seq.in_(seqs), SCORE.c.occasion == "")
    ).all()
    chosen: dict[int, dict[str, AnyRow]] = {}
    for row in sorted(rows, key=lambda row: preference(row, critics)):
        chosen.setdefault(row.call_seq, {}).setdefault(row.rubric, row)
    return {seq: _worst(list(by_rubric.values())) for seq, by_rubric in chosen.items()}


def _worst(answers: list[AnyRow]) -> Grade:
    scored = [row for row in answers if row.status == "scored"]
    if scored:
        lowest = min(scored, key=lambda row: row.score)
        return Grade("scored", lowest.rubric, lowest.score, is_local(lowest.critic))
    statuses = [row.status for row in answers]
    return Grade(max(set(statuses), key=lambda status: (statuses.count(status), status)), None, None, False)
