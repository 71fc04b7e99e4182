"""`lowlight rubric`: check, list, show, render rubric files; diff, test, rescore are modules of their own."""

import json
import sys
from pathlib import Path

import click

from api import terminal
from api.cli import rescore, rubric_diff, rubric_test
from ingest.settings import load_settings
from rubrics import CallView, Problem, Rubric, load_rubric, load_rubrics, read_folder, text_of

#: Characters of a version as it is shown; git finds the blob by them.
VERSION_CHARS = 10

_REASON_FIRST = (
    "chat-draws: and anthropic: critics write a reason before the level, which costs more; for openai:, "
    "systemone:, chat-logprobs: and local it changes nothing."
)

_folder = click.option(
    "--rubrics",
    "folder",
    type=click.Path(path_type=Path),
    help="Folder of the rubric files, before LOWLIGHT_RUBRICS_DIR.",
)


@click.group(name="rubric", epilog="Example: lowlight rubric check rubrics/tone.jinja")
def command() -> None:
    """Check, list, show, render, compare and test rubrics: one question and seven levels a file."""


command.add_command(rubric_diff.command)
command.add_command(rubric_test.command)
# The same command as `lowlight rescore`, for those who look for it here.
command.add_command(rescore.command)


@command.command(epilog="Example: lowlight rubric check   (or a folder, or one file, for an editor or CI)")
@click.argument("path", required=False, type=click.Path(path_type=Path))
def check(path: Path | None) -> None:
    """Say what is wrong with rubric files, by file and line. Status 1 if anything is.

    Sound ones are listed with their version (the git blob id), whether git's HEAD has it, and what the
    critic that needs no model can answer them by.
    """
    path = path or load_settings().rubrics_dir
    rubrics, problems = read_folder(path) if path.is_dir() else ([load_rubric(path)], [])
    for rubric in rubrics:
        click.echo(f"{rubric.name}  {_version(rubric)}  {_answered_without_a_model(rubric)}")
    if problems:
        raise click.ClickException(_told(problems))
    views = len({rubric.view_blob for rubric in rubrics})
    click.echo(f"{_count(len(rubrics), 'rubric')}, {_count(views, 'view')}: nothing is wrong.")
    for rubric in rubrics:
        if rubric.reason_first:
            click.echo(f"{rubric.name} sets reason_first. {_REASON_FIRST}")
    if any(rubric.committed is False for rubric in rubrics):
        click.echo("Commit before you rely on scores: git can show a score's rubric only once it has it.")


@command.command("list", epilog="Example: lowlight rubric list")
@_folder
def list_(folder: Path | None) -> None:
    """List the rubrics with their versions, weights, and the calls they apply to."""
    for rubric in load_rubrics(_folder_or_default(folder)):
        click.echo(f"{rubric.name}  {_version(rubric)}  weight {rubric.weight:g}  {rubric.applies_to}")
        click.echo(f"    {rubric.question}")


@command.command(epilog="Example: lowlight rubric show faithfulness")
@click.argument("name")
@_folder
def show(name: str, folder: Path | None) -> None:
    """Show one rubric: its question, its seven levels worst first, and its view."""
    rubric = named(name, _folder_or_default(folder))
    click.echo(f"{rubric.name}  {_version(rubric)}")
    click.echo(f"Applies to {rubric.applies_to}, weight {rubric.weight:g}.")
    click.echo(f"{_answered_without_a_model(rubric).capitalize()}.")
    if rubric.reason_first:
        click.echo(_REASON_FIRST)
    click.echo(f"\n{rubric.question}\n")
    for level, situation in enumerate(rubric.levels, start=1):
        click.echo(click.wrap_text(situation, initial_indent=f"  {level}  ", subsequent_indent="     "))
    click.echo(f"\nThe view, version {rubric.view_blob[:VERSION_CHARS]}:\n")
    click.echo("\n".join(f"  {line}".rstrip() for line in rubric.view.splitlines()))


