"""A kept call for a command that only reads: straight out of the database, whether or not a server runs."""

import click

from critic.queue.calls import TakenCall, calls_by_seq
from dashboards.queries.call import seq_of
from ingest.settings import Settings
from ingest.store import reading_engine, sqlite_path
from ingest.tables import DEFAULT_PROJECT


def kept_call(settings: Settings, call_id: str, *, or_file: bool = False) -> TakenCall:
    """Return a call with its texts.

    Args:
        or_file: whether the caller had looked for a file of this name first, so that messages say so.

    Raises:
        ClickException: no such database or call, or one that cannot be read; says what to do.
    """
    from sqlalchemy.exc import SQLAlchemyError

    no_file = f"There is no file {call_id} and no" if or_file else "There is no"
    path = sqlite_path(settings.database_url)
    where = path or "the database"
    if path is not None and not path.exists():
        name = "name a JSON file, or set" if or_file else "set"
        raise click.ClickException(
            f"{no_file} database {path}; {name} LOWLIGHT_DATABASE_URL to the database that has the call."
        )
    engine = reading_engine(settings.database_url)
    try:
        with engine.connect() as connection:
            seq = seq_of(connection, DEFAULT_PROJECT, call_id)
            calls = {} if seq is None else calls_by_seq(connection, [seq])
    except SQLAlchemyError as error:
        raise click.ClickException(
            f"{path or 'The database'} cannot be read: {getattr(error, 'orig', None) or error}; "
            "see LOWLIGHT_DATABASE_URL, and bring an older database up with: lowlight db upgrade"
        ) from error
    finally:
        engine.dispose()
    if seq is None or seq not in calls:
        known = (
            f"{no_file.removesuffix(' and no')}, and no call of this id"
            if or_file
            else f"There is no call {call_id}"
        )
        raise click.ClickException(f"{known} in {where}.")
    return calls[seq]
