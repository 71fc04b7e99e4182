"""Experiences are kept up to date, whatever arrives late, and a crash repeats work without skipping it."""

from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import func, insert, select, update

from critic.tables import GuardReading, Score
from ingest.errors import WriterBusy
from ingest.settings import Settings
from ingest.store import OpenStore
from ingest.tables import Call, Signal, columns
from outliers.experience.parts import Part
from outliers.experience.refresh import refresh_experience
from outliers.freshness import freshness
from outliers.tables import Experience
from outliers.weeks import week_by_id
from outliers.worst import WorstCall, experience_of
from tests.rows import HOUR_MS, put_calls, put_score

MONDAY_MS = week_by_id("2026-W46", ZoneInfo("UTC")).since_ms
GOOD, BAD = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0), (0.6, 0.3, 0.1, 0.0, 0.0, 0.0, 0.0)


def calls(n: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"started_at_ms": MONDAY_MS + i * 1000, "prompt": "faq", **fields} for i in range(n)]


def read(store: OpenStore, call_id: str) -> tuple[WorstCall, dict[str, Part]]:
    with store.read() as connection:
        call = experience_of(connection, 1, call_id)
    assert call is not None
    return call, {part.name: part for part in call.parts}


def signal(call_seq: int, kind: str) -> dict[str, Any]:
    name = f"late-{call_seq}-{kind}"
    return {"project_id": 1, "id": name, "call_seq": call_seq, "kind": kind, "at_ms": 0, "received_at_ms": 0}


def put_signal(store: OpenStore, call_seq: int, kind: str) -> None:
    store.write(lambda connection: connection.execute(insert(columns(Signal)), [signal(call_seq, kind)]))


def test_a_call_is_ranked_anew_for_each_late_score_reading_and_signal(
    store: OpenStore, settings: Settings
) -> None:
    store.write(partial(put_calls, calls=calls(3)))
    assert refresh_experience(store, settings).ranked == 3
    fresh, parts = read(store, "call-1")
    assert (parts["critic"].known, parts["critic"].b) == (False, settings.base_rate)

    store.write(partial(put_score, call_seq=1, probabilities=BAD, changed=1))
    assert refresh_experience(store, settings).ranked == 1
    scored, parts = read(store, "call-1")
    assert (parts["critic"].known, parts["critic"].b, parts["critic"].detail) == (True, 0.9, "faithfulness")
    assert scored.p_bad > fresh.p_bad

    put_signal(store, 1, "thumbs_up")
    assert refresh_experience(store, settings).ranked == 1
    assert read(store, "call-1")[0].p_bad < scored.p_bad
    put_signal(store, 2, "thumbs_down")
    refresh_experience(store, settings)
    assert read(store, "call-2")[1]["signals"].detail == "thumbs_down"

    reading = {"call_seq": 3, "p_fail": 0.97, "kind": "empty", "version": "t", "changed": 1}
    store.write(lambda connection: connection.execute(insert(columns(GuardReading)), [reading]))
    refresh_experience(store, settings)
    assert read(store, "call-3")[1]["critic"].detail == "empty"
    assert refresh_experience(store, settings).ranked == 0, "nothing is new"


def test_the_newest_version_and_the_first_critic_that_scored_count(
    store: OpenStore, settings: Settings
) -> None:
    settings = settings.model_copy(update={"critic": "openai:a,local"})
    store.write(partial(put_calls, calls=calls(1)))
    for place, (blob, critic, p) in enumerate(
        [("b1", "openai:a", BAD), ("b2", "local", GOOD), ("b2", "elsewhere", BAD)], 1
    ):
        store.write(partial(put_score, call_seq=1, probabilities=p, blob=blob, critic=critic, changed=place))
    refresh_experience(store, settings)
    assert read(store, "call-1")[1]["critic"].b == 0, (
        "the old version and the critic not configured count less"
    )
    store.write(partial(put_score, call_seq=1, probabilities=BAD, blob="b2", critic="openai:a", changed=4))
    refresh_experience(store, settings)
    assert read(store, "call-1")[1]["critic"].b == 0.9


def test_the_slices_p95_is_frozen_when_a_call_is_first_ranked(store: OpenStore, settings: Settings) -> None:
    before = [
        {"started_at_ms": MONDAY_MS - 5 * 24 * HOUR_MS, "prompt": "faq", "latency_ms": 500.0}
        for _ in range(80)
    ]
    store.write(partial(put_calls, calls=[*before, *calls(1, latency_ms=1000.0)]))
    refresh_experience(store, settings)
    _call, parts = read(store, "call-81")
    assert (parts["latency"].known, parts["latency"].b) == (True, pytest.approx(0.5, abs=0.02))
    assert parts["latency"].detail == "2.0 x p95"

    late = [{**call, "latency_ms": 50_000.0} for call in before]
    store.write(partial(put_calls, calls=late))
    put_signal(store, 81, "edit")
    refresh_experience(store, settings)
    assert read(store, "call-81")[1]["latency"].b == parts["latency"].b


