"""Which cohort a person means when they pick one: a rank of the week's list, or a call of theirs.

Flow: POST /v1/cases/{week}/pick -> `cohort_by_rank`, `cohort_of_call` -> Finding with its seed first ->
outliers.casework.case_actions.pick.
"""

from dataclasses import replace
from zoneinfo import ZoneInfo

import numpy as np
from sqlalchemy import Connection, select

from ingest.store import Store
from ingest.tables import Call, columns
from outliers.casework.case_actions import BadPick
from outliers.cohorts.candidates import holds
from outliers.cohorts.describing import EXAMPLES, failure, percent
from outliers.cohorts.discovery import by_person
from outliers.cohorts.findings import Finding, findings_of
from outliers.cohorts.text_columns import add_words
from outliers.conditions import Condition
from outliers.experience.parts import BAD_FROM
from outliers.frame import WeekCalls, week_calls
from outliers.intervals import ratio_interval, wilson
from outliers.weeks import Week
from outliers.worst import calls_by_seq

_call = columns(Call)


def cohort_by_rank(connection: Connection, project_id: int, week: Week, rank: int) -> Finding:
    """Return the week's cohort of that rank, as GET /v1/cohorts and the pages list them.

    Raises:
        BadPick: there is none.
    """
    found = _cohorts(connection, project_id, week)
    for finding in found:
        if finding.rank == rank:
            return finding
    ranks = ", ".join(str(finding.rank) for finding in found) or "none"
    raise BadPick("rank", f"Week {week.id} has no cohort of rank {rank}; there are: {ranks}.")


def cohort_of_call(store: Store, project_id: int, week: Week, call_id: str, zone: ZoneInfo) -> Finding:
    """Return the week's first cohort that holds a call, with that call as its seed.

    Where none holds it, the calls that share its prompt version (else its prompt, else its model) are its
    cohort: all that is known of a call that went wrong alone. Reads the week's calls: about a second at
    50,000 of them.

    Raises:
        BadPick: no such call, one of another week, one not ranked yet, or one that names none of these.
    """
    with store.read() as connection:
        call = connection.execute(
            select(_call.c.seq, _call.c.started_at_ms).where(
                _call.c.project_id == project_id, _call.c.id == call_id
            )
        ).one_or_none()
        found = _cohorts(connection, project_id, week)
    if call is None:
        raise BadPick("call_id", f"No call has the id {call_id!r}.")
    if not week.holds(call.started_at_ms):
        raise BadPick("call_id", f"The call {call_id!r} did not start in {week.id}; its own week has a case.")
    holding = next((one for one in found if call_id in one.examples), None)
    if holding is None:
        calls = week_calls(store, project_id, week)
        at = calls.seq == call.seq
        for one in found:
            add_words(store, project_id, calls, one.condition)
        holding = next((one for one in found if bool(holds(one.condition, calls)[at].any())), None)
        if holding is None:
            holding = _cohort_around(store, calls, call_id, int(np.nonzero(at)[0][0]), zone)
    examples = (call_id, *(one for one in holding.examples if one != call_id))
    return replace(holding, examples=examples[:EXAMPLES])


def _cohort_around(store: Store, calls: WeekCalls, call_id: str, place: int, zone: ZoneInfo) -> Finding:
    """Return the calls that share a call's prompt version, prompt or model, as a cohort."""
    shared = next(
        (
            Condition(field, "=", column.names[column.codes[place]])
            for field in ("prompt_version", "prompt", "model")
            if (column := calls.named.get((field, ""))) is not None
            and column.codes[place] >= 0
            and column.names[column.codes[place]]
        ),
        None,
    )
    if shared is None:
        raise BadPick(
            "call_id", f"The call {call_id!r} names no prompt and no model: no call can be like it."
        )
    y = calls.p_bad
    ranked = np.isfinite(y)
    if not ranked[place]:
        raise BadPick("call_id", f"The call {call_id!r} is not ranked yet; try again in a minute.")
    inside = ranked & holds(shared, calls)
    outside = ranked & ~inside
    hit = inside & (y >= BAD_FROM)
    in_, out = by_person(calls, y, inside), by_person(calls, y, outside)
    rate_in, rate_out = float(y[inside].mean()), float(y[outside].mean()) if outside.any() else 0.0
    low, high = wilson(rate_in * len(in_), len(in_))
    lift_low, lift_high = ratio_interval(float(in_.sum()), len(in_), float(out.sum()), max(1, len(out)))
    worst = np.nonzero(inside)[0][np.argsort(-y[inside], kind="stable")][:EXAMPLES]
    with store.read() as connection:
        examples = tuple(one.id for one in calls_by_seq(connection, calls.seq[worst].tolist()))
        [seed] = calls_by_seq(connection, [int(calls.seq[place])])
    what = failure(seed.parts)
    users = len(np.unique(calls.people[hit & calls.has_user]))
    n, n_in = int(inside.sum()), int(hit.sum())
    share_in, share_out = (
        float(y[inside].sum() / y[ranked].sum()),
        float((1 - y)[inside].sum() / max((1 - y)[ranked].sum(), 1e-9)),
    )
    return Finding(
        rank=0,
        about="bad",
        condition=shared,
        sentence=f"{shared.words(zone)} holds for {percent(share_in)} of the bad calls "
        f"and {percent(share_out)} of the rest",
        n=n,
        n_in=n_in,
        share_in=share_in,
        share_out=share_out,
        rate_in=rate_in,
        rate_low=low,
        rate_high=high,
        rate_out=rate_out,
        lift=rate_in / max(rate_out, 1e-9),
        lift_low=lift_low,
        lift_high=lift_high,
        users=users,
        first_seen_at_ms=int(calls.started_at_ms[hit if hit.any() else inside].min()),
        p_value=1.0,
        examples=examples,
        what_failed=what,
        n_what_failed=n_in,
        severity=rate_in,
        case_sentence=f"A call went badly {shared.where(zone)}: {n_in:,} of {n:,} calls like it were bad",
        share_of_traffic=n / max(1, len(calls)),
        # the half of the person whose call it is has been chosen for it
        found_among="held_back" if calls.held_back[place] else "others",
    )


def _cohorts(connection: Connection, project_id: int, week: Week) -> list[Finding]:
    """Return the week's cohorts, the new ones before those that are there every week."""
    return [
        *findings_of(connection, project_id, week.id, "bad"),
        *findings_of(connection, project_id, week.id, "bad", lasting=True),
    ]
