"""A condition that stood the test, with its figures and its sentences: what a person reads.

Flow: outliers.discovery.Tested + outliers.frame.WeekCalls + the parts of its worst calls -> Finding.
"""

from collections import Counter
from zoneinfo import ZoneInfo

import numpy as np

from ingest.store import Store
from outliers.conditions import moment
from outliers.discovery import Question, Tested, by_person
from outliers.experience import BAD_FROM, Part
from outliers.findings import Finding
from outliers.frame import Mask, WeekCalls
from outliers.intervals import ratio_interval, wilson
from outliers.worst import LIMIT_MAX, WorstCall, calls_by_seq

EXAMPLES = 10

#: What failed, by the guard's kind, a signal or a part, as a case's sentence begins.
SAID = {
    "wrong_language": "Answers came in the wrong language",
    "empty": "Answers were empty",
    "truncated": "Answers were cut short",
    "off_topic": "Answers missed the question",
    "repeated": "Answers repeated themselves",
    "refusal": "Answers refused to help",
    "swapped": "Answers belonged to other questions",
    "rude": "Answers were rude",
    "thumbs_down": "Answers got a thumbs-down",
    "rating": "Answers were rated low",
    "regenerate": "Users asked for another answer",
    "rephrase": "Users had to ask again in other words",
    "edit": "Users had to rewrite answers",
    "abandon": "Users gave up",
    "escalate": "Users asked for a person",
    "slow": "Answers came late",
    "": "Calls went badly",
}
_SAID_OF = {
    "error": "Calls failed with",
    "rubric": "Answers scored low on",
    "signal": "Users answered with",
}


def describe(
    store: Store,
    calls: WeekCalls,
    question: Question,
    tested: Tested,
    rank: int,
    zone: ZoneInfo,
) -> Finding:
    """Return the finding with its figures, over the calls of both halves."""
    y, among = question.y, question.among
    inside, outside = among & tested.mask, among & ~tested.mask
    hit = inside & (y >= BAD_FROM)
    n = int(inside.sum())
    rate_in, rate_out = float(y[inside].mean()), float(y[outside].mean())
    people_in, people_out = by_person(calls, y, inside), by_person(calls, y, outside)
    low, high = wilson(rate_in * len(people_in), len(people_in))
    lift_low, lift_high = ratio_interval(
        float(people_in.sum()), len(people_in), float(people_out.sum()), len(people_out)
    )
    share_in = float(y[inside].sum() / y[among].sum())
    share_out = float((1 - y)[inside].sum() / max((1 - y)[among].sum(), 1e-9))
    worst = _worst(store, calls, question, inside)
    what, n_what = _what_failed(worst, int(hit.sum()), question)
    hit_or_any = hit if hit.any() else inside
    first_seen_ms = int(calls.started_at_ms[hit_or_any].min())
    users = len(np.unique(calls.people[hit_or_any & calls.has_user]))
    condition = tested.condition
    return Finding(
        rank=rank,
        about=question.about,
        condition=condition,
        sentence=f"{condition.words(zone)} holds for {percent(share_in)} of {question.words} "
        f"and {percent(share_out)} of the rest",
        n=n,
        n_in=int(hit.sum()),
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
        first_seen_at_ms=first_seen_ms,
        p_value=tested.p_value,
        examples=_examples(worst, what, question),
        what_failed=what,
        n_what_failed=n_what,
        severity=float(np.nanmean(calls.p_bad[inside])) if np.isfinite(calls.p_bad[inside]).any() else 0.0,
        case_sentence=_case_sentence(condition.where(zone), what, n_what, n, users)
        + ("" if condition.op == "within" else f", since {moment(first_seen_ms, zone)}"),
    )


def percent(share: float) -> str:
    """Return a share as a person reads it: "71 %", "0.4 %"."""
    return (
        f"{share:.0%}".replace("%", " %")
        if share >= 0.01 or share == 0
        else f"{share:.1%}".replace("%", " %")
    )


def _worst(store: Store, calls: WeekCalls, question: Question, inside: Mask) -> list[WorstCall]:
    """Return the worst calls inside, worst first; of a tail the slowest, slowest first; at most 1,000."""
    at = np.nonzero(inside)[0]
    by = calls.latency_ms if question.about == "tail" else calls.p_bad
    order = at[np.argsort(-np.nan_to_num(by[at]), kind="stable")][:LIMIT_MAX]
    seqs = calls.seq[order].tolist()
    with store.read() as connection:
        found = {call.seq: call for call in calls_by_seq(connection, seqs)}
    return [found[seq] for seq in seqs if seq in found]


def _what_failed(worst: list[WorstCall], n_hit: int, question: Question) -> tuple[str, int]:
    """Return what most of the bad calls inside have in common, and how many have it."""
    if question.about == "tail":
        return "slow", n_hit
    bad = [call for call in worst if call.p_bad >= BAD_FROM]
    counted = Counter(failure(call.parts) for call in bad)
    for what, n in counted.most_common(1):
        if 2 * n > len(bad) and what:
            return what, n
    return "", n_hit


def _examples(worst: list[WorstCall], what: str, question: Question) -> tuple[str, ...]:
    """Return ids: first of calls that show what the sentence says, then of others; each worst first."""
    if what and question.about == "bad":
        worst = sorted(worst, key=lambda call: not _shows(call.parts, what))  # stable
    return tuple(call.id for call in worst[:EXAMPLES])


def failure(parts: tuple[Part, ...]) -> str:
    """Return what went wrong in a call, by its known part with the largest share.

    "rude" (a guard's kind), "rubric faithfulness", "thumbs_down", "signal refund", "slow", "error Timeout".
    """
    part = max((part for part in parts if part.known), key=lambda part: part.share, default=None)
    return "" if part is None else _failure_of(part)


def _shows(parts: tuple[Part, ...], what: str) -> bool:
    """Whether this went wrong in a call, whatever else did: a thumbs-down hides no cut-off answer."""
    return any(part.known and part.b >= BAD_FROM and _failure_of(part) == what for part in parts)


def _failure_of(part: Part) -> str:
    if part.name == "latency":
        return "slow"
    if part.name == "error":
        return f"error {part.detail}"
    if part.detail in SAID:
        return part.detail
    return f"{'rubric' if part.name == 'critic' else 'signal'} {part.detail}"


def _case_sentence(where: str, what: str, n_what: int, n: int, users: int) -> str:
    if what in SAID:
        said = SAID[what]
    else:
        kind, _, name = what.partition(" ")
        said = f"{_SAID_OF[kind]} {name}"
    who = f", {users:,} users" if users > 1 else ", 1 user" if users else ""
    return f"{said} {where}: {n_what:,} of {n:,} calls{who}"
