"""From leased rows to cases: a call's texts read, its views rendered, rubrics that see the same put together.

Flow: critic.queue.lease -> `prepare` (in a thread) -> `Judgement` for critic.working.lane, or a row
that is closed before anybody is asked.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from critic.drivers.base import Case, Driver
from critic.local import Reading
from critic.queue.calls import TakenCall, calls_by_seq, readings_by_call, version_source
from critic.queue.leasing import ATTEMPTS_MAX
from critic.queue.plan import Plan
from critic.queue.rows import Finished, Leased, NewScore
from critic.spending.budget import Reserved
from rubrics import BadRubric, Rubric, Shown, new_fence, rubric_of

log = logging.getLogger(__name__)

#: What a critic is shown that reads the call itself.
_UNSEEN = Shown("", 1.0)


@dataclass(frozen=True)
class Judgement:
    """One request to a critic: one output, and the leased rows that its answers close, in order.

    Attributes:
        held: the money reserved for it; None where no budget holds.
    """

    rows: tuple[Leased, ...]
    case: Case
    prompt: str
    project: str
    project_id: int
    held: Reserved | None = None


def prepare(
    connection: Connection,
    *,
    leased: Sequence[Leased],
    driver: Driver,
    plan: Plan,
    paused: Collection[str],
    rubrics: dict[str, Rubric],
) -> tuple[list[Judgement], list[Finished]]:
    """Return the judgements to make of leased rows, and the rows that close without one.

    Args:
        rubrics: by blob, those in force; older versions are added as rows of theirs turn up.
    """
    by_call: dict[int, list[Leased]] = {}
    for row in leased:
        by_call.setdefault(row.call_seq, []).append(row)
    calls = calls_by_seq(connection, list(by_call))
    readings = readings_by_call(connection, list(by_call))
    judgements: list[Judgement] = []
    closed: list[Finished] = []
    for call_seq, rows in by_call.items():
        call, reading = calls.get(call_seq), readings.get(call_seq)
        if call is None or reading is None:
            closed += [Finished(row.seq, row.token, "failed", "the call is no longer kept") for row in rows]
            continue
        asked: list[tuple[Leased, Rubric]] = []
        for row in rows:
            found = _rubric(connection, row, rubrics)
            if isinstance(found, str):
                closed.append(_closed(row, "failed", found))
            elif not_asked := _not_asked(row, call, driver, plan):
                then = plan.after(row.critic, row, call.prompt, paused, call.project)
                closed.append(_closed(row, *not_asked, then))
            else:
                asked.append((row, found))
        judgements += _judgements(call, reading, asked, driver, closed)
    return judgements, closed


def _not_asked(row: Leased, call: TakenCall, driver: Driver, plan: Plan) -> tuple[str, str] | None:
    """Return status and reason of a row that closes without asking; None where the critic is to be asked."""
    if row.spent:
        last = row.last_error or "the worker ended while it was judged"
        return "failed", f"given up after {ATTEMPTS_MAX} tries; the last: {last}"
    if call.not_judged_because is not None:
        return "ungraded", call.not_judged_because
    # Asked again here: the setting may have changed since the row was made.
    kept_back = plan.kept_back(driver.name, call.prompt, call.project)
    return ("ungraded", kept_back) if kept_back else None


def _judgements(
    call: TakenCall,
    reading: Reading,
    asked: Sequence[tuple[Leased, Rubric]],
    driver: Driver,
    closed: list[Finished],
) -> list[Judgement]:
    """Return one judgement per distinct view, or per rubric where the critic takes one at a time.

    Rows whose view cannot be rendered are added to `closed`.
    """
    view_of, fence = call.view(), new_fence()
    # By view and, where rubrics are asked apart, by rubric; an occasion asks again what production asked.
    by_view: dict[tuple[Shown, str, str], list[tuple[Leased, Rubric]]] = {}
    shown: dict[str, Shown] = {}
    for row, rubric in asked:
        try:
            view = _UNSEEN
            if driver.reads_view:
                if rubric.view_blob not in shown:
                    shown[rubric.view_blob] = rubric.show(view_of, fence, chars_max=driver.view_chars_max)
                view = shown[rubric.view_blob]
        except Exception as error:  # a template meets texts its author never saw
            log.warning("the view of %s could not be rendered", rubric.name, exc_info=True)
            reason = f"the view could not be rendered: {type(error).__name__}: {error}"
            closed.append(_closed(row, "failed", reason))
            continue
        apart = "" if driver.asks_together else rubric.blob
        by_view.setdefault((view, apart, row.occasion), []).append((row, rubric))
    return [
        Judgement(
            rows=tuple(row for row, _rubric in pairs),
            case=Case(
                view_of, view.text, fence, tuple(rubric for _row, rubric in pairs), reading, view.seen_share
            ),
            prompt=call.prompt,
            project=call.project,
            project_id=call.project_id,
        )
        for (view, _apart, _occasion), pairs in by_view.items()
    ]


def _rubric(connection: Connection, row: Leased, rubrics: dict[str, Rubric]) -> Rubric | str:
    """Return the rubric version that a row is to be judged under, or why it cannot be had."""
    if row.rubric_blob not in rubrics:
        kept = version_source(connection, row.rubric_blob)
        if kept is None:
            return f"version {row.rubric_blob[:12]} of rubric {row.rubric} is not kept"
        try:
            rubrics[row.rubric_blob] = rubric_of(*kept)
        except BadRubric as error:
            return f"version {row.rubric_blob[:12]} of rubric {row.rubric} cannot be used any more: {error}"
    return rubrics[row.rubric_blob]


def _closed(row: Leased, status: str, reason: str, then: Sequence[NewScore] = ()) -> Finished:
    return Finished(row.seq, row.token, status, reason, then=tuple(then))
