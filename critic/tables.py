"""What the critic keeps: rubric versions it met, score rows (which are also its queue), guard readings.

Times are milliseconds since 1970 (UTC), durations milliseconds, money US dollars. Missing is NULL.
"""

from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from ingest.tables import Seq

#: pending: waits or is leased. scored: has its seven probabilities. ungraded: this critic cannot judge such
#: a call (`reason` says why). refused: the critic declined. failed: attempts are spent. deferred: no budget
#: today. skipped: not sampled. Only `scored` enters an average.
STATUSES = ("pending", "scored", "ungraded", "refused", "failed", "deferred", "skipped")


class RubricVersion(SQLModel, table=True):
    """One version of one rubric, kept whole, so that a score's question can always be read again."""

    __tablename__ = "rubric_version"

    #: git blob id of the file's bytes
    blob: str = Field(primary_key=True)
    name: str = Field(index=True)
    view_blob: str
    question: str
    levels: list[str] = Field(sa_type=JSON)
    source: str
    #: whether `git` knew the blob when it was first used; None where there is no repository
    committed: bool | None = None
    first_used_at_ms: int = Field(sa_type=BigInteger)


class Score(SQLModel, table=True):
    """One critic's answer for one call under one version of one rubric, or the work of getting it."""

    __tablename__ = "score"
    __table_args__ = (
        UniqueConstraint("call_seq", "rubric_blob", "view_blob", "critic", "occasion"),
        CheckConstraint("score is null or score between 1 and 7", name="score_in_range"),
        CheckConstraint("(status = 'scored') = (score is not null)", name="scored_has_score"),
        CheckConstraint("(status = 'scored') = (p7 is not null)", name="scored_has_probabilities"),
        CheckConstraint(f"status in {STATUSES}", name="status_known"),
        Index(
            "score_waiting",
            "critic",
            "not_before_ms",
            "seq",
            sqlite_where=text("status = 'pending'"),
            postgresql_where=text("status = 'pending'"),
        ),
        CheckConstraint("inclusion > 0 and inclusion <= 1", name="inclusion_is_a_probability"),
        # Worst first: what is deferred is scored in this order after the budget's reset.
        Index(
            "score_deferred",
            "critic",
            "urgency",
            sqlite_where=text("status = 'deferred'"),
            postgresql_where=text("status = 'deferred'"),
        ),
        Index("score_changed", "changed"),
        # What waits for a batch, and what is or was in one.
        Index(
            "score_batched",
            "critic",
            "batch",
            "seq",
            sqlite_where=text("batch is not null"),
            postgresql_where=text("batch is not null"),
        ),
    )

    seq: int | None = Field(default=None, primary_key=True, sa_type=Seq)
    call_seq: int = Field(sa_type=Seq)
    rubric: str
    rubric_blob: str
    view_blob: str
    #: as configured: "local", "openai:gpt-6-luna"
    critic: str
    #: '' in production, a run's id for anchors, audits and tests
    occasion: str = ""
    status: str = "pending"
    #: why it is not scored, in words a page can show
    reason: str | None = None
    #: probabilities of the levels 1..7; they sum to 1
    p1: float | None = None
    p2: float | None = None
    p3: float | None = None
    p4: float | None = None
    p5: float | None = None
    p6: float | None = None
    p7: float | None = None
    #: 1 + sum of i * p_i over positions i = 0..6
    score: float | None = None
    confidence: float | None = None
    #: how many levels were drawn where the driver gives one at a time; NULL where it gives probabilities
    draws: int | None = None
    #: the features' shares of the local critic: {"name": share}
    why: dict[str, Any] | None = Field(default=None, sa_type=JSON(none_as_null=True))
    model_reported: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    #: how many of `input_tokens` came from the provider's cache
    cached_input_tokens: int | None = None
    #: probability that the critic gave to anything but the seven levels; NULL where it could say nothing else
    label_mass: float | None = None
    #: share of the texts' characters that the critic was shown, 0..1
    seen_share: float | None = None
    cost_usd: float | None = None
    answer_ms: float | None = None
    #: whoever judges this row now; `finish` must show the same token
    lease_token: str | None = None
    lease_until_ms: int | None = Field(default=None, sa_type=BigInteger)
    #: when it was first handed out; tries that do not count against the call end a day after
    first_leased_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    attempts: int = 0
    #: not to be leased before; while leased, when the lease ends, so that the queue's index skips it
    not_before_ms: int = Field(default=0, sa_type=BigInteger)
    last_error: str | None = None
    created_at_ms: int = Field(sa_type=BigInteger)
    finished_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    #: grows with every finished answer: readers that keep up remember the largest they saw
    changed: int | None = Field(default=None, sa_type=BigInteger)
    #: which stratum of its day's sample it is in (`critic.spending.sampling`); '' where nothing is sampled
    stratum: str = Field(default="", sa_column_kwargs={"server_default": ""})
    #: probability with which the call was to be judged, in its final stratum; 1 where nothing is sampled
    inclusion: float = Field(default=1.0, sa_column_kwargs={"server_default": "1"})
    #: whether it is of the uniform part, whose money is kept apart
    uniform: bool = Field(default=False, sa_column_kwargs={"server_default": "0"})
    #: how soon it is wanted where money is short; larger is sooner
    urgency: float = Field(default=0.0, sa_column_kwargs={"server_default": "0"})
    #: when it first found no money; 14 days after, it is skipped
    deferred_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    #: the batch that asks or asked about it (`CriticBatch.seq`); 0: waits for one; NULL: asked by itself
    batch: int | None = Field(default=None, sa_type=BigInteger)
    #: which request of its batch: the first `seq` of the rows that share it
    batch_request: int | None = Field(default=None, sa_type=BigInteger)


