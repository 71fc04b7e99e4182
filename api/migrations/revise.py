"""Write a new revision from the tables: `python -m api.migrations.revise "keep X"` (make revision)."""

import sys
import tempfile
from pathlib import Path

from alembic import command

from api.schema import _config, upgrade
from ingest.store import writing_engine


def main() -> None:
    """Compare the tables with the history, as run on an empty SQLite file, and write the difference."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'empty.db'}"
        upgrade(url)
        with writing_engine(url).connect() as connection:
            command.revision(_config(connection), sys.argv[1], autogenerate=True)


if __name__ == "__main__":
    main()
