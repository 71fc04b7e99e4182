"""Packed texts as columns: queries give and get plain ones, whatever lies in the file.

Flow: call_text.input, call_text.output (`ingest.packing`) -> `PackedText` unpacks what a query selects; where
SQL itself looks into a text it asks for `plain(column)`. Apart from `ingest.packing`, which needs no
SQLAlchemy: the reading process does without.
"""

from typing import Any

from sqlalchemy import Dialect, Text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ColumnElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator
from sqlmodel import AutoString

from ingest.packing import FUNCTION, unpacked


class PackedText(TypeDecorator[str]):
    """A column of texts, packed or not; queries get and give plain ones."""

    impl = AutoString
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        """See SQLAlchemy."""
        return unpacked(value)


class plain(FunctionElement[str]):
    """A column of PackedText as SQL sees a text: for LIKE, substr and the like, which cannot unpack."""

    type = Text()
    inherit_cache = True
    name = "plain"

    def __init__(self, column: ColumnElement[Any]) -> None:
        super().__init__(column)


@compiles(plain)
def _as_it_is(element: Any, compiler: Any, **options: Any) -> str:
    return str(compiler.process(element.clauses, **options))


@compiles(plain, "sqlite")
def _unpacked_by_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    return f"{FUNCTION}({compiler.process(element.clauses, **options)})"
