"""`lowlight report`."""

from typing import Any

import click

from api import terminal
from ingest.settings import Settings, load_settings


@click.command(epilog="Example: lowlight report --week 2026-W47 --json | jq .case.sentence")
@click.option("--week", metavar="WEEK", help="2026-W47; the last ended week unless given.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, the answer of GET /v1/report.")
@click.option("--database-url", help="Which database, before LOWLIGHT_DATABASE_URL.")
def command(week: str | None, as_json: bool, database_url: str | None) -> None:
    """Print a week's case, who had it worst, and the tail.

    From the running server of the database, or from the database itself where none runs.
    """
    from api.doors import running_server
    from api.reporting.report_text import lines

    settings = load_settings(database_url=database_url)
    address = running_server(settings)
    report = _asked(address, week) if address else _read(settings, week)
    if as_json:
        click.echo(terminal.as_json(report))
        return
    for line in lines(report, address):
        click.echo(line)


def _asked(address: str, week: str | None) -> dict[str, Any]:
    from urllib.parse import urlencode

    from api.doors import ask

    query = f"?{urlencode({'week': week})}" if week else ""
    report: dict[str, Any] = ask(f"{address}/v1/report{query}")
    return report


def _read(settings: Settings, week: str | None) -> dict[str, Any]:
    """Read the report from the database itself; nothing is written."""
    from sqlalchemy.exc import DatabaseError

    from api.reporting.report import report_of
    from api.schema import remedy, trouble_with
    from ingest.store import reading_engine, sqlite_path
    from outliers.errors import UnknownWeek

    path = sqlite_path(settings.database_url)
    if path is not None and not path.exists():
        raise click.ClickException(
            f"{path} does not exist: nothing was kept yet. "
            "`lowlight serve` makes it, and `lowlight demo` shows one that is full."
        )
    engine = reading_engine(settings.database_url)
    try:
        with engine.connect() as connection:
            trouble = trouble_with(connection, path)
            if trouble is not None:
                raise click.ClickException(trouble)
            return report_of(connection, settings, week)
    except UnknownWeek as error:
        raise click.BadParameter(str(error), param_hint="--week") from None
    except DatabaseError as error:
        raise click.ClickException(f"{path or 'The database'} cannot be read: {remedy(error)}") from None
    finally:
        engine.dispose()
