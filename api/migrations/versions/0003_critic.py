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


def downgrade() -> None:
    """Take it away again."""
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
