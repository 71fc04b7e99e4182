"""A week's case: what went wrong, for whom and since when; its cause, its fix, and whether that worked."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from dashboards.drawing.case_words import Step, next_of, state_of, steps_of
from dashboards.filters import Window, week_window
from dashboards.pages.dateline import Dateline, dateline
from dashboards.panels import Panel, panel
from dashboards.queries.call import seq_of
from dashboards.queries.calls import CallLine, Newest, lines_by_seq, newest_call
from dashboards.queries.cases import CaseShown, Cohort, case_shown, cohorts
from dashboards.queries.volume import Volume, volume
from ingest.settings import Settings
from ingest.tables import DEFAULT_PROJECT
from outliers.weeks import week_by_id

#: Other cohorts that can be made the case from its page; the cohorts' page has all.
OTHERS_SHOWN = 5
EXAMPLES_SHOWN = 5


@dataclass(frozen=True)
class CasePage:
    """Context of case.html.

    Attributes:
        headline: the case in one sentence, or why there is none.
        state: how far it is, in one sentence; "" without a case.
        next: what to do next, in one sentence.
        steps: from its nomination to its proof, and which are done; () without a case.
        dateline: how fresh the page is.
        window: the week.
        running: whether that week still runs.
        case: the case, or what leads so far; data None where no cohort stands apart and none was picked.
        examples: the first calls of its cohort: the seed, then others, worst first; `case` names more.
        others: other cohorts of the week, which can be picked instead.
        volume: the week's calls.
        newest: the newest call of all; data None in an empty store.
    """

    headline: str
    state: str
    next: str
    steps: tuple[Step, ...]
    dateline: Panel[Dateline]
    window: Window
    running: bool
    case: Panel[CaseShown | None]
    examples: Panel[tuple[CallLine, ...]]
    others: Panel[tuple[Cohort, ...]]
    volume: Panel[Volume]
    newest: Panel[Newest | None]


def build(connection: Connection, settings: Settings, week_id: str, now: datetime) -> CasePage:
    """Read the page.

    Raises:
        UnknownWeek: there is no such week.
    """
    week = week_by_id(week_id, settings.zone)
    shown = panel(
        "The case",
        connection,
        lambda: case_shown(connection, DEFAULT_PROJECT, week.id, settings.critics),
    )
    case = shown.data
    counted = panel("The week", connection, lambda: volume(connection, DEFAULT_PROJECT, week))

    def _others() -> tuple[Cohort, ...]:
        found = cohorts(connection, DEFAULT_PROJECT, week.id, "bad")
        others = [one for one in found if case is None or one.condition != case.cohort.condition]
        return tuple(others[:OTHERS_SHOWN])

    return CasePage(
        headline=_headline(week.id, shown, counted.data),
        state="" if case is None else state_of(case),
        next="" if case is None else next_of(case),
        steps=() if case is None else steps_of(case),
        dateline=dateline(connection, now),
        window=week_window(week, settings.zone, now),
        running=week.holds(round(now.timestamp() * 1000)),
        case=shown,
        examples=panel("Its calls", connection, lambda: _examples(connection, case, settings.critics)),
        others=panel("Other cohorts", connection, _others),
        volume=counted,
        newest=panel(
            "Newest call", connection, lambda: newest_call(connection, DEFAULT_PROJECT, settings.zone)
        ),
    )


def _examples(connection: Connection, case: CaseShown | None, critics: list[str]) -> tuple[CallLine, ...]:
    """Return the cohort's example calls that are still kept."""
    if case is None:
        return ()
    ids = case.cohort.examples[:EXAMPLES_SHOWN]
    found = [seq_of(connection, DEFAULT_PROJECT, call_id) for call_id in ids]
    seqs = [seq for seq in found if seq is not None]
    lines = lines_by_seq(connection, seqs, critics)
    return tuple(lines[seq] for seq in seqs if seq in lines)


def _headline(week_id: str, shown: Panel[CaseShown | None], counted: Volume | None) -> str:
    number = int(week_id[-2:])
    if shown.data is not None:
        return f"{shown.data.sentence.rstrip('.')}."
    if shown.error is not None:
        return f"The case of week {number}"
    if counted is not None and not counted.n:
        return f"No calls in week {number}, and so no case."
    if counted is not None and not counted.n_ranked:
        return f"No case in week {number} yet: its calls are not ranked."
    return f"No case in week {number}: nothing set its bad calls apart from the rest."
