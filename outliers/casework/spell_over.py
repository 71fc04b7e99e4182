"""A case whose trouble was over before its fix, or is nothing but past hours: what can be said of it.

Flow: outliers.casework.following -> `over_before_fix`, `it_was_over`, `nothing_comes_back` -> a case's proof.
Calls since a fix cannot show that it worked where they went as well before it came, so that the verdict stays
"too early" and a person closes the case. A case under lasting fields ("provider = basalt", Tuesday 14:00 to
16:00) is watched all the same, by its rates of those hours; hours that were slow are watched as spells.
"""

from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

from outliers.casework.cases import Case
from outliers.casework.verification import Outcomes, Verdict, returned, spread_per_call
from outliers.conditions import moment
from outliers.latency.tails import HOUR_MS
from outliers.weeks import Week

#: A span's end is known to ten minutes or so, and a fix is told from memory.
SLACK_MS = HOUR_MS


def over_before_fix(case: Case, week: Week) -> int | None:
    """Return when the case's hours ended, where that was before its fix; else None."""
    ends = [part.value[1] for part in case.cohort.condition.parts if isinstance(part.value, tuple)]
    if not ends or case.fix is None:
        return None
    ended_ms = min(ends)
    goes_on = ended_ms >= week.until_ms - SLACK_MS
    return None if goes_on or case.fix.at_ms <= ended_ms + SLACK_MS else ended_ms


def it_was_over(verdict: Verdict, case: Case, after: Outcomes, ended_ms: int, zone: ZoneInfo) -> Verdict:
    """Return what the calls since a fix say of trouble that was over before: that it stayed away, or did not.

    Args:
        verdict: of the calls under the condition without its hours; its figures before are replaced.
        after: the calls since the fix.
    """
    cohort = case.cohort
    was = f"{_percent(cohort.rate_in)} {'slow' if cohort.measure == 'latency' else 'bad'}"
    until = f"until {moment(ended_ms, zone)}"
    comparable = cohort.measure != "latency"  # a share of slow calls is no mean of how slow each was
    before, rest = (cohort.rate_in, cohort.rate_out) if comparable else (None, None)
    verdict = replace(verdict, before=before, rest_before=rest, calls_needed=None)
    if comparable and returned(cohort.rate_in, cohort.rate_out, after, spread_per_call(after)):
        sentence = (
            f"No change seen: {was} {until}, {_percent(verdict.after or 0.0)} in the {len(after):,} since."
        )
        return replace(verdict, verdict="no_change", sentence=sentence)
    since = (
        f", {_percent(verdict.after)} bad in the {len(after):,} calls since"
        if verdict.after is not None
        else ""
    )
    sentence = (
        f"It was over before the fix: {was} {until}{since}. No call can show what a fix did that came after; "
        "close the case by hand."
    )
    return replace(verdict, verdict="too_early", sentence=sentence)


def nothing_comes_back() -> Verdict:
    """Return the verdict on a case whose condition is hours alone."""
    sentence = (
        "Too early, and no call can tell: the condition is hours of one week, which do not come back. "
        "Close the case by hand, or pick the cohort that its calls share."
    )
    nothing: dict[str, Any] = dict.fromkeys(Verdict.__dataclass_fields__)
    numbers = dict.fromkeys(("n_before", "n_after", "people_before", "people_after"), 0)
    return Verdict(**nothing | numbers | {"verdict": "too_early", "sentence": sentence})


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")
