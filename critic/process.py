"""The critic's child process: what `ingest.children.Child` runs beside the server.

Flow: settings -> rubrics, drivers, the newest guard fit -> critic.working.worker and critic.working.refit,
until `stop`.
"""

import asyncio
import logging
from functools import partial

from critic import drivers, queue
from critic.batching.lane import Waits
from critic.drivers.local import LocalDriver
from critic.explaining.explainer import Explainer
from critic.queue.calls import outputs_read
from critic.queue.plan import Plan
from critic.queue.work import Work, now_ms
from critic.spending.budget import settle_dead
from critic.spending.money import money_for
from critic.working.refit import Refitting
from critic.working.rereading import Rereading
from critic.working.worker import Worker
from ingest.children import Stop
from ingest.settings import Settings
from ingest.store import Store, sqlite_path
from rubrics import load_rubrics

log = logging.getLogger(__name__)

#: How soon a stop asked for by the server is seen.
STOP_POLL_S = 0.1


def run_critic(settings: Settings, store: Store, stop: Stop, *, batch_waits: Waits | None = None) -> None:
    """Score calls until `stop` is set. With `LOWLIGHT_CRITIC=none` it only waits.

    Args:
        batch_waits: other waits for batches than the usual ones, which are long.

    Raises:
        BadSettings: an unknown critic, one without its key, or a budget for one whose price is unknown.
        BadRubric: a rubric file that cannot be used.
        ExceptionGroup: a bug, see `critic.working.worker.Worker`; start it again.
    """
    configured = drivers.build(settings)
    if not configured:
        stop.wait()
        return
    plan = Plan(configured, load_rubrics(settings.rubrics_dir), settings.egress)
    money = money_for(settings, configured, now_ms())
    asyncio.run(_run(settings, Work(store, plan, money=money), configured, stop, batch_waits))


async def _run(
    settings: Settings,
    work: Work,
    configured: list[drivers.Driver],
    stop: Stop,
    batch_waits: Waits | None,
) -> None:
    # The guard reads every call, also where the local critic is not among those that score.
    own = [driver for driver in configured if isinstance(driver, LocalDriver)]
    local = own[0] if own else LocalDriver(settings.base_rate)
    worker = Worker(settings, work, configured, local, batch_waits=batch_waits)
    explainer = Explainer(
        work,
        [driver for driver in drivers.build(settings) if driver.leaves_machine],
        timeout_s=settings.critic_timeout_s,
        poll_s=settings.critic_poll_s,
    )
    rereading = Rereading(work, settings.rubrics_dir, changed=worker.taking.rubrics_changed)
    refitting = Refitting(work, worker.taking, local, settings.base_rate)
    if sqlite_path(settings.database_url) is not None:
        # One file has one server and that one critic: whatever is leased was the last one's.
        back = await work.write(partial(queue.release_leases, now_ms=work.clock_ms()))
        if back:
            log.info("%d rows that an earlier worker had in hand are due again", back)
        usd = await work.write(partial(settle_dead, now_ms=None))
        if usd:
            log.warning("$%.4f that an earlier worker held when it ended is settled in full", usd)
    worker.taking.outputs_read = await work.read(outputs_read)
    await refitting.begin()
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_watch(stop, stopping))
        group.create_task(refitting.run(stopping))
        group.create_task(worker.run(stopping))
        group.create_task(explainer.run(stopping))
        group.create_task(rereading.run(stopping))


async def _watch(stop: Stop, stopping: asyncio.Event) -> None:
    while not stop.is_set():
        await asyncio.sleep(STOP_POLL_S)
    stopping.set()
