"""Long texts are packed in a SQLite file (`ingest.packing`), and a call may be known by a second id.

For packing no column changes: a row tells by its own type whether its text is packed. Rows of before stay as
they are, and the way back unpacks for a version of before.

Revision ID: 0002
Revises: 0001
"""

from sqlite3 import Connection
from typing import cast

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op

from ingest.packing import teach

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TEXT = sqlmodel.sql.sqltypes.AutoString
_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the ids under which a call was sent that a span had told of; packed texts come with new calls."""
    op.create_table(
        "call_alias",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("id", _TEXT(), nullable=False),
        sa.Column("call_seq", _SEQ, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index("call_alias_call", "call_alias", ["project_id", "call_seq"])


def downgrade() -> None:
    """Unpack every text, for a version that cannot."""
    op.drop_table("call_alias")
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":
        return
    teach(cast("Connection", connection.connection.dbapi_connection))
    for column in ("input", "output"):
        op.execute(
            f"UPDATE call_text SET {column} = lowlight_text({column}) WHERE typeof({column}) = 'blob'"  # noqa: S608
        )
