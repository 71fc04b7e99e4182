"""Which cohort a person means when they pick one: a rank of the week's list, or a call of theirs.

Flow: POST /v1/cases/{week}/pick -> `cohort_by_rank`, `cohort_of_call` -> Finding with its seed first ->
outliers.case_actions.pick.
"""

from dataclasses import replace

from sqlalchemy import Connection, select

from ingest.store import Store
from ingest.tables import Call, columns
from outliers.candidates import holds
from outliers.case_actions import BadPick
from outliers.findings import Finding, findings_of
from outliers.frame import week_calls
from outliers.weeks import Week

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


def cohort_of_call(store: Store, project_id: int, week: Week, call_id: str) -> Finding:
    """Return the week's first cohort that holds a call, with that call as its seed.

    Reads the week's calls: about a second at 50,000 of them.

    Raises:
        BadPick: no such call, one of another week, or one that no cohort holds.
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
    if holding is None and found:
        calls = week_calls(store, project_id, week)
        at = calls.seq == call.seq
        holding = next((one for one in found if bool(holds(one.condition, calls)[at].any())), None)
    if holding is None:
        raise BadPick(
            "call_id",
            f"No cohort of {week.id} holds the call {call_id!r}: it went wrong alone; its page shows why.",
        )
    examples = (call_id, *(one for one in holding.examples if one != call_id))
    return replace(holding, examples=examples[: max(1, len(holding.examples))])


def _cohorts(connection: Connection, project_id: int, week: Week) -> list[Finding]:
    """Return the week's cohorts, the new ones before those that are there every week."""
    return [
        *findings_of(connection, project_id, week.id, "bad"),
        *findings_of(connection, project_id, week.id, "bad", lasting=True),
    ]
