"""How many calls a week had, and how many of them were bad.

Flow: counts of calls and of their experiences, now; the share with its interval as the weekly computation
kept it (outliers.changes), so that the first screen, the table of changes and the JSON say one number.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from ingest.tables import Call, columns
from outliers.changes import changes_of
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
        bad_rate: share of bad calls, 95 % interval `low`..`high`: each call counted for those it stands for
            and a user's calls once, as of the last weekly computation. Before the first one it is n_bad /
            n_ranked. None where none is ranked.
        weighed: whether that differs from n_bad / n_ranked because calls were sampled, by the application
            or by a critic's budget.
    """

    n: int
    n_ranked: int
    n_bad: int
    bad_rate: float | None
    low: float | None
    high: float | None
    weighed: bool = False


#: Shares further apart than this differ by their weights, not by what came since the weekly computation.
SAME_SHARE = 0.005


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
    plain = n_bad / n_ranked
    for change in changes_of(connection, project_id, week):
        told = change.now
        if (change.measure, change.by) == ("bad_rate", None) and told.value is not None:
            weighed = abs(told.value - plain) > SAME_SHARE
            return Volume(n, n_ranked, n_bad, told.value, told.low, told.high, weighed)
    return Volume(n, n_ranked, n_bad, plain, *wilson(n_bad, n_ranked))
