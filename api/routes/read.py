"""Reading for programs: calls, the worst, latencies, cases, rubrics, and what the critic still has to do.

Flow: query model (`dashboards.filters`) -> a named query or a page's own part -> its frozen dataclass, which
is also the response model, so that the OpenAPI document is the reference. Lists are read in pages: hand
`next_cursor` back as `cursor`.
"""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import Field
from sqlalchemy import Connection

from api.deps import SettingsDep, StoreDep
from api.errors import Refused
from dashboards.filters import (
    CallsQuery,
    CasesQuery,
    CostsQuery,
    LatencyQuery,
    WeekId,
    WeekQuery,
    WindowQuery,
    WorstQuery,
    window_of,
)
from dashboards.pages.rubrics import RubricLine, rubric_lines
from dashboards.pages.worst import WorstList, worst_list
from dashboards.panels import PanelTooSlow, time_limit
from dashboards.queries import call as call_queries
from dashboards.queries.calls import CallList, list_calls
from dashboards.queries.cases import CaseShown, Cohort, case_shown, cases_shown, cohorts
from dashboards.queries.costs import Costs, costs
from dashboards.queries.freshness import CriticWork, critic_work
from dashboards.queries.latencies import Latencies, latencies
from dashboards.queries.slow_causes import WeekTails, causes_by_week
from ingest.settings import Settings
from ingest.store import read_counted
from ingest.tables import DEFAULT_PROJECT
from outliers.cohorts.alike import Alike, alike, alike_window
from outliers.errors import BadCursor, UnknownGrouping
from outliers.latency.heat import Heat, latency_by_hour
from outliers.latency.spells import Spell, spells_of
from outliers.weeks import last_ended

#: Groups of latencies in one answer at most: a week of hours of a few services.
GROUPS_READ = 1_000
#: A long window shows the causes of its last weeks.
WEEKS_OF_CAUSES = 13
#: A program can wait longer than a reader; a request still never holds a connection for minutes.
ROUTE_TIME_LIMIT_S = 10.0


