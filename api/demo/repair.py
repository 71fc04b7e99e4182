"""The case of some weeks before, as the team of the demo worked on it: its cause, its fix, and the proof.

Flow: once every call is ranked, `repair` does over HTTP what a person does on the case's page; the server
looks at the calls since by itself, and `proof_of` waits for what it says. Words and names are invented.
"""

import time
from datetime import UTC, datetime
from typing import Any

from api.demo.traffic import REPAIRED_MS
from api.doors import ServerTrouble, ask
from outliers.weeks import Week

POLL_S = 0.3
#: The next refresh looks at it: a second or two on a quiet machine.
WAIT_S = 30.0

WHO = "Ines"
CAUSE = (
    "v6 told the model to answer the letter sentence by sentence, so it wrote the same opening again for "
    "every sentence. v7 asks for one reply to the whole letter."
)


def repair(address: str, week: Week) -> bool:
    """Take the week's case on, write down its cause and its fix; False where it is not the one to be fixed.

    Done before, it changes nothing: the case is not as it was nominated any more.
    """
    case = _case(address, week)
    if case is None or case["status"] != "nominated" or "reply-draft" not in str(case["cohort"]["condition"]):
        return False
    fixed_at = datetime.fromtimestamp((week.since_ms + REPAIRED_MS) / 1000, UTC).isoformat()
    for action, body in (
        ("pick", {}),
        ("owner", {"owner": "Jonas"}),
        ("root_cause", {"root_cause": CAUSE}),
        ("fixed", {"at": fixed_at, "prompt_version": "reply-draft@v7"}),
    ):
        ask(f"{address}/v1/cases/{week.id}/{action}", {"by": WHO, **body})
    return True


def proof_of(address: str, week: Week) -> str | None:
    """Return what the calls since the fix say, waiting for the server's look; None where nobody looked."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        case = _case(address, week)
        if case is None or case["fix"] is None:
            return None
        if case["proof"] is not None:
            return str(case["proof"]["sentence"])
        time.sleep(POLL_S)
    return None


def _case(address: str, week: Week) -> dict[str, Any] | None:
    try:
        case: dict[str, Any] = ask(f"{address}/v1/cases/{week.id}")
    except ServerTrouble as error:
        if error.status != 404:
            raise
        return None
    return case
