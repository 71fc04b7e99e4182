"""Explanations: asked for when somebody opens a call or it is nominated, written after the score, beside it.

Flow: POST /v1/calls/{id}/explain, or outliers.casework.cases on nominating -> `ask` -> wanted rows ->
critic.explaining.explainer -> `keep` -> the call's page. All are plain functions of a Connection with plain
data; none commits. Times are milliseconds since 1970 (UTC).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from critic.drivers.explaining import Words
from critic.spending.budget import Spend, settle_spends
from critic.tables import Explanation, Score
from ingest.tables import columns
from ingest.upsert import upsert

SCORE, EXPLANATION = columns(Score), columns(Explanation)

#: Explanations asked for at once: one a rubric of one call.
ASKED_MAX = 100
#: Tries before an explanation is `failed`.
ATTEMPTS_MAX = 5


@dataclass(frozen=True)
class Asked:
    """What became of a question for explanations: how many were asked for now, and how many were before.

    Attributes:
        why_none: why there is nothing to ask for; None where something was asked for, now or before.
    """

    asked: int
    there: int
    why_none: str | None = None


@dataclass(frozen=True)
class WantedWords:
    """One explanation to write, in hand until its lease ends. `shares`: the score's probabilities."""

    seq: int
    call_seq: int
    critic: str
    rubric: str
    rubric_blob: str
    shares: tuple[float, ...]
    attempts: int


@dataclass(frozen=True)
class Written:
    """What became of one: its words, or a status and the reason why there are none.

    Attributes:
        status: written, refused, failed; or wanted, to be tried again from `not_before_ms` on.
    """

    seq: int
    status: str
    critic: str | None = None
    words: Words | None = None
    reason: str | None = None
    cost_usd: float | None = None
    not_before_ms: int = 0
    counts: bool = True


def ask(connection: Connection, call_seq: int, *, asked_for: str, now_ms: int) -> Asked:
    """Ask for the words behind a call's production scores; a person's question asks failed ones anew.

    The local critic has none to give: its features are shown with its score.

    Args:
        asked_for: "opened" (a person asks) or "nominated" (asked again at each computation of the week).
    """
    scores: Sequence[int] = connection.scalars(
        select(SCORE.c.seq)
        .where(
            SCORE.c.call_seq == call_seq,
            SCORE.c.status == "scored",
            SCORE.c.occasion == "",
            SCORE.c.critic != "local",
        )
        .order_by(SCORE.c.seq)
        .limit(ASKED_MAX)
    ).all()
    if not scores:
        return Asked(0, 0, _why_none(connection, call_seq))
    kept: dict[int, str] = dict(
        connection.execute(
            select(EXPLANATION.c.score_seq, EXPLANATION.c.status).where(EXPLANATION.c.score_seq.in_(scores))
        ).all()
    )
    by_person = asked_for == "opened"
    again = [seq for seq in scores if by_person and kept.get(seq) in ("failed", "refused")]
    new = [seq for seq in scores if seq not in kept]
    if again:
        connection.execute(
            update(EXPLANATION)
            .where(EXPLANATION.c.score_seq.in_(again))
            .values(status="wanted", reason=None, attempts=0, not_before_ms=now_ms, asked_at_ms=now_ms)
        )
    if new:
        row = {"call_seq": call_seq, "asked_for": asked_for, "status": "wanted", "attempts": 0}
        row |= {"not_before_ms": now_ms, "asked_at_ms": now_ms}
        register = upsert(connection, EXPLANATION).on_conflict_do_nothing()
        connection.execute(register, [{**row, "score_seq": seq} for seq in new])
    return Asked(len(new) + len(again), len(kept) - len(again))