def test_a_new_slice_is_measured_by_its_own_week_once_that_says_something(
    store: OpenStore, settings: Settings
) -> None:
    """71 calls make no p95; with the 72nd, those ranked before are ranked anew."""
    store.write(partial(put_calls, calls=[*calls(70, latency_ms=500.0), *calls(1, latency_ms=2000.0)]))
    refresh_experience(store, settings)
    assert not read(store, "call-71")[1]["latency"].known
    store.write(partial(put_calls, calls=calls(1, latency_ms=500.0)))
    assert refresh_experience(store, settings).ranked == 72
    latency = read(store, "call-71")[1]["latency"]
    assert (latency.known, latency.b) == (True, pytest.approx(1.0, abs=0.02))


def test_silence_is_no_praise_and_no_fault(store: OpenStore, settings: Settings) -> None:
    """Ten of a hundred complained: the silent are taken for a tenth as bad, and shown as unknown."""
    store.write(partial(put_calls, calls=[*calls(10, signals=("thumbs_down",)), *calls(90)]))
    refresh_experience(store, settings)
    signals = read(store, "call-50")[1]["signals"]
    assert (signals.known, signals.b) == (False, pytest.approx(0.1))


def test_a_refresh_that_is_cut_off_is_taken_up_where_it_was(store: OpenStore, settings: Settings) -> None:
    store.write(partial(put_calls, calls=calls(2500)))

    class Busy:
        writes = 0

        read = staticmethod(store.read)

        def write(self, job: Any) -> Any:
            self.writes += 1
            if self.writes == 2:
                raise WriterBusy("full")
            return store.write(job)

    with pytest.raises(WriterBusy):
        refresh_experience(Busy(), settings)
    with store.read() as connection:
        assert freshness(connection, 1).calls_behind == 1500
    assert refresh_experience(store, settings).ranked == 1500
    with store.read() as connection:
        kept = connection.execute(select(func.count()).select_from(columns(Experience))).scalar()
        assert (kept, freshness(connection, 1).caught_up) == (2500, True)


def test_a_call_moves_to_the_week_of_the_configured_zone(store: OpenStore, settings: Settings) -> None:
    store.write(partial(put_calls, calls=calls(1)))
    refresh_experience(store, settings)
    west = settings.model_copy(update={"timezone": "America/New_York"})
    put_signal(store, 1, "copy")
    refresh_experience(store, west)
    with store.read() as connection:
        assert connection.execute(select(columns(Experience).c.week)).scalars().all() == ["2026-W45"]


def test_a_call_without_latency_is_unknown_and_not_fast(store: OpenStore, settings: Settings) -> None:
    store.write(partial(put_calls, calls=calls(80, latency_ms=500.0)))
    store.write(partial(put_calls, calls=calls(1, latency_ms=None)))
    store.write(
        lambda connection: connection.execute(
            update(columns(Call)).where(columns(Call).c.seq == 81).values(latency_ms=None)
        )
    )
    refresh_experience(store, settings)
    assert not read(store, "call-81")[1]["latency"].known


def test_an_unknown_call_is_taken_for_the_slices_mean_and_not_for_the_samples(
    store: OpenStore, settings: Settings
) -> None:
    """Of 60 calls the critic judged the 10 bad ones for certain and 5 of 50 good ones, each with p = .1."""
    store.write(partial(put_calls, calls=calls(60, p_fail=0.3) + calls(1)))
    for seq in range(1, 16):
        bad = seq <= 10
        store.write(
            partial(
                put_score, call_seq=seq, probabilities=BAD if bad else GOOD, critic="openai:m", changed=seq
            )
        )
    scores = columns(Score)
    left_out = [
        {
            "call_seq": seq,
            "rubric": "faithfulness",
            "rubric_blob": "b1",
            "view_blob": "v",
            "critic": "openai:m",
        }
        | {"status": "skipped", "created_at_ms": 0}
        for seq in range(16, 61)
    ]

    def _sample(connection: Any) -> None:
        connection.execute(insert(scores), left_out)
        connection.execute(update(scores).where(scores.c.call_seq > 10).values(inclusion=0.1))

    store.write(_sample)
    refresh_experience(store, settings)
    _, parts = read(store, "call-61")
    assert not parts["critic"].known
    assert parts["critic"].b == pytest.approx(10 * 0.9 / 60, abs=1e-3)
    assert read(store, "call-16")[1]["critic"].stands_for == 0.0
    assert read(store, "call-11")[1]["critic"].stands_for == pytest.approx(10)