class GuardReading(SQLModel, table=True):
    """What the guard saw in one call, whichever critic grades it: features, no model read the text."""

    __tablename__ = "guard_reading"
    __table_args__ = (Index("guard_changed", "changed"),)

    call_seq: int = Field(primary_key=True, sa_type=Seq)
    #: probability of a failure that can be seen, at the configured base rate; NULL where it cannot read
    p_fail: float | None = None
    #: the likeliest kind: empty, truncated, off_topic, wrong_language, repeated, refusal, swapped, rude
    kind: str | None = None
    #: probability by kind
    kinds: dict[str, float] | None = Field(default=None, sa_type=JSON(none_as_null=True))
    #: quantile of the grounding score in this team's own traffic, 0..1; NULL without a source
    grounding: float | None = None
    #: ISO 639-1, or NULL where too short to tell
    input_language: str | None = None
    output_language: str | None = None
    #: features' shares of what spoke for `kind`: {"name": share}
    why: dict[str, float] | None = Field(default=None, sa_type=JSON(none_as_null=True))
    #: what in the texts looks as if meant for a critic: [{"kind", "field", "text"}]; NULL where nothing
    marks: list[dict[str, str]] | None = Field(default=None, sa_type=JSON(none_as_null=True))
    version: str
    changed: int = Field(sa_type=BigInteger)


#: wanted: asked for and not yet written. written: has its words. refused: the critic declined. failed: it
#: gave none, or nobody may be asked (`reason` says why).
EXPLANATION_STATUSES = ("wanted", "written", "refused", "failed")


class Explanation(SQLModel, table=True):
    """Why a score might be what it is, in a critic's words, written after the score and never part of it."""

    __tablename__ = "explanation"
    __table_args__ = (
        CheckConstraint(f"status in {EXPLANATION_STATUSES}", name="explanation_status_known"),
        CheckConstraint("(status = 'written') = (words is not null)", name="written_has_words"),
        Index(
            "explanation_wanted",
            "not_before_ms",
            sqlite_where=text("status = 'wanted'"),
            postgresql_where=text("status = 'wanted'"),
        ),
    )

    seq: int | None = Field(default=None, primary_key=True, sa_type=Seq)
    #: the score that it is about; one explanation a score
    score_seq: int = Field(sa_type=Seq, unique=True)
    call_seq: int = Field(sa_type=Seq, index=True)
    #: what asked for it: "opened" (somebody on the call's page) or "nominated" (the week's case)
    asked_for: str
    status: str = "wanted"
    #: a critic's own words: hostile text, as a call's
    words: str | None = None
    #: why there are none, in words a page can show
    reason: str | None = None
    #: who wrote it, as configured
    critic: str | None = None
    model_reported: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int | None = None
    cost_usd: float | None = None
    attempts: int = 0
    not_before_ms: int = Field(default=0, sa_type=BigInteger)
    asked_at_ms: int = Field(sa_type=BigInteger)
    written_at_ms: int | None = Field(default=None, sa_type=BigInteger)


