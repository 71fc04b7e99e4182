"""`lowlight serve`."""

import gc
import os
import signal
import threading
from functools import partial

import click

from api.background import READY
from ingest.settings import load_settings, without_password


@click.command(epilog="Example: LOWLIGHT_PORT=4600 lowlight serve   (or: lowlight serve --port 4600)")
@click.option("--host", help="Address to listen on, before LOWLIGHT_HOST.")
@click.option("--port", type=int, help="Port to listen on, before LOWLIGHT_PORT; 0 picks a free one.")
@click.option("--database-url", help="Where everything is kept, before LOWLIGHT_DATABASE_URL.")
@click.option("--until-stdin-closes", is_flag=True, hidden=True)
def command(host: str | None, port: int | None, database_url: str | None, until_stdin_closes: bool) -> None:
    """Run the server until Ctrl-C: intake, critic, web view, all in one place.

    The database is made, or brought to this version's schema, on the way.
    """
    settings = load_settings(host=host, port=port, database_url=database_url)
    # What is imported stays: the cycle collector's walks through it are a sixth of the start.
    gc.disable()
    try:
        from api.serving import serve
    finally:
        gc.enable()
    from ingest.logs import set_up_logs

    set_up_logs(settings.log_format, "server")

    if until_stdin_closes:
        threading.Thread(target=_stop_when_stdin_closes, daemon=True).start()
    serve(settings, ready=partial(_say_ready, kept_in=_kept_in(settings.database_url)))


def _say_ready(address: str, kept_in: str) -> None:
    click.echo(f"{READY}{address}")
    click.echo("Only this machine can reach it: no key exists.")
    click.echo(f"What it is sent is kept in {kept_in}")


def _kept_in(database_url: str) -> str:
    """Return the database as a person finds it: one server may be started in this folder, one in that."""
    from ingest.store import sqlite_path

    path = sqlite_path(database_url)
    return without_password(database_url) if path is None else str(path.absolute())


def _stop_when_stdin_closes() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
