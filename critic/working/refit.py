"""Refitting the guard on the team's own outputs: at 200, at 1,000, then each time they double.

Flow: count of outputs read -> `is_due` -> newest texts -> `critic.local.fit_guard` in a thread (seconds) ->
`guard_fit` row -> the local critic reads with it from then on. Readings made before keep their version.
"""

import asyncio
import logging
from functools import partial
from typing import Any

from sqlalchemy import Connection, func, select

from critic.drivers.local import LocalDriver
from critic.local import LocalCritic, Texts, fit_guard, input_text
from critic.queue.work import Work
from critic.tables import GuardFit
from critic.working.taking import Taking
from ingest.packed_text import plain
from ingest.tables import DEFAULT_PROJECT, Call, CallText, columns

log = logging.getLogger(__name__)

FIT, CALL, TEXT = columns(GuardFit), columns(Call), columns(CallText)

FIRST_FITS_AT = (200, 1_000)
#: Newest outputs a fit reads: more gain little and cost memory.
OUTPUTS_MAX = 1_000
#: Of a long text a fit reads the head; features of the whole are computed when a call is read.
CHARS_MAX = 20_000
CHECK_EVERY_S = 5.0
#: While a backlog is taken in (an import, the demo) a fit waits, so that it reads more and slows nobody.
WAITS_FOR_BACKLOG_S = 120.0


def is_due(seen: int, seen_at_last_fit: int) -> bool:
    """Tell whether a threshold lies between the outputs seen at the last fit (0: none) and those seen now."""
    reached = 0
    for threshold in FIRST_FITS_AT:
        if seen >= threshold:
            reached = threshold
    if reached == FIRST_FITS_AT[-1]:
        while 2 * reached <= seen:
            reached *= 2
    return reached > seen_at_last_fit


def newest_fit(connection: Connection) -> tuple[dict[str, Any] | None, int]:
    """Return the fit in use and the outputs seen when it was made; (None, 0) before the first."""
    newest = select(FIT.c.model, FIT.c.seen).where(FIT.c.project_id == DEFAULT_PROJECT)
    row = connection.execute(newest.order_by(FIT.c.seq.desc()).limit(1)).first()
    return (None, 0) if row is None else (row.model, row.seen)


def own_outputs(connection: Connection, limit: int) -> list[Texts]:
    """Return the newest answers with their inputs, heads only; calls with a huge context are left out."""
    newest = (
        select(
            func.substr(func.coalesce(plain(TEXT.c.input), ""), 1, CHARS_MAX).label("input"),
            TEXT.c.input_json,
            func.substr(plain(TEXT.c.output), 1, CHARS_MAX).label("output"),
            TEXT.c.context,
        )
        .join(CALL, CALL.c.seq == TEXT.c.call_seq)
        .where(
            CALL.c.project_id == DEFAULT_PROJECT,
            CALL.c.outcome == "answered",
            func.coalesce(CALL.c.context_chars, 0) <= 5 * CHARS_MAX,
            TEXT.c.output.is_not(None),
        )
        .order_by(TEXT.c.call_seq.desc())
        .limit(limit)
    )
    return [
        Texts(input_text(row.input, bool(row.input_json)), row.output, tuple(row.context or ()))
        for row in connection.execute(newest)
    ]


def keep_fit(connection: Connection, *, n: int, seen: int, model: dict[str, Any], now_ms: int) -> None:
    """Keep a fit; the newest is in use."""
    connection.execute(
        FIT.insert().values(project_id=DEFAULT_PROJECT, fitted_at_ms=now_ms, n=n, seen=seen, model=model)
    )


class Refitting:
    """Watches how many outputs were read, and refits when the next threshold is reached."""

    def __init__(self, work: Work, taking: Taking, local: LocalDriver, base_rate: float) -> None:
        self._work = work
        self._taking = taking
        self._local = local
        self._base_rate = base_rate
        self._seen_at_last_fit = 0

    async def begin(self) -> None:
        """Read with the newest fit that is kept."""
        model, self._seen_at_last_fit = await self._work.read(newest_fit)
        if model is not None:
            self._local.critic = LocalCritic(self._base_rate, model)

    async def run(self, stop: asyncio.Event) -> None:
        """Refit whenever it is due, until `stop` is set."""
        waited_s = 0.0
        while not stop.is_set():
            if self._taking.catching_up and waited_s < WAITS_FOR_BACKLOG_S:
                waited_s += CHECK_EVERY_S
            else:
                waited_s = 0.0
                await self.refit_if_due()
            try:
                async with asyncio.timeout(CHECK_EVERY_S):
                    await stop.wait()
            except TimeoutError:
                continue

    async def refit_if_due(self) -> bool:
        """Refit where a threshold has been reached; return whether it was."""
        seen = self._taking.outputs_read
        if not is_due(seen, self._seen_at_last_fit):
            return False
        own = await self._work.read(partial(own_outputs, limit=OUTPUTS_MAX))
        model = await asyncio.to_thread(fit_guard, own)
        await self._work.write(
            partial(keep_fit, n=len(own), seen=seen, model=model, now_ms=self._work.clock_ms())
        )
        self._local.critic = LocalCritic(self._base_rate, model)
        self._seen_at_last_fit = seen
        log.info("the guard is fitted on %d of this team's own outputs", len(own))
        return True
