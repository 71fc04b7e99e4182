"""what the critic keeps more.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TEXT = sqlmodel.sql.sqltypes.AutoString
_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add to a store that has the revision before."""
    # Plain ALTERs, which rewrite no row: a table of a million scores is not copied.
    op.add_column("score", sa.Column("cached_input_tokens", sa.Integer(), nullable=True))
    op.add_column("score", sa.Column("label_mass", sa.Float(), nullable=True))
    op.add_column("score", sa.Column("seen_share", sa.Float(), nullable=True))
    op.add_column("guard_reading", sa.Column("marks", sa.JSON(none_as_null=True), nullable=True))
    _explanations()
    _sampling()
    _money()
    _batches()


def downgrade() -> None:
    """Take it away again."""
    op.drop_index("score_batched", "score")
    for name in ("batch_request", "batch"):
        op.drop_column("score", name)
    op.drop_table("critic_batch")
    for table in ("sample_count", "reservation", "critic_day"):
        op.drop_table(table)
    op.drop_index("score_deferred", "score")
    for name in ("deferred_at_ms", "urgency", "uniform", "inclusion", "stratum"):
        op.drop_column("score", name)
    op.drop_table("explanation")
    op.drop_column("guard_reading", "marks")
    for name in ("seen_share", "label_mass", "cached_input_tokens"):
        op.drop_column("score", name)


def _explanations() -> None:
    op.create_table(
        "explanation",
        sa.Column("seq", _SEQ, nullable=False),
        sa.Column("score_seq", _SEQ, nullable=False),
        sa.Column("call_seq", _SEQ, nullable=False),
        sa.Column("asked_for", _TEXT(), nullable=False),
        sa.Column("status", _TEXT(), nullable=False),
        sa.Column("words", _TEXT(), nullable=True),
        sa.Column("reason", _TEXT(), nullable=True),
        sa.Column("critic", _TEXT(), nullable=True),
        sa.Column("model_reported", _TEXT(), nullable=True),
        sa.Column("input_tokens", sa.Integer(), nullable=True),
        sa.Column("output_tokens", sa.Integer(), nullable=True),
        sa.Column("cached_input_tokens", sa.Integer(), nullable=True),
        sa.Column("cost_usd", sa.Float(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before_ms", sa.BigInteger(), nullable=False),
        sa.Column("asked_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("written_at_ms", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "status in ('wanted', 'written', 'refused', 'failed')", name="explanation_status_known"
        ),
        sa.CheckConstraint("(status = 'written') = (words is not null)", name="written_has_words"),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("score_seq"),
    )
    op.create_index("ix_explanation_call_seq", "explanation", ["call_seq"])
    op.create_index(
        "explanation_wanted",
        "explanation",
        ["not_before_ms"],
        sqlite_where=sa.text("status = 'wanted'"),
        postgresql_where=sa.text("status = 'wanted'"),
    )


def _sampling() -> None:
    op.add_column("score", sa.Column("stratum", _TEXT(), nullable=False, server_default=""))
    # As SQL, because a CHECK comes with its column or, on SQLite, with a copy of the whole table.
    op.execute(
        "ALTER TABLE score ADD COLUMN inclusion FLOAT DEFAULT '1' NOT NULL "
        "CONSTRAINT inclusion_is_a_probability CHECK (inclusion > 0 AND inclusion <= 1)"
    )
    op.add_column("score", sa.Column("uniform", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("score", sa.Column("urgency", sa.Float(), nullable=False, server_default="0"))
    op.add_column("score", sa.Column("deferred_at_ms", sa.BigInteger(), nullable=True))
    op.create_index(
        "score_deferred",
        "score",
        ["critic", "urgency"],
        sqlite_where=sa.text("status = 'deferred'"),
        postgresql_where=sa.text("status = 'deferred'"),
    )


def _money() -> None:
    op.create_table(
        "critic_day",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("critic", _TEXT(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("spent_usd", sa.Float(), nullable=False),
        sa.Column("uniform_spent_usd", sa.Float(), nullable=False),
        sa.Column("reserved_usd", sa.Float(), nullable=False),
        sa.Column("uniform_reserved_usd", sa.Float(), nullable=False),
        sa.Column("in_doubt_usd", sa.Float(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("requests_unpriced", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "critic", "day"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "reservation",
        sa.Column("seq", _SEQ, nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("critic", _TEXT(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("usd", sa.Float(), nullable=False),
        sa.Column("uniform", sa.Boolean(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.Column("batch", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("reservation_until", "reservation", ["until_ms"])
    op.create_table(
        "sample_count",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("critic", _TEXT(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("stratum", _TEXT(), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("chosen", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "critic", "day", "stratum"),
        sqlite_with_rowid=False,
    )


def _batches() -> None:
    op.add_column("score", sa.Column("batch", sa.BigInteger(), nullable=True))
    op.add_column("score", sa.Column("batch_request", sa.BigInteger(), nullable=True))
    op.create_index(
        "score_batched",
        "score",
        ["critic", "batch", "seq"],
        sqlite_where=sa.text("batch is not null"),
        postgresql_where=sa.text("batch is not null"),
    )
    op.create_table(
        "critic_batch",
        sa.Column("seq", _SEQ, nullable=False),
        sa.Column("critic", _TEXT(), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("mark", _TEXT(), nullable=False),
        sa.Column("status", _TEXT(), nullable=False),
        sa.Column("provider_id", _TEXT(), nullable=True),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("reason", _TEXT(), nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("sent_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("ended_at_ms", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "status in ('sending', 'sent', 'ended', 'failed', 'lost')", name="batch_status_known"
        ),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("mark"),
    )
    op.create_index(
        "critic_batch_open",
        "critic_batch",
        ["critic"],
        sqlite_where=sa.text("status in ('sending', 'sent')"),
        postgresql_where=sa.text("status in ('sending', 'sent')"),
    )
