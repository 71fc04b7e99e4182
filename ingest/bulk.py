"""Many rows in few statements: the hot path of intake, for SQLite and PostgreSQL alike.

Flow: `ingest.call_writes` (tuples) -> `insert_rows` -> one INSERT of up to ROWS_MAX rows at a time.

Why not `connection.execute(insert(table), list_of_dicts)`: preparing each row's parameters took a third of
the writer's time. Why many rows to a statement: Python's sqlite3 lets go of the interpreter lock for every
statement it steps, so that an `executemany` of 500 rows waits up to 500 times for the threads that parse.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Connection

#: Rows in one statement; SQLite takes 32,766 parameters, our widest table has 29 columns.
ROWS_MAX = 64


def insert_rows(
    connection: Connection,
    table: str,
    columns: tuple[str, ...],
    rows: Sequence[tuple[Any, ...]],
    on_conflict: str = "",
) -> None:
    """Insert rows of plain values (JSON columns as text already).

    Args:
        columns: the names that the values of each row stand for, in order.
        on_conflict: an ON CONFLICT clause, in the words that SQLite and PostgreSQL share.
    """
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    whole = len(rows) - len(rows) % ROWS_MAX
    if whole:
        statement = _statement(table, columns, ROWS_MAX, on_conflict, mark)
        for start in range(0, whole, ROWS_MAX):
            chunk = tuple(chain.from_iterable(rows[start : start + ROWS_MAX]))
            connection.exec_driver_sql(statement, chunk)
    # The rest one by one: a statement for each possible number of rows would push all others out of
    # the connection's cache of prepared statements.
    if whole < len(rows):
        statement = _statement(table, columns, 1, on_conflict, mark)
        connection.exec_driver_sql(statement, list(rows[whole:]))


@lru_cache(maxsize=64)
def _statement(table: str, columns: tuple[str, ...], n: int, on_conflict: str, mark: str) -> str:
    row = f"({', '.join([mark] * len(columns))})"
    # Names come from our own tables, values are parameters.
    into = f'INSERT INTO "{table}" ({", ".join(columns)}) VALUES '  # noqa: S608
    return f"{into}{', '.join([row] * n)} {on_conflict}".rstrip()
