"""What else went wrong like this: from one call to the bad calls nearest to it, and what they share."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from dashboards.filters import Window, WindowQuery, window_of
from dashboards.memory import remembered
from dashboards.pages.dateline import Dateline, dateline
from dashboards.panels import Panel, panel
from dashboards.queries.call import seq_of
from dashboards.queries.calls import CallLine, lines_by_seq
from dashboards.words import many, moment, share
from ingest.settings import Settings
from ingest.tables import DEFAULT_PROJECT
from outliers.cohorts.alike import Alike, alike, alike_window
from outliers.weeks import week_of

CALLS_SHOWN = 12

#: The reader asked for this one thing: on a busy machine they rather wait than see it stopped.
ALIKE_TIME_LIMIT_S = 6.0


@dataclass(frozen=True)
class AlikePage:
    """Context of alike.html.

    Attributes:
        headline: how much went wrong like this call, in one sentence.
        dateline: how fresh the page is.
        call: the call it is asked of.
        week: the call's ISO week, whose case it can become.
        window: the time that was looked at: the call's week and the three before unless asked.
        alike: conditions, and the nearest calls, nearest first.
        lines: the nearest calls as lists show them, by id; those only that are still kept.
    """

    headline: str
    dateline: Panel[Dateline]
    call: CallLine
    week: str
    window: Window
    alike: Panel[Alike]
    lines: Panel[Mapping[str, CallLine]]


def build(
    connection: Connection, settings: Settings, call_id: str, asked: WindowQuery, now: datetime
) -> AlikePage | None:
    """Read the page; None where no call has this id."""
    seq = seq_of(connection, DEFAULT_PROJECT, call_id)
    if seq is None:
        return None
    zone = settings.zone
    line = lines_by_seq(connection, [seq], settings.critics)[seq]
    if asked.model_fields_set:
        window = window_of(asked, zone, now)
    else:
        since_ms, until_ms = alike_window(connection, seq, zone)
        window = window_of(WindowQuery(week=None, since=moment(since_ms), until=moment(until_ms)), zone, now)

    def _alike() -> Alike:
        return alike(
            connection,
            DEFAULT_PROJECT,
            seq,
            window.since_ms,
            window.until_ms,
            zone=zone,
            limit=CALLS_SHOWN,
        )

    # Some thousand bad calls are compared: half a second, once per ranking.
    key = ("alike", seq, window.since_ms, window.until_ms)
    found = panel(
        "What went wrong like this",
        connection,
        lambda: remembered(connection, key, _alike),
        time_limit_s=ALIKE_TIME_LIMIT_S,
    )

    def _lines() -> dict[str, CallLine]:
        ids = [one.id for one in found.data.calls] if found.data else []
        seqs = [one for one in (seq_of(connection, DEFAULT_PROJECT, call) for call in ids) if one is not None]
        return {one.id: one for one in lines_by_seq(connection, seqs, settings.critics).values()}

    return AlikePage(
        headline=_headline(found.data),
        dateline=dateline(connection, now),
        call=line,
        week=week_of(round(line.started_at.timestamp() * 1000), zone).id,
        window=window,
        alike=found,
        lines=panel("Calls like this", connection, _lines),
    )


def _headline(found: Alike | None) -> str:
    if found is None:
        return "What else went wrong like this?"
    if not found.n_bad:
        return "Nothing else went wrong in these weeks."
    looked = f"{'' if found.complete else 'the worst '}{many(found.n_bad, 'bad call')}"
    failed = found.what_failed.replace("_", " ")
    if found.what_failed and found.n_failed_alike:
        said = f"{found.n_failed_alike:,} of {looked} failed like this one ({failed})"
    elif found.what_failed:
        said = f"None of {looked} failed like this one ({failed})"
    else:
        said = f"{looked[0].upper()}{looked[1:]} went wrong besides this one"
    if found.conditions:
        first = found.conditions[0]
        return (
            f"{said}; what they share is {first.words}, {share(first.share_bad)} of them "
            f"and {share(first.share_rest)} of the rest."
        )
    return f"{said}; no field sets them apart from the rest."
