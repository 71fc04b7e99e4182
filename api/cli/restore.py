"""`lowlight restore`."""

import time
from pathlib import Path

import click

from ingest.settings import load_settings

#: Longest wait for a server to answer what it has in hand, copy, replace and come back.
WAIT_S = 1800.0


@click.command(epilog="Example: lowlight restore /backups/lowlight-2026-11-22.db")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask first.")
@click.option("--database-url", help="Which database, before LOWLIGHT_DATABASE_URL.")
def command(file: Path, yes: bool, database_url: str | None) -> None:
    """Replace the database by FILE, a copy that `lowlight backup` made; with or without a running server.

    What is replaced is kept beside it, so nothing that was acknowledged is lost. A running server closes the
    database, replaces it and comes back at the same address; clients wait for seconds, and none is refused.
    FILE is checked first, and brought to this version's schema where it is older.
    """
    from api.doors import running_server
    from api.operating.backups import sqlite_file
    from api.operating.restoring import replace, stage, unstage
    from ingest.lock import ServerLock

    settings = load_settings(database_url=database_url)
    database = sqlite_file(settings.database_url)
    address = running_server(settings)
    try:
        given = stage(file, database)
        click.echo(f"{database} holds {_held(database)}.")
        click.echo(f"{file} holds {given}.")
        if not yes:
            click.confirm("Replace the first by the second? The first is kept.", abort=True)
        if address is not None:
            kept = _by_the_server(address)
        else:
            with ServerLock(database):
                replaced = replace(database)
            kept = None if replaced is None else str(replaced)
    finally:
        unstage(database)
    click.echo("Restored." if kept is None else f"Restored. As it was before: {kept}")


def _held(database: Path) -> str:
    from api.operating.restoring import BadCopy, contents_of

    try:
        return str(contents_of(database)) if database.exists() else "nothing"
    except BadCopy as error:
        return f"what cannot be read ({error})"


def _by_the_server(address: str) -> str | None:
    from api.doors import ServerTrouble, ask

    number = ask(f"{address}/v1/restore", {})["number"]
    deadline_s = time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        try:
            at = ask(f"{address}/v1/restore")
        except ServerTrouble as error:
            if error.status is not None:
                raise
            time.sleep(0.5)  # between its two lives a connection may be cut
            continue
        if at["number"] != number or at["state"] == "none":
            raise click.ClickException(
                "The server was started anew meanwhile; see its log, then restore again."
            )
        if at["state"] == "failed":
            raise click.ClickException(at["error"])
        if at["state"] == "done":
            kept: str | None = at["kept"]
            return kept
        time.sleep(0.2)
    raise click.ClickException(f"{address} has not come back after {WAIT_S:.0f} s; see its log.")
