"""latencies are counted a moment after their calls: one row says how far the counting is.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add to a store that has the revision before, whose calls were counted as they came."""
    op.create_table(
        "latency_counted",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("through_seq", _SEQ, nullable=False),
        sa.CheckConstraint("id = 1", name="one_latency_counted"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.execute("insert into latency_counted (id, through_seq) select 1, coalesce(max(seq), 0) from call")


def downgrade() -> None:
    """Take it away again, with what was still to be counted: the last second's latencies."""
    op.drop_table("latency_counted")