class _ReadRoute(APIRoute):
    """A route whose errors from below become the one JSON shape."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def _answer(request: Request) -> Response:
            try:
                return await handler(request)
            except BadCursor as error:
                raise Refused(422, "bad_cursor", str(error), field="cursor") from None
            except PanelTooSlow:
                raise Refused(
                    503,
                    "too_slow",
                    f"The answer took longer than {ROUTE_TIME_LIMIT_S:g} s; ask for a shorter window.",
                    retry_after_s=5,
                ) from None

        return _answer


router = APIRouter(prefix="/v1", tags=["reading"], route_class=_ReadRoute)


@dataclass(frozen=True)
class CallRead:
    """One call, whole.

    Attributes:
        call: the record, texts apart.
        texts: input, output and context as they were kept.
        ranked: P(bad) and its parts; null while not ranked.
        scores: every critic's answer; `shown` marks the one that counts in its rubric.
        guard: a failure that shows without a model; null while not read.
        signals: what users did about it, oldest first.
        labels: people's levels.
    """

    call: call_queries.CallRecord
    texts: call_queries.CallTexts
    ranked: call_queries.RankedCall | None
    scores: tuple[call_queries.RubricScore, ...]
    guard: call_queries.Guard | None
    signals: tuple[call_queries.SignalLine, ...]
    labels: tuple[call_queries.LabelLine, ...]


@dataclass(frozen=True)
class Cases:
    """The nominated cases, newest week first."""

    cases: tuple[CaseShown, ...]


@dataclass(frozen=True)
class Cohorts:
    """What set a week's bad or slow calls apart; each list has what explains most first.

    Attributes:
        week: "2026-W47".
        bad: cohorts of bad calls that are new.
        lasting: those whose rate was no lower in the 28 days before: no incident.
        tail: conditions that set the slowest calls apart.
    """

    week: str
    bad: tuple[Cohort, ...]
    lasting: tuple[Cohort, ...]
    tail: tuple[Cohort, ...]


@dataclass(frozen=True)
class Rubrics:
    """Every rubric that a critic has met, in its newest version, and how it was answered in the window."""

    rubrics: tuple[RubricLine, ...]


@dataclass(frozen=True)
class CriticRead:
    """What the configured critics still have to do.

    Attributes:
        critics: as configured, first choice first.
        work: what waits, and which critics pause.
    """

    critics: tuple[str, ...]
    work: CriticWork


@dataclass(frozen=True)
class LatencyCausesRead:
    """Why calls were slow.

    Attributes:
        weeks: newest first; a week without an answer to that is left out.
        spells: hours in which a provider or service was slower than at that time of other weeks, newest
            first.
    """

    weeks: tuple[WeekTails, ...]
    spells: tuple[Spell, ...]


class AlikeQuery(WindowQuery):
    """Among which calls to look for those like one call."""

    limit: int = Field(20, ge=1, le=200, description="Calls at most.")


@router.get("/calls")
def get_calls(asked: Annotated[CallsQuery, Query()], store: StoreDep, settings: SettingsDep) -> CallList:
    """List calls, newest first. Without a window: the last ended week and this one."""
    window = window_of(asked, settings.zone, datetime.now(UTC))
    with store.read() as connection, time_limit(connection, ROUTE_TIME_LIMIT_S):
        return list_calls(connection, DEFAULT_PROJECT, window, asked, settings.critics)


@router.get("/calls/{call_id:path}/alike", response_model=Alike)
def get_alike(
    call_id: Annotated[str, Path(description="The caller's id, percent-encoded.")],
    asked: Annotated[AlikeQuery, Query()],
    store: StoreDep,
    settings: SettingsDep,
) -> Alike | JSONResponse:
    """What else went wrong like this call: the bad calls nearest to it, and what sets them apart.

    Without a window: the call's own week and the three before it. A call whose own id ends in "/alike" is
    read whole here, as by `/v1/calls/{call_id}`.
    """
    with store.read() as connection, time_limit(connection, ROUTE_TIME_LIMIT_S):
        whole = call_queries.seq_of(connection, DEFAULT_PROJECT, f"{call_id}/alike")
        if whole is not None:
            return JSONResponse(jsonable_encoder(_call_read(connection, settings, whole)))
        seq = call_queries.seq_of(connection, DEFAULT_PROJECT, call_id)
        if seq is None:
            raise call_not_found(call_id)
        since_ms, until_ms = alike_window(connection, seq, settings.zone)
        if asked.week or asked.since or asked.until:
            window = window_of(asked, settings.zone, datetime.now(UTC))
            since_ms, until_ms = window.since_ms, window.until_ms
        return alike(
            connection, DEFAULT_PROJECT, seq, since_ms, until_ms, zone=settings.zone, limit=asked.limit
        )


@router.get("/calls/{call_id:path}")
def get_call(
    call_id: Annotated[str, Path(description="The caller's id, percent-encoded.")],
    store: StoreDep,
    settings: SettingsDep,
) -> CallRead:
    """One call: record, texts, scores, guard reading, experience, signals, labels."""
    with store.read() as connection, time_limit(connection, ROUTE_TIME_LIMIT_S):
        seq = call_queries.seq_of(connection, DEFAULT_PROJECT, call_id)
        if seq is None:
            raise call_not_found(call_id)
        return _call_read(connection, settings, seq)


@router.get("/worst")
def get_worst(asked: Annotated[WorstQuery, Query()], store: StoreDep, settings: SettingsDep) -> WorstList:
    """Worst experiences per call, user or session, by P(bad) or by one thing alone, worst first.

    A user or session is ranked by the worst that happened to it, never by an average.
    """
    window = window_of(asked, settings.zone, datetime.now(UTC))
    with store.read() as connection, time_limit(connection, ROUTE_TIME_LIMIT_S):
        return worst_list(connection, settings, window, asked)


@router.get("/latency")
def get_latency(asked: Annotated[LatencyQuery, Query()], store: StoreDep, settings: SettingsDep) -> Latencies:
    """Quantiles per group with n and 95 % interval, calls beyond ten medians, and the slowest calls.

    Groups are by one field or by several, `group_by=model,environment,hour`.
    """
    window = window_of(asked, settings.zone, datetime.now(UTC))
    with read_counted(store) as connection, time_limit(connection, ROUTE_TIME_LIMIT_S):
        return latencies(
            connection,
            DEFAULT_PROJECT,
            window,
            group_by=asked.group_by,
            measure=asked.measure,
            groups_max=GROUPS_READ,
        )


@router.get("/latency/hours")
def get_latency_hours(
    asked: Annotated[LatencyQuery, Query()], store: StoreDep, settings: SettingsDep
) -> Heat:
    """Each group's p50 and p95 in every hour of the window; by day where it has more than 22 days."""
    window = window_of(asked, settings.zone, datetime.now(UTC))
    with read_counted(store) as connection, time_limit(connection, ROUTE_TIME_LIMIT_S):
        try:
            return latency_by_hour(
                connection,
                DEFAULT_PROJECT,
                window.since_ms,
                window.until_ms,
                group_by=asked.group_by,
                measure=asked.measure,
            )
        except UnknownGrouping as error:
            raise Refused(422, "bad_grouping", str(error), field="group_by") from None


