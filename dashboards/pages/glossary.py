"""Words: what the pages' words and figures mean, a sentence or two each; a figure links to its own."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from critic.spending.budget import DEFERRED_DAYS_MAX
from dashboards.filters import Asked
from dashboards.pages.dateline import Dateline, dateline
from dashboards.panels import Panel
from ingest.settings import Settings
from outliers.intervals import calls_needed


@dataclass(frozen=True)
class Term:
    """One word: `id` is the page's anchor, "p-bad"; `means` is plain text."""

    id: str
    term: str
    means: str


@dataclass(frozen=True)
class Glossary:
    """Context of glossary.html; `parts` are (title, terms), in the order in which a newcomer meets them."""

    headline: str
    dateline: Panel[Dateline]
    parts: tuple[tuple[str, tuple[Term, ...]], ...]


def build(connection: Connection, _settings: Settings, _asked: Asked, now: datetime) -> Glossary:
    """Read the page, which is the same for everybody."""
    return Glossary("What the words on these pages mean.", dateline(connection, now), PARTS)


PARTS = (
    (
        "What is looked at",
        (
            Term(
                "call",
                "call",
                "One answer of a model in your application: input, output, model, prompt, latency, "
                "tokens, cost, user, session, error.",
            ),
            Term(
                "signal",
                "signal",
                "Something a user did about a call: a thumb, a rating, asking again, editing, "
                "copying, giving up. It may come days after its call.",
            ),
            Term(
                "p-bad",
                "P(bad)",
                "The probability, 0 to 100 %, that a call was a bad experience: from what critics "
                "said, what the user did, how long it took, and whether it failed. From one half on a"
                " call counts as bad. What is not known of a call is taken for the mean of calls like"
                " it, and drawn in grey.",
            ),
            Term(
                "bad-rate",
                "share of bad calls",
                "Calls with P(bad) of one half or more, of all that are ranked. Where your "
                "application or a critic's budget samples, each call counts for those it stands for.",
            ),
            Term(
                "stands-for",
                "stands for",
                "A call kept at a sample rate of one tenth stands for ten; one that a critic's sample"
                " took in with probability one fifth speaks for five.",
            ),
        ),
    ),
    (
        "What went wrong",
        (
            Term(
                "cohort",
                "cohort",
                "Calls that went wrong alike, and the condition that sets them apart: a prompt "
                "version, a language, long inputs, some hours.",
            ),
            Term(
                "case",
                "case",
                "The one cohort a week that the team works on: the one with most harm times users. It"
                " is nominated when the week ends; you may make another cohort the case.",
            ),
            Term(
                "lift",
                "lift",
                "How many times as often calls are bad under a condition as elsewhere, with its 95 % "
                "interval. 1× is no difference.",
            ),
            Term(
                "held-back",
                "held-back half",
                "A condition is found among the calls of one half of the people and tested on the "
                "other, so that what is told is not the luck of looking everywhere.",
            ),
            Term(
                "moved",
                "moved, worse, better",
                "Further from the week before than weeks usually are from one another; of ten figures"
                " that are said to have moved, nine did.",
            ),
            Term(
                "verdict",
                "fixed, no change seen, worse, too early",
                "What the calls since a fix say, looked at once a day against calls of before that "
                "did not bring the case up.",
            ),
        ),
    ),
    (
        "What a number comes with",
        (
            Term(
                "n",
                "n",
                "How many calls, thumbs or answers a number is computed from.",
            ),
            Term(
                "interval",
                "interval",
                "“a to b”: in 95 of 100 such cases the true value lies between the two. A user's "
                "calls count once where they would go wrong together.",
            ),
            Term(
                "unknown",
                "unknown",
                "Nobody said. It is not zero, it is in no sum, and it is counted as unknown.",
            ),
            Term(
                "quantile",
                "p50, p95, p99",
                "p95 is the time that 95 of 100 calls do not exceed. Shown only where an interval exists: "
                f"p90 needs {calls_needed(0.9)} calls, p95 {calls_needed(0.95)}, p99 {calls_needed(0.99)}. A "
                "failed call counts as slower than any; an aborted one as longer than its time.",
            ),
            Term(
                "tail",
                "tail",
                "The slow end of the latencies, and the calls in it.",
            ),
        ),
    ),
    (
        "Who judges",
        (
            Term(
                "critic",
                "critic",
                "Who scores answers: a provider's model, a server of your own, or the local critic, "
                "which reads features and no meaning, and needs no key.",
            ),
            Term(
                "rubric",
                "rubric",
                "One question about an answer, with seven levels that each describe a situation, 1 "
                "the worst. Its version is the git blob id of its file; versions are never mixed.",
            ),
            Term(
                "score",
                "score",
                "One critic's answer for one call under one rubric: seven probabilities, and their "
                "mean from 1 to 7.",
            ),
            Term(
                "guard",
                "guard",
                "Looks for failures that show without a model: cut off, wrong language, repeated, "
                "rude, off topic, refused. It reads every call.",
            ),
            Term(
                "ungraded",
                "ungraded",
                "This critic cannot judge such a call, and says why. Never a number.",
            ),
            Term(
                "deferred",
                "deferred",
                "No budget is left today: scored after the reset at 0:00 UTC, the worst first; given "
                f"up after {DEFERRED_DAYS_MAX} days.",
            ),
            Term(
                "skipped",
                "skipped",
                "Left out of a critic's sample, whose calls stand for it.",
            ),
            Term(
                "refused",
                "refused, failed",
                "The provider would not answer; or no answer came. Missing, never a 1.",
            ),
        ),
    ),
)
