"""Where the tail is: each group's quantiles with n and interval, and the calls that a p95 hides.

Flow: outliers.latency.tails (bucket rows) + one pass for the window's slowest calls -> `latencies` -> This
week, Latency, GET /v1/latency. Milliseconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from dashboards.filters import Window
from dashboards.memory import remembered
from dashboards.words import moment
from outliers.latency.quantiles import CurvePoint, Quantile
from outliers.latency.tails import HOUR_MS, SlowCall, Tail, group_namer, slices_of, slowest, tails

#: Groups that a page shows at most.
GROUPS_MAX = 24
#: "Far out" is beyond this many medians: a wait that nobody planned for.
FAR_OUT_MEDIANS = 10
#: Slowest calls that far-out calls are counted in; past it a count reads "at least".
SLOWEST_READ = 1_000
FAR_OUT_SHOWN = 5


@dataclass(frozen=True)
class QuantileShown:
    """One quantile of one group.

    Attributes:
        q: .99 for p99.
        status: "known"; "too_few" (n is below `needs_n`, no 95 % interval exists); "beyond" (it lies among
            failed or aborted calls).
        n: calls it is computed from.
        needs_n: fewest calls for which an interval exists.
        value_ms, low_ms, high_ms: None unless known; high_ms also where the interval has no upper end.
    """

    q: float
    status: str
    n: int
    needs_n: int
    value_ms: float | None
    low_ms: float | None
    high_ms: float | None


@dataclass(frozen=True)
class SlowLine:
    """One slow call; `value_ms` is the measure that the list is about."""

    id: str
    started_at: datetime
    value_ms: float
    outcome: str
    provider: str
    model: str
    prompt: str
    prompt_version: str
    user_id: str | None
    input_tokens: int | None
    output_tokens: int | None


@dataclass(frozen=True)
class FarOut:
    """Answered calls of one group that took longer than ten times its median.

    Attributes:
        n: how many; `at_least` where there may be more.
        n_answered: answered calls of the group.
        threshold_ms: ten times the median.
        calls: the slowest of them.
    """

    n: int
    at_least: bool
    n_answered: int
    threshold_ms: float
    calls: tuple[SlowLine, ...]


@dataclass(frozen=True)
class GroupTail:
    """The latencies of one group.

    Attributes:
        group: the field's value; "" where calls did not give it, "all" without grouping.
        n: calls, of which n_answered, n_failed and n_aborted.
        quantiles: p50, p90, p95, p99, p99.9; a failed call counts as slower than any.
        answered_p99: the p99 of answered calls alone.
        slowest_ms: the slowest answered call; None where there is none among the window's slowest.
        far_out: None where no call lies beyond ten medians, or the median is unknown.
        curve: the share of answered calls slower than a latency, fastest first; empty for groups by hour.
    """

    group: str
    n: int
    n_answered: int
    n_failed: int
    n_aborted: int
    quantiles: tuple[QuantileShown, ...]
    answered_p99: QuantileShown
    slowest_ms: float | None
    far_out: FarOut | None
    curve: tuple[CurvePoint, ...]

    @property
    def p95(self) -> QuantileShown:
        """The quantile that most people watch, and that a few slow calls hide behind."""
        return next(quantile for quantile in self.quantiles if quantile.q == 0.95)

    @property
    def hidden(self) -> float:
        """How many times its p95 the slowest call took; 0 without a call far out or without a p95."""
        if self.far_out is None or not self.p95.value_ms:
            return 0.0
        return self.far_out.calls[0].value_ms / self.p95.value_ms


@dataclass(frozen=True)
class Latencies:
    """A window's latencies.

    Attributes:
        measure: total, first_token or per_output_token.
        group_by: the field that groups are of.
        groups: first those with calls far out, the one whose p95 hides most before the others; then those
            with most calls. At most as many as asked for; `n_groups` is how many there are.
        slowest: the window's slowest calls.
    """

    measure: str
    group_by: str
    groups: tuple[GroupTail, ...]
    n_groups: int
    slowest: tuple[SlowLine, ...]


def latencies(
    connection: Connection,
    project_id: int,
    window: Window,
    *,
    group_by: str,
    measure: str,
    slowest_shown: int = 10,
    groups_max: int = GROUPS_MAX,
) -> Latencies:
    """Each group's tail, and the window's slowest calls; as of the last ranking."""
    # A window that nobody asked for ends now: the same one until the next ranking, or the hour is over.
    until = window.until_ms if window.asked else -(-window.until_ms // HOUR_MS)
    return remembered(
        connection,
        ("latencies", project_id, window.since_ms, until, group_by, measure, slowest_shown, groups_max),
        lambda: _latencies(connection, project_id, window, group_by, measure, slowest_shown, groups_max),
        of_calls=(project_id, window),
    )


def _latencies(
    connection: Connection,
    project_id: int,
    window: Window,
    group_by: str,
    measure: str,
    slowest_shown: int,
    groups_max: int,
) -> Latencies:
    found = tails_of(connection, project_id, window, group_by=group_by, measure=measure)
    slow = slowest(
        connection, project_id, window.since_ms, window.until_ms, measure=measure, limit=SLOWEST_READ
    )
    named = group_namer(slices_of(connection, project_id), group_by)
    by_group: dict[str, list[SlowCall]] = {}
    for call in slow:
        if call.outcome == "answered":
            by_group.setdefault(named(call.slice_id, call.started_at_ms // HOUR_MS), []).append(call)
    # Every call slower than this was read.
    all_from_ms = slow[-1].value_ms if len(slow) == SLOWEST_READ else 0.0
    groups = [_group(tail, by_group.get(tail.group, []), all_from_ms) for tail in found]
    groups.sort(key=lambda group: (group.far_out is None, -group.hidden))  # stable: then by calls
    return Latencies(
        measure=measure,
        group_by=group_by,
        groups=tuple(groups[:groups_max]),
        n_groups=len(found),
        slowest=tuple(_slow_line(call) for call in slow[:slowest_shown]),
    )


def tails_of(
    connection: Connection, project_id: int, window: Window, *, group_by: str, measure: str
) -> list[Tail]:
    """Each group's tail as of the last ranking, with its curve; two parts of a page show the same ones."""
    until = window.until_ms if window.asked else -(-window.until_ms // HOUR_MS)
    return remembered(
        connection,
        ("tails", project_id, window.since_ms, until, group_by, measure),
        lambda: tails(
            connection,
            project_id,
            window.since_ms,
            window.until_ms,
            group_by=group_by,
            measure=measure,
            curves="hour" not in group_by.split(","),
        ),
        of_calls=(project_id, window),
    )


def _group(tail: Tail, answered: Sequence[SlowCall], all_from_ms: float) -> GroupTail:
    return GroupTail(
        group=tail.group,
        n=tail.n,
        n_answered=tail.n_answered,
        n_failed=tail.n_failed,
        n_aborted=tail.n_aborted,
        quantiles=tuple(_quantile(quantile) for quantile in tail.quantiles),
        answered_p99=_quantile(tail.answered_p99),
        slowest_ms=answered[0].value_ms if answered else None,
        far_out=_far_out(tail, answered, all_from_ms),
        curve=tail.curve,
    )


def _far_out(tail: Tail, answered: Sequence[SlowCall], all_from_ms: float) -> FarOut | None:
    median_ms = tail.quantiles[0].value_ms
    if median_ms is None:
        return None
    threshold_ms = FAR_OUT_MEDIANS * median_ms
    beyond = [call for call in answered if call.value_ms > threshold_ms]
    if not beyond:
        return None
    return FarOut(
        n=len(beyond),
        at_least=all_from_ms > threshold_ms,
        n_answered=tail.n_answered,
        threshold_ms=threshold_ms,
        calls=tuple(_slow_line(call) for call in beyond[:FAR_OUT_SHOWN]),
    )


def _quantile(quantile: Quantile) -> QuantileShown:
    return QuantileShown(**{name: getattr(quantile, name) for name in QuantileShown.__dataclass_fields__})


def _slow_line(call: SlowCall) -> SlowLine:
    plain = {name: getattr(call, name) for name in SlowLine.__dataclass_fields__ if hasattr(call, name)}
    return SlowLine(**plain | {"started_at": moment(call.started_at_ms)})