@router.get("/latency/causes")
def get_latency_causes(
    asked: Annotated[WindowQuery, Query()], store: StoreDep, settings: SettingsDep
) -> LatencyCausesRead:
    """Why the slowest calls were slow, week by week as computed last, and hours slower than usual."""
    window = window_of(asked, settings.zone, datetime.now(UTC))
    with store.read() as connection, time_limit(connection, ROUTE_TIME_LIMIT_S):
        return LatencyCausesRead(
            weeks=causes_by_week(connection, DEFAULT_PROJECT, window, settings.zone, WEEKS_OF_CAUSES),
            spells=tuple(spells_of(connection, DEFAULT_PROJECT, window.since_ms, window.until_ms)),
        )


@router.get("/cohorts")
def get_cohorts(asked: Annotated[WeekQuery, Query()], store: StoreDep, settings: SettingsDep) -> Cohorts:
    """Calls of a week that went wrong alike, and the condition that sets them apart from the rest."""
    now_ms = round(datetime.now(UTC).timestamp() * 1000)
    week = asked.week or last_ended(now_ms, settings.zone).id
    with store.read() as connection, time_limit(connection, ROUTE_TIME_LIMIT_S):
        return Cohorts(
            week=week,
            bad=cohorts(connection, DEFAULT_PROJECT, week, "bad"),
            lasting=cohorts(connection, DEFAULT_PROJECT, week, "bad", lasting=True),
            tail=cohorts(connection, DEFAULT_PROJECT, week, "tail"),
        )


@router.get("/cases")
def get_cases(asked: Annotated[CasesQuery, Query()], store: StoreDep, settings: SettingsDep) -> Cases:
    """The cases of ended weeks, newest first."""
    with store.read() as connection, time_limit(connection, ROUTE_TIME_LIMIT_S):
        return Cases(cases_shown(connection, DEFAULT_PROJECT, settings.critics, asked.limit, asked.before))


@router.get("/cases/{week}")
def get_case(
    week: Annotated[WeekId, Path(description="ISO week, 2026-W47.")], store: StoreDep, settings: SettingsDep
) -> CaseShown:
    """One week's case; for the running week what leads so far."""
    with store.read() as connection, time_limit(connection, ROUTE_TIME_LIMIT_S):
        case = case_shown(connection, DEFAULT_PROJECT, week, settings.critics)
    if case is None:
        raise Refused(404, "no_case", f"Week {week} has no case: nothing set its bad calls apart.")
    return case


@router.get("/costs")
def get_costs(asked: Annotated[CostsQuery, Query()], store: StoreDep, settings: SettingsDep) -> Costs:
    """What the calls of a window cost, in all and per group, and what their critics spent.

    US dollars, as the application sent them (`cost_usd`). A call of unknown cost is counted and in no sum.
    Without a window: the last ended week and this one.
    """
    window = window_of(asked, settings.zone, datetime.now(UTC))
    with store.read() as connection, time_limit(connection, ROUTE_TIME_LIMIT_S):
        return costs(connection, DEFAULT_PROJECT, window, group_by=asked.group_by, limit=asked.limit)


@router.get("/rubrics")
def get_rubrics(asked: Annotated[WindowQuery, Query()], store: StoreDep, settings: SettingsDep) -> Rubrics:
    """Rubrics in use: question, levels, version; shares of every status; only `scored` enters a mean."""
    window = window_of(asked, settings.zone, datetime.now(UTC))
    with store.read() as connection, time_limit(connection, ROUTE_TIME_LIMIT_S):
        return Rubrics(rubric_lines(connection, window))


@router.get("/critic")
def get_critic(store: StoreDep, settings: SettingsDep) -> CriticRead:
    """Which critics are configured, what waits for them, which pause and why, and whose budget is spent.

    Coverage, spend, failures with examples and latency stand at `/critic.json`, for a window.
    """
    now_ms = round(datetime.now(UTC).timestamp() * 1000)
    with store.read() as connection, time_limit(connection, ROUTE_TIME_LIMIT_S):
        return CriticRead(tuple(settings.critics), critic_work(connection, now_ms))


def _call_read(connection: Connection, settings: Settings, seq: int) -> CallRead:
    call = call_queries.record_of(connection, seq)
    return CallRead(
        call=call,
        texts=call_queries.texts_of(connection, seq),
        ranked=call_queries.ranked_of(connection, seq),
        scores=call_queries.scores_of(connection, seq, settings.critics),
        guard=call_queries.guard_of(connection, seq),
        signals=call_queries.signals_of(connection, seq),
        labels=call_queries.labels_of(connection, DEFAULT_PROJECT, call.id),
    )


def call_not_found(call_id: str) -> Refused:
    """Return the 404 for a call that is not kept."""
    return Refused(
        404, "no_such_call", f"No call has the id {call_id!r}; it may not have arrived yet, or was erased."
    )
