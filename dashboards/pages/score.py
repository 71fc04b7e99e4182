"""A score: its seven bars, what the critic was shown, who answered and for how much, words written later."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from critic import drivers
from critic.queue.calls import calls_by_seq, version_source
from dashboards.pages.dateline import Dateline, dateline
from dashboards.panels import Panel, panel
from dashboards.queries import call as queries
from dashboards.queries.agreement import PeopleWouldSay, people_would_say
from dashboards.queries.call import RubricScore
from ingest.settings import Settings
from ingest.tables import DEFAULT_PROJECT
from rubrics import BadRubric, new_fence, rubric_of
from rubrics.language import VIEW_CHARS_MAX


@dataclass(frozen=True)
class Request:
    """What a critic is shown of the call for this score.

    Attributes:
        question, levels: asked with the view; levels worst first.
        view: the rendered view, its texts between random fences; None where the critic reads features only.
        seen_share: share of the call's texts that the view shows, 0..1; None without a view.
    """

    question: str
    levels: tuple[str, ...]
    view: str | None
    seen_share: float | None


@dataclass(frozen=True)
class ScorePage:
    """Context of score.html.

    Attributes:
        headline: rubric, score and critic in one sentence.
        dateline: how fresh the page is.
        call_id: of the call that was scored.
        score: the answer.
        others: further answers for the call under the same rubric, by other critics or versions.
        people: what people would give for this score, learnt from their labels of others.
        request: what was asked; the fences are new each time, everything else is as it was sent, unless the
            critic's window was set anew since.
    """

    headline: str
    dateline: Panel[Dateline]
    call_id: str
    score: RubricScore
    others: tuple[RubricScore, ...]
    people: Panel[PeopleWouldSay | None]
    request: Panel[Request | None]


def build(
    connection: Connection,
    settings: Settings,
    call_id: str,
    rubric: str,
    now: datetime,
    *,
    critic: str | None = None,
    version: str | None = None,
) -> ScorePage | None:
    """Read the page; None where the call has no such answer.

    Args:
        critic, version: which of a rubric's answers (a version by the beginning of its blob id); the one that
            averages use unless given.
    """
    seq = queries.seq_of(connection, DEFAULT_PROJECT, call_id)
    if seq is None:
        return None
    of_rubric = [
        score for score in queries.scores_of(connection, seq, settings.critics) if score.rubric == rubric
    ]
    found = _asked_for(of_rubric, critic, version)
    if found is None:
        return None
    return ScorePage(
        headline=_headline(found),
        dateline=dateline(connection, now),
        call_id=call_id,
        score=found,
        others=tuple(score for score in of_rubric if score is not found),
        people=panel("What people would give", connection, lambda: _people(connection, found)),
        request=panel("The request", connection, lambda: _request(connection, settings, seq, found)),
    )


def _people(connection: Connection, score: RubricScore) -> PeopleWouldSay | None:
    if score.score is None:
        return None
    return people_would_say(
        connection, DEFAULT_PROJECT, score.rubric, score.rubric_blob, score.critic, score.score
    )


def _asked_for(scores: Sequence[RubricScore], critic: str | None, version: str | None) -> RubricScore | None:
    for score in scores:
        if critic in (None, score.critic) and (version is None or score.rubric_blob.startswith(version)):
            return score
    return None


def _headline(score: RubricScore) -> str:
    name = score.rubric.replace("_", " ").capitalize()
    if score.score is None:
        return f"{name}: {score.status} by {score.critic}"
    return f"{name}: {score.score:.1f} of 7 by {score.critic}"


def _request(connection: Connection, settings: Settings, seq: int, score: RubricScore) -> Request | None:
    """Render the view again, as this critic is shown it; None where version or call are no longer kept."""
    kept = version_source(connection, score.rubric_blob)
    call = calls_by_seq(connection, [seq]).get(seq)
    if kept is None or call is None:
        return None
    try:
        rubric = rubric_of(*kept)
    except BadRubric:
        return None
    if score.local:
        return Request(rubric.question, rubric.levels, None, None)
    windows = [driver.view_chars_max for driver in drivers.build(settings) if driver.name == score.critic]
    shown = rubric.show(call.view(), new_fence(), chars_max=windows[0] if windows else VIEW_CHARS_MAX)
    return Request(rubric.question, rubric.levels, shown.text, shown.seen_share)
