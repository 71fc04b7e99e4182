"""Taking calls in: each new call is read by the guard and gets the score rows it needs.

Flow: `todo` rows -> texts -> `LocalCritic.read` in a batch -> critic.working.choosing where a budget holds
-> critic.queue.plan -> `critic.queue.deferral.take_sampled`, one transaction. Late texts are read anew
and reopen what wanted them; a late signal that says the answer was bad reopens what was left out, put off or
could not be judged.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection

from critic.drivers.local import LocalDriver
from critic.hostile import marks_of
from critic.local import LocalCritic, Reading
from critic.queue.calls import (
    TakenCall,
    WaitingTodo,
    calls_by_seq,
    p_fails_by_call,
    reading_row,
    signals_by_call,
    taken_already,
    waiting_todo,
)
from critic.queue.deferral import take_sampled
from critic.queue.plan import skip_reason
from critic.queue.rows import Move, NewScore
from critic.queue.work import Work
from critic.spending.sampling import FORCED, Choice, Given, is_down
from critic.working.choosing import Choosing, Known

#: Calls read in one batch: some tenths of a second of the guard's time, at most 100 MB of texts.
TAKE_MAX = 100


class Taking:
    """See the module.

    Attributes:
        outputs_read: how many outputs the guard could read, for the next fit.
        catching_up: whether the last batch was a full one, so that more calls wait.
    """

    def __init__(
        self,
        work: Work,
        local: LocalDriver,
        *,
        poll_s: float,
        polarity: Mapping[str, float] | None = None,
    ) -> None:
        self._work = work
        self._local = local
        self._poll_s = poll_s
        self._polarity = polarity or {}
        self.rubrics_changed()
        self.outputs_read = 0
        self.catching_up = False

    def rubrics_changed(self) -> None:
        """Plan the sample for the rubrics that are in force now."""
        rubrics = self._work.plan.rubrics
        views = {rubric.view_blob for rubric in rubrics}
        self._choosing = Choosing(
            self._work.money, rubrics=len(rubrics), requests=len(views), polarity=self._polarity
        )

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
        waiting = await self._work.read(_waiting)
        todo, calls, taken = waiting.todo, waiting.calls, waiting.taken
        if not todo:
            return 0
        late_texts = {row.call_seq for row in todo if row.reason == "text"} & taken
        fresh = [call for seq, call in calls.items() if seq not in taken]
        late = [calls[seq] for seq in sorted(late_texts) if seq in calls]
        critic = self._local.critic
        readings, marks = await asyncio.to_thread(_seen_in, critic, fresh + late)
        read = {call.call_seq: reading.p_fail for call, reading in zip(fresh + late, readings, strict=True)}
        self.outputs_read += sum(p_fail is not None for p_fail in read.values())
        signalled = [calls[row.call_seq] for row in todo if row.reason == "signal" and row.call_seq in calls]
        old = {call.call_seq: call for call in signalled if call.call_seq in taken}
        choices = await self._choices([*fresh, *late, *old.values()], {**waiting.p_fails, **read})
        paused = self._work.paused()
        scores = [
            score
            for call in fresh
            for score in self._work.plan.for_call(call, paused, choices.get(call.call_seq))
        ]
        moves = self._moves(old, waiting.signals, choices)
        await self._work.write(
            partial(
                take_sampled,
                todo_seqs=[row.seq for row in todo],
                scores=scores,
                readings=[
                    reading_row(call.call_seq, reading, critic.version, marked)
                    for call, reading, marked in zip(fresh + late, readings, marks, strict=True)
                ],
                reopen=sorted(late_texts),
                placed=[row for call in late for row in _placed(call, choices.get(call.call_seq, {}))],
                versions=self._work.plan.versions(scores),
                moves=moves,
                counts=_counts(fresh, scores, choices),
                now_ms=self._work.clock_ms(),
            )
        )
        told = {score.critic for score in scores} | {move.critic for move in moves}
        self._work.tell(self._work.plan.critics if late_texts else told)
        return len(todo)

    async def _choices(
        self, calls: Sequence[TakenCall], p_fails: Mapping[int, float | None]
    ) -> dict[int, dict[str, Choice]]:
        if not self._choosing.samples:
            return {}
        known = [Known(call, p_fails.get(call.call_seq)) for call in calls]
        job = partial(self._choosing.choose, known=known, now_ms=self._work.clock_ms())
        return await self._work.read(job, counted=True)

    def _moves(
        self,
        old: Mapping[int, TakenCall],
        signals: Mapping[int, tuple[Given, ...]],
        choices: Mapping[int, Mapping[str, Choice]],
    ) -> list[Move]:
        """Return what late signals change: where a call belongs now, for the critics it matters to."""
        moves = []
        for call_seq in old:
            down = any(is_down(signal, self._polarity) for signal in signals.get(call_seq, ()))
            chosen = choices.get(call_seq, {})
            for critic in self._work.plan.critics:
                if critic in chosen:
                    new = chosen[critic]
                    moves.append(Move(call_seq, critic, new.stratum, new.inclusion, new.urgency, new.chosen))
                elif down:
                    urgency = FORCED["thumbs_down"]
                    moves.append(Move(call_seq, critic, "thumbs_down", 1.0, urgency, chosen=True))
        return moves


def _seen_in(
    critic: LocalCritic, calls: Sequence[TakenCall]
) -> tuple[Sequence[Reading], list[list[dict[str, str]] | None]]:
    """Return what the guard saw in each call, and what in its texts looks written for a critic."""
    texts = [call.texts() for call in calls]
    marks = [marks_of(one.input, one.output, one.context) for one in texts]
    return critic.read(texts), marks


@dataclass(frozen=True)
class _Waiting:
    """Todo rows, their calls, which of those were taken before, and what is known of those."""

    todo: Sequence[WaitingTodo]
    calls: Mapping[int, TakenCall]
    taken: set[int]
    p_fails: Mapping[int, float | None]
    signals: Mapping[int, tuple[Given, ...]]


def _waiting(connection: Connection) -> _Waiting:
    todo = waiting_todo(connection, TAKE_MAX)
    if not todo:
        return _Waiting((), {}, set(), {}, {})
    call_seqs = sorted({row.call_seq for row in todo})
    taken = taken_already(connection, call_seqs)
    signalled = sorted({row.call_seq for row in todo if row.reason == "signal"} & taken)
    return _Waiting(
        todo,
        calls_by_seq(connection, call_seqs),
        taken,
        p_fails_by_call(connection, signalled),
        signals_by_call(connection, signalled),
    )


def _placed(call: TakenCall, choices: Mapping[str, Choice]) -> list[dict[str, Any]]:
    """Return a late-read call's places in the sample, as `critic.queue.deferral.place_late` takes them."""
    return [
        {
            "of_call": call.call_seq,
            "of_critic": critic,
            "to_stratum": choice.stratum,
            "to_inclusion": choice.inclusion,
            "to_uniform": choice.uniform,
            "to_urgency": choice.urgency,
            "skip_because": None if choice.chosen else skip_reason(choice),
        }
        for critic, choice in choices.items()
    ]


def _counts(
    fresh: Sequence[TakenCall], scores: Sequence[NewScore], choices: Mapping[int, Mapping[str, Choice]]
) -> dict[tuple[int, str, str], tuple[int, int]]:
    """Return calls and chosen calls by (project, critic, stratum), where that critic was to be asked."""
    asked = {(score.call_seq, score.critic) for score in scores if score.stratum}
    calls: Counter[tuple[int, str, str]] = Counter()
    chosen: Counter[tuple[int, str, str]] = Counter()
    for call in fresh:
        for critic, choice in choices.get(call.call_seq, {}).items():
            if (call.call_seq, critic) in asked:
                calls[call.project_id, critic, choice.stratum] += 1
                chosen[call.project_id, critic, choice.stratum] += choice.chosen
    return {key: (n, chosen[key]) for key, n in calls.items()}
