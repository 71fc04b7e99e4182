"""What the outlier module keeps: each call's experience, a week's findings, the case, and how far it read.

Times are milliseconds since 1970 (UTC). A week is ISO, written "2026-W47", cut in `Settings.timezone`.
"""

from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, Index, text
from sqlmodel import Field, SQLModel

from ingest.tables import Seq


class Experience(SQLModel, table=True):
    """P(this was a bad experience) for one call, with each part's share."""

    __tablename__ = "experience"
    __table_args__ = (
        CheckConstraint("p_bad between 0 and 1", name="p_bad_is_a_probability"),
        Index("experience_worst", "project_id", "week", "p_bad"),
        Index(
            "experience_no_p95",
            "project_id",
            "week",
            sqlite_where=text("latency_p95_ms is null"),
            postgresql_where=text("latency_p95_ms is null"),
        ),
    )

    call_seq: int = Field(primary_key=True, sa_type=Seq)
    project_id: int
    week: str
    p_bad: float
    #: {"critic": {"b": .., "w": .., "share": .., "known": true, "detail": "rude"}, "signals": .., ...}
    parts: dict[str, Any] = Field(sa_type=JSON)
    #: the slice's p95 over the 28 days before, frozen when the call was first ranked; NULL where unknown
    latency_p95_ms: float | None = None


class Finding(SQLModel, table=True):
    """One condition that sets a week's bad calls, or its slow tail, apart from the rest."""

    __tablename__ = "finding"
    __table_args__ = (
        CheckConstraint("about in ('bad', 'tail')", name="about_known"),
        Index("finding_week", "project_id", "week", "about", "rank"),
    )

    seq: int | None = Field(default=None, primary_key=True)
    project_id: int
    week: str
    about: str
    #: 1 is first
    rank: int
    #: {"field": "input_tokens", "op": ">", "value": 9800}
    condition: dict[str, Any] = Field(sa_type=JSON)
    #: the condition as a person reads it
    sentence: str
    #: n, n_in, share_in, share_out, lift, interval, users, first_seen_at_ms, p_value, examples (call ids)
    figures: dict[str, Any] = Field(sa_type=JSON)


class WeekCase(SQLModel, table=True):
    """The week's case: the cohort with most severity times users, and its worst call as the seed."""

    __tablename__ = "week_case"
    __table_args__ = (
        CheckConstraint(
            "status in ('nominated', 'picked', 'root_cause', 'fixed', 'verified', 'reopened')",
            name="case_status_known",
        ),
    )

    project_id: int = Field(primary_key=True)
    week: str = Field(primary_key=True)
    status: str = "nominated"
    #: the whole case in one sentence, condition included
    sentence: str
    condition: dict[str, Any] = Field(sa_type=JSON)
    figures: dict[str, Any] = Field(sa_type=JSON)
    seed_call_seq: int = Field(sa_type=Seq)
    root_cause: str | None = None
    owner: str | None = None
    nominated_at_ms: int = Field(sa_type=BigInteger)
    #: what was done about it, as `outliers.casework.cases.Fix`
    fix: dict[str, Any] | None = Field(default=None, sa_type=JSON(none_as_null=True))
    #: whether it worked, as `outliers.casework.cases.Proof`
    verdict: dict[str, Any] | None = Field(default=None, sa_type=JSON(none_as_null=True))
    #: what a closed case is watched by, as `outliers.casework.following.Watch`
    watch: dict[str, Any] | None = Field(default=None, sa_type=JSON(none_as_null=True))
    #: when its calls since the fix were last looked at; NULL: at the next refresh
    followed_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    #: when it was verified; NULL while it is open
    closed_at_ms: int | None = Field(default=None, sa_type=BigInteger)


#: What can happen to a case, by a person or by Lowlight itself.
CASE_EVENTS = (
    "nominated",
    "picked",
    "root_cause",
    "owner",
    "fixed",
    "verdict",
    "verified",
    "reopened",
    "note",
)


class CaseEvent(SQLModel, table=True):
    """One thing that happened to a case: its history, in the order of `seq`."""

    __tablename__ = "case_event"
    __table_args__ = (
        CheckConstraint(f"what in {CASE_EVENTS}", name="case_event_known"),
        Index("case_event_week", "project_id", "week"),
    )

    seq: int | None = Field(default=None, primary_key=True)
    project_id: int
    week: str
    at_ms: int = Field(sa_type=BigInteger)
    #: a person as they named themselves, "" where they did not; "lowlight" for what it did by itself
    who: str
    what: str
    #: as it is told: the note, the root cause, the owner's name, the verdict's sentence
    words: str
    #: more of it, such as the fix
    detail: dict[str, Any] | None = Field(default=None, sa_type=JSON(none_as_null=True))


class ExperienceFit(SQLModel, table=True):
    """One fit of the weights of experience to thumbs; the newest one is in use, if it says so."""

    __tablename__ = "experience_fit"

    seq: int | None = Field(default=None, primary_key=True)
    project_id: int
    fitted_at_ms: int = Field(sa_type=BigInteger)
    #: weight by part; NULL for the weights Lowlight ships with
    weights: dict[str, float] | None = Field(default=None, sa_type=JSON(none_as_null=True))
    #: `outliers.experience.fit.Fit` without its weights; NULL for a reset
    figures: dict[str, Any] | None = Field(default=None, sa_type=JSON(none_as_null=True))


class WeekChanges(SQLModel, table=True):
    """What changed in a week against the one before, as `outliers.changes.Change` rows."""

    __tablename__ = "week_changes"

    project_id: int = Field(primary_key=True)
    week: str = Field(primary_key=True)
    changes: list[dict[str, Any]] = Field(sa_type=JSON)


class WeekCosts(SQLModel, table=True):
    """What a week's calls cost, as `outliers.costs.Costs`."""

    __tablename__ = "week_costs"

    project_id: int = Field(primary_key=True)
    week: str = Field(primary_key=True)
    costs: dict[str, Any] = Field(sa_type=JSON)


class LatencySpell(SQLModel, table=True):
    """Some hours in which one provider's or service's latency had left its own baseline."""

    __tablename__ = "latency_spell"
    __table_args__ = (Index("latency_spell_week", "project_id", "week", "since_ms"),)

    seq: int | None = Field(default=None, primary_key=True)
    project_id: int
    week: str
    since_ms: int = Field(sa_type=BigInteger)
    #: `outliers.latency.spells.Spell`
    spell: dict[str, Any] = Field(sa_type=JSON)


class LatencyCauses(SQLModel, table=True):
    """What made a week's slowest calls slow, as `outliers.causes.tail_causes.Causes`."""

    __tablename__ = "latency_causes"

    project_id: int = Field(primary_key=True)
    week: str = Field(primary_key=True)
    causes: dict[str, Any] = Field(sa_type=JSON)


class Progress(SQLModel, table=True):
    """How far the outlier module has read (`calls`, `signals`, `scores`, `guard`) and when it `ran_at_ms`.

    A name "week/<project>/<week>" says that calls of that week were ranked anew at that instant, and its
    findings are still those of before.
    """

    __tablename__ = "outlier_progress"

    name: str = Field(primary_key=True)
    value: int = Field(sa_type=BigInteger)
