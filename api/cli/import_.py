"""`lowlight import`."""

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from api import terminal
from ingest.settings import Settings, load_settings

if TYPE_CHECKING:
    from api.files.importing import Told
    from api.files.lines import Lines
    from outliers.weeks import Week


@click.command(
    name="import",
    epilog="Example: lowlight import calls.jsonl.gz --mapping calls.toml   "
    "(shipped mappings go by name: calls, convai2, llmperf)",
)
@click.argument("file")
@click.option("--mapping", "mapping_file", required=True, type=Path, help="What each line means (TOML).")
@click.option("--shift-to", metavar="WEEK", help="Move all times into this week: 2026-W47, or last.")
@click.option("--dry-run", is_flag=True, help="Check everything, show the first call, keep nothing.")
@click.option("--database-url", help="Which database, before LOWLIGHT_DATABASE_URL.")
def command(
    file: str, mapping_file: Path, shift_to: str | None, dry_run: bool, database_url: str | None
) -> None:
    """Bring in calls and signals from FILE, JSON lines (plain or gzip), - for stdin.

    They go through the running server of the database, or into it directly where none runs. Importing a
    file twice doubles nothing. Lines that cannot be used are told by number, the others kept.
    """
    from contextlib import nullcontext

    from api.doors import HttpDoor, open_door
    from api.files.importing import import_lines
    from api.files.lines import opened
    from api.files.mapping import load_mapping

    settings = load_settings(database_url=database_url)
    mapping = load_mapping(mapping_file)
    week = _week(shift_to, settings) if shift_to else None
    with opened(file) as lines, nullcontext(None) if dry_run else open_door(settings) as door:
        told = import_lines(_with_progress(lines), mapping, door, week=week)
        served_at = door.address if isinstance(door, HttpDoor) else None
    _tell(told, dry_run=dry_run)
    if not dry_run and told.calls and served_at:
        click.echo(f"The critic of {served_at} reads the new calls now.")
    elif not dry_run and told.calls:
        click.echo("No server runs for this database: start `lowlight serve`, and the critic reads them.")
    if told.lines and told.bad == told.lines:
        raise click.ClickException("No line could be used. Does the mapping fit this file?")


def _week(text: str, settings: Settings) -> "Week":
    from outliers.errors import UnknownWeek
    from outliers.weeks import last_ended, week_by_id

    now_ms = time.time_ns() // 1_000_000
    try:
        week = last_ended(now_ms, settings.zone) if text == "last" else week_by_id(text, settings.zone)
    except UnknownWeek as error:
        raise click.BadParameter(str(error), param_hint="--shift-to") from None
    if week.since_ms > now_ms:
        raise click.BadParameter(f"{week.id} has not begun yet.", param_hint="--shift-to")
    return week


def _with_progress(lines: "Lines") -> Iterator[bytes]:
    """Yield the lines; on a terminal a bar shows how much of the file is read."""
    if lines.size is None or not sys.stderr.isatty():
        yield from lines
        return
    with click.progressbar(length=max(1, lines.size), label="Importing", file=sys.stderr) as bar:
        at = 0
        for line in lines:
            yield line
            read = lines.read_bytes
            if read > at:
                bar.update(read - at)
                at = read


def _tell(told: "Told", *, dry_run: bool) -> None:
    if dry_run and told.first is not None:
        click.echo("The first call would be:")
        click.echo(terminal.as_json(told.first))
    verb = "would be kept" if dry_run else "kept"
    already = f", {told.duplicates:,} calls were here already" if told.duplicates else ""
    click.echo(f"{told.lines:,} lines: {told.calls:,} calls and {told.signals:,} signals {verb}{already}.")
    if told.silent:
        click.echo(f"{told.silent:,} lines hold no answer that the mapping takes for one.")
    if told.bad:
        click.echo(f"{told.bad:,} lines with something that could not be kept:", err=True)
        for line in _reasons(told.reasons):
            click.echo(terminal.plain(line), err=True)
        if told.bad > len(told.reasons):
            click.echo(f"  and {told.bad - len(told.reasons):,} more", err=True)


def _reasons(reasons: Iterable[tuple[int, str]]) -> Iterator[str]:
    for number, reason in reasons:
        yield f"  line {number}: {reason}"
