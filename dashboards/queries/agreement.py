"""What people and critics say of the same calls: agreement with labels, calls two critics see differently.

Flow: label and score rows -> `beside_people`; score rows of the window's newest calls -> `seen_differently`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, func, select

from critic.tables import Score
from critic.trust.agreement import Agreement, agreement, labelled
from critic.trust.anchors import AnchorRun, drift_of
from critic.trust.calibration import Calibration, at_levels, calibrate, told
from dashboards.filters import Window
from dashboards.queries.rubrics import newest_calls
from ingest.tables import Call, columns

CALL, SCORE = columns(Call), columns(Score)

#: Newest labels that a page looks at, and draws of its intervals: both together take some 20 ms.
LABELS_READ, DRAWS = 300, 100
#: Critics less than this many levels apart on the same call agree as well as two people do.
APART_MIN = 2.0
SHOWN_MAX = 10


@dataclass(frozen=True)
class BesidePeople:
    """One critic beside the newest labels of a rubric's newest version.

    Attributes:
        calibration: what people would give for its scores; None where too few labels say.
        levels: by the calibration, what people would give where the critic says 1, 2, .. 7; empty without.
        told: what the calibration is worth, as a sentence; "" without.
    """

    critic: str
    found: Agreement
    calibration: Calibration | None = None
    levels: tuple[float, ...] = ()
    told: str = ""


@dataclass(frozen=True)
class PeopleWouldSay:
    """What people would give for one score, by what they gave for others of the same version and critic.

    Attributes:
        level: 1..7; it stands beside the score and replaces it nowhere.
        labels: labelled outputs that it is learnt from.
    """

    level: float
    labels: int


@dataclass(frozen=True)
class SeenDifferently:
    """A call that two critics gave levels far apart under the same version.

    Attributes:
        call_id: of the call.
        low, high: the two farthest scores, each with its critic.
    """

    call_id: str
    low: tuple[str, float]
    high: tuple[str, float]

    @property
    def apart(self) -> float:
        """Levels between the two."""
        return self.high[1] - self.low[1]


def beside_people(
    connection: Connection, project_id: int, rubric: str, critics: Sequence[str]
) -> tuple[BesidePeople, ...]:
    """Hold each critic beside the newest labels; critics without a labelled call are left out."""
    found = []
    for critic in critics:
        compared = labelled(connection, project_id, rubric, critic, labels_max=LABELS_READ)
        if compared.said:
            calibration = calibrate(compared, draws=DRAWS)
            beside = BesidePeople(critic, agreement(compared, draws=DRAWS), calibration)
            if calibration is not None:
                beside = replace(beside, levels=tuple(at_levels(calibration)), told=told(calibration, critic))
            found.append(beside)
    return tuple(found)


def people_would_say(
    connection: Connection, project_id: int, rubric: str, blob: str, critic: str, score: float
) -> PeopleWouldSay | None:
    """Return what people would give for a score; None where labels are few, or do not help."""
    compared = labelled(connection, project_id, rubric, critic, blob=blob, labels_max=LABELS_READ)
    calibration = calibrate(compared)
    if calibration is None or not calibration.helps:
        return None
    return PeopleWouldSay(calibration.level(score), calibration.n)


@dataclass(frozen=True)
class Drift:
    """One critic's runs over the anchors of a rubric's newest version, oldest first; at least one."""

    critic: str
    runs: tuple[AnchorRun, ...]


def drifts(
    connection: Connection, project_id: int, rubric: str, blob: str, critics: Sequence[str]
) -> tuple[Drift, ...]:
    """Return how each critic moved on the anchors; those that were never asked about them are left out."""
    found = [Drift(critic, drift_of(connection, project_id, rubric, blob, critic)) for critic in critics]
    return tuple(drift for drift in found if drift.runs)


def seen_differently(
    connection: Connection, project_id: int, window: Window, blob: str
) -> tuple[SeenDifferently, ...]:
    """Return the calls that critics disagree about most, among the window's newest; at most ten."""
    newest = newest_calls(project_id, window)
    apart = func.max(SCORE.c.score) - func.min(SCORE.c.score)
    calls = (
        select(SCORE.c.call_seq)
        .select_from(newest.join(SCORE, SCORE.c.call_seq == newest.c.seq))
        .where(SCORE.c.rubric_blob == blob, SCORE.c.occasion == "", SCORE.c.status == "scored")
        .group_by(SCORE.c.call_seq)
        .having(func.count() > 1, apart >= APART_MIN)
        .order_by(apart.desc(), SCORE.c.call_seq)
        .limit(SHOWN_MAX)
    )
    rows = connection.execute(
        select(CALL.c.id, SCORE.c.critic, SCORE.c.score)
        .join(CALL, CALL.c.seq == SCORE.c.call_seq)
        .where(
            SCORE.c.call_seq.in_(list(connection.scalars(calls))),
            SCORE.c.rubric_blob == blob,
            SCORE.c.occasion == "",
            SCORE.c.status == "scored",
        )
        .order_by(SCORE.c.score)
    ).all()
    by_call: dict[str, list[tuple[str, float]]] = {}
    for row in rows:
        by_call.setdefault(row.id, []).append((row.critic, row.score))
    found = [SeenDifferently(call_id, said[0], said[-1]) for call_id, said in by_call.items()]
    return tuple(sorted(found, key=lambda one: (-one.apart, one.call_id)))