def _why_none(connection: Connection, call_seq: int) -> str:
    """Return why no score of a call can be explained in words, where no provider's critic scored it."""
    rows = connection.execute(
        select(SCORE.c.critic, SCORE.c.status, SCORE.c.reason)
        .where(SCORE.c.call_seq == call_seq, SCORE.c.occasion == "")
        .order_by(SCORE.c.seq)
    )
    return why_no_words((row.critic, row.status, row.reason) for row in rows)


def why_no_words(answers: Iterable[tuple[str, str, str | None]]) -> str:
    """Return why nobody can say in words how a call's scores came about.

    Args:
        answers: critic, status and reason of each production answer; none a score but the local critic's.
    """
    local_scored, others = False, dict[str, str]()
    for critic, status, reason in answers:
        if critic == "local":
            local_scored |= status == "scored"
        else:
            others.setdefault(critic, reason or status)
    told = [f"{critic}: {why}" for critic, why in others.items()]
    if local_scored:
        told.insert(0, "only the local critic scored this call, by features that stand with its score")
    else:
        told.insert(0, "no critic has scored this call")
    return "; ".join(told)


def due_now(connection: Connection, now_ms: int) -> bool:
    """Tell whether any explanation is to be written now."""
    due = select(EXPLANATION.c.seq).where(
        EXPLANATION.c.status == "wanted", EXPLANATION.c.not_before_ms <= now_ms
    )
    return connection.execute(due.limit(1)).first() is not None


def lease_words(connection: Connection, *, limit: int, now_ms: int, lease_ms: int) -> list[WantedWords]:
    """Hand out explanations that are due, longest asked first; each comes back when its lease ends."""
    due = (
        select(
            EXPLANATION.c.seq,
            EXPLANATION.c.call_seq,
            EXPLANATION.c.attempts,
            SCORE.c.critic,
            SCORE.c.rubric,
            SCORE.c.rubric_blob,
            *(SCORE.c[f"p{level}"] for level in range(1, 8)),
        )
        .join(SCORE, SCORE.c.seq == EXPLANATION.c.score_seq)
        .where(
            EXPLANATION.c.status == "wanted",
            EXPLANATION.c.not_before_ms <= now_ms,
            SCORE.c.status == "scored",
        )
        .order_by(EXPLANATION.c.not_before_ms, EXPLANATION.c.seq)
        .limit(limit)
        .with_for_update(skip_locked=True, of=EXPLANATION)
    )
    wanted = [
        WantedWords(
            row.seq,
            row.call_seq,
            row.critic,
            row.rubric,
            row.rubric_blob,
            tuple(getattr(row, f"p{level}") for level in range(1, 8)),
            row.attempts + 1,
        )
        for row in connection.execute(due)
    ]
    if wanted:
        connection.execute(
            update(EXPLANATION)
            .where(EXPLANATION.c.seq.in_([one.seq for one in wanted]))
            .values(attempts=EXPLANATION.c.attempts + 1, not_before_ms=now_ms + lease_ms)
        )
    return wanted


def keep(connection: Connection, written: Sequence[Written], spends: Sequence[Spend], *, now_ms: int) -> None:
    """Keep what became of explanations, and book what they cost, in one transaction."""
    for one in written:
        values: dict[str, object] = {"status": one.status, "reason": one.reason}
        if one.status == "wanted":
            values["not_before_ms"] = one.not_before_ms
            if not one.counts:
                values["attempts"] = EXPLANATION.c.attempts - 1
        if one.words is not None:
            values |= {
                "words": one.words.text,
                "critic": one.critic,
                "model_reported": one.words.model_reported,
                "input_tokens": one.words.input_tokens,
                "output_tokens": one.words.output_tokens,
                "cached_input_tokens": one.words.cached_input_tokens,
                "cost_usd": one.cost_usd,
                "written_at_ms": now_ms,
            }
        connection.execute(
            update(EXPLANATION)
            .where(EXPLANATION.c.seq == one.seq, EXPLANATION.c.status == "wanted")
            .values(**values)
        )
    settle_spends(connection, spends, now_ms=now_ms)
