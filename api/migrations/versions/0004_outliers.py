"""cases with their fix, verdict and history, and fitted weights of experience.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TEXT = sqlmodel.sql.sqltypes.AutoString
_JSON = sa.JSON(none_as_null=True)
_STATUSES = ("nominated", "picked", "root_cause", "fixed", "verified")
_EVENTS = (
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
_CASE_COLUMNS = (
    ("fix", _JSON),
    ("verdict", _JSON),
    ("watch", _JSON),
    ("followed_at_ms", sa.BigInteger()),
    ("closed_at_ms", sa.BigInteger()),
)


def upgrade() -> None:
    """Add to a store that has the revision before."""
    # One row a week: copying the table for its new constraint costs nothing.
    with op.batch_alter_table("week_case") as case:
        for name, kind in _CASE_COLUMNS:
            case.add_column(sa.Column(name, kind, nullable=True))
        case.drop_constraint("case_status_known", type_="check")
        case.create_check_constraint("case_status_known", f"status in {(*_STATUSES, 'reopened')}")
    op.create_table(
        "latency_spell",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("week", _TEXT(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("spell", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("latency_spell_week", "latency_spell", ["project_id", "week", "since_ms"])
    op.create_table(
        "latency_causes",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("week", _TEXT(), nullable=False),
        sa.Column("causes", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "week"),
    )
    op.create_table(
        "case_event",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("week", _TEXT(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("who", _TEXT(), nullable=False),
        sa.Column("what", _TEXT(), nullable=False),
        sa.Column("words", _TEXT(), nullable=False),
        sa.Column("detail", _JSON, nullable=True),
        sa.CheckConstraint(f"what in {_EVENTS}", name="case_event_known"),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("case_event_week", "case_event", ["project_id", "week"])
    op.create_table(
        "experience_fit",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("fitted_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("weights", _JSON, nullable=True),
        sa.Column("figures", _JSON, nullable=True),
        sa.PrimaryKeyConstraint("seq"),
    )


def downgrade() -> None:
    """Take it away again."""
    op.drop_table("latency_causes")
    op.drop_index("latency_spell_week", "latency_spell")
    op.drop_table("latency_spell")
    op.drop_table("experience_fit")
    op.drop_index("case_event_week", table_name="case_event")
    op.drop_table("case_event")
    op.execute("update week_case set status = 'picked' where status = 'reopened'")
    with op.batch_alter_table("week_case") as case:
        case.drop_constraint("case_status_known", type_="check")
        case.create_check_constraint("case_status_known", f"status in {_STATUSES}")
        for name, _kind in reversed(_CASE_COLUMNS):
            case.drop_column(name)
