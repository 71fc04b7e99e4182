"""What a page or a read route can be asked: one frozen model each, the same for HTML, twin and /v1.

Flow: URL query -> FastAPI builds the model (a bad or unknown parameter is a 422 that names it)
-> `window_of` -> queries. Empty form fields mean "not asked".
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from dashboards.words import days, moment
from outliers.errors import UnknownWeek
from outliers.latency.tails import GROUPINGS
from outliers.weeks import YEARS, Week, last_ended, week_by_id, week_of

#: Rows of a list on a page, and at most for a program.
ROWS, ROWS_MAX = 50, 500


def _real_week(value: str) -> str:
    try:
        week_by_id(value, ZoneInfo("UTC"))
    except UnknownWeek as error:
        raise ValueError(str(error)) from None
    return value


def _in_calendar(value: datetime) -> datetime:
    # A year of room at each end: a time zone moves an instant, and a window names the weeks beside it.
    if value.year not in YEARS[1:-1]:
        raise ValueError(f"lies outside the years {YEARS[1]} to {YEARS[-2]}")
    return value


WeekId = Annotated[str, Field(pattern=r"^\d{4}-W\d{2}$", examples=["2026-W47"]), AfterValidator(_real_week)]
Instant = Annotated[datetime, AfterValidator(_in_calendar)]
Text = Annotated[str, Field(max_length=200)]


class Asked(BaseModel):
    """Base of all queries: unknown parameters are refused, so that a misspelt filter never shows all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_not_asked(cls, sent: Any) -> Any:
        if isinstance(sent, dict):
            return {name: value for name, value in sent.items() if value != ""}
        return sent


class WeekQuery(Asked):
    """One ISO week."""

    week: WeekId | None = Field(None, description="ISO week, 2026-W47; without it the last one that ended.")


class WindowQuery(Asked):
    """A window of time, by week or by its ends."""

    week: WeekId | None = Field(None, description="ISO week, 2026-W47; instead of since and until.")
    since: Instant | None = Field(None, description="First moment, ISO 8601; without zone: the server's.")
    until: Instant | None = Field(None, description="First moment after the window, ISO 8601.")

    @model_validator(mode="after")
    def _one_window(self) -> "WindowQuery":
        if self.week and (self.since or self.until):
            raise ValueError("week stands alone; leave out since and until, or week")
        if self.since and self.until and _aware(self.since) >= _aware(self.until):
            raise ValueError("since must be before until")
        return self


class WeekCostsQuery(WeekQuery):
    """Which week's costs, told apart by what."""

    by: Literal["prompt", "prompt_version", "model", "provider", "environment", "release"] = Field(
        "prompt", description="The field that costs are told apart by."
    )


class CasesQuery(Asked):
    """Which cases, newest week first."""

    limit: int = Field(52, ge=1, le=520, description="Weeks at most, newest first.")
    before: WeekId | None = Field(None, description="Only cases of weeks before this one.")


class PagedQuery(WindowQuery):
    """A window, read in pages."""

    limit: int = Field(ROWS, ge=1, le=ROWS_MAX, description="Rows at most.")
    cursor: str | None = Field(
        None, max_length=200, description="`next_cursor` of the answer before; the filters must be the same."
    )


class CallsQuery(PagedQuery):
    """Which calls to list, newest first."""

    prompt: Text | None = Field(None, description="Prompt name.")
    version: Text | None = Field(None, description="Prompt version.")
    provider: Text | None = Field(None, description="Provider.")
    model: Text | None = Field(None, description="Model.")
    environment: Text | None = Field(None, description="Environment.")
    release: Text | None = Field(None, description="Release of the application.")
    outcome: Literal["answered", "failed", "aborted"] | None = Field(None, description="How it ended.")
    finish_reason: Text | None = Field(None, description="Why the model stopped, as its provider says it.")
    error: Text | None = Field(None, description="Type of a failed call's error.")
    guard: Text | None = Field(
        None, description="Kind of failure that the guard sees: truncated, wrong_language, refusal ..."
    )
    status: Literal["pending", "scored", "ungraded", "refused", "failed", "deferred", "skipped"] | None = (
        Field(None, description="Calls with at least one critic's answer of this status.")
    )
    language: Text | None = Field(None, description="Language of the input, ISO 639-1.")
    user: Text | None = Field(None, description="The application's id of a user.")
    session: Text | None = Field(None, description="The application's id of a session.")
    signal: Text | None = Field(None, description="Calls with at least one signal of this kind.")
    min_latency_ms: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="Only calls that took at least this long."
    )
    q: Text | None = Field(None, description="Text to find in inputs and outputs; ASCII case is ignored.")


class PersonQuery(Asked):
    """A user's or a session's calls, read in pages."""

    limit: int = Field(ROWS, ge=1, le=ROWS_MAX, description="Calls at most.")
    cursor: str | None = Field(None, max_length=200, description="`next_cursor` of the answer before.")


