"""`lowlight demo`."""

import signal
import threading
from pathlib import Path
from types import FrameType

import click

from ingest.settings import load_settings


@click.command(epilog="Example: lowlight demo   (or, to see the report and go: lowlight demo --once)")
@click.option("--once", is_flag=True, help="End after the report instead of waiting for Ctrl-C.")
@click.option("--port", type=int, help="Port of the web view, before LOWLIGHT_PORT; 0 picks a free one.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".lowlight"),
    show_default=True,
    help="Where the demo keeps its database, apart from yours.",
)
@click.option(
    "--calls", type=click.IntRange(60, 200_000), default=2_000, show_default=True, help="About how many."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Another one makes another week.")
def command(once: bool, port: int | None, folder: Path, calls: int, seed: int) -> None:
    """Show a week of an invented product, and the worst experience somebody had in it.

    Starts a server with a database of its own, sends about 2,000 calls through the SDK, has the local
    critic read every one, prints what was found, and stays up until Ctrl-C. No key, and no text leaves
    this machine. Run again it starts in seconds and doubles nothing.
    """
    from api.demo.showing import show

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.ClickException(
            f"{folder} cannot be made: {error.strerror}. Name another one: --folder"
        ) from None
    name = "demo" if (calls, seed) == (2_000, 1) else f"demo-{seed}-{calls}"
    settings = load_settings(
        database_url=f"sqlite:///{(folder / name).absolute()}.db", port=port, critic="local", refresh_s=1.0
    )
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        show(settings, folder, calls=calls, seed=seed, hold=_say_it_ends if once else _wait)
    except KeyboardInterrupt:
        click.echo("\nStopped. The demo's data stay in " + click.format_filename(folder) + ".")


def _say_it_ends() -> None:
    click.echo("The server ends now; without --once it stays up, and from here on it starts in seconds.")


def _wait() -> None:
    click.echo("Ctrl-C ends it.")
    threading.Event().wait()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
