"""Anchors: calls that people labelled, scored again now and then, to see whether a critic has moved.

Flow: `lowlight rescore --anchors` -> score rows of an occasion `anchor/DATE` (critic.queue.rescoring) -> the
worker, like any other -> `drift_of` -> the rubric's page. A provider may change what stands behind a model's
name; production scores cannot tell that from traffic that changed, the same calls can.

The anchors of a rubric are the calls that were labelled first, so that more labels change nothing about them;
an occasion's scores enter no average. The first occasion is what later ones are compared with, call by call.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import Connection, Select, func, select

from critic.tables import Score
from critic.trust.agreement import Bootstrap, Estimate
from ingest.tables import Call, Label, columns

CALL, LABEL, SCORE = columns(Call), columns(Label), columns(Score)

#: Scored again on an occasion: at a spread of one level, a shift of a fifth of a level shows.
ANCHORS_MAX = 100
#: How the occasion of a run begins; the rest is its UTC date.
OCCASION = "anchor/"
#: Bootstrap draws of a shift's interval.
DRAWS = 200


@dataclass(frozen=True)
class AnchorRun:
    """One occasion on which a critic was asked about the anchors.

    Attributes:
        date: UTC, as 2026-11-22.
        scored, missing: anchors with a score, and asked without one (so far).
        models: what answered, as reported.
        mae: mean distance from the people's mean level.
        n: anchors that were scored on the first occasion too.
        shift: mean of the score less that of the first occasion over these; no value on the first one.
        moved: share of them that moved by more than a level.
    """

    date: str
    scored: int
    missing: int
    models: tuple[str, ...]
    mae: float | None
    n: int = 0
    shift: Estimate = field(default_factory=lambda: Estimate(None))
    moved: float | None = None

    @property
    def drifted(self) -> bool:
        """Whether it moved beyond chance: the interval of the shift holds no 0."""
        low, high = self.shift.low, self.shift.high
        return low is not None and high is not None and not low <= 0 <= high


def anchors_of(project_id: int, rubric: str) -> Select[tuple[int]]:
    """Return the query of a rubric's anchors, by `call.seq`: those of its labelled calls labelled first."""
    return (
        select(CALL.c.seq)
        .join(LABEL, (LABEL.c.project_id == CALL.c.project_id) & (LABEL.c.call_id == CALL.c.id))
        .where(LABEL.c.project_id == project_id, LABEL.c.rubric == rubric)
        .group_by(CALL.c.seq)
        .order_by(func.min(LABEL.c.seq))
        .limit(ANCHORS_MAX)
    )


def drift_of(
    connection: Connection, project_id: int, rubric: str, blob: str, critic: str
) -> tuple[AnchorRun, ...]:
    """Return a critic's runs over the anchors under one version, oldest first; empty before the first."""
    anchors: list[int] = list(connection.scalars(anchors_of(project_id, rubric)))
    rows = connection.execute(
        select(SCORE.c.call_seq, SCORE.c.occasion, SCORE.c.score, SCORE.c.model_reported)
        .where(
            SCORE.c.call_seq.in_(anchors),
            SCORE.c.rubric_blob == blob,
            SCORE.c.critic == critic,
            SCORE.c.occasion.startswith(OCCASION),
        )
        .order_by(SCORE.c.occasion, SCORE.c.call_seq)
    ).all()
    if not rows:
        return ()
    people = _people(connection, rubric, anchors)
    said: dict[str, dict[int, float]] = defaultdict(dict)
    asked: dict[str, int] = defaultdict(int)
    models: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        asked[row.occasion] += 1
        if row.score is not None:
            said[row.occasion][row.call_seq] = row.score
            models[row.occasion] |= {row.model_reported} - {None}
    first = said[min(asked)]
    return tuple(
        _run(
            occasion.removeprefix(OCCASION),
            said[occasion],
            asked[occasion],
            tuple(sorted(models[occasion])),
            people,
            {} if place == 0 else first,
        )
        for place, occasion in enumerate(sorted(asked))
    )


def _run(
    date: str,
    said: dict[int, float],
    asked: int,
    models: tuple[str, ...],
    people: dict[int, float],
    first: dict[int, float],
) -> AnchorRun:
    off = [abs(score - people[seq]) for seq, score in said.items() if seq in people]
    mae = float(np.mean(off)) if off else None
    both: Sequence[int] = sorted(said.keys() & first.keys())
    shifts = np.array([said[seq] - first[seq] for seq in both], dtype=np.float64)
    by_call = Bootstrap(np.arange(len(both)), len(both), DRAWS, 0)
    return AnchorRun(
        date=date,
        scored=len(said),
        missing=asked - len(said),
        models=models,
        mae=mae,
        n=len(both),
        shift=by_call.of(lambda one, _other: float(np.mean(one)), shifts, shifts),
        moved=float(np.mean(np.abs(shifts) > 1)) if len(both) else None,
    )


def _people(connection: Connection, rubric: str, anchors: Sequence[int]) -> dict[int, float]:
    """Return the mean of the people's levels by call."""
    rows = connection.execute(
        select(CALL.c.seq, func.avg(LABEL.c.level))
        .join(LABEL, (LABEL.c.project_id == CALL.c.project_id) & (LABEL.c.call_id == CALL.c.id))
        .where(CALL.c.seq.in_(anchors), LABEL.c.rubric == rubric)
        .group_by(CALL.c.seq)
    )
    return {seq: float(level) for seq, level in rows}
