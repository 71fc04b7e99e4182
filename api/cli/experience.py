"""`lowlight experience`: the weights that calls are ranked with, and fitting them to users' own thumbs."""

import json
from typing import TYPE_CHECKING, Any

import click

from ingest.settings import Settings, load_settings

if TYPE_CHECKING:
    from outliers.experience.fit import Calibrated, Fit


@click.group(epilog="Example: lowlight experience fit --dry-run")
def command() -> None:
    """Show, fit or reset what each part of an experience can do alone."""


@command.command(epilog="Example: lowlight experience fit --dry-run")
@click.option("--dry-run", is_flag=True, help="Tell what it finds, and keep nothing.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--database-url", help="Which database, before LOWLIGHT_DATABASE_URL.")
def fit(dry_run: bool, as_json: bool, database_url: str | None) -> None:
    """Fit the weights to thumbs, and use them where they are better on people they have not seen.

    Reads the database itself; what it finds is kept through the running server, where one runs.
    """
    from dataclasses import asdict

    from outliers.errors import OutliersError
    from outliers.experience.fit import fit as fitted

    settings = load_settings(database_url=database_url)
    calls = _read(settings)
    try:
        found = fitted(calls)
    except OutliersError as error:
        raise click.ClickException(str(error)) from None
    kept = found.better and not dry_run
    if kept:
        _keep(settings, found)
    if as_json:
        click.echo(json.dumps(asdict(found) | {"kept": kept}, indent=2))
        return
    for line in _fit_lines(found):
        click.echo(line)
    if kept:
        click.echo("Calls that are ranked from now on are weighed so.")
    elif found.better:
        click.echo("Nothing was kept (--dry-run).")
    else:
        click.echo("No better than chance would make it: the weights in use stay.")


@command.command(epilog="Example: lowlight experience show")
@click.option("--json", "as_json", is_flag=True, help="As JSON, the answer of GET /v1/experience.")
@click.option("--database-url", help="Which database, before LOWLIGHT_DATABASE_URL.")
def show(as_json: bool, database_url: str | None) -> None:
    """Show the weights in use and where they come from."""
    _tell(_weights(load_settings(database_url=database_url)), as_json)


@command.command(epilog="Example: lowlight experience reset")
@click.option("--json", "as_json", is_flag=True, help="As JSON, the answer of GET /v1/experience.")
@click.option("--database-url", help="Which database, before LOWLIGHT_DATABASE_URL.")
def reset(as_json: bool, database_url: str | None) -> None:
    """Go back to the weights Lowlight comes with, for calls that are ranked from now on."""
    settings = load_settings(database_url=database_url)
    _keep(settings, None)
    _tell(_weights(settings), as_json)


def _read(settings: Settings) -> Any:
    """Read calls with their thumbs; nothing is written."""
    from sqlalchemy.exc import DatabaseError

    from ingest.store import reading_engine, sqlite_path
    from ingest.tables import DEFAULT_PROJECT
    from outliers.experience.fit import thumbed

    path = sqlite_path(settings.database_url)
    if path is not None and not path.exists():
        raise click.ClickException(f"{path} does not exist: nothing was kept yet. `lowlight serve` makes it.")
    engine = reading_engine(settings.database_url)
    try:
        with engine.connect() as connection:
            return thumbed(connection, DEFAULT_PROJECT)
    except DatabaseError as error:
        raise click.ClickException(
            f"The database cannot be read: {error.orig}. If it is of another version, `lowlight db upgrade` "
            "brings it to this one."
        ) from None
    finally:
        engine.dispose()


def _weights(settings: Settings) -> dict[str, Any]:
    from pydantic import TypeAdapter

    from api.doors import HttpDoor, ask, open_door
    from api.routes.experience import WeightsRead, get_experience

    with open_door(settings) as door:
        if isinstance(door, HttpDoor):
            asked: dict[str, Any] = ask(f"{door.address}/v1/experience")
            return asked
        shown: dict[str, Any] = TypeAdapter(WeightsRead).dump_python(get_experience(door.store), mode="json")
        return shown


def _keep(settings: Settings, found: "Fit | None") -> None:
    from dataclasses import asdict

    from api.doors import HttpDoor, ask, open_door
    from api.routes.experience import FitSent, post_experience

    with open_door(settings) as door:
        if isinstance(door, HttpDoor):
            ask(f"{door.address}/v1/experience", {"fit": None if found is None else asdict(found)})
        else:
            post_experience(FitSent(fit=found), door.store)


def _tell(shown: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(shown, indent=2))
        return
    for name, weight in shown["weights"].items():
        shipped = shown["shipped"][name]
        click.echo(f"{name:8} {weight:.3f}" + ("" if weight == shipped else f"  (shipped: {shipped:.3f})"))
    figures = shown["figures"]
    if figures:
        click.echo(
            f"version {shown['version']}, fitted {shown['fitted_at'][:16].replace('T', ' ')} to "
            f"{figures['thumbs']:,} thumbs of {figures['people']:,} people"
        )
    else:
        click.echo("as shipped")


def _fit_lines(found: "Fit") -> list[str]:
    from outliers.experience.parts import WEIGHTS

    lines = [
        f"{found.thumbs:,} thumbs, {found.downs:,} of them down, by {found.people:,} people; "
        f"{found.answered:.1%} of the calls got one".replace("%", " %"),
        "part       shipped  fitted",
        *(f"{name:9}  {WEIGHTS[name]:7.3f}  {weight:6.3f}" for name, weight in found.weights.items()),
        f"without any of them {found.leak:.1%} get a thumbs-down".replace("%", " %"),
        "on people they were not fitted on:",
        *_calibrated_lines("shipped", found.shipped),
        *_calibrated_lines("fitted", found.fitted),
        f"log loss is {found.gain:+.4f} better by the fit, with a standard error of {found.gain_error:.4f}",
    ]
    return lines


def _calibrated_lines(name: str, one: "Calibrated") -> list[str]:
    groups = ", ".join(f"{predicted:.2f}: {share:.2f}" for predicted, share in one.calibration)
    return [
        f"  {name:8} AUC {one.auc:.3f}, log loss {one.log_loss:.4f}",
        f"           predicted: share of thumbs-down in five groups: {groups}",
    ]
