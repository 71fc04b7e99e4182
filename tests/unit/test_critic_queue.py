"""The critic's queue on a real database: leases, tokens, attempts, and what the database itself refuses."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from critic import queue
from critic.queue import pauses
from critic.queue.leasing import WAIT_MAX_MS
from critic.queue.rows import NO_OUTPUT, NOT_BY_ITSELF_MS, Finished, Leased, NewScore, Retry
from critic.spending.budget import DAY_MS
from ingest.store import OpenStore

SCORE = queue.SCORE
LEASE_MS = 1_000


def new(call_seq: int, rubric: str = "tone", critic: str = "local") -> NewScore:
    return NewScore(call_seq, rubric, f"blob-{rubric}", "view", critic)


def take(store: OpenStore, *scores: NewScore, now_ms: int = 0, **more: Any) -> int:
    job = partial(
        queue.take_todo,
        **{"todo_seqs": [], "readings": [], "reopen": [], "versions": [], **more},
        scores=scores,
        now_ms=now_ms,
    )
    return store.write(job)


def lease(store: OpenStore, now_ms: int, critic: str = "local", calls_max: int = 100) -> list[Leased]:
    return store.write(
        partial(queue.lease, critic=critic, calls_max=calls_max, now_ms=now_ms, lease_ms=LEASE_MS)
    )


def scored(row: Leased, level: int = 4) -> Finished:
    shares = tuple(1.0 if at == level else 0.0 for at in range(1, 8))
    return Finished(row.seq, row.token, "scored", probabilities=shares, score=float(level))


def finish(store: OpenStore, *results: Finished, now_ms: int = 0) -> list[int]:
    return store.write(partial(queue.finish, results=results, now_ms=now_ms))


def rows(store: OpenStore) -> list[Any]:
    with store.read() as connection:
        return list(connection.execute(select(SCORE).order_by(SCORE.c.seq)).mappings())


def test_a_row_is_handed_out_once_until_its_lease_ends(store: OpenStore) -> None:
    take(store, new(1))
    (first,) = lease(store, now_ms=0)
    assert lease(store, now_ms=LEASE_MS - 1) == []
    (again,) = lease(store, now_ms=LEASE_MS)
    assert (again.seq, again.attempts) == (first.seq, 2)
    assert again.token != first.token


def test_an_answer_after_the_lease_went_to_another_is_refused_and_reported(store: OpenStore) -> None:
    take(store, new(1))
    (dead,) = lease(store, now_ms=0)
    (alive,) = lease(store, now_ms=LEASE_MS)
    assert finish(store, scored(dead, level=7)) == [dead.seq]
    assert rows(store)[0]["status"] == "pending"
    assert finish(store, scored(alive, level=2)) == []
    assert finish(store, scored(alive, level=7)) == [alive.seq], "a finished row is finished once"
    assert rows(store)[0]["score"] == 2.0


def test_a_late_answer_takes_none_of_its_neighbours_with_it(store: OpenStore) -> None:
    take(store, new(1), new(2))
    one, two = lease(store, now_ms=0)
    assert finish(store, replace(scored(one), token="not-mine"), scored(two)) == [one.seq]
    assert [row["status"] for row in rows(store)] == ["pending", "scored"]


def test_taking_a_call_again_doubles_nothing(store: OpenStore) -> None:
    assert take(store, new(1), new(1, "fluency")) == 2
    (done, _other) = lease(store, now_ms=0)
    finish(store, scored(done))
    assert take(store, new(1), new(1, "fluency"), new(2)) == 1
    assert [(row["call_seq"], row["status"]) for row in rows(store)] == [
        (1, "scored"),
        (1, "pending"),
        (2, "pending"),
    ]


def test_leases_go_by_the_time_a_row_is_due_whatever_it_waited_for(store: OpenStore) -> None:
    """Retries must not push out new calls, nor new calls retries."""
    take(store, new(1), now_ms=0)
    (row,) = lease(store, now_ms=0)
    take(store, new(2), now_ms=10)
    retry = Retry(row.seq, row.token, not_before_ms=20, error="429", counts=False)
    assert store.write(partial(queue.retry_later, retries=[retry])) == []
    take(store, new(3), now_ms=30)
    assert [leased.call_seq for leased in lease(store, now_ms=15)] == [2]
    assert [leased.call_seq for leased in lease(store, now_ms=40)] == [1, 3]


def test_all_rows_of_a_call_are_handed_out_together(store: OpenStore) -> None:
    """Rubrics that see the same view share a request, so a call must not be cut in two."""
    take(store, *(new(call, f"rubric-{i}") for call in (1, 2, 3) for i in range(12)))
    leased = lease(store, now_ms=0, calls_max=2)
    by_call = [sum(row.call_seq == call for row in leased) for call in (1, 2, 3)]
    assert by_call == [12, 12, 0]


def test_only_tries_that_count_spend_the_attempts(store: OpenStore) -> None:
    take(store, new(1))
    for attempt in range(20):
        (row,) = lease(store, now_ms=attempt)
        assert (row.attempts, row.spent) == (1, False)
        handed_back = Retry(row.seq, row.token, attempt, "429", counts=False)
        store.write(partial(queue.retry_later, retries=[handed_back]))
    for attempt in range(1, queue.ATTEMPTS_MAX + 2):
        (row,) = lease(store, now_ms=100 + attempt * LEASE_MS)
        assert (row.attempts, row.spent) == (attempt, attempt > queue.ATTEMPTS_MAX)
    assert row.last_error == "429"


def test_a_retry_under_a_foreign_token_changes_nothing(store: OpenStore) -> None:
    take(store, new(1))
    (row,) = lease(store, now_ms=0)
    late = Retry(row.seq, "not-mine", not_before_ms=0, error=None, counts=False)
    assert store.write(partial(queue.retry_later, retries=[late])) == [row.seq]
    assert lease(store, now_ms=1) == []


def test_a_paused_critic_gets_no_rows_and_others_do(store: OpenStore) -> None:
    take(store, new(1, critic="openai:m"), new(1))
    store.write(partial(pauses.pause_critic, critic="openai:m", until_ms=500, reason="quota spent", now_ms=0))
    assert lease(store, 100, "openai:m") == []
    assert len(lease(store, 100, "local")) == 1
    with store.read() as connection:
        assert queue.backlog(connection, 100).paused == {"openai:m": "quota spent"}
    assert len(lease(store, 500, "openai:m")) == 1, "the pause ends by itself"


def test_what_the_next_critic_gets_is_made_with_the_refusal(store: OpenStore) -> None:
    take(store, new(1, critic="openai:m"))
    (row,) = lease(store, 0, "openai:m")
    finish(store, Finished(row.seq, row.token, "refused", "declined", then=(new(1),)))
    assert [(row["critic"], row["status"]) for row in rows(store)] == [
        ("openai:m", "refused"),
        ("local", "pending"),
    ]


def test_late_texts_reopen_what_was_closed_for_want_of_them(store: OpenStore) -> None:
    closed = replace(new(1), status="ungraded", reason=NO_OUTPUT)
    other = replace(new(1, "accuracy"), status="ungraded", reason="no model read the text")
    take(store, closed, other)
    assert lease(store, now_ms=0) == []
    take(store, reopen=[1], now_ms=10)
    assert [row.rubric for row in lease(store, now_ms=10)] == ["tone"]


def test_every_finished_answer_has_a_larger_number_than_those_before(store: OpenStore) -> None:
    """Readers that keep up remember the largest; one that came later with a smaller one would be lost."""
    take(store, *(new(call) for call in range(6)), replace(new(9), status="ungraded", reason="x"))
    leased = lease(store, now_ms=0)
    seen = [row["changed"] for row in rows(store) if row["changed"]]
    for part in (leased[3:], leased[:3]):
        finish(store, *(scored(row) for row in part))
        now = [row["changed"] for row in rows(store) if row["changed"]]
        fresh = [number for number in now if number not in seen]
        assert len(fresh) == len(part)
        assert min(fresh) > max(seen)
        seen = now


def test_a_worker_that_starts_alone_has_the_rows_of_the_dead_one_at_once(store: OpenStore) -> None:
    take(store, new(1), new(2))
    lease(store, now_ms=0, calls_max=1)
    assert store.write(partial(queue.release_leases, now_ms=5)) == 1
    assert {row.attempts for row in lease(store, now_ms=5)} == {1, 2}


@pytest.mark.parametrize(
    ("values", "check"),
    [
        ("status = 'scored'", "scored_has_"),
        ("score = 4.0, p7 = 0.5", "scored_has_"),
        ("status = 'scored', score = 99, p7 = 0.5", "score_in_range"),
        ("status = 'done'", "status_known"),
    ],
)
def test_the_database_refuses_what_no_score_can_be(store: OpenStore, values: str, check: str) -> None:
    take(store, new(1))

    def spoil(connection: Any) -> None:
        connection.execute(text(f"update score set {values}"))

    with pytest.raises(IntegrityError, match=check):
        store.write(spoil)
    assert rows(store)[0]["status"] == "pending"


def test_what_a_clock_that_was_ahead_put_off_is_due_soon_after_a_start(store: OpenStore) -> None:
    """The clock stood in another year when the worker ended, and was set right while nothing ran."""
    year_ms = 365 * DAY_MS
    take(store, *(new(seq) for seq in range(1, 5)), replace(new(5), batch=0), now_ms=year_ms)
    soon, later, put_off, held = lease(store, now_ms=year_ms)
    assert finish(
        store, Finished(put_off.seq, put_off.token, "deferred", "no budget", not_before_ms=year_ms + DAY_MS)
    ) == []  # fmt: skip
    retries = [Retry(row.seq, row.token, year_ms + 1_000, "HTTP 500", True) for row in (soon, later)]
    store.write(partial(queue.retry_later, retries=retries))
    assert store.write(partial(queue.bound_waits, now_ms=year_ms)) == 0, "a usual wait is left alone"

    now_ms = 10 * DAY_MS + 5_000
    assert store.write(partial(queue.bound_waits, now_ms=now_ms)) == 3
    due = {row["seq"]: row["not_before_ms"] for row in rows(store)}
    assert {due[soon.seq], due[later.seq]} == {now_ms + WAIT_MAX_MS}
    assert due[put_off.seq] == 11 * DAY_MS, "the next reset"
    assert due[held.seq] == year_ms + LEASE_MS, "somebody has it in hand"
    assert max(due.values()) == NOT_BY_ITSELF_MS, "a batch does not wait by itself"
    assert {row.seq for row in lease(store, now_ms=now_ms + WAIT_MAX_MS)} == {soon.seq, later.seq}
