"""What the critic's writes read does not grow with what is kept, what waits, or what is put off.

Counted in steps of SQLite's virtual machine, which a busy machine does not change.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, insert

from critic import queue
from critic.queue import calls as queue_calls
from critic.queue.deferral import give_up, place_late, revive
from critic.queue.rescoring import mean_cost_usd
from critic.queue.rows import Finished, NewScore
from critic.spending.budget import DAY_MS
from ingest.store import writing_engine
from tests.rows import put_calls

CRITIC, NOW_MS = "openai:m", 100 * DAY_MS
FEW, MANY = 300, 9_000


@pytest.fixture
def connection(store: Any) -> Iterator[Connection]:
    engine = writing_engine(store.database_url)
    with engine.connect() as opened, opened.begin():
        yield opened
    engine.dispose()


def steps(connection: Connection, job: Callable[[], Any]) -> int:
    """Return how many hundreds of steps a job takes, and one more."""
    counted = 1

    def _count() -> None:
        nonlocal counted
        counted += 1

    raw: Any = connection.connection.dbapi_connection
    raw.set_progress_handler(_count, 100)
    try:
        job()
    finally:
        raw.set_progress_handler(None, 0)
    return counted


def put(connection: Connection, n: int, status: str, first_call: int, **more: Any) -> None:
    """Put rows of one status there, two rubrics a call."""
    scored = {f"p{i}": float(i == 7) for i in range(1, 8)} | {"score": 7.0} if status == "scored" else {}
    rows = [
        {
            "call_seq": first_call + i // 2,
            "rubric": f"r{i % 2}",
            "rubric_blob": f"b{i % 2}",
            "view_blob": "v",
            "critic": CRITIC,
            "status": status,
            "created_at_ms": 0,
            "not_before_ms": NOW_MS - DAY_MS,
            "urgency": i / (2 * MANY),
            "changed": first_call + i,
            **scored,
            **more,
        }
        for i in range(n)
    ]
    connection.execute(insert(queue.SCORE), rows)


def kept(connection: Connection, n: int) -> None:
    put(connection, n, "scored", 1_000_000)


def waiting(connection: Connection, n: int) -> None:
    put(connection, n, "pending", 2_000_000)


def put_off(connection: Connection, n: int) -> None:
    put(connection, n, "deferred", 3_000_000, deferred_at_ms=NOW_MS - DAY_MS)


def lease_and_finish(connection: Connection) -> None:
    leased = queue.lease(connection, CRITIC, calls_max=5, now_ms=NOW_MS, lease_ms=1)
    assert len(leased) == 10
    done = [Finished(row.seq, row.token, "failed", "no") for row in leased]
    queue.settle(connection, finished=done, retries=[], spends=[], now_ms=NOW_MS)


def add(connection: Connection) -> None:
    new = [NewScore(9_000_000 + i, "r0", "b0", "v", CRITIC) for i in range(10)]
    assert queue.add_scores(connection, new, now_ms=NOW_MS) == 10


def place(connection: Connection) -> None:
    one = {"to_stratum": "usual", "to_inclusion": 0.5, "to_uniform": False, "to_urgency": 0.1}
    placed = [{**one, "of_call": 1 + i, "of_critic": CRITIC, "skip_because": None} for i in range(10)]
    place_late(connection, placed, now_ms=NOW_MS)


def revive_some(connection: Connection) -> None:
    assert revive(connection, CRITIC, calls_max=5, now_ms=NOW_MS) == 10


def more_of(connection: Connection, more: Callable[[Connection, int], None]) -> None:
    kept_before = {put_off: 3_000_000, kept: 1_000_000, waiting: 2_000_000}[more]
    connection.execute(
        queue.SCORE.delete().where(queue.SCORE.c.call_seq.between(kept_before, kept_before + FEW))
    )
    more(connection, MANY)


def give_up_none(connection: Connection) -> None:
    assert give_up(connection, now_ms=NOW_MS) == 0


@pytest.mark.parametrize("more", [kept, waiting])
def test_looking_for_what_waited_too_long_reads_what_is_put_off_alone(
    connection: Connection, more: Callable[[Connection, int], None]
) -> None:
    """It read every row that was kept, every two seconds, in the one writer."""
    put_off(connection, 20)
    more(connection, FEW)
    beside_few = steps(connection, partial(give_up_none, connection))
    more_of(connection, more)
    assert steps(connection, partial(give_up_none, connection)) <= 1.3 * beside_few + 5


@pytest.mark.parametrize("more", [kept, waiting, put_off])
@pytest.mark.parametrize("job", [lease_and_finish, add, place, revive_some])
def test_a_write_takes_no_longer_beside_many_rows(
    connection: Connection, job: Callable[[Connection], None], more: Callable[[Connection, int], None]
) -> None:
    """Leasing went through the whole backlog, placing through it once a call, giving up through every row."""
    put(connection, 20, "pending", 1)
    put(connection, 20, "deferred", 100, deferred_at_ms=NOW_MS - DAY_MS, urgency=9.0)
    more(connection, FEW)
    savepoint = connection.begin_nested()
    beside_few = steps(connection, partial(job, connection))
    savepoint.rollback()
    more_of(connection, more)
    beside_many = steps(connection, partial(job, connection))
    assert beside_many <= 1.3 * beside_few + 5, (beside_few, beside_many)


def test_paging_through_a_backlog_reads_it_once(connection: Connection) -> None:
    """Each page used to sort what was left of it."""
    put_calls(connection, [{"started_at_ms": NOW_MS} for _ in range(MANY // 2)])
    put(connection, MANY, "pending", 1)

    def _pages(size: int) -> None:
        after, n = 0, 0
        while page := queue_calls.waiting_rows(
            connection, [CRITIC], others=False, after_seq=after, limit=size
        ):
            after, n = page[-1].seq, n + len(page)
        assert n == MANY

    assert steps(connection, partial(_pages, 300)) <= 1.3 * steps(connection, partial(_pages, MANY))


def test_the_mean_cost_of_a_critic_without_prices_is_not_looked_for_in_all_that_is_kept(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("critic.queue.rescoring.ROWS_LOOKED_AT", 200)
    kept(connection, FEW)
    beside_few = steps(connection, lambda: mean_cost_usd(connection, "r0", CRITIC))
    put(connection, MANY, "scored", 5_000_000)
    assert steps(connection, lambda: mean_cost_usd(connection, "r0", CRITIC)) <= 1.3 * beside_few + 5
