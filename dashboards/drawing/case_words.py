"""How a case reads: how far it is, what comes next, and its verdict in plain words.

Flow: dashboards.queries.cases.CaseShown or CaseLine -> here -> This week, Case, Cases.
"""

from dataclasses import dataclass
from typing import Protocol

from dashboards.queries.cases import CaseShown, FixShown, ProofShown
from dashboards.words import count, many, share

#: A status in one or two words.
STATUSES = {
    "so_far": "so far",
    "nominated": "nominated",
    "picked": "taken on",
    "root_cause": "cause known",
    "fixed": "fix out",
    "verified": "closed",
    "reopened": "reopened",
}
VERDICTS = {"fixed": "fixed", "no_change": "no change seen", "worse": "worse", "too_early": "too early"}
#: What happened to a case, as its history tells it.
EVENTS = {
    "nominated": "nominated",
    "picked": "taken on",
    "root_cause": "root cause",
    "owner": "owner",
    "fixed": "fix",
    "verdict": "verdict",
    "verified": "closed",
    "reopened": "reopened",
    "note": "note",
}


class _Case(Protocol):
    """What is known of a case in one line and on its page alike."""

    @property
    def status(self) -> str: ...
    @property
    def root_cause(self) -> str | None: ...
    @property
    def fix(self) -> FixShown | None: ...
    @property
    def proof(self) -> ProofShown | None: ...


@dataclass(frozen=True)
class Step:
    """One of the five steps of a case.

    Attributes:
        name: as one says it of what is done ("taken on") or still to do ("take on").
        state: "done", "now" (what comes next) or "later".
    """

    name: str
    state: str


def verdict_of(case: _Case) -> ProofShown | None:
    """Return what is known about the fix that the case has; a reopened case has none any more."""
    return case.proof if case.fix is not None else None


def verdict_words(case: _Case) -> str:
    """Return the verdict in a word or two: fixed, no change seen, worse, too early; "" without a fix."""
    proof = verdict_of(case)
    if proof is None:
        return "too early" if case.fix is not None else ""
    return VERDICTS[proof.verdict]


def state_of(case: CaseShown) -> str:
    """Return how far a case is, in one sentence."""
    proof = verdict_of(case)
    match case.status:
        case "so_far":
            return "It leads so far; the week still runs."
        case "nominated":
            return "Nobody has taken it on yet."
        case "picked":
            who = next((event.who for event in reversed(case.history) if event.what == "picked"), "")
            by = f" by {who}" if who else ""
            if case.root_cause:
                return f"Taken on{by}; a fix is not out yet."
            return f"Taken on{by}; why it happened is not written down yet."
        case "root_cause":
            return "Its root cause is known; a fix is not out yet."
        case "fixed" if proof is None:
            return "A fix is out; the calls since are looked at within a day."
        case "fixed" if proof is not None:
            return f"A fix is out. {proof.sentence}"
        case "verified":
            return _closed(case)
    because = _last(case, "reopened")
    return f"Open again. {because}".strip()


def next_of(case: CaseShown) -> str:
    """Return what a person can do about a case next, in one sentence."""
    proof = verdict_of(case)
    match case.status:
        case "so_far" | "nominated":
            return "Read its worst calls, then take it on, or make another cohort the case."
        case "picked" | "reopened" if case.root_cause:
            return "Check that the root cause is the right one, then enter what the next fix came with."
        case "picked" | "reopened":
            return "Find out why it happened, and write it down."
        case "root_cause":
            return "Fix it, and enter what the fix came with; the calls since then prove it or not."
        case "verified":
            return "Nothing: Lowlight watches it for a year, and opens it again when the rate returns."
    if proof is not None and proof.verdict in ("no_change", "worse"):
        return "The fix did not help: look at the root cause again, then enter another fix."
    if proof is not None and proof.calls_needed is None and proof.n_after:
        return "Read the calls since the fix one by one, and close it by hand."
    return "Wait for more calls: Lowlight looks once a day, and closes it once they prove the fix."


def steps_of(case: CaseShown) -> tuple[Step, ...]:
    """Return the steps of a case; the first that is not done is "now", unless it is closed."""
    proof = verdict_of(case)
    proven = proof is not None and proof.verdict == "fixed"
    steps = (
        ("nominate", "nominated", case.status != "so_far"),
        ("take on", "taken on", case.status not in ("so_far", "nominated")),
        ("find the cause", "cause known", bool(case.root_cause)),
        ("fix", "fix out", case.fix is not None),
        ("prove", "proven" if proven else "closed", case.status == "verified"),
    )
    # closed by hand, a case may have steps that were never made
    now = "" if case.status == "verified" else next(to_do for to_do, _done, is_done in steps if not is_done)
    return tuple(
        Step(done if is_done else to_do, "done" if is_done else "now" if to_do == now else "later")
        for to_do, done, is_done in steps
    )


def verdict_explained(proof: ProofShown) -> str:
    """Return how a verdict was come by, for somebody who did not read the documentation."""
    said = (
        f"Before: {many(proof.n_before, 'call')} of {many(proof.people_before, 'person', 'people')} who did "
        f"not bring the case up. Since: {many(proof.n_after, 'call')} of "
        f"{many(proof.people_after, 'person', 'people')}."
    )
    if proof.after_low is not None and proof.after_high is not None:
        said += (
            f" The share since lies between {share(proof.after_low)} and {share(proof.after_high)}; this "
            "interval holds however often one looks."
        )
    if proof.not_comparable:
        said += (
            f" {many(proof.not_comparable, 'call')} since the fix "
            f"{'was' if proof.not_comparable == 1 else 'were'} judged by other means, or not yet, and "
            f"{'is' if proof.not_comparable == 1 else 'are'} left out."
        )
    if proof.followed_by:
        said += f" In the place of what was retired count {', '.join(proof.followed_by)}."
    if proof.calls_needed is not None:
        said += f" About {count(proof.calls_needed)} more calls are needed."
    return said


def _closed(case: CaseShown) -> str:
    proof = verdict_of(case)
    if proof is not None and proof.verdict == "fixed":
        return f"Closed. {proof.sentence}"
    return _last(case, "verified") or "Closed."


def _last(case: CaseShown, what: str) -> str:
    """Return the words of the newest event of a kind; "" where there is none."""
    return next((event.words for event in reversed(case.history) if event.what == what), "")
