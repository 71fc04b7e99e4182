"""How far a critic is from people, and what that is worth: never an error without its company.

Flow: `labelled` (people's labels beside a critic's scores, from the tables) or a benchmark's arrays ->
`agreement` -> the rubric's page, `lowlight rubric test`, `make bench BENCH=critic`.

Always answering the median is off by little on most sets, so a mean error stands beside the constant's and
beside people's own distance from one another. Every figure has a 95 % interval by a bootstrap over groups
(percentiles: Efron & Tibshirani, An Introduction to the Bootstrap, ch. 13; groups drawn whole: Davison &
Hinkley, Bootstrap Methods, 3.8), for rows of one conversation are not independent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from critic.tables import RubricVersion, Score
from ingest.tables import Call, Label, columns

Floats = NDArray[np.float64]
Ints = NDArray[np.int_]

CALL, LABEL, SCORE, VERSION = columns(Call), columns(Label), columns(Score), columns(RubricVersion)

#: Draws of the bootstrap: the ends of a 95 % interval then move by about a twentieth of its width.
DRAWS = 400
#: Fewer groups than this bootstrap into an interval that is too narrow to be shown.
GROUPS_MIN = 10


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; `low` and `high` are None where there are too few groups for one."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Agreement:
    """A critic beside people, on levels 1..7.

    Attributes:
        n, groups: outputs compared, and groups (users, documents) they come from.
        mae: mean distance from the people's mean level.
        constant_mae: that of always answering the median of the people's levels, known in hindsight: the
            error of somebody who never looks.
        ceiling_mae: mean distance of one person from the mean of the others who rated the same output; no
            value where nobody rated together.
        rho, ceiling_rho: Spearman's rank correlation of the critic, and of one person, with the same.
        qwk: quadratic weighted kappa of whole levels (Cohen 1968).
        within_one: share of outputs off by at most one level.
        bias: mean of critic less people; above 0 the critic is kinder.
    """

    n: int
    groups: int
    mae: Estimate
    constant_mae: Estimate
    ceiling_mae: Estimate
    rho: Estimate
    ceiling_rho: Estimate
    qwk: Estimate
    within_one: Estimate
    bias: Estimate


@dataclass(frozen=True)
class Compared:
    """Outputs that both people and a critic gave a level, one place each.

    Attributes:
        said: the critic's scores 1..7, shape (n,).
        people: each output's levels 1..7 by person, at least one.
        groups: what an output must not be separated from.
        outputs: what each output is called; needed by `shift` alone.
    """

    said: Sequence[float]
    people: Sequence[Sequence[float]]
    groups: Sequence[str]
    outputs: Sequence[str] = ()


@dataclass(frozen=True)
class Shift:
    """What a new version of a rubric changed, over the outputs that were scored under both.

    Attributes:
        n: outputs scored under both.
        level: mean of the new score less the old.
        mae, rho: the new figure less the old; a positive `mae` and a negative `rho` are worse.
    """

    n: int
    level: Estimate
    mae: Estimate
    rho: Estimate

    @property
    def worse(self) -> bool:
        """Whether it is worse beyond chance: an interval that lies wholly on the bad side."""
        farther = self.mae.low is not None and self.mae.low > 0
        return farther or (self.rho.high is not None and self.rho.high < 0)


def agreement(compared: Compared, *, draws: int = DRAWS, seed: int = 0) -> Agreement:
    """Hold a critic beside people.

    Args:
        draws: bootstrap draws; 0 for no intervals.

    Raises:
        ValueError: the lists are of unequal length, or an output has nobody's level.
    """
    n = len(compared.said)
    if len(compared.people) != n or len(compared.groups) != n or not all(map(len, compared.people)):
        raise ValueError("every output needs one score, one group and at least one person's level")
    said = np.asarray(compared.said, dtype=np.float64)
    truth = np.array([float(np.mean(levels)) for levels in compared.people])
    names, codes = np.unique(np.asarray(compared.groups, dtype=str), return_inverse=True)
    one, others, rater_codes = _each_beside_the_rest(compared.people, codes)
    paired = Bootstrap(codes, len(names), draws, seed)
    raters = Bootstrap(rater_codes, len(names), draws, seed)
    return Agreement(
        n=n,
        groups=len(names),
        mae=paired.of(_mae, said, truth),
        constant_mae=paired.of(lambda levels, _same: _mae(np.median(levels), levels), truth, truth),
        ceiling_mae=raters.of(_mae, one, others),
        rho=paired.of(_rho, said, truth),
        ceiling_rho=raters.of(_rho, one, others),
        qwk=paired.of(_qwk, said, truth),
        within_one=paired.of(lambda a, b: float(np.mean(np.abs(a - b) <= 1)), said, truth),
        bias=paired.of(lambda a, b: float(np.mean(a - b)), said, truth),
    )


def shift(before: Compared, after: Compared, *, draws: int = DRAWS, seed: int = 0) -> Shift:
    """Hold two versions beside the same people, output by output.

    Each draw of the bootstrap takes both versions' scores of the same outputs, so what two versions share
    does not blur what sets them apart.
    """
    was = dict(zip(before.outputs, before.said, strict=True))
    both = [place for place, output in enumerate(after.outputs) if output in was]
    old_and_new = np.array([(was[after.outputs[place]], after.said[place]) for place in both]).reshape(-1, 2)
    truth = np.array([float(np.mean(after.people[place])) for place in both])
    names, codes = np.unique(
        np.array([after.groups[place] for place in both], dtype=str), return_inverse=True
    )
    paired = Bootstrap(codes, len(names), draws, seed)

    def moved(figure: Callable[[Floats, Floats], float | None]) -> Callable[[Floats, Floats], float | None]:
        def _moved(scores: Floats, levels: Floats) -> float | None:
            old, new = figure(scores[:, 0], levels), figure(scores[:, 1], levels)
            return None if old is None or new is None else new - old

        return _moved

    return Shift(
        n=len(both),
        level=paired.of(
            lambda scores, _truth: float(np.mean(scores[:, 1] - scores[:, 0])), old_and_new, truth
        ),
        mae=paired.of(moved(_mae), old_and_new, truth),
        rho=paired.of(moved(_rho), old_and_new, truth),
    )


def labelled(
    connection: Connection,
    project_id: int,
    rubric: str,
    critic: str,
    *,
    blob: str | None = None,
    labels_max: int | None = None,
) -> Compared:
    """Return the calls that people labelled under a rubric and a critic scored under one version of it.

    Calls of one user are one group, then of one session; a call with neither is a group of its own.

    Args:
        blob: the version; None for the newest.
        labels_max: how many of the newest labels are looked at; None for all.
    """
    of_rubric = (LABEL.c.project_id == project_id, LABEL.c.rubric == rubric)
    among = select(LABEL.c.seq).where(*of_rubric).order_by(LABEL.c.seq.desc()).limit(labels_max)
    newest = (
        select(VERSION.c.blob)
        .where(VERSION.c.name == rubric)
        .order_by(VERSION.c.first_used_at_ms.desc(), VERSION.c.blob)
        .limit(1)
        .scalar_subquery()
    )
    rows = connection.execute(
        select(CALL.c.id, CALL.c.user_id, CALL.c.session_id, SCORE.c.score, LABEL.c.level)
        .select_from(LABEL)
        .join(CALL, (CALL.c.project_id == LABEL.c.project_id) & (CALL.c.id == LABEL.c.call_id))
        .join(SCORE, SCORE.c.call_seq == CALL.c.seq)
        .where(
            *of_rubric,
            *(() if labels_max is None else (LABEL.c.seq.in_(among),)),
            SCORE.c.rubric_blob == (newest if blob is None else blob),
            SCORE.c.critic == critic,
            SCORE.c.occasion == "",
            SCORE.c.status == "scored",
        )
        .order_by(CALL.c.seq, LABEL.c.labeller)
    )
    said: dict[str, float] = {}
    people: dict[str, list[float]] = {}
    groups: dict[str, str] = {}
    for row in rows:
        said[row.id] = row.score
        people.setdefault(row.id, []).append(float(row.level))
        groups[row.id] = (
            f"user {row.user_id}"
            if row.user_id
            else f"session {row.session_id}"
            if row.session_id
            else f"call {row.id}"
        )
    return Compared(list(said.values()), list(people.values()), list(groups.values()), list(said))


class Bootstrap:
    """Statistics of pairs with intervals from groups drawn with replacement; the same draws for each."""

    def __init__(self, codes: Ints, groups: int, draws: int, seed: int) -> None:
        present = np.unique(codes)
        self._rows: list[Ints] = []
        if draws and len(present) >= GROUPS_MIN:
            members = [np.flatnonzero(codes == code) for code in range(groups)]
            random = np.random.default_rng(seed)
            for _ in range(draws):
                drawn = random.choice(present, len(present))
                self._rows.append(np.concatenate([members[code] for code in drawn]))

    def of(self, figure: Callable[[Floats, Floats], float | None], one: Floats, other: Floats) -> Estimate:
        value = figure(one, other) if len(one) else None
        if value is None:
            return Estimate(None)
        drawn = [again for rows in self._rows if (again := figure(one[rows], other[rows])) is not None]
        if 2 * len(drawn) <= len(self._rows) or not drawn:
            return Estimate(value)
        low, high = np.quantile(drawn, [0.025, 0.975])
        return Estimate(value, float(low), float(high))


def _each_beside_the_rest(people: Sequence[Sequence[float]], codes: Ints) -> tuple[Floats, Floats, Ints]:
    """Return each person's level, the mean of the others' for the same output, and its group."""
    one, others, groups = [], [], []
    for levels, code in zip(people, codes, strict=True):
        if len(levels) > 1:
            total = sum(levels)
            one += list(levels)
            others += [(total - level) / (len(levels) - 1) for level in levels]
            groups += [code] * len(levels)
    return np.array(one, dtype=np.float64), np.array(others, dtype=np.float64), np.array(groups, dtype=int)


def _mae(one: Floats | np.floating, other: Floats) -> float:
    return float(np.mean(np.abs(one - other)))


def _rho(one: Floats, other: Floats) -> float | None:
    """Return Spearman's correlation; None where either side never varies and there is nothing to rank."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.corrcoef(_ranks(one), _ranks(other))[0, 1])


def _ranks(values: Floats) -> Floats:
    """Return the ranks, equal values sharing the mean of theirs. SciPy has it, at 40 MB in the server."""
    _distinct, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return ranks


def _qwk(one: Floats, other: Floats) -> float | None:
    """Return quadratic weighted kappa of the nearest whole levels; None where chance alone agrees fully."""
    a, b = (np.floor(side + 0.5) for side in (one, other))
    apart = np.mean((a - b) ** 2)
    # by chance: E(a - b)^2 of independent draws of the two sides
    chance = np.var(a) + np.var(b) + (np.mean(a) - np.mean(b)) ** 2
    return None if chance == 0 else float(1 - apart / chance)
