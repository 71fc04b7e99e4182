"""GET /v1/report: what `lowlight report` prints, as JSON.

Flow: request -> `api.reporting.report.report_of` -> JSON.
"""

from typing import Any

from fastapi import APIRouter, Query

from api.deps import SettingsDep, StoreDep
from api.errors import Refused
from api.reporting.report import progress_of, report_of
from ingest.store import read_counted
from outliers.errors import UnknownWeek

router = APIRouter(prefix="/v1", tags=["read"])


@router.get("/report")
def get_report(
    store: StoreDep,
    settings: SettingsDep,
    week: str | None = Query(None, description="2026-W47; the last ended week unless given."),
) -> dict[str, Any]:
    """A week's case, findings, worst users and tail, and how far critic and outliers are."""
    try:
        with read_counted(store) as connection:
            return report_of(connection, settings, week)
    except UnknownWeek as error:
        raise Refused(422, "unknown_week", str(error), field="week") from None


@router.get("/report/progress")
def get_progress(store: StoreDep, settings: SettingsDep) -> dict[str, Any]:
    """How much critic and outliers still have to do before the report is final."""
    with store.read() as connection:
        return progress_of(connection, settings)
