"""The child process that keeps experiences, findings, changes and cases up to date.

Flow: ingest.children starts `run_outliers` -> outliers.experience.refresh ranks what is new ->
outliers.weekly computes the weeks that changed -> outliers.casework.following looks at the calls since a fix
-> everything is written through `Store.write`. No page waits for it.
"""

import logging
import time
from functools import partial

from ingest.children import Stop
from ingest.errors import IngestError
from ingest.settings import Settings
from ingest.store import Store
from outliers.casework.following import follow_cases
from outliers.experience.refresh import Ranking, keep_progress, new_ranking, now_ms, refresh_experience
from outliers.weekly import compute_weeks

#: The weekly computation takes at most this share of one core, however short `refresh_s` is.
BUSY_MAX = 0.4
#: While calls keep being ranked, weeks are computed once in this many turns; when none was, at once.
FLOWING_TURNS = 10

log = logging.getLogger(__name__)


def run_outliers(settings: Settings, store: Store, stop: Stop) -> None:
    """Refresh at once, then whenever `refresh_s` has passed, until `stop` is set; one line of log a run."""
    ranking: Ranking | None = None
    turns = FLOWING_TURNS
    while not stop.is_set():
        # of the processor: on a busy machine a run takes long and is no reason to wait longer
        started = time.process_time()
        try:
            if ranking is None:
                with store.read() as connection:
                    ranking = new_ranking(settings, connection)
            due = turns >= FLOWING_TURNS
            ranked = run_once(settings, store, ranking, weeks_due=due)
            turns = 1 if due or not ranked else turns + 1
        except IngestError as error:
            # What was not written is taken up again: cursors and marks move with the rows they stand for.
            log.warning("the refresh waits for the next turn: %s", error)
        took_s = time.process_time() - started
        stop.wait(max(settings.refresh_s, took_s * (1 / BUSY_MAX - 1)))


def run_once(
    settings: Settings, store: Store, ranking: Ranking | None = None, *, weeks_due: bool = True
) -> int:
    """Rank what is new and compute the weeks that changed; return how many calls were ranked.

    Args:
        weeks_due: compute the weeks although calls are still being ranked.
    """
    started = time.monotonic()
    if ranking is None:
        with store.read() as connection:
            ranking = new_ranking(settings, connection)
    refreshed = refresh_experience(store, settings, ranking)
    if refreshed.ranked and not weeks_due:
        store.write(partial(keep_progress, progress={"ran_at_ms": now_ms()}))
        log.info("ranked %d calls in %.1f s", refreshed.ranked, time.monotonic() - started)
        return refreshed.ranked
    weeks = compute_weeks(store, settings, now_ms())
    follow_cases(store, settings, ranking.rubric_weights, now_ms())
    if refreshed.ranked or weeks:
        found = ", ".join(f"{one.week.id}: {len(one.bad)} bad, {len(one.tail)} slow" for one in weeks)
        log.info(
            "ranked %d calls and computed %d weeks in %.1f s (%s)",
            refreshed.ranked,
            len(weeks),
            time.monotonic() - started,
            found or "no week changed",
        )
    return refreshed.ranked
