"""Every query behind a page or a read route: one named function with its purpose, bounded by a window.

Imported by dashboards.pages and api.routes.read. Each takes a read-only Connection and plain values and
returns frozen dataclasses; times come out as UTC datetimes.
"""

from typing import Any

from sqlalchemy import Row

#: A row of any shape: statements with joined tables have no useful static type.
AnyRow = Row[*tuple[Any, ...]]
