"""GET and POST /v1/experience: the weights that calls are ranked with, and a fit of them.

Flow: `lowlight experience fit` fits in a process of its own and posts what it found -> one write job ->
outliers.experience.refresh ranks with it from then on.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from api.deps import StoreDep
from api.door.short_bodies import ShortJsonRoute
from api.errors import Refused
from ingest.tables import DEFAULT_PROJECT
from outliers.experience.fit import Fit, keep_fit, newest_fit, reset_fit
from outliers.experience.parts import PARTS, WEIGHTS

router = APIRouter(prefix="/v1/experience", tags=["experience"], route_class=ShortJsonRoute)


@dataclass(frozen=True)
class WeightsRead:
    """What calls are ranked with.

    Attributes:
        weights: what each part can do alone, 0..1.
        shipped: the weights Lowlight comes with.
        version: of the fit in use, 0 for the shipped weights before any fit.
        fitted_at: when; null before any fit.
        figures: of the fit in use; null for the shipped weights.
    """

    weights: dict[str, float]
    shipped: dict[str, float]
    version: int
    fitted_at: datetime | None
    figures: dict[str, Any] | None


class FitSent(BaseModel):
    """A fit as `lowlight experience fit` made it; null goes back to the shipped weights."""

    model_config = ConfigDict(extra="forbid")

    fit: Fit | None = Field(description="What was fitted; null to reset.")


@router.get("")
def get_experience(store: StoreDep) -> WeightsRead:
    """The weights that calls are ranked with from now on, and how well they were found to do."""
    with store.read() as connection:
        kept = newest_fit(connection, DEFAULT_PROJECT)
    if kept is None:
        return WeightsRead(dict(WEIGHTS), dict(WEIGHTS), 0, None, None)
    fitted_at = datetime.fromtimestamp(kept["fitted_at_ms"] / 1000, UTC)
    weights = dict(WEIGHTS) | (kept["weights"] or {})
    return WeightsRead(weights, dict(WEIGHTS), kept["version"], fitted_at, kept["figures"])


@router.post("")
def post_experience(sent: FitSent, store: StoreDep) -> WeightsRead:
    """Use a fit's weights for calls that are ranked from now on, or go back to the shipped ones."""
    at_ms = round(datetime.now(UTC).timestamp() * 1000)
    if sent.fit is None:
        store.write(partial(reset_fit, project_id=DEFAULT_PROJECT, now_ms=at_ms))
        return get_experience(store)
    for name, weight in sent.fit.weights.items():
        if name not in PARTS or not 0 <= weight <= 1:
            raise Refused(
                422, "invalid", f"{name}: {weight} is no weight of a part.", field=f"fit.weights.{name}"
            )
    store.write(partial(keep_fit, project_id=DEFAULT_PROJECT, found=sent.fit, now_ms=at_ms))
    return get_experience(store)
