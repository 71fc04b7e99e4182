"""An edited rubric is in force within seconds: the folder is looked at, and read anew when it has changed.

Flow: names, sizes and times of `*.jinja` files -> `load_rubrics` in a thread -> `Work.plan`, which new calls
are planned by. Rows that exist keep the version that they were made for. A folder that cannot be used changes
nothing: the versions of before stay in force, the log and the Rubrics page say what is wrong.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from critic.queue.work import Work
from rubrics import BadRubric, load_rubrics

log = logging.getLogger(__name__)

EVERY_S = 2.0
#: Name, size and time of change of each file.
Sign = frozenset[tuple[str, int, int]]


class Rereading:
    """See the module.

    Args:
        changed: called after the plan has changed.
    """

    def __init__(
        self, work: Work, folder: Path, *, changed: Callable[[], None], every_s: float = EVERY_S
    ) -> None:
        self._work = work
        self._folder = folder
        self._changed = changed
        self._every_s = every_s
        self._read = self._seen = sign_of(folder)

    async def run(self, stop: asyncio.Event) -> None:
        """Look after the rubrics until `stop` is set."""
        while not stop.is_set():
            await self.look()
            try:
                async with asyncio.timeout(self._every_s):
                    await stop.wait()
            except TimeoutError:
                continue

    async def look(self) -> bool:
        """Read the folder where it has changed and lies still; return whether other rubrics are in force now.

        An editor or a checkout writes files one after another: what has changed since the last look is read
        at the next one.
        """
        sign = await asyncio.to_thread(sign_of, self._folder)
        lies_still, self._seen = sign == self._seen, sign
        if sign == self._read or not lies_still:
            return False
        self._read = sign
        try:
            rubrics = await asyncio.to_thread(load_rubrics, self._folder)
        except BadRubric as error:
            log.error("the rubrics of before stay in force: %s", error)
            return False
        was = {rubric.blob for rubric in self._work.plan.rubrics}
        if was == {rubric.blob for rubric in rubrics}:
            return False
        self._work.plan = self._work.plan.with_rubrics(rubrics)
        self._changed()
        new = ", ".join(f"{rubric.name} {rubric.blob[:10]}" for rubric in rubrics if rubric.blob not in was)
        log.info("%d rubrics are in force for new calls; new among them: %s", len(rubrics), new or "none")
        return True


def sign_of(folder: Path) -> Sign:
    """Return what tells whether any rubric file has changed; empty where the folder cannot be read."""
    found = set()
    try:
        for file in folder.iterdir():
            if file.suffix == ".jinja":
                about = file.stat()
                found.add((file.name, about.st_size, about.st_mtime_ns))
    except OSError:  # a file may go while the folder is read: the next look sees what is left
        return frozenset(found)
    return frozenset(found)
