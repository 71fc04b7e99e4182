"""`lowlight rubric diff`: what changed in the rubrics since a revision of git."""

import json
from pathlib import Path

import click

from ingest.settings import load_settings
from rubrics import load_rubrics
from rubrics.history import Difference, differences, rubrics_at

VERSION_CHARS = 10


@click.command(name="diff", epilog="Example: lowlight rubric diff main")
@click.argument("revision", default="HEAD")
@click.option(
    "--rubrics",
    "folder",
    type=click.Path(path_type=Path),
    help="Folder of the rubric files, before LOWLIGHT_RUBRICS_DIR.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the differences as JSON.")
def command(revision: str, folder: Path | None, as_json: bool) -> None:
    """Show what the rubrics of the working tree change since REVISION (default HEAD).

    A changed rubric is a new version: new calls get scores of it, old scores stay what they are.
    """
    folder = folder or load_settings().rubrics_dir
    found = differences(rubrics_at(folder, revision), load_rubrics(folder))
    if as_json:
        click.echo(json.dumps([_as_json(one) for one in found], ensure_ascii=False))
        return
    if not found:
        click.echo(f"No rubric differs from {revision}.")
        return
    for one in found:
        click.echo(f"{one.name}  {_version(one.before)} -> {_version(one.after)}  {_in_words(one)}")
        for line in one.lines():
            click.echo(f"    {line}".rstrip())
    if any(one.after is not None for one in found):
        click.echo(
            "\nNew calls are scored under the new versions; old scores stay. "
            "Compare first: lowlight rubric test GOLDEN.jsonl; old calls too: lowlight rescore"
        )


def _in_words(one: Difference) -> str:
    if one.before is None:
        return "new"
    if one.after is None:
        return "removed: its scores are kept, new calls get none"
    return ", ".join(one.changed) if one.changed else "only comments or blank lines; still a new version"


def _version(rubric: object) -> str:
    blob = getattr(rubric, "blob", None)
    return "none" if blob is None else str(blob)[:VERSION_CHARS]


def _as_json(one: Difference) -> dict[str, object]:
    return {
        "rubric": one.name,
        "before": one.before and one.before.blob,
        "now": one.after and one.after.blob,
        "changed": list(one.changed),
        "diff": one.lines(),
    }
