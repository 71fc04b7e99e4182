"""What goes into the next batch: waiting rows, rendered and written out as requests, as many as fit.

Flow: critic.batching.batches.waiting_rows -> `critic.queue.cases.prepare` (texts, views, who may see them)
-> `Gathered` -> critic.batching.batches.open_batch, and only then `Batcher.send`. A batch is of one project,
whose money it is.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass, field

from sqlalchemy import Connection

from critic.batching.batches import Marked, WaitingForBatch, waiting_rows
from critic.drivers.base import Driver
from critic.drivers.batching import BYTES_MAX, REQUESTS_MAX, Batcher, Line
from critic.queue.cases import Judgement, prepare
from critic.queue.plan import Plan
from critic.queue.rows import Finished
from critic.spending.budget import EPSILON_USD, account_of, day_of
from critic.spending.money import Money
from rubrics import Rubric

#: Rows whose texts are read at a time.
PAGE_ROWS = 200
#: What stands around a request's body: its id, the method, the path.
FRAME_BYTES = 200


@dataclass
class Gathered:
    """A batch to be.

    Attributes:
        closed: waiting rows that end without being asked.
        usd: no less than all requests can cost; None where the price is unknown.
        no_room: whether the day's budget left out the first case already.
    """

    mark: str
    project_id: int
    lines: list[Line] = field(default_factory=list)
    rows: list[Marked] = field(default_factory=list)
    closed: list[Finished] = field(default_factory=list)
    usd: float | None = 0.0
    no_room: bool = False
    full: bool = False
    bytes: int = 0

    def take(self, judgement: Judgement, batcher: Batcher, usd: float | None, room_usd: float | None) -> None:
        """Add one case, or note that it does not fit."""
        bodies = batcher.bodies(judgement.case)
        size = sum(len(json.dumps(body)) + FRAME_BYTES for body in bodies)
        if self.lines and (len(self.lines) + len(bodies) > REQUESTS_MAX or self.bytes + size > BYTES_MAX):
            self.full = True
            return
        if room_usd is not None and (self.usd or 0.0) + (usd or 0.0) > room_usd + EPSILON_USD:
            self.full, self.no_room = True, not self.lines
            return
        request = judgement.rows[0].seq
        self.lines += [Line(custom_id(self.mark, request, i), body) for i, body in enumerate(bodies)]
        self.rows += [Marked(row.seq, request, judgement.case.seen_share) for row in judgement.rows]
        self.usd = None if self.usd is None or usd is None else self.usd + usd
        self.bytes += size


def custom_id(mark: str, request: int, place: int) -> str:
    """Return the name of one request: whose batch, the first `seq` of its rows, which of its draws."""
    return f"{mark}-{request}-{place}"


def gather(
    connection: Connection,
    *,
    mark: str,
    driver: Driver,
    batcher: Batcher,
    plan: Plan,
    money: Money,
    rubrics: dict[str, Rubric],
    paused: Collection[str],
    now_ms: int,
) -> Gathered | None:
    """Return the next batch of a critic; None where no row waits."""
    budget = money.budgets.get(driver.name)
    gathered: Gathered | None = None
    room_usd: float | None = None
    after_seq = 0
    while gathered is None or not gathered.full:
        page = waiting_rows(
            connection, driver.name, mark=mark, after_seq=after_seq, limit=PAGE_ROWS, now_ms=now_ms
        )
        if not page:
            break
        after_seq = page[-1].row.seq
        if gathered is None:
            gathered = Gathered(mark, page[0].project_id)
            if budget is not None:
                account = account_of(connection, gathered.project_id, driver.name, day_of(now_ms))
                room_usd = account.room_usd(budget, uniform=False)
        judgements, closed = prepare(
            connection,
            leased=[waiting.row for waiting in _of_project(page, gathered.project_id)],
            driver=driver,
            plan=plan,
            paused=paused,
            rubrics=rubrics,
        )
        gathered.closed += closed
        for judgement in judgements:
            usd = money.at_most_usd(driver, judgement.case, now_ms, batched=True)
            gathered.take(judgement, batcher, usd, room_usd)
            if gathered.full:
                break
    return gathered


def _of_project(page: list[WaitingForBatch], project_id: int) -> list[WaitingForBatch]:
    return [waiting for waiting in page if waiting.project_id == project_id]
