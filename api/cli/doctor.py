"""`lowlight doctor`: what is wrong with this installation, and what to do about it."""

import json
from dataclasses import asdict

import click

from ingest.errors import BadSettings
from ingest.settings import Settings, load_settings


@click.command(epilog="Example: lowlight doctor && lowlight serve")
@click.option("--json", "as_json", is_flag=True, help='As JSON: {"ok", "findings": [{subject, ok, words}]}.')
@click.option("--database-url", help="Which database, before LOWLIGHT_DATABASE_URL.")
def command(as_json: bool, database_url: str | None) -> None:
    """Check versions, settings, rubrics, critics, disk, database and server; say what to do.

    One line each; nothing is changed. The exit status is 1 where something needs you.
    """
    from api.operating.checkup import Finding, checkup

    try:
        settings: Settings | None = load_settings(database_url=database_url)
        findings = checkup(settings) if settings else []
    except BadSettings as error:
        findings = [Finding("settings", False, line) for line in str(error).splitlines()]
    sound = all(finding.ok for finding in findings)
    if as_json:
        told = {"ok": sound, "findings": [asdict(finding) for finding in findings]}
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
    for finding in () if as_json else findings:
        mark = click.style("ok ", fg="green") if finding.ok else click.style("FIX", fg="red", bold=True)
        click.echo(f"{mark}  {finding.subject:<10}{finding.words}")
    if not sound:
        raise SystemExit(1)
