"""Taking calls in: each new call is read by the guard and gets the score rows it needs.

Flow: `todo` rows -> texts -> `LocalCritic.read` in a batch -> critic.plan -> `critic.queue.take_todo`, one
transaction. Late signals change nothing here; late texts are read anew and reopen what wanted them.
"""

import asyncio
from collections.abc import Sequence
from functools import partial

from sqlalchemy import Connection

from critic import queue
from critic.calls import TakenCall, WaitingTodo, calls_by_seq, reading_row, taken_already, waiting_todo
from critic.drivers.local import LocalDriver
from critic.rows import NewScore
from critic.work import Work

#: Calls read in one batch: some tenths of a second of the guard's time, at most 100 MB of texts.
TAKE_MAX = 100


class Taking:
    """See the module.

    Attributes:
        outputs_read: how many outputs the guard could read, for the next fit.
        catching_up: whether the last batch was a full one, so that more calls wait.
    """

    def __init__(self, work: Work, local: LocalDriver, *, poll_s: float) -> None:
        self._work = work
        self._local = local
        self._poll_s = poll_s
        self.outputs_read = 0
        self.catching_up = False

    async def run(self, stop: asyncio.Event) -> None:
        """Take calls until `stop` is set."""
        while not stop.is_set():
            self.catching_up = await self.take() >= TAKE_MAX
            if not self.catching_up:
                try:
                    async with asyncio.timeout(self._poll_s):
                        await stop.wait()
                except TimeoutError:
                    continue

    async def take(self) -> int:
        """Take the calls that waited longest; return how many todo rows are done with."""
        todo, calls, taken = await self._work.read(_waiting)
        if not todo:
            return 0
        late_texts = {row.call_seq for row in todo if row.reason == "text"} & taken
        fresh = [call for seq, call in calls.items() if seq not in taken]
        to_read = fresh + [calls[seq] for seq in sorted(late_texts) if seq in calls]
        critic = self._local.critic
        readings = await asyncio.to_thread(critic.read, [call.texts() for call in to_read])
        self.outputs_read += sum(reading.p_fail is not None for reading in readings)
        paused = self._work.paused()
        scores: list[NewScore] = [score for call in fresh for score in self._work.plan.for_call(call, paused)]
        await self._work.write(
            partial(
                queue.take_todo,
                todo_seqs=[row.seq for row in todo],
                scores=scores,
                readings=[
                    reading_row(call.call_seq, reading, critic.version)
                    for call, reading in zip(to_read, readings, strict=True)
                ],
                reopen=sorted(late_texts),
                versions=self._work.plan.versions(scores),
                now_ms=self._work.clock_ms(),
            )
        )
        self._work.tell(self._work.plan.critics if late_texts else {score.critic for score in scores})
        return len(todo)


def _waiting(connection: Connection) -> tuple[Sequence[WaitingTodo], dict[int, TakenCall], set[int]]:
    """Return todo rows, their calls, and which of those have been taken before."""
    todo = waiting_todo(connection, TAKE_MAX)
    call_seqs = sorted({row.call_seq for row in todo})
    return todo, calls_by_seq(connection, call_seqs), taken_already(connection, call_seqs)
