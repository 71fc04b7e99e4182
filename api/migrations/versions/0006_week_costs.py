"""what a week's calls cost is computed with the week.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add to a store that has the revision before; its newest weeks are computed once more."""
    op.create_table(
        "week_costs",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("week", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("costs", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "week"),
    )
    op.execute(
        "insert into outlier_progress (name, value) "
        "select 'week/' || project_id || '/' || week, 0 from week_changes "
        "where week in (select distinct week from week_changes order by week desc limit 8) "
        "and not exists (select 1 from outlier_progress where name = 'week/' || project_id || '/' || week)"
    )


def downgrade() -> None:
    """Take it away again: what it held is computed from the calls."""
    op.drop_table("week_costs")