@command.command(
    epilog="Example: lowlight rubric render call.json   (under one rubric: lowlight rubric render tone CALL)"
)
@click.argument("named_here", nargs=-1, metavar="[RUBRIC]... CALL")
@click.option("--call", "call_or_file", help="CALL, where it shall not stand last.")
@_folder
def render(named_here: tuple[str, ...], call_or_file: str | None, folder: Path | None) -> None:
    """Print what a critic sees of a call, fences included: under RUBRIC, or all that are asked about it.

    CALL is a JSON file with one call, fields as in POST /v1/calls, or the id of a call in the database.
    Rubrics of one view share a request, so that each view is printed once. The fence is random and differs
    from one time to the next.
    """
    names = named_here if call_or_file else named_here[:-1]
    call_or_file = call_or_file or (named_here[-1] if named_here else None)
    if call_or_file is None:
        raise click.UsageError("Name a call: a JSON file, or the id of a call in the database.")
    folder = _folder_or_default(folder)
    rubrics = [named(name, folder) for name in names] or load_rubrics(folder)
    file = Path(call_or_file)
    call = _call_in(file) if file.suffix == ".json" or file.is_file() else _kept_call(call_or_file)
    by_view: dict[str, list[Rubric]] = {}
    for rubric in rubrics:
        if rubric.applies(prompt=call.prompt, model=call.model, tags=call.tags):
            by_view.setdefault(rubric.view_blob, []).append(rubric)
        else:
            words = f"{rubric.name} applies to {rubric.applies_to}; it is not asked about this call."
            click.echo(f"Note: {words}", err=True)
            if names:
                by_view.setdefault(rubric.view_blob, []).append(rubric)
    for alike in by_view.values():
        if len(rubrics) > 1:
            click.echo(f"--- {', '.join(rubric.name for rubric in alike)}\n")
        view = alike[0].render(call)
        # A file gets it as it is.
        click.echo(terminal.plain_text(view) if sys.stdout.isatty() else view)


def _folder_or_default(folder: Path | None) -> Path:
    return folder or load_settings().rubrics_dir


def named(name: str, folder: Path) -> Rubric:
    """Return the rubric of a name; where there is none, say which there are."""
    rubrics = load_rubrics(folder)
    for rubric in rubrics:
        if rubric.name == name:
            return rubric
    names = ", ".join(rubric.name for rubric in rubrics)
    raise click.ClickException(f"There is no rubric {name} in {folder}; there are {names}.")


def _call_in(file: Path) -> CallView:
    """Return the call in a JSON file, checked as intake would."""
    from ingest.wire import calls_of

    try:
        sent = calls_of([json.loads(file.read_bytes())])
    except OSError as error:
        raise click.ClickException(f"{file} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise click.ClickException(f"{file} is not JSON: {error}.") from error
    if sent.rejected:
        refused = sent.rejected[0]
        raise click.ClickException(f"{file}: {refused.field or 'the call'} {refused.error}.")
    call = sent.items[0]
    context = call.context or ()
    return CallView(
        input=call.input or "",
        output=text_of(call.output or ""),
        context=(context,) if isinstance(context, str) else tuple(context),
        prompt=(call.prompt and call.prompt.name) or "",
        prompt_version=(call.prompt and call.prompt.version) or "",
        model=call.model or "",
        tags=call.tags or {},
        finish_reason=call.finish_reason,
    )


def _kept_call(call_id: str) -> CallView:
    """Return a call out of the database."""
    from api.cli.kept_calls import kept_call

    call = kept_call(load_settings(), call_id, or_file=True)
    if call.not_judged_because:
        click.echo(f"Note: no critic judges this call: {call.not_judged_because}.", err=True)
    return call.view()


def _version(rubric: Rubric) -> str:
    told = {True: "committed", False: "not committed", None: "not in a git repository"}
    return f"{rubric.blob[:VERSION_CHARS]} ({told[rubric.committed]})"


def _answered_without_a_model(rubric: Rubric) -> str:
    if not rubric.visible:
        return "without a model: ungraded"
    return f"without a model: answered by {', '.join(rubric.visible)}, for calls with a source"


def _told(problems: list[Problem]) -> str:
    files = len({problem.file for problem in problems})
    lines = "\n".join(str(problem) for problem in problems)
    return f"{_count(len(problems), 'problem')} in {_count(files, 'file')}\n{lines}"


def _count(n: int, thing: str) -> str:
    return f"{n} {thing}{'' if n == 1 else 's'}"
