"""Alembic's entry, the only place that sees every package's tables; `api.schema` hands the connection in."""

from alembic import context
from sqlmodel import SQLModel

import outliers.tables  # noqa: F401  (importing registers the tables)

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