class GuardFit(SQLModel, table=True):
    """A guard fitted on this team's own outputs, as JSON numbers; the newest one is in use."""

    __tablename__ = "guard_fit"

    seq: int | None = Field(default=None, primary_key=True)
    project_id: int
    fitted_at_ms: int = Field(sa_type=BigInteger)
    #: outputs it was fitted on
    n: int
    #: outputs read so far when it was fitted; the next threshold beyond makes the next fit
    seen: int
    model: dict[str, Any] = Field(sa_type=JSON)


class CriticState(SQLModel, table=True):
    """What pages and /readyz say about one configured critic: paused until when, and why."""

    __tablename__ = "critic_state"

    critic: str = Field(primary_key=True)
    paused_until_ms: int | None = Field(default=None, sa_type=BigInteger)
    reason: str | None = None
    seen_at_ms: int = Field(sa_type=BigInteger)


class CriticDay(SQLModel, table=True):
    """What one critic has spent and holds reserved for one project on one UTC day."""

    __tablename__ = "critic_day"
    __table_args__ = ({"sqlite_with_rowid": False},)

    project_id: int = Field(primary_key=True)
    critic: str = Field(primary_key=True)
    #: days since 1970, UTC
    day: int = Field(primary_key=True)
    #: paid for, as far as prices are known; what ended in doubt is in it whole
    spent_usd: float = 0.0
    #: the uniform part's share of `spent_usd`
    uniform_spent_usd: float = 0.0
    #: held for requests that are under way
    reserved_usd: float = 0.0
    uniform_reserved_usd: float = 0.0
    #: settled in full because nobody knows what it cost: a worker died, an answer did not come
    in_doubt_usd: float = 0.0
    #: requests settled
    requests: int = 0
    #: those whose price or usage is unknown; their cost is not in `spent_usd`
    requests_unpriced: int = 0


class Reservation(SQLModel, table=True):
    """Money held for one judgement, from before its request until it is settled."""

    __tablename__ = "reservation"
    __table_args__ = (Index("reservation_until", "until_ms"),)

    seq: int | None = Field(default=None, primary_key=True, sa_type=Seq)
    project_id: int
    critic: str
    day: int
    #: no less than the judgement can cost
    usd: float
    uniform: bool
    #: when its rows' lease ends: whoever held it is dead then, and it is settled in full
    until_ms: int = Field(sa_type=BigInteger)
    #: the batch it is held for, which outlives any worker; NULL for a request of a worker's own
    batch: int | None = Field(default=None, sa_type=BigInteger)


#: sending: written down before it is sent, and until it is known whether it was. sent: at the provider.
#: ended: its answers are kept. failed: the provider ran none of it. lost: nobody knows what became of it.
BATCH_STATUSES = ("sending", "sent", "ended", "failed", "lost")


class CriticBatch(SQLModel, table=True):
    """Requests that were handed to a provider's batch endpoint in one piece."""

    __tablename__ = "critic_batch"
    __table_args__ = (
        CheckConstraint(f"status in {BATCH_STATUSES}", name="batch_status_known"),
        Index(
            "critic_batch_open",
            "critic",
            sqlite_where=text("status in ('sending', 'sent')"),
            postgresql_where=text("status in ('sending', 'sent')"),
        ),
    )

    seq: int | None = Field(default=None, primary_key=True, sa_type=Seq)
    critic: str
    project_id: int
    #: random; the lease token of its rows, and what the provider is given to find it by
    mark: str = Field(unique=True)
    status: str = "sending"
    #: the provider's name for it; NULL until the provider has said it
    provider_id: str | None = None
    requests: int
    #: what became of it, or what stands in its way, in words a page can show
    reason: str | None = None
    created_at_ms: int = Field(sa_type=BigInteger)
    sent_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    ended_at_ms: int | None = Field(default=None, sa_type=BigInteger)


class SampleCount(SQLModel, table=True):
    """How many calls of one stratum a critic was to sample on one UTC day, and how many it chose."""

    __tablename__ = "sample_count"
    __table_args__ = ({"sqlite_with_rowid": False},)

    project_id: int = Field(primary_key=True)
    critic: str = Field(primary_key=True)
    day: int = Field(primary_key=True)
    stratum: str = Field(primary_key=True)
    calls: int = 0
    chosen: int = 0
