"""Where `lowlight case` reads and writes: through the running server's HTTP, or the store where none runs.

Flow: `api.cli.case` -> `CaseDoor` -> /v1/cases... or `api.casework.doing` and `dashboards.queries.cases`;
both give the same JSON.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from api.casework.doing import BODIES, do
from api.doors import HttpDoor, StoreDoor, ask, open_door, running_server
from api.errors import ApiError
from dashboards.queries.cases import CaseShown, case_shown, cases_shown
from ingest.settings import Settings
from ingest.store import sqlite_path
from ingest.tables import DEFAULT_PROJECT
from outliers.errors import OutliersError

_CASE = TypeAdapter(CaseShown)


class NothingKept(ApiError):
    """There is no database yet."""


class NotDone(ApiError):
    """What was asked cannot be done; the message says why and what comes first."""


class CaseDoor:
    """Cases of one project, as JSON objects."""

    def __init__(self, door: HttpDoor | StoreDoor, settings: Settings) -> None:
        self._door = door
        self._settings = settings

    def list(self, limit: int) -> list[dict[str, Any]]:
        """Return the cases, newest week first."""
        if isinstance(self._door, HttpDoor):
            return cast("list[dict[str, Any]]", ask(f"{self._door.address}/v1/cases?limit={limit}")["cases"])
        with self._door.store.read() as connection:
            shown = cases_shown(connection, DEFAULT_PROJECT, self._settings.critics, limit)
        return [_json(case) for case in shown]

    def show(self, week_id: str) -> dict[str, Any]:
        """Return one week's case.

        Raises:
            NotDone: it has none.
        """
        if isinstance(self._door, HttpDoor):
            return cast("dict[str, Any]", ask(f"{self._door.address}/v1/cases/{week_id}"))
        with self._door.store.read() as connection:
            case = case_shown(connection, DEFAULT_PROJECT, week_id, self._settings.critics)
        if case is None:
            raise NotDone(f"Week {week_id} has no case: nothing set its bad calls apart.")
        return _json(case)

    def do(self, week_id: str, action: str, said: dict[str, Any]) -> dict[str, Any]:
        """Do something about a case and return it as it is then.

        Args:
            action: of `api.casework.doing.BODIES`.
            said: the body; None values are left out.

        Raises:
            NotDone: it cannot be done; nothing was changed.
        """
        body = {name: value for name, value in said.items() if value is not None}
        if isinstance(self._door, HttpDoor):
            return cast("dict[str, Any]", ask(f"{self._door.address}/v1/cases/{week_id}/{action}", body))
        try:
            do(
                self._door.store,
                self._settings,
                DEFAULT_PROJECT,
                week_id,
                BODIES[action].model_validate(body),
            )
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            message = str(first["msg"]).removeprefix("Value error, ")
            raise NotDone(f"{field}: {message}" if field else message) from None
        except OutliersError as error:
            raise NotDone(str(error)) from None
        return self.show(week_id)


@contextmanager
def case_door(settings: Settings) -> Iterator[CaseDoor]:
    """Open the door for one command.

    Raises:
        NothingKept: there is no database yet.
        IngestError: see `api.doors.open_door`.
    """
    path = sqlite_path(settings.database_url)
    if path is not None and running_server(settings) is None and not path.exists():
        raise NothingKept(f"{path} does not exist: nothing was kept yet. `lowlight serve` makes it.")
    with open_door(settings) as door:
        yield CaseDoor(door, settings)


def _json(case: CaseShown) -> dict[str, Any]:
    return cast("dict[str, Any]", _CASE.dump_python(case, mode="json"))
