"""A condition that stood the test, with its figures and its sentences: what a person reads.

Flow: outliers.cohorts.discovery.Tested + outliers.frame.WeekCalls + the parts of its worst calls -> Finding.
"""

from collections import Counter
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np

from ingest.store import Store
from outliers.cohorts.discovery import Tested, by_person, lift_interval
from outliers.cohorts.findings import Finding
from outliers.cohorts.questions import Question
from outliers.cohorts.trend import began_ms, trend
from outliers.conditions import moment
from outliers.experience.parts import BAD_FROM, Part
from outliers.frame import Floats, Mask, WeekCalls
from outliers.intervals import n_even, ratio_interval, wilson
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
    "unfounded": "Answers were not borne out by their source",
    "": "Calls went badly",
}
#: Finish reasons as the guard would call them.
FAILED_AS = {
    **dict.fromkeys(("finish length", "finish max_tokens", "finish MAX_TOKENS"), "truncated"),
    **dict.fromkeys(("finish content_filter", "finish refusal", "finish safety", "finish SAFETY"), "refusal"),
}
#: A failure that fields tell is named where so many of the bad calls inside have it, and so many times more
#: than of the bad calls elsewhere.
NAMED_SHARE = 0.4
NAMED_LIFT = 2.0
#: Weights so even that the calls count by their number.
ALL_ALIKE = 1 - 1e-9
_SAID_OF = {
    "error": "Calls failed with",
    "rubric": "Answers scored low on",
    "signal": "Users answered with",
}


def describe(store: Store, calls: WeekCalls, tested: Tested, rank: int, zone: ZoneInfo) -> Finding:
    """Return the finding with its figures, over the calls of both halves."""
    question, condition = tested.question, tested.condition
    y, among = question.y, question.among
    inside, outside = among & tested.mask, among & ~tested.mask
    hit = inside & (y >= BAD_FROM)
    n = int(inside.sum())
    rates = _rates(calls, question, inside, outside)
    low, high = wilson(rates.inside * rates.people_in, rates.people_in)
    rate_in, rate_out = rates.inside, rates.outside
    lift_low, lift_high = rates.lift_low, rates.lift_high
    weights = rates.weights
    share_in = float((weights * y)[inside].sum() / (weights * y)[among].sum())
    share_out = float((weights * (1 - y))[inside].sum() / max((weights * (1 - y))[among].sum(), 1e-9))
    what, n_what, examples = _what_failed(store, calls, question, inside, hit)
    hit_or_any = hit if hit.any() else inside
    first_seen_ms = began_ms(calls, tested, hit_or_any)
    users = len(np.unique(calls.people[hit_or_any & calls.has_user]))
    since = "" if any(part.op == "within" for part in condition.parts) else moment(first_seen_ms, zone)
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
        examples=examples,
        what_failed=what,
        n_what_failed=n_what,
        severity=_severity(calls, tested, inside, rate_in),
        case_sentence=_case_sentence(condition.where(zone), what, n_what, n, users)
        + (f", since {since}" if since else ""),
        measure=question.measure,
        excess=tested.excess,
        share_of_traffic=float(calls.weight[tested.mask].sum() / calls.weight.sum()),
        found_among=tested.found_among,
        failed_as=question.failed_as,
        **trend(calls, tested, zone),
    )


@dataclass(frozen=True)
class _Rates:
    """How bad calls are under a condition and elsewhere, each call counted for those it stands for.

    Attributes:
        people_in: people under the condition, or as many as say as much where their calls weigh unevenly.
        weights: of all calls, by which the rates were taken; shape (n,).
    """

    inside: float
    outside: float
    people_in: float
    lift_low: float
    lift_high: float
    weights: Floats


def _rates(calls: WeekCalls, question: Question, inside: Mask, outside: Mask) -> _Rates:
    """Return the rates of a condition and of the rest.

    By what critics judged; where a sample left out all calls of either, by what is known of every one.
    """
    weights = calls.weight
    if question.measure == "p_bad" and not question.failed_as:
        judged = weights * calls.judged_for
        weights = judged if judged[inside].any() and judged[outside].any() else weights
    y = question.y
    rate_in, rate_out = (float(np.average(y[of], weights=weights[of])) for of in (inside, outside))
    people_in, people_out = (len(by_person(calls, y, of)) for of in (inside, outside))
    even_in, even_out = (n_even(weights[of]) / int(of.sum()) for of in (inside, outside))
    if even_in > ALL_ALIKE and even_out > ALL_ALIKE:
        low, high = lift_interval(calls, question, inside)
    else:
        n_in, n_out = people_in * even_in, people_out * even_out
        low, high = ratio_interval(rate_in * n_in, n_in, rate_out * n_out, n_out)
    return _Rates(rate_in, rate_out, people_in * even_in, low, high, weights)


