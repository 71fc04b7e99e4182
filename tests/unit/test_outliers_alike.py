"""From one bad call: what else went wrong like it."""

import random
from functools import partial
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select

from ingest.settings import Settings
from ingest.store import OpenStore
from ingest.tables import Call, columns
from outliers.cohorts import alike as alike_module
from outliers.cohorts.alike import Alike, alike
from outliers.experience.refresh import refresh_experience
from outliers.weeks import week_by_id
from tests.rows import put_calls, quiet_calls

ZONE = ZoneInfo("UTC")
WEEK = week_by_id("2026-W46", ZONE)
ORDER = "Where is my order {n}? The parcel from Lisbon has not come and the tracking page is empty."
OTHER = "How do I change the {n} in the monthly report of my team?"


@pytest.fixture
def made(store: OpenStore, settings: Settings) -> OpenStore:
    """A week in which prompt faq@v7 answers Germans in English, among flaws of all kinds elsewhere."""
    source = random.Random(1)
    calls = []
    for call in quiet_calls(source, WEEK.since_ms, 3_000):
        struck = call["prompt_version"] == "v7" and call["language"] == "de"
        text = {
            "input": (ORDER if struck and source.random() < 0.5 else OTHER).format(n=source.randrange(10**6)),
            "output": "Your parcel is on its way." if struck else "Open the settings of the report.",
        }
        calls.append(call | {"text": text} | ({"p_fail": 0.9, "kind": "wrong_language"} if struck else {}))
    store.write(partial(put_calls, calls=calls))
    refresh_experience(store, settings)
    return store


def ask(store: OpenStore, call_id: str, since_ms: int = WEEK.since_ms, **more: int) -> Alike:
    call = columns(Call)
    with store.read() as connection:
        seq = connection.execute(select(call.c.seq).where(call.c.id == call_id)).scalar_one()
        return alike(connection, 1, seq, since_ms, WEEK.until_ms, zone=ZONE, **more)


def a_struck_call(store: OpenStore) -> str:
    """The id of a call whose German question was about a parcel."""
    from ingest.tables import CallText

    call, text = columns(Call), columns(CallText)
    with store.read() as connection:
        return connection.execute(
            select(call.c.id)
            .join(text, text.c.call_seq == call.c.seq)
            .where(text.c.input.like("%Lisbon%"))
            .limit(1)
        ).scalar_one()


def test_the_cohort_of_a_seed_is_named_and_its_calls_come_first(made: OpenStore) -> None:
    found = ask(made, a_struck_call(made), limit=10)
    assert found.what_failed == "wrong_language"
    assert found.complete
    assert found.n_failed_alike > 30
    parts = {
        p["field"]: p["value"] for p in (found.conditions[0].condition, found.conditions[0].condition["also"])
    }
    assert parts == {"prompt_version": "faq@v7", "input_language": "de"}
    assert found.conditions[0].share_bad == 1
    assert found.conditions[0].lift > 10
    assert {call.what_failed for call in found.calls} == {"wrong_language"}
    assert all("prompt version = faq@v7" in call.shared for call in found.calls)
    assert "lisbon" in found.calls[0].words
    assert [call.likeness for call in found.calls] == sorted((c.likeness for c in found.calls), reverse=True)


def test_of_the_calls_that_were_not_bad_neither_texts_nor_parts_are_read(
    made: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are most of what is read and compared by their fields alone."""
    read: list[object] = []
    failure = alike_module.failure
    monkeypatch.setattr(alike_module, "failure", lambda parts: read.append(parts) or failure(parts))
    found = ask(made, a_struck_call(made))
    assert len(read) == found.n_bad + 1
    assert {"input", "output", "parts"}.isdisjoint(alike_module._wanted(whole=False).selected_columns.keys())


def test_nothing_to_compare_with_is_an_empty_answer(made: OpenStore) -> None:
    seed = a_struck_call(made)
    found = ask(made, seed, since_ms=WEEK.until_ms - 1)
    assert (found.n_bad, found.calls, found.conditions, found.complete) == (0, (), (), True)
    assert found.what_failed == "wrong_language"


def test_a_call_that_was_never_ranked_and_has_no_text_can_be_asked_about(made: OpenStore) -> None:
    bare = {"started_at_ms": WEEK.since_ms + 5, "id": "bare", "latency_ms": None, "prompt": "faq"}
    made.write(partial(put_calls, calls=[bare]))
    found = ask(made, "bare", limit=3)
    assert found.what_failed == ""
    assert len(found.calls) == 3
