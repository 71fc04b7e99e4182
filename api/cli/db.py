"""`lowlight db`."""

import click

from ingest.settings import load_settings


@click.group(name="db", epilog="Example: lowlight db upgrade")
def command() -> None:
    """Look after the database's schema. `lowlight serve` does so by itself for a SQLite file."""


@command.command(epilog="Example: LOWLIGHT_DATABASE_URL=sqlite:////var/lib/lowlight.db lowlight db upgrade")
@click.option("--database-url", help="Which database, before LOWLIGHT_DATABASE_URL.")
def upgrade(database_url: str | None) -> None:
    """Bring the database to this version's schema; a SQLite file is copied first."""
    from contextlib import nullcontext

    from api import schema
    from ingest.lock import ServerLock
    from ingest.store import sqlite_path

    url = load_settings(database_url=database_url).database_url
    path = sqlite_path(url)
    with ServerLock(path) if path is not None else nullcontext():
        copy = schema.upgrade(url)
    if copy is not None:
        click.echo(f"The database as it was before: {copy}")
    click.echo(f"The schema is at revision {schema.newest_revision()}, the newest.")