def _severity(calls: WeekCalls, tested: Tested, inside: Mask, rate_in: float) -> float:
    """Return the mean P(bad) inside; of a cohort by latency at least what its slow calls alone would make."""
    p_bad = calls.p_bad[inside]
    known = float(np.nanmean(p_bad)) if np.isfinite(p_bad).any() else 0.0
    question = tested.question
    slow_alone = question.weight * rate_in if question.measure == "latency" and question.about == "bad" else 0
    return max(known, slow_alone)


def percent(share: float) -> str:
    """Return a share as a person reads it: "71 %", "0.4 %"."""
    return (
        f"{share:.0%}".replace("%", " %")
        if share >= 0.01 or share == 0
        else f"{share:.1%}".replace("%", " %")
    )


def _what_failed(
    store: Store, calls: WeekCalls, question: Question, inside: Mask, hit: Mask
) -> tuple[str, int, tuple[str, ...]]:
    """Return what most of the bad calls inside have in common, how many have it, and examples that show it.

    First by what their fields tell (error, finish reason, the guard's kind) where that is over-represented;
    else by the part that speaks loudest in most of the worst.
    """
    badness = calls.latency_ms if question.measure == "latency" else calls.p_bad
    if question.measure == "latency":
        return "slow", int(hit.sum()), _ids(store, calls, badness, hit if hit.any() else inside)
    if question.failed_as:
        what = FAILED_AS.get(question.failed_as, question.failed_as)
        return what, int(hit.sum()), _ids(store, calls, badness, inside, hit)
    named = _named_failure(calls, question, inside, hit)
    if named is not None:
        what, shows = named
        # of the bad ones only, as users are counted: one that nobody minded is no part of the case
        return what, int((hit & shows).sum()), _ids(store, calls, badness, inside, hit & shows)
    worst = _worst(store, calls, badness, inside, LIMIT_MAX)
    bad = [call for call in worst if call.p_bad >= BAD_FROM]
    what, n_what = "", int(hit.sum())
    for most, n in Counter(failure(call.parts) for call in bad).most_common(1):
        if 2 * n > len(bad) and most:
            what, n_what = most, n
    if what:
        worst = sorted(worst, key=lambda call: not _shows(call.parts, what))  # stable
    return what, n_what, tuple(call.id for call in worst[:EXAMPLES])


def _named_failure(calls: WeekCalls, question: Question, inside: Mask, hit: Mask) -> tuple[str, Mask] | None:
    """Return the failure that fields tell of most bad calls inside and of few outside, and its calls."""
    column = calls.named.get(("failed_as", ""))
    if column is None or not hit.any():
        return None
    elsewhere = question.among & ~inside & (question.y >= BAD_FROM)
    said = np.array([FAILED_AS.get(name, name) for name in column.names] or [""])
    best: tuple[float, str, Mask] | None = None
    for what in dict.fromkeys(said.tolist()):
        places = np.append(said == what, False)  # the last is that of unknown
        shows = places[column.codes]
        share, usual = float(shows[hit].mean()), float(shows[elsewhere].mean()) if elsewhere.any() else 0.0
        if share >= NAMED_SHARE and share >= NAMED_LIFT * usual and (best is None or share > best[0]):
            best = (share, what, shows)
    return None if best is None else best[1:]


def _ids(
    store: Store, calls: WeekCalls, badness: Floats, inside: Mask, first: Mask | None = None
) -> tuple[str, ...]:
    """Return the ids of the worst calls inside; those of `first` before the others."""
    found: list[str] = []
    for mask in (inside & first, inside & ~first) if first is not None else (inside,):
        found += [call.id for call in _worst(store, calls, badness, mask, EXAMPLES - len(found))]
    return tuple(found)


def _worst(store: Store, calls: WeekCalls, badness: Floats, inside: Mask, limit: int) -> list[WorstCall]:
    """Return the worst calls inside, worst first."""
    at = np.nonzero(inside)[0]
    order = at[np.argsort(-np.nan_to_num(badness[at]), kind="stable")][:limit]
    seqs = calls.seq[order].tolist()
    if not seqs:
        return []
    with store.read() as connection:
        found = {call.seq: call for call in calls_by_seq(connection, seqs)}
    return [found[seq] for seq in seqs if seq in found]


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
