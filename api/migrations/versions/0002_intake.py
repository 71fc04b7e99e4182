"""what intake keeps more.

Revision ID: 0002
Revises: 0001
"""

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add to a store that has the revision before."""


def downgrade() -> None:
    """Take it away again."""
