"""The hot path of intake: many rows in few statements, for SQLite and PostgreSQL alike.

Flow: `ingest.call_writes` (tuples) -> `insert_rows`, `among` -> the driver's own cursor, in the transaction
that the writer opened.

Why not `connection.execute(insert(table), list_of_dicts)`: preparing each row's parameters took a third of
the writer's time, and composing a statement for a batch of one takes longer than running it. Why several rows
to a statement: Python's sqlite3 lets go of the interpreter lock for every statement it steps, and then waits
for it behind the threads that parse. Why not hundreds: SQLite takes a fifth longer for a statement of
thousands of values than for the same rows in statements of hundreds.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Connection

#: Values in one statement; its rows are the largest power of two within that.
VALUES_MAX = 512
#: Up to so many rows have a statement of their own number: the groups of requests of one call.
FEW = 16


def cursor_of(connection: Connection) -> Any:
    """Return a cursor of the driver itself, in the connection's transaction; its errors are the driver's."""
    return connection.connection.cursor()


def execute(connection: Connection, query: str, values: Sequence[Any] = ()) -> Any:
    """Run one statement by the driver's own cursor, a `?` for each value; return the cursor."""
    cursor = cursor_of(connection)
    cursor.execute(query.replace("?", _mark(connection)), values)
    return cursor


def insert_rows(
    connection: Connection,
    table: str,
    columns: tuple[str, ...],
    rows: Sequence[tuple[Any, ...]],
    on_conflict: str = "",
    *,
    insert: str = "INSERT",
) -> int:
    """Insert rows of plain values (JSON columns as text already); return how many the database took.

    Args:
        columns: the names that the values of each row stand for, in order.
        on_conflict: an ON CONFLICT clause, in the words that SQLite and PostgreSQL share.
        insert: SQLite's "INSERT OR ROLLBACK" where a violated constraint may end the whole transaction.
    """
    mark = _mark(connection)
    cursor = cursor_of(connection)
    taken = 0
    # In powers of two: a statement for each possible number of rows would push all others out of the
    # connection's cache of prepared statements (ingest.store.STATEMENTS_MAX).
    start, size = 0, 1 << (VALUES_MAX // len(columns)).bit_length() - 1
    while start < len(rows):
        if start + size > len(rows):
            size = len(rows) - start if len(rows) - start <= FEW else size // 2
            continue
        values = tuple(chain.from_iterable(rows[start : start + size]))
        cursor.execute(_insert(insert, table, columns, size, on_conflict, mark), values)
        taken += cursor.rowcount
        start += size
    return taken


def without_empty(
    columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]], blocks: Sequence[frozenset[str]]
) -> tuple[tuple[str, ...], Sequence[tuple[Any, ...]]]:
    """Leave out those blocks of columns that no row says anything in: most calls leave half of theirs empty.

    Whole blocks, not single columns: each choice of columns is another statement to prepare and remember.

    Args:
        rows: at least one, each as long as `columns`.
        blocks: columns that are left out together or not at all.
    """
    by_column = dict(zip(columns, zip(*rows, strict=True), strict=True))
    n = len(rows)
    for block in blocks:
        if all(by_column[name].count(None) == n for name in block):
            for name in block:
                del by_column[name]
    return tuple(by_column), list(zip(*by_column.values(), strict=True))


def among(connection: Connection, select: str, first: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    """Return the rows of `select` ... IN (values), at least one value.

    Args:
        select: SQL up to the IN, with a `?` for each of `first`.
    """
    # Statements for 1, 2, 4 ... values, filled up with the last one, so that few are ever prepared.
    n = 1 << (len(values) - 1).bit_length()
    cursor = cursor_of(connection)
    filled = (*first, *values, *[values[-1]] * (n - len(values)))
    cursor.execute(_in(select, n, _mark(connection)), filled)
    found: list[Any] = cursor.fetchall()
    return found


def _mark(connection: Connection) -> str:
    return "?" if connection.dialect.paramstyle == "qmark" else "%s"


@lru_cache(maxsize=512)
def _insert(insert: str, table: str, columns: tuple[str, ...], n: int, on_conflict: str, mark: str) -> str:
    row = f"({', '.join([mark] * len(columns))})"
    # Names come from our own tables, values are parameters.
    into = f'{insert} INTO "{table}" ({", ".join(columns)}) VALUES '
    return f"{into}{', '.join([row] * n)} {on_conflict}".rstrip()


@lru_cache(maxsize=64)
def _in(select: str, n: int, mark: str) -> str:
    return f"{select} IN ({', '.join('?' * n)})".replace("?", mark)
