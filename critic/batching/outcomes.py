"""What became of a batch's rows: answers, refusals, requests to be sent again, and what it all cost.

Flow: `Batcher.fetch` and critic.batching.batches.rows_of -> `became` -> critic.batching.batches.close_rows
and `end_batch`. Pure, and of the same file always the same: it may be worked out again after a crash.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from critic.batching.batches import BATCH_TRIES, InBatch, OpenBatch
from critic.batching.gathering import custom_id
from critic.drivers.base import Answer, Charge, Verdict
from critic.drivers.batching import Batcher, Missed, Outcome, Results
from critic.drivers.draws import Draw
from critic.queue.closing import closed_by
from critic.queue.rows import NOT_BY_ITSELF_MS, Finished, NewScore, Retry
from critic.spending.budget import Reserved, Spend

Next = Callable[[InBatch], Sequence[NewScore]]
#: Dollars that an answer cost; None where unknown.
Price = Callable[[Charge], float | None]

NOTHING_CAME = "the provider's answers hold nothing for it"


@dataclass
class Became:
    """See the module."""

    finished: list[Finished] = field(default_factory=list)
    back: list[Retry] = field(default_factory=list)
    spends: list[Spend] = field(default_factory=list)


def became(
    batch: OpenBatch,
    results: Results,
    rows: Sequence[InBatch],
    *,
    batcher: Batcher,
    held: Reserved | None,
    price: Price,
    next_rows: Next,
) -> Became:
    """Return what becomes of each row that is still in its batch, and what is to be booked for all of it.

    Args:
        next_rows: the rows of whoever judges a call that this critic gave no score.
    """
    outcomes = {name: one for name, one in results.outcomes.items() if name.startswith(f"{batch.mark}-")}
    costs = {name: 0.0 if isinstance(one, Missed) else price(one) for name, one in outcomes.items()}
    by_request: dict[int, list[InBatch]] = defaultdict(list)
    for row in rows:
        by_request[row.request].append(row)
    done = Became()
    lost = 0
    for request, of_request in by_request.items():
        names = [custom_id(batch.mark, request, place) for place in range(batcher.requests_a_case)]
        lost += 0 if results.whole else sum(name not in outcomes for name in names)
        known = [costs.get(name, 0.0) for name in names]
        cost_usd = None if None in known else sum(cost or 0.0 for cost in known) / len(of_request)
        _judged([outcomes.get(name) for name in names], of_request, cost_usd, batcher, next_rows, done)
    done.spends = _spends(batch, list(costs.values()), outcomes, lost, held)
    return done


def not_run(
    rows: Sequence[InBatch], reason: str | None, *, counts: bool, next_rows: Next
) -> tuple[list[Finished], list[Retry]]:
    """Return what becomes of rows that were not asked: the next batch, or no more where tries are spent."""
    done = Became()
    for row in rows:
        if row.open:
            _again(row, reason, done, next_rows, counts=counts)
    return done.finished, done.back


def _judged(
    outcomes: Sequence[Outcome | None],
    rows: Sequence[InBatch],
    cost_usd: float | None,
    batcher: Batcher,
    next_rows: Next,
    done: Became,
) -> None:
    """Add what becomes of the rows of one case. More than half of its draws are an answer."""
    came = [one for one in outcomes if one is not None and not isinstance(one, Missed)]
    if 2 * len(came) > len(outcomes):
        verdicts = batcher.verdicts(came, [row.rubric for row in rows])
        for row, verdict in zip(rows, verdicts, strict=True):
            if row.open:
                then = () if isinstance(verdict, Answer) else next_rows(row)
                done.finished.append(
                    closed_by(
                        row,
                        verdict,
                        then=then,
                        seen_share=row.seen_share,
                        cost_usd=cost_usd,
                        answer_ms=None,
                    )
                )
        return
    missed = next((one for one in outcomes if isinstance(one, Missed)), Missed(NOTHING_CAME, again=True))
    for row in rows:
        if not row.open:
            continue
        if missed.again:
            _again(row, missed.reason, done, next_rows, counts=True)
        else:
            done.finished.append(
                Finished(row.seq, row.token, "failed", missed.reason, then=tuple(next_rows(row)))
            )


def _again(row: InBatch, reason: str | None, done: Became, next_rows: Next, *, counts: bool) -> None:
    if counts and row.attempts >= BATCH_TRIES:
        why = f"given up after {row.attempts} batches; the last: {reason}"
        done.finished.append(Finished(row.seq, row.token, "failed", why, then=tuple(next_rows(row))))
    else:
        done.back.append(Retry(row.seq, row.token, NOT_BY_ITSELF_MS, reason, counts))


def _spends(
    batch: OpenBatch,
    costs: Sequence[float | None],
    outcomes: Mapping[str, Outcome],
    lost: int,
    held: Reserved | None,
) -> list[Spend]:
    """Return what to book. Where any request's cost is unknown, all that was held may have been charged."""
    known_usd = sum(cost for cost in costs if cost is not None)
    unknown = sum(cost is None for cost in costs) + lost
    asked = sum(_asked(one) for one in outcomes.values()) + lost
    if held is not None:
        usd = None if unknown else known_usd
        return [Spend(batch.project_id, batch.critic, usd, held, requests=asked, known_usd=known_usd)]
    spends = [Spend(batch.project_id, batch.critic, known_usd, requests=asked - unknown)]
    if unknown:
        spends.append(Spend(batch.project_id, batch.critic, None, requests=unknown))
    return spends


def _asked(outcome: Draw | Verdict | Missed) -> bool:
    return not isinstance(outcome, Missed)
