"""`lowlight doctor`: what is wrong with this installation, and what to do about it."""

import click

from ingest.errors import BadSettings
from ingest.settings import Settings, load_settings


@click.command(epilog="Example: lowlight doctor && lowlight serve")
def command() -> None:
    """Check settings, rubrics, critics, disk, database, server and versions.

    One line each; the exit status is 1 where something needs you.
    """
    from api.checkup import Finding, checkup

    try:
        settings: Settings | None = load_settings()
        findings = checkup(settings) if settings else []
    except BadSettings as error:
        findings = [Finding("settings", False, line) for line in str(error).splitlines()]
    for finding in findings:
        mark = click.style("ok ", fg="green") if finding.ok else click.style("FIX", fg="red", bold=True)
        click.echo(f"{mark}  {finding.subject:<10}{finding.words}")
    if not all(finding.ok for finding in findings):
        raise SystemExit(1)