class WorstQuery(PagedQuery):
    """Whose worst experiences to list, worst first."""

    by: Literal["experience", "score", "signal", "latency"] = Field(
        "experience",
        description="What says how bad it was: the experience, P(bad) from all that is known; the critics' "
        "scores alone, by P(level 1 or 2); what users did alone; or the time the answer took. A call of "
        "which that is unknown is left out.",
    )
    per: Literal["call", "user", "session"] = Field("call", description="What a row is.")


def _grouping(value: str) -> str:
    unknown = [field for field in value.split(",") if field not in GROUPINGS]
    if unknown:
        raise ValueError(f"no field {unknown[0]!r}; take some of {', '.join(GROUPINGS)}, commas between")
    return value


class LatencyQuery(WindowQuery):
    """Whose latencies to compare, by one field or several."""

    group_by: Annotated[str, Field(max_length=200), AfterValidator(_grouping)] = Field(
        "service",
        description=f"Fields with commas between, “model,hour”: {', '.join(GROUPINGS)}. A service is a model "
        "at a provider, “together llama-2-13b-chat”; with one provider it goes by its model alone.",
    )
    measure: Literal["total", "first_token", "per_output_token"] = Field(
        "total", description="The whole answer, its first token, or the time per output token."
    )


class CostsQuery(WindowQuery):
    """Whose costs to sum."""

    group_by: Annotated[str, Field(max_length=200), AfterValidator(_grouping)] = Field(
        "prompt",
        description=f"Fields with commas between, “model,hour”: {', '.join(GROUPINGS)}. A service is a model "
        "at a provider.",
    )
    limit: int = Field(ROWS, ge=1, le=ROWS_MAX, description="Groups at most, the most expensive first.")


@dataclass(frozen=True)
class Window:
    """The time that a page speaks of; half open.

    Attributes:
        since: first moment, UTC.
        until: first moment after it, UTC.
        week: ISO week where the window is exactly one; None otherwise.
        previous_week: the ISO week to step back to: the one before the window, or the last ended one.
        next_week: the ISO week to step on to; None where that has not begun.
        asked: False where nobody asked for a window and this is the page's own choice.
    """

    since: datetime
    until: datetime
    week: str | None
    previous_week: str
    next_week: str | None
    asked: bool

    @property
    def since_ms(self) -> int:
        """Milliseconds since 1970."""
        return round(self.since.timestamp() * 1000)

    @property
    def until_ms(self) -> int:
        """Milliseconds since 1970."""
        return round(self.until.timestamp() * 1000)

    def words(self, zone: ZoneInfo) -> str:
        """Return the window as a reader says it: "week 47 · 16 to 22 Nov 2026"."""
        span = days(self.since, moment(self.until_ms - 1), zone)
        return f"week {int(self.week[-2:])} · {span}" if self.week else span

    @property
    def parameters(self) -> dict[str, Any]:
        """The window as URL parameters, so that a link keeps it; nothing where nobody asked."""
        if not self.asked:
            return {}
        return {"week": self.week} if self.week else {"since": self.since, "until": self.until}


def window_of(asked: WindowQuery, zone: ZoneInfo, now: datetime) -> Window:
    """Return the asked window; without one, the last ended week and what there is of this one."""
    now_ms = round(now.timestamp() * 1000)
    if asked.week:
        return week_window(week_by_id(asked.week, zone), zone, now)
    since_ms = (
        round(_aware(asked.since, zone).timestamp() * 1000)
        if asked.since
        else last_ended(now_ms, zone).since_ms
    )
    until_ms = round(_aware(asked.until, zone).timestamp() * 1000) if asked.until else now_ms + 1
    if asked.since is None and asked.until is not None and until_ms <= since_ms:
        since_ms = week_of(until_ms - 1, zone).since_ms
    until_ms = max(until_ms, since_ms + 1)
    return _window(since_ms, until_ms, None, zone, now_ms, asked=bool(asked.since or asked.until))


def week_window(week: Week, zone: ZoneInfo, now: datetime) -> Window:
    """Return one ISO week as a window."""
    return _window(week.since_ms, week.until_ms, week.id, zone, round(now.timestamp() * 1000), asked=True)


def _window(
    since_ms: int, until_ms: int, week: str | None, zone: ZoneInfo, now_ms: int, *, asked: bool
) -> Window:
    before, after = week_of(since_ms - 1, zone), week_of(until_ms, zone)
    if not asked:
        before, after = last_ended(now_ms, zone), week_of(now_ms, zone)
    return Window(
        since=moment(since_ms),
        until=moment(until_ms),
        week=week,
        previous_week=before.id,
        next_week=after.id if after.since_ms <= now_ms else None,
        asked=asked,
    )


def _aware(at: datetime, zone: ZoneInfo | None = None) -> datetime:
    """A time without a zone is in the settings' one."""
    return at if at.tzinfo else at.replace(tzinfo=zone or UTC)
