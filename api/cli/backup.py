"""`lowlight backup`."""

from contextlib import ExitStack
from functools import cache
from pathlib import Path

import click

from ingest.settings import load_settings


@click.command(epilog="Example: lowlight backup /backups/lowlight-$(date +%F).db")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--database-url", help="Which database, before LOWLIGHT_DATABASE_URL.")
def command(file: Path, database_url: str | None) -> None:
    """Copy the database into FILE, while the server goes on.

    The copy is of one moment, whole, checked and on the disk when this ends; nobody waits for it. It holds
    every text that was kept and can be read by you alone. A FILE that is there already is left alone.
    """
    from api.operating.backups import backup

    settings = load_settings(database_url=database_url)
    with ExitStack() as open_bars:
        # Opened with the first page that is copied: whatever is refused is so before.
        bar = cache(
            lambda: open_bars.enter_context(click.progressbar(length=1, label="Copying", show_pos=False))
        )

        def progress(done: int, total: int) -> None:
            bar().length = max(1, total)
            bar().pos = 0
            bar().update(done)

        contents = backup(settings.database_url, file, progress)
    click.echo(f"{file}: {contents}, schema {contents.revision}, sound.")
    click.echo(f"Bring it back with: lowlight restore {file}")
