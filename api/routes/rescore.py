"""POST /v1/rescore: makes work for old calls under a rubric's version in force, a page at a time.

Flow: `lowlight rescore` -> body -> `critic.queue.rescoring.page_of` on a reader -> with `dry_run` false
one write job -> counts, cost so far and the cursor of the next page.
"""

import time
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from api.deps import SettingsDep, StoreDep
from api.door.short_bodies import ShortJsonRoute
from api.errors import Refused
from critic import drivers
from critic.drivers.batching import Batching, no_batch_reason
from critic.queue import rescoring
from critic.queue.plan import Plan
from critic.spending.prices import load_prices
from critic.trust.anchors import OCCASION, anchors_of
from ingest.settings import Settings
from ingest.store import Store
from ingest.tables import DEFAULT_PROJECT
from rubrics import Rubric, load_rubrics

router = APIRouter(prefix="/v1", tags=["critic"], route_class=ShortJsonRoute)


class RescoreAsked(BaseModel):
    """The body of POST /v1/rescore."""

    model_config = ConfigDict(extra="forbid")

    rubric: str
    critic: str | None = Field(None, description="One of LOWLIGHT_CRITIC; the first unless given.")
    since: datetime | None = Field(
        None, description="Calls that started from then on; needed unless `anchors` are asked for."
    )
    until: datetime | None = Field(None, description="Calls that started before; now unless given.")
    where: dict[str, str] = Field(
        default_factory=dict, description=f"Fields that calls must have: {', '.join(rescoring.FIELDS)}."
    )
    batch: bool = Field(False, description="Ask by the critic's batch endpoint: within a day, and cheaper.")
    anchors: bool = Field(
        False,
        description="Ask about the rubric's anchors (the calls that people labelled first) once more, on an "
        "occasion of its own that enters no average: whether the critic has moved.",
    )
    after: Annotated[int, Field(ge=0)] = Field(0, description="`next` of the page before.")
    dry_run: bool = Field(True, description="Count only; make nothing.")


class RescorePage(BaseModel):
    """One page of calls: add them up until `next` is null.

    `made` is the number of rows that were made, 0 in a dry run; `to_ask` the rows that were missing.
    `cost_usd_each` is what one will cost, by the mean of the last `cost_n`. `batch_factor` is what a batch is
    charged of the price, null where no batch was asked for or the price is unknown; `batches` says in words
    how the critic's batches stand.
    """

    version: str
    critic: str
    calls: int
    answered: int
    to_ask: int
    made: int
    cost_usd_each: float | None
    cost_n: int
    waiting: int
    batch_factor: float | None = None
    batches: str | None = None
    next: int | None


@router.post("/rescore")
def post_rescore(asked: RescoreAsked, store: StoreDep, settings: SettingsDep) -> RescorePage:
    """Count the old calls that a rubric's version in force was not asked about, or make work for them."""
    return rescore(asked, store, settings)


def rescore(asked: RescoreAsked, store: Store, settings: Settings) -> RescorePage:
    """Do one page; what the route and the command share.

    Raises:
        Refused: 422; an unknown rubric, critic or field.
    """
    built = drivers.build(settings)
    plan = Plan(built, load_rubrics(settings.rubrics_dir), settings.egress)
    rubric = _rubric(plan, asked.rubric)
    critic = _critic(plan, asked.critic)
    if asked.batch and not any(isinstance(one, Batching) for one in built if one.name == critic):
        raise Refused(422, "no_batch", no_batch_reason(critic), field="batch")
    if asked.since is None and not asked.anchors:
        raise Refused(422, "invalid", "since is missing: say from when on calls are meant.", field="since")
    unknown = sorted(asked.where.keys() - set(rescoring.FIELDS))
    if unknown:
        fields = ", ".join(rescoring.FIELDS)
        raise Refused(422, "invalid", f"{unknown[0]} is no field to ask by; take {fields}.", field="where")
    now_ms = time.time_ns() // 1_000_000
    wanted = rescoring.Asked(
        project_id=DEFAULT_PROJECT,
        rubric=rubric,
        critic=critic,
        since_ms=0 if asked.since is None else _ms(asked.since),
        until_ms=now_ms if asked.until is None else _ms(asked.until),
        where=asked.where,
        batch=asked.batch,
        among=anchors_of(DEFAULT_PROJECT, rubric.name) if asked.anchors else None,
        occasion=f"{OCCASION}{_today(now_ms)}" if asked.anchors else "",
    )
    price = load_prices(settings.prices).of(critic, None, now_ms)
    factor = None if price is None else price.batch_factor
    with store.read() as connection:
        page = rescoring.page_of(connection, wanted, plan, after_seq=asked.after)
        each, n = rescoring.mean_cost_usd(connection, rubric.name, critic, batch_factor=factor or 1.0)
    if asked.batch and each is not None:
        each *= factor or 1.0
    made = 0
    if not asked.dry_run and page.rows:
        job: Any = partial(
            rescoring.make_work, rows=page.rows, versions=plan.versions(page.rows), now_ms=now_ms
        )
        made = store.write(job)
    with store.read() as connection:
        waiting = rescoring.waiting(connection, rubric.blob, critic)
        batches = rescoring.batches_told(connection, critic) if asked.batch else None
    return RescorePage(
        version=rubric.blob,
        critic=critic,
        calls=page.calls,
        answered=page.answered,
        to_ask=page.calls - page.answered,
        made=made,
        cost_usd_each=0.0 if critic == "local" else each,
        cost_n=n,
        waiting=waiting,
        batch_factor=factor if asked.batch else None,
        batches=batches,
        next=page.next_seq,
    )


def _rubric(plan: Plan, name: str) -> Rubric:
    for rubric in plan.rubrics:
        if rubric.name == name:
            return rubric
    names = ", ".join(rubric.name for rubric in plan.rubrics)
    raise Refused(422, "unknown_rubric", f"There is no rubric {name!r}; there are {names}.", field="rubric")


def _critic(plan: Plan, name: str | None) -> str:
    if not plan.critics:
        raise Refused(422, "no_critic", "No critic is configured; set LOWLIGHT_CRITIC.", field="critic")
    if name is None:
        return plan.critics[0]
    if name not in plan.critics:
        critics = ", ".join(plan.critics)
        message = f"{name!r} is not among the configured critics: {critics}; see LOWLIGHT_CRITIC."
        raise Refused(422, "unknown_critic", message, field="critic")
    return name


def _today(now_ms: int) -> str:
    return datetime.fromtimestamp(now_ms / 1000, UTC).date().isoformat()


def _ms(at: datetime) -> int:
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
