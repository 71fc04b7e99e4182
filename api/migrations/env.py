"""Alembic's entry, the only place that sees every package's tables; `api.schema` hands the connection in."""

from alembic import context
from sqlmodel import SQLModel

# Importing a package's tables registers them; each is named, whatever the others happen to import.
import critic.tables  # noqa: F401
import ingest.tables  # noqa: F401
import outliers.tables  # noqa: F401

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
