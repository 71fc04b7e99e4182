"""what the critic keeps more.

Revision ID: 0003
Revises: 0002
"""

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add to a store that has the revision before."""


def downgrade() -> None:
    """Take it away again."""
