"""`lowlight case`: the week's case in the terminal, from its nomination to its proof."""

import getpass
from collections.abc import Callable
from typing import Any

import click

from api import terminal
from ingest.settings import load_settings

_WORDS = {
    "so_far": "so far",
    "root_cause": "root cause known",
    "fixed": "fixed, proof awaited",
    "verified": "closed",
}


@click.group(
    epilog="Example: lowlight case fixed 2026-W47 --prompt-version v8 --link https://git.example/pr/7"
)
def command() -> None:
    """List, read and work on the cases of the weeks.

    Through the running server of the database, or in the database itself where none runs.
    """


Command = Callable[..., None]


def _options(function: Command) -> Command:
    for option in (
        click.option("--database-url", help="Which database, before LOWLIGHT_DATABASE_URL."),
        click.option("--json", "as_json", is_flag=True, help="As JSON, the answer of GET /v1/cases."),
    ):
        function = option(function)
    return function


def _acts(function: Command) -> Command:
    by = click.option("--by", help="Who does it; your user name unless given.")
    return click.argument("week")(by(_options(function)))


@command.command(name="list", epilog="Example: lowlight case list --limit 8")
@click.option("--limit", default=52, show_default=True, type=click.IntRange(1, 520), help="Weeks at most.")
@_options
def list_(limit: int, as_json: bool, database_url: str | None) -> None:
    """List the cases, newest week first: a year reads as a history."""
    from api.casework.door import case_door

    with case_door(load_settings(database_url=database_url)) as door:
        cases = door.list(limit)
    if as_json:
        click.echo(terminal.as_json({"cases": cases}))
        return
    for case in terminal.plain(cases):
        owner = f", {case['owner']}" if case["owner"] else ""
        click.echo(f"{case['week']}  {_status(case)}{owner}")
        click.echo(f"          {case['sentence']}")
        if case["proof"]:
            click.echo(f"          {case['proof']['sentence']}")
    if not cases:
        click.echo(
            "No case yet: one is nominated when a week ends in which something set the bad calls apart."
        )


@command.command(epilog="Example: lowlight case show 2026-W47")
@click.argument("week")
@_options
def show(week: str, as_json: bool, database_url: str | None) -> None:
    """Show one week's case with its cohort, fix, proof and history."""
    from api.casework.door import case_door

    with case_door(load_settings(database_url=database_url)) as door:
        _tell(door.show(week), as_json)


@command.command(epilog="Example: lowlight case pick 2026-W47 --rank 2")
@_acts
@click.option("--rank", type=click.IntRange(1), help="Another cohort of the week, by its rank.")
@click.option("--call-id", help="The cohort of this call, which becomes the seed.")
def pick(week: str, rank: int | None, call_id: str | None, **common: Any) -> None:
    """Take the case on: as nominated, or another cohort of the week."""
    _do(week, "pick", {"rank": rank, "call_id": call_id}, **common)


@command.command(
    name="root-cause",
    epilog="Example: lowlight case root-cause 2026-W47 'The window slides past the question.'",
)
@_acts
@click.argument("words")
def root_cause(week: str, words: str, **common: Any) -> None:
    """Write down why it happened."""
    _do(week, "root_cause", {"root_cause": words}, **common)


@command.command(epilog="Example: lowlight case owner 2026-W47 ada")
@_acts
@click.argument("name")
def owner(week: str, name: str, **common: Any) -> None:
    """Say who takes care of it ('' for nobody)."""
    _do(week, "owner", {"owner": name}, **common)


@command.command(epilog="Example: lowlight case fixed 2026-W47 --prompt-version v8")
@_acts
@click.option("--at", help="When it went live, ISO 8601; else the version's first call, else now.")
@click.option("--prompt-version", help="The prompt version it came with: v8 or faq@v8.")
@click.option("--release", help="The release it came with.")
@click.option("--link", help="The change itself.")
def fixed(week: str, **said: Any) -> None:
    """Say what was done about it; its calls then prove it or not."""
    common = {name: said.pop(name) for name in ("by", "as_json", "database_url")}
    _do(week, "fixed", said, **common)


@command.command(epilog="Example: lowlight case note 2026-W47 'Seen in staging, too.'")
@_acts
@click.argument("words")
def note(week: str, words: str, **common: Any) -> None:
    """Add a note to its history."""
    _do(week, "note", {"note": words}, **common)


@command.command(epilog="Example: lowlight case verify 2026-W47 --because 'Read twenty of them.'")
@_acts
@click.option("--because", help="Why, where the calls since the fix do not show it.")
def verify(week: str, because: str | None, **common: Any) -> None:
    """Close it. Lowlight does so itself once the calls prove the fix."""
    _do(week, "verified", {"because": because}, **common)


@command.command(epilog="Example: lowlight case look 2026-W47")
@_acts
def look(week: str, **common: Any) -> None:
    """Have the calls since the fix looked at now; Lowlight does so by itself once a day."""
    _do(week, "look", {}, **common)


@command.command(epilog="Example: lowlight case reopen 2026-W47 --because 'It is back.'")
@_acts
@click.option("--because", help="Why.")
def reopen(week: str, because: str | None, **common: Any) -> None:
    """Open a case again that has a fix."""
    _do(week, "reopen", {"because": because}, **common)


def _do(
    week: str, action: str, said: dict[str, Any], *, by: str | None, as_json: bool, database_url: str | None
) -> None:
    from api.casework.door import case_door

    with case_door(load_settings(database_url=database_url)) as door:
        _tell(door.do(week, action, said | {"by": _me() if by is None else by}), as_json)


def _me() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return ""


def _status(case: dict[str, Any]) -> str:
    return _WORDS.get(case["status"], str(case["status"]))


def _tell(case: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(terminal.as_json(case))
        return
    for line in _lines(case):
        click.echo(line)


def _lines(sent: dict[str, Any]) -> list[str]:
    case = terminal.plain(sent)
    cohort = case["cohort"]
    lines = [
        f"{case['week']}: {case['sentence']}",
        f"  status      {_status(case)}",
        f"  cohort      {cohort['sentence']}",
        f"  seed        {cohort['examples'][0]}",
    ]
    if case["owner"]:
        lines.append(f"  owner       {case['owner']}")
    if case["root_cause"]:
        lines.append(f"  root cause  {terminal.plain_text(sent['root_cause'], ' ' * 14)}")
    if case["fix"]:
        fix = case["fix"]
        named = [fix[name] for name in ("prompt_version", "release", "link") if fix[name]]
        lines.append(f"  fix         {fix['at']} {', '.join(named)}".rstrip())
        proof = case["proof"]
        lines.append(f"  proof       {proof['sentence'] if proof else 'Its calls are looked at soon.'}")
    if case["history"]:
        lines.append("  history")
        lines += [f"    {_event(event)}" for event in sent["history"]]
    return lines


def _event(event: dict[str, Any]) -> str:
    who = f" by {terminal.plain(event['who'])}" if event["who"] else ""
    words = f": {terminal.plain_text(event['words'], ' ' * 8)}" if event["words"] else ""
    return f"{event['at'][:16].replace('T', ' ')} {event['what'].replace('_', ' ')}{who}{words}"
