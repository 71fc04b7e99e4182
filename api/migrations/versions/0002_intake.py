"""Long texts are packed in a SQLite file (`ingest.packing`); unpacked again for a version of before.

No column changes: a row tells by its own type whether its text is packed. Rows of before stay as they are.

Revision ID: 0002
Revises: 0001
"""

from sqlite3 import Connection
from typing import cast

from alembic import op

from ingest.packing import teach

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing to change: packed texts come with new calls."""


def downgrade() -> None:
    """Unpack every text, for a version that cannot."""
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":
        return
    teach(cast("Connection", connection.connection.dbapi_connection))
    for column in ("input", "output"):
        op.execute(
            f"UPDATE call_text SET {column} = lowlight_text({column}) WHERE typeof({column}) = 'blob'"  # noqa: S608
        )
