"""Slices: the combinations of fields that calls are filtered and counted by. A small, bounded table."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, select

from ingest.tables import Slice, columns

SLICE = columns(Slice)


@dataclass(frozen=True)
class Choices:
    """What the filters of a list can be set to.

    Attributes:
        prompts, versions, models: values that calls have come with, sorted, without ''.
    """

    prompts: tuple[str, ...]
    versions: tuple[str, ...]
    models: tuple[str, ...]


def slice_ids(connection: Connection, project_id: int, wanted: Mapping[str, str]) -> list[int]:
    """Ids of the slices whose fields have the wanted values."""
    statement = select(SLICE.c.id).where(SLICE.c.project_id == project_id)
    for name, value in wanted.items():
        statement = statement.where(SLICE.c[name] == value)
    return list(connection.execute(statement).scalars())


def choices(connection: Connection, project_id: int) -> Choices:
    """Every prompt, prompt version and model of the project, for the filters' suggestions."""
    rows = connection.execute(
        select(SLICE.c.prompt, SLICE.c.prompt_version, SLICE.c.model).where(SLICE.c.project_id == project_id)
    ).all()
    return Choices(
        prompts=tuple(sorted({row.prompt for row in rows} - {""})),
        versions=tuple(sorted({row.prompt_version for row in rows} - {""})),
        models=tuple(sorted({row.model for row in rows} - {""})),
    )
