"""How many calls a week had, how many of them were bad, and how many nobody could grade."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from ingest.tables import Call, columns
from outliers.experience.parts import BAD_FROM
from outliers.intervals import wilson
from outliers.tables import Experience
from outliers.weeks import Week

CALL, EXPERIENCE = columns(Call), columns(Experience)


@dataclass(frozen=True)
class Volume:
    """A week's calls.

    Attributes:
        n: calls that started in the week.
        n_ranked: those with a P(bad).
        n_bad: those with P(bad) of at least one half.
        bad_rate: n_bad / n_ranked, 95 % interval `low`..`high`; None where none is ranked.
    """

    n: int
    n_ranked: int
    n_bad: int
    bad_rate: float | None
    low: float | None
    high: float | None


def volume(connection: Connection, project_id: int, week: Week) -> Volume:
    """Count a week's calls; three steps through indexes."""
    n = connection.execute(
        select(func.count())
        .select_from(CALL)
        .where(
            CALL.c.project_id == project_id,
            CALL.c.started_at_ms >= week.since_ms,
            CALL.c.started_at_ms < week.until_ms,
        )
    ).scalar_one()
    ranked = (
        select(func.count())
        .select_from(EXPERIENCE)
        .where(EXPERIENCE.c.project_id == project_id, EXPERIENCE.c.week == week.id)
    )
    n_ranked = connection.execute(ranked).scalar_one()
    n_bad = connection.execute(ranked.where(EXPERIENCE.c.p_bad >= BAD_FROM)).scalar_one()
    if not n_ranked:
        return Volume(n, 0, 0, None, None, None)
    low, high = wilson(n_bad, n_ranked)
    return Volume(n, n_ranked, n_bad, n_bad / n_ranked, low, high)
